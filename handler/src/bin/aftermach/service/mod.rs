//! `aftermach service`: the launchd job that starts a product's handler.

#[cfg_attr(target_os = "linux", path = "launchd_linux.rs")]
#[cfg_attr(target_os = "macos", path = "launchd_macos.rs")]
mod launchd;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use aftermach_launchd::{Definition, Installed};
use aftermach_protocol::product::Product;
use anyhow::Context;

use crate::stores::print;

/// Installs a product's handler as a job of this user's launchd, removes it, or tells how it stands.
///
/// launchd holds the port that clients register with, and starts the handler when a message comes. No handler runs on an idle
/// machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Writes the job's definition to ~/Library/LaunchAgents and has launchd load it.
    ///
    /// Installing the same definition again changes nothing. One that is loaded with another definition is left alone without
    /// --replace: stopping it leaves the programs that registered with it without a handler until they start again.
    Install(InstallArgs),
    /// Stops the job, has launchd forget it, and deletes its definition.
    ///
    /// Programs that registered with it have no handler any more, and are not told. Reports stay.
    Uninstall(ProductArgs),
    /// Tells whether the job is installed, loaded and right, and whether its handler can be started.
    Status(ProductArgs),
    /// Writes the definition to standard output, on any system.
    Print(DefinitionArgs),
}

/// Whose job.
#[derive(clap::Args)]
struct ProductArgs {
    /// The product's group: an app group or a reverse domain, such as TEAMID.com.example.
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// The product's name.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The release channel; none for stable.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CHANNEL")]
    channel: String,
}

impl ProductArgs {
    fn product(&self) -> anyhow::Result<Product> {
        Ok(Product::new(&self.group, &self.name, &self.channel)?)
    }
}

/// Which job.
#[derive(clap::Args)]
struct DefinitionArgs {
    #[command(flatten)]
    product: ProductArgs,
    /// The handler's program [default: aftermach-handler beside this one].
    #[arg(long, value_name = "PATH")]
    handler: Option<PathBuf>,
    /// Where reports go [default: the user's store].
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The bundle identifier of the app under which Login Items show the job.
    #[arg(long, value_name = "BUNDLE-ID")]
    app: Option<String>,
}

impl DefinitionArgs {
    fn definition(self) -> anyhow::Result<Definition> {
        let handler = match self.handler {
            Some(handler) => handler,
            // As it was called, links and all: the path that an upgrade keeps.
            None => std::env::current_exe()
                .context("can't tell where this program is: name the handler with --handler")?
                .with_file_name("aftermach-handler"),
        };
        let absolute = |path: PathBuf| std::path::absolute(&path).with_context(|| format!("{}", path.display()));
        let mut definition = Definition::new(self.product.product()?, &absolute(handler)?)?;
        if let Some(store) = self.store {
            definition = definition.with_store(&absolute(store)?)?;
        }
        if let Some(app) = self.app {
            definition = definition.with_bundle(app)?;
        }
        Ok(definition)
    }
}

#[derive(clap::Args)]
struct InstallArgs {
    #[command(flatten)]
    definition: DefinitionArgs,
    /// Replace a job that is loaded with another definition. Its clients lose their handler until they start again.
    #[arg(long)]
    replace: bool,
}

/// launchd is macOS's.
#[derive(Debug, thiserror::Error)]
#[error(
    "launchd is macOS's; here, start `aftermach-handler serve` by hand or by a service manager \
     (`aftermach service print` writes the job's definition on any system)"
)]
struct NoLaunchd;

/// The exit status of [`NoLaunchd`].
const NO_LAUNCHD: u8 = 2;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let result = match args.command {
        Command::Install(args) => install(args),
        Command::Uninstall(args) => uninstall(&args),
        Command::Status(args) => status(&args),
        Command::Print(args) => print(&args.definition()?.to_xml()?).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Err(error) if error.is::<NoLaunchd>() => {
            eprintln!("aftermach: {error}");
            Ok(ExitCode::from(NO_LAUNCHD))
        }
        other => other,
    }
}

fn install(args: InstallArgs) -> anyhow::Result<ExitCode> {
    let definition = args.definition.definition()?;
    let mut agents = launchd::agents()?;
    let label = definition.product().label();
    let path = agents.path(definition.product());
    let path = path.display();
    let told = match agents.install(&definition, args.replace)? {
        Installed::Already => format!("{label} is installed and loaded already\n"),
        Installed::Loaded { overwrote: false } => format!("{label} is installed and loaded: {path}\n"),
        Installed::Loaded { overwrote: true } => {
            format!("{label} is installed and loaded, in place of a definition that was not loaded: {path}\n")
        }
        Installed::Replaced => {
            warn_clients();
            format!("{label} is replaced and loaded: {path}\n")
        }
    };
    print(told.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn uninstall(args: &ProductArgs) -> anyhow::Result<ExitCode> {
    let product = args.product()?;
    let mut agents = launchd::agents()?;
    if agents.is_loaded(&product)? {
        warn_clients();
    }
    let done = agents.uninstall(&product)?;
    let label = product.label();
    let told = if done.was_loaded || done.had_definition { "is removed" } else { "was not installed" };
    print(format!("{label} {told}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// launchd's receive right goes with the job, and nobody is told (launchd-842 `core.c`, `machservice_delete`).
fn warn_clients() {
    eprintln!("aftermach: programs that run now and registered with this job have no handler until they start again");
}

fn status(args: &ProductArgs) -> anyhow::Result<ExitCode> {
    let product = args.product()?;
    let status = launchd::agents()?.status(&product)?;
    print(status::text(&product, &status).as_bytes())?;
    Ok(if status::is_good(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
