//! `aftermach collect`: the embedded dashboard.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use aftermach_handler::collector::{self, Config, Limits};
use aftermach_handler::store;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::stores::print;

/// Takes crash uploads as Breakpad-style servers and Sentry do, keeps the dumps, and shows them on a page.
///
/// Send to http://ADDRESS/submit (Breakpad, Crashpad, Electron, `aftermach upload`) or http://KEY@ADDRESS/1 as a Sentry DSN;
/// open http://ADDRESS/ in a browser. Ends on SIGINT or SIGTERM, after the uploads in progress.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8037", value_parser = address)]
    listen: SocketAddr,
    /// Folder that holds the crashes; made if it is not there.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Largest dump that is taken, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().dump)]
    max_size: u64,
    /// Listen on an address that other machines reach. There is no login: whoever reaches it reads every crash.
    #[arg(long)]
    allow_remote: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = match args.store {
        Some(store) => store,
        None => default_store().context("no home folder to keep crashes in; name one with --store")?,
    };
    // What is refused, and why, is for the terminal. An error is a subscriber that is set already.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(async {
        // Before anybody can be told that it runs: a signal from then on ends it in order.
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let limits = Limits { dump: args.max_size, ..Limits::default() };
        let config = Config { listen: args.listen, store: store.clone(), allow_remote: args.allow_remote, limits };
        let running = collector::start(config)?;
        let (url, submit) = (running.url(), running.submit_url());
        print(format!("Crashes:  {url}\nSend to:  {submit}\nKept in:  {}\n", store.display()).as_bytes())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        running.stop();
        Ok(ExitCode::SUCCESS)
    })
}

/// An address with a port, or a name of this machine with one.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("{error}; give it as 127.0.0.1:PORT"))?;
    found.next().ok_or_else(|| "this name has no address".to_owned())
}

/// Beside the folder of reports: what comes from elsewhere is kept apart.
fn default_store() -> Option<PathBuf> {
    let reports = store::default_root()?;
    let mut name = reports.file_name()?.to_owned();
    name.push("-collected");
    Some(reports.with_file_name(name))
}
