//! `aftermach-handler serve`: one product's service.

use std::path::PathBuf;
use std::process::ExitCode;

use aftermach_handler::service::{Made, ProduceError, Service, Settings};
use aftermach_handler::store::{self, Store};
use aftermach_handler::triage::Scope;
use aftermach_handler::upload::{Format, Profile};
use aftermach_protocol::product::Product;
use anyhow::Context;

use crate::{host, signals};

/// Serves one product's programs until SIGTERM or SIGINT.
///
/// A program that links the client registers by itself when it starts. A program that crashes but never registered, such as
/// another program that a client started, leaves no trace here. Reports that are being made are finished before it ends.
///
/// Uploads need two things: --upload-to, and the consent of this store's user (`aftermach upload --consent always`), which is
/// read each time before a report is sent.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The product's group: an app group or a reverse domain, such as TEAMID.com.example.
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// The product's name.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The release channel; none for stable.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CHANNEL")]
    channel: String,
    /// Where reports go [default: the user's store].
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Where reports are sent, with consent: https://HOST/PATH of a Breakpad-style server, or a Sentry DSN.
    #[arg(long, value_name = "URL", env = "AFTERMACH_UPLOAD_TO", hide_env_values = true)]
    upload_to: Option<String>,
    /// What is spoken there, if the address does not show it.
    #[arg(long, value_name = "FORMAT", value_parser = ["breakpad", "sentry"])]
    upload_format: Option<String>,
    #[command(flatten)]
    host: host::Args,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let product = Product::new(&args.group, &args.name, &args.channel)?;
    let root = match args.store {
        Some(root) => root,
        None => store::default_root().context("no home folder to keep reports in; name one with --store")?,
    };
    let format = args.upload_format.as_deref().map(|name| match name {
        "sentry" => Format::Sentry,
        _ => Format::Breakpad,
    });
    let upload_to = args.upload_to.map(|address| Profile::parse(&address, format)).transpose()?;
    // Before any other thread is started: they inherit which signals are blocked.
    let ending = signals::Ending::block();
    let service = Service::start(Settings {
        store: Store::open(root)?,
        product: product.clone(),
        scope: Scope::Product(product.clone()),
        upload_to,
        done: Box::new(tell),
    })?;
    let result = host::serve(&product, &args.host, &service, ending);
    service.finish();
    result?;
    Ok(ExitCode::SUCCESS)
}

fn tell(made: Result<Made, ProduceError>) {
    match made {
        Ok(made) => {
            let (held, total) = (made.held.as_secs_f64() * 1e3, made.total.as_secs_f64() * 1e3);
            tracing::info!(
                "{} (held {held:.1} ms, report {} after {total:.1} ms)",
                made.report.exception.summary,
                made.report.report_id
            );
        }
        Err(error) => tracing::error!("a report could not be made: {error}"),
    }
}
