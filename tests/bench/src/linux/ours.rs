//! Crashes under the handler's library, in this process.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use aftermach_handler::host::{self, Options, Program};
use aftermach_handler::service::{Made, ProduceError, Service, Settings};
use aftermach_handler::snapshot::{Death, Limits, Snapshot, capture};
use aftermach_handler::store::Store;
use aftermach_handler::triage::Scope;
use aftermach_protocol::product::Product;
use anyhow::Context;

use super::victim::{self, Folder};

/// For all threads to get from their start into their wait, in milliseconds; the peer's victim has as long.
const SETTLING: u32 = 50;

/// Longest time that a report may take.
const REPORT_LIMIT: Duration = Duration::from_secs(60);

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
    let mut handler = Handler::start(store)?;
    let ending = handler.run(&program);
    let made = handler.finish();
    ending?;
    made.into_iter().map(|outcome| outcome.context("a report")).collect()
}

/// A service in this process.
pub(crate) struct Handler {
    service: Service,
    outcomes: mpsc::Receiver<Result<Made, ProduceError>>,
}

impl Handler {
    pub(crate) fn start(store: &Path) -> anyhow::Result<Handler> {
        let (done, outcomes) = mpsc::channel();
        let service = Service::start(Settings {
            store: Store::open(store)?,
            product: Product::new("aftermach", "bench", "")?,
            scope: Scope::Everything,
            upload_to: None,
            done: Box::new(move |outcome| drop(done.send(outcome))),
        })?;
        Ok(Handler { service, outcomes })
    }

    fn run(&mut self, program: &Program) -> anyhow::Result<()> {
        let options = Options { relay_signals: false, wait_for_descendants: true };
        host::run(program, &options, &mut &self.service).context("running the victim")?;
        Ok(())
    }

    /// The report of one crash.
    pub(crate) fn report(&mut self, program: Program) -> anyhow::Result<Made> {
        self.run(&program)?;
        self.outcomes.recv_timeout(REPORT_LIMIT).context("there is no report")?.context("a report")
    }

    /// The reports that were not asked for yet.
    pub(crate) fn finish(self) -> Vec<Result<Made, ProduceError>> {
        self.service.finish();
        self.outcomes.iter().collect()
    }
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

    fn released(&mut self, snapshot: Box<Snapshot>, _held: Duration) {
        self.0 = Some(snapshot);
    }
}
