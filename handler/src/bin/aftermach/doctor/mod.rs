//! `aftermach doctor`: why a crash did not arrive, and whether the next one will.
//!
//! A check is two functions: one gathers facts, the other judges them and knows no system. So the judgements are tested
//! everywhere, over facts that were made up.

mod apple_reports;
mod finding;
mod handlers;
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "judged where there is a launchd; tested everywhere"))]
mod job;
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "judged on macOS; tested everywhere"))]
mod mac;
mod newest;
mod program;
mod self_test;
mod store;
mod text;
mod uploads;

#[cfg_attr(target_os = "macos", allow(dead_code, reason = "judged where there is ptrace"))]
mod ptrace;
#[cfg(target_os = "linux")]
#[path = "system_linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "system_macos.rs"]
mod system;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aftermach_handler::store::{Listing, Store};
use aftermach_protocol::product::Product;
use anyhow::Context;

use crate::stores::{StoreArgs, print};
use finding::{Finding, Verdict, worst};

/// Tells whether crashes are caught, kept and sent on this machine, and what to do where they are not.
///
/// One line a check: how it came out, what was found, and below it what to do. Nothing is changed but for a file in the store
/// that is removed at once, and nothing of a report is sent.
/// Without --program and --crash it looks at this machine, its store and the product's service.
///
/// Exit status: 0 if no check failed, 1 if one did. Warnings and what can't be told are no failures.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The product's group: an app group or a reverse domain, such as TEAMID.com.example. Without it, the products
    /// whose handlers left their state in the store, and on macOS those that have a job.
    #[arg(long, value_name = "GROUP", requires = "name")]
    group: Option<String>,
    /// The product's name.
    #[arg(long, value_name = "NAME", requires = "group")]
    name: Option<String>,
    /// The release channel; none for stable.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CHANNEL", requires = "name")]
    channel: String,
    /// Look at a program instead of this machine: an executable, or an .app, .xpc, .appex or .systemextension bundle. With
    /// --group and --name, as a client of that product. The rules are macOS's; it works everywhere.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Try the whole way with a crash of our own, in a store of its own that is removed afterwards.
    #[arg(long)]
    crash: bool,
    /// Where reports are sent: checked for its form, and with --network for an answer.
    #[arg(long, value_name = "URL", env = "AFTERMACH_UPLOAD_TO", hide_env_values = true)]
    upload_to: Option<String>,
    /// Ask the destination's server for an answer. No report is sent.
    #[arg(long)]
    network: bool,
    /// As JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

impl Args {
    fn product(&self) -> anyhow::Result<Option<Product>> {
        let (Some(group), Some(name)) = (&self.group, &self.name) else { return Ok(None) };
        Ok(Some(Product::new(group, name, &self.channel)?))
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    if let Some(program) = &args.program {
        let product = args.product()?;
        findings.extend(program::check(program, product.as_ref(), product.as_ref().and_then(system::reach)));
        findings.extend(system_reports(args.store.open_or_empty().ok().flatten().as_ref(), program));
    }
    if args.crash {
        findings.extend(self_test::run());
    }
    if args.program.is_none() && !args.crash {
        findings = machine(&args)?;
    }
    if args.json {
        print(format!("{:#}\n", finding::to_json(&findings)).as_bytes())?;
    } else {
        print(text::render(&findings).as_bytes())?;
    }
    Ok(if worst(&findings) == Verdict::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the system itself reported of a program, where it does.
fn system_reports(store: Option<&Store>, program: &Path) -> Option<Finding> {
    let folders = system::report_folders();
    let name = program::process_name(program).filter(|_| !folders.is_empty())?;
    let listing = store.and_then(|store| store.list(None).ok()).unwrap_or_default();
    Some(apple_reports::judge(&apple_reports::gather(&name, &folders, &listing)))
}

/// The products that handlers named in the store, and those that the system has a job for.
fn known_products(handlers: &[handlers::HandlerFacts]) -> Vec<Product> {
    let mut products = handlers::products(handlers);
    for product in system::products() {
        if !products.contains(&product) {
            products.push(product);
        }
    }
    products
}

/// This machine, its store, and the service of the product.
fn machine(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let product = args.product()?;
    let root = args.store.root()?;
    // A store that can't be opened or listed is one of the findings.
    let store = Store::open_existing(&root).ok();
    let mut found = Vec::new();
    let mut listing = Listing::default();
    if let Some(store) = &store {
        match store.list(product.as_ref().map(Product::directory).as_deref()) {
            Ok(listed) => listing = listed,
            Err(error) => listing.unreadable.push(error),
        }
        found = store.handlers().unwrap_or_default();
    }
    if let Some(product) = &product {
        let folder = product.directory();
        found.retain(|found| found.product == folder);
    }
    let handlers = handlers::gather(found, &listing);
    let products = match product {
        Some(product) => vec![product],
        None => known_products(&handlers),
    };

    let mut findings = system::check(&products).context("looking at this system")?;
    findings.extend(handlers.iter().flat_map(handlers::judge));
    let left_nothing = |product: &&Product| handlers.iter().all(|facts| facts.product != product.directory());
    findings.extend(products.iter().filter(left_nothing).map(handlers::none_ran));
    findings.extend(store::judge(&store::gather(&root, store.as_ref(), &listing)));
    findings.extend(newest::judge(&newest::gather(&listing)));
    let upload_to = args.upload_to.as_deref().filter(|address| !address.is_empty());
    findings.extend(uploads::judge(&uploads::gather(&root, &listing, upload_to, args.network)));
    Ok(findings)
}
