//! Crashes under the handler's library, in this process.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aftermach_handler::host::{self, Options, Program};
use aftermach_handler::service::{Made, Service, Settings};
use aftermach_handler::snapshot::{Death, Limits, Snapshot, capture};
use aftermach_handler::store::Store;
use aftermach_handler::triage::Scope;
use aftermach_protocol::product::Product;
use anyhow::Context;

use super::victim::{self, Folder};

/// For all threads to get from their start into their wait, in milliseconds; the peer's victim has as long.
const SETTLING: u32 = 50;

/// A victim to run under the handler.
pub(crate) fn program(tool: &Path, threads: u16) -> anyhow::Result<Program> {
    Ok(Program::new(tool).args(victim::arguments(threads, SETTLING)).stderr(File::create("/dev/null")?))
}

/// The report of one crash.
pub(crate) fn report(tool: &Path, threads: u16) -> anyhow::Result<Made> {
    let folder = Folder::new("ours")?;
    let mut made = reports(program(tool, threads)?, folder.path())?;
    anyhow::ensure!(made.len() == 1, "there are {} reports where one was expected", made.len());
    made.pop().context("one report")
}

/// Runs a program with all its descendants, and returns the report of each crash.
pub(crate) fn reports(program: Program, store: &Path) -> anyhow::Result<Vec<Made>> {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&outcomes);
    let mut service = Service::start(Settings {
        store: Store::open(store)?,
        product: Product::new("aftermach", "bench", "")?,
        scope: Scope::Everything,
        upload_to: None,
        done: Box::new(move |outcome| collected.lock().unwrap_or_else(PoisonError::into_inner).push(outcome)),
    })?;
    let ending = host::run(&program, &Options { relay_signals: false, wait_for_descendants: true }, &mut service);
    service.finish();
    ending.context("running the victim")?;
    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    outcomes.drain(..).map(|outcome| outcome.context("a report")).collect()
}

/// The snapshot of one crash.
pub(crate) fn snapshot(tool: &Path, threads: u16) -> anyhow::Result<Snapshot> {
    let mut keeper = Keeper(None);
    host::run(&program(tool, threads)?, &Options::default(), &mut keeper)?;
    Ok(*keeper.0.context("the victim did not die")?)
}

/// Keeps what it is given.
struct Keeper(Option<Box<Snapshot>>);

impl host::Receiver for Keeper {
    fn death(&mut self, death: Death, task: &dyn host::Task) -> Option<Box<Snapshot>> {
        Some(Box::new(capture(task, death, &Limits::default())))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, _held: std::time::Duration) {
        self.0 = Some(snapshot);
    }
}
