//! Joins the rooms: a death is captured on the host's own thread, everything else happens on workers when the task is gone.

mod produce;
mod protect;

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::Report;

use crate::host::{Receiver, Task};
use crate::snapshot::{Death, Limits, Snapshot, capture};
use crate::store::{Store, StoreError};
use crate::triage::{self, Scope, Whose};
use crate::upload::Profile;

pub use produce::ProduceError;

/// Bytes of snapshots that wait for a worker, above which the next ones are captured with [`Limits::frugal`]: in a storm of
/// crashes every death still gets its report, and memory stays bounded.
const GENEROUS_BYTES: u64 = 256 << 20;

/// More workers than this would only fight for the disk.
const MOST_WORKERS: usize = 4;

/// What a service is told when it starts.
pub struct Settings {
    /// Where reports go.
    pub store: Store,
    /// Whose a report is if the program does not say.
    pub product: Product,
    /// Which deaths make a report.
    pub scope: Scope,
    /// Where reports are sent, if the store's settings consent to sending without being asked.
    pub upload_to: Option<Profile>,
    /// Called on a worker for each report, or for each that could not be made.
    pub done: Box<dyn Fn(Result<Made, ProduceError>) + Send + Sync>,
}

/// A report that is on the disk.
#[derive(Debug, Clone)]
pub struct Made {
    /// The report.
    pub report: Report,
    /// Its folder.
    pub folder: PathBuf,
    /// How long the task was held.
    pub held: Duration,
    /// From the moment the death was known until the report was on the disk.
    pub total: Duration,
    /// What took how long once a worker had it.
    pub stages: Stages,
    /// Bytes of the task's memory that were copied.
    pub captured: u64,
}

/// How long each part of the work took that is done when the task is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Walking every thread's stack.
    pub unwinding: Duration,
    /// Finding names and source lines.
    pub naming: Duration,
    /// Writing the minidump.
    pub dump: Duration,
    /// Building the report and writing it, as JSON and as text.
    pub report: Duration,
    /// Waiting until everything is on the disk.
    pub syncing: Duration,
}

/// A snapshot on its way to a worker.
struct Job {
    snapshot: Box<Snapshot>,
    /// When the death was known.
    died: Instant,
    bytes: u64,
}

/// The receiver of deaths that makes reports of them.
pub struct Service {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    waiting_bytes: AtomicU64,
}

impl Service {
    /// Starts the workers.
    pub fn start(settings: Settings) -> Result<Service, StoreError> {
        let shared = Arc::new(Shared { settings, waiting_bytes: AtomicU64::new(0) });
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let count = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS);
        let workers = (0..count).filter_map(|index| {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            thread::Builder::new().name(format!("report-{index}")).spawn(move || work(&shared, &queue)).ok()
        });
        let workers: Vec<_> = workers.collect();
        if workers.is_empty() {
            let root = shared.settings.store.root().to_owned();
            return Err(StoreError::io("start the thread that writes into", &root)(std::io::Error::last_os_error()));
        }
        Ok(Service { shared, jobs, workers })
    }

    /// Waits until every report is made.
    pub fn finish(self) {
        drop(self.jobs);
        for worker in self.workers {
            // A worker that panicked has said so; the others go on.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let bytes = job.bytes;
        let outcome = produce::produce(&shared.settings, *job.snapshot, job.died);
        shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        (shared.settings.done)(outcome);
    }
}

impl Receiver for Service {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        if !triage::is_reported(&death.exception, death.signal) {
            return None;
        }
        let generous = self.shared.waiting_bytes.load(Ordering::Relaxed) < GENEROUS_BYTES;
        let limits = if generous { Limits::default() } else { Limits::frugal() };
        let snapshot = capture(task, death, &limits);
        match triage::whose(&self.shared.settings.scope, &snapshot.annotations) {
            Whose::Ours => Some(Box::new(snapshot)),
            Whose::Stranger => None,
        }
    }

    fn released(&mut self, mut snapshot: Box<Snapshot>, held: Duration) {
        snapshot.times.held = held;
        let bytes = snapshot.memory.len();
        self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now = Instant::now();
        let died = now.checked_sub(held).unwrap_or(now);
        // The workers end only after this sender is dropped.
        let _ = self.jobs.send(Job { snapshot, died, bytes });
    }
}
