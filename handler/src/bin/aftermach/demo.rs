//! `aftermach demo`: one real crash, from death to dashboard, with nothing to set up.

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aftermach_handler::collector;
use aftermach_handler::host::HostError;
use aftermach_handler::report::text;
use aftermach_handler::store::Store;
use aftermach_handler::upload::{self, Outcome, Profile, Timeouts};
use anyhow::Context;
use uuid::Uuid;

use crate::own_crash;

/// Shows one real crash, from death to dashboard.
///
/// Starts a collector on this machine, runs a program with several named threads, catches its crash from outside, unwinds it,
/// writes the minidump, uploads it to the collector, and shows the report. Needs no configuration and no root, ends by itself,
/// and leaves its files in a folder that it names.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep the collector's page up until Ctrl-C or Enter.
    #[arg(long)]
    keep: bool,
    /// Where the files go [default: a new folder for temporary files].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Which crash: see `aftermach crash --help`.
    #[arg(long, default_value = "named-thread", value_name = "KIND")]
    kind: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match demonstrate(args) {
        Err(error) if error.is::<HostError>() => {
            eprintln!("aftermach: {error:#}");
            let status = error.downcast_ref::<HostError>().map_or(1, HostError::exit_status);
            Ok(ExitCode::from(status))
        }
        other => other,
    }
}

fn demonstrate(args: Args) -> anyhow::Result<ExitCode> {
    let folder = args.folder.map_or_else(new_folder, Ok)?;
    let store = Store::open(folder.join("reports"))?;
    let collector = collector::start(collector::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        store: folder.join("collector"),
        allow_remote: false,
        limits: collector::Limits::default(),
    })?;
    step(&format!("A collector listens on {}", collector.url()));

    step(&format!("A program of several threads runs, and dies: aftermach crash {}", args.kind));
    let outcome = own_crash::catch(&store, &args.kind)?.made;
    step(&format!(
        "Caught from outside: held for {:.2} ms; unwound, dumped and on the disk after {:.2} ms",
        outcome.held.as_secs_f64() * 1e3,
        outcome.total.as_secs_f64() * 1e3
    ));

    let location = store.find(&outcome.report.report_id)?;
    let profile = Profile::parse(&collector.submit_url(), None)?;
    // Asking for the demo is asking for this one upload, which stays on this machine.
    let options = upload::Options { confirmed: true, attach_report: true, timeouts: Timeouts::default() };
    let delivered = upload::deliver(&store, &location, &profile, options)?;
    let Outcome::Accepted { id } = delivered.sent.outcome else {
        anyhow::bail!("the collector did not take the upload: {:?}", delivered.sent.outcome);
    };
    let page =
        id.and_then(|id| Uuid::try_parse(&id).ok()).map_or_else(|| collector.url(), |id| collector.crash_url(&id));
    step("Uploaded to the collector. This is the report:");
    println!();
    print!("{}", text::render(&store.load(&outcome.report.report_id)?, &text::Options::default()));
    println!();
    println!("Page:      {page}{}", if args.keep { "" } else { "   (gone with this command; --keep keeps it up)" });
    println!("Files:     {}", location.folder.display());
    println!("Again:     aftermach show {} --store {}", &outcome.report.report_id[..8], store.root().display());
    if args.keep {
        keep_up()?;
    }
    collector.stop();
    Ok(ExitCode::SUCCESS)
}

fn step(text: &str) {
    println!("==> {text}");
    let _ = std::io::stdout().flush();
}

fn new_folder() -> anyhow::Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let folder = std::env::temp_dir().join(format!("aftermach-demo-{seconds}-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("can't create {}", folder.display()))?;
    Ok(folder)
}

/// Waits for Enter, or for good where there is nobody to press it.
fn keep_up() -> anyhow::Result<()> {
    println!("The page stays up until Enter or Ctrl-C.");
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        stdin.read_line(&mut String::new())?;
        return Ok(());
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
