//! Joins the rooms: a death is captured on the host's own thread, everything else happens on workers when the task is gone.

mod produce;
mod protect;
mod requests;
mod retries;
mod state;
mod uploads;

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::Report;

use crate::host::{HostState, Receiver, Task, Transaction, work_in_background};
use crate::snapshot::{Annotations, Death, Exception, Gap, Limits, Snapshot, capture_unless};
use crate::store::{Store, StoreError};
use crate::symbols::NameCache;
use crate::time::rfc3339;
use crate::triage::{self, Scope, Whose};
use crate::upload::Profile;
use protect::protect;
use requests::Requests;
use state::Keeper;
use uploads::Uploads;

pub use produce::ProduceError;
pub use state::{HandlerState, STATE_SCHEMA};

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
    /// Writing the minidump and waiting until it is on the disk, at the same time as names are found.
    pub dump: Duration,
    /// Building the report and writing it, as JSON and as text.
    pub report: Duration,
    /// Waiting until everything else is on the disk.
    pub syncing: Duration,
}

/// What workers do.
enum Work {
    /// Make a report.
    Report(Job),
    /// Write down how the handler stands: a crash came that makes no report.
    State(Transaction),
}

/// A snapshot on its way to a worker.
struct Job {
    snapshot: Box<Snapshot>,
    /// When the death was known.
    died: Instant,
    bytes: u64,
    /// Until the report is on the disk, the service is busy.
    busy: Transaction,
}

/// The receiver of deaths that makes reports of them.
pub struct Service {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Work>,
    workers: Vec<JoinHandle<()>>,
    requests: Mutex<Requests>,
}

struct Shared {
    settings: Settings,
    uploads: Option<Uploads>,
    names: NameCache,
    waiting_bytes: AtomicU64,
    /// Kept by the handler of one product; `aftermach run` leaves no such trace.
    state: Option<Keeper>,
}

impl Service {
    /// Starts the workers.
    pub fn start(settings: Settings) -> Result<Service, StoreError> {
        let cannot_start = |error| StoreError::io("start a thread that works on", settings.store.root())(error);
        let start = |profile| Uploads::start(settings.store.clone(), settings.product.directory(), profile);
        let uploads = settings.upload_to.clone().map(start);
        let uploads = uploads.transpose().map_err(cannot_start)?;
        let state = match &settings.scope {
            Scope::Product(product) => Keeper::start(&settings.store, product),
            Scope::Everything => None,
        };
        let shared = Arc::new(Shared {
            settings,
            uploads,
            names: NameCache::default(),
            waiting_bytes: AtomicU64::new(0),
            state,
        });
        let (jobs, queue) = mpsc::channel::<Work>();
        let queue = Arc::new(Mutex::new(queue));
        let count = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS);
        let workers = (0..count).filter_map(|index| {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            thread::Builder::new().name(format!("report-{index}")).spawn(move || work(&shared, &queue)).ok()
        });
        let workers: Vec<_> = workers.collect();
        if workers.is_empty() {
            let root = shared.settings.store.root();
            return Err(StoreError::io("start a thread that works on", root)(std::io::ErrorKind::OutOfMemory.into()));
        }
        Ok(Service { shared, jobs, workers, requests: Mutex::default() })
    }

    /// Waits until every report is made, and a few seconds for an upload that is under way.
    pub fn finish(self) {
        drop(self.jobs);
        for worker in self.workers {
            // A worker that panicked has said so; the others go on.
            let _ = worker.join();
        }
        self.shared.change_state(|state| state.ended = Some(rfc3339(SystemTime::now())));
        self.shared.write_state();
        if let Some(uploads) = Arc::into_inner(self.shared).and_then(|shared| shared.uploads) {
            uploads.finish();
        }
    }
}

fn work(shared: &Shared, queue: &Mutex<mpsc::Receiver<Work>>) {
    work_in_background();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let job = match job {
            Ok(Work::Report(job)) => job,
            Ok(Work::State(_busy)) => {
                shared.write_state();
                continue;
            }
            Err(_) => return,
        };
        let Job { snapshot, died, bytes, busy: _busy } = job;
        let made = produce::produce(&shared.settings, &shared.names, *snapshot, died);
        shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let (Some(uploads), Ok(made)) = (&shared.uploads, &made) {
            uploads.add(made.report.report_id.clone());
        }
        if let Err(error) = &made {
            shared.change_state(|state| {
                state.failures += 1;
                state.last_failure = Some(error.to_string());
            });
        }
        shared.write_state();
        (shared.settings.done)(made);
    }
}

impl Shared {
    fn change_state(&self, change: impl FnOnce(&mut HandlerState)) {
        if let Some(state) = &self.state {
            state.change(change);
        }
    }

    fn write_state(&self) {
        if let Some(state) = &self.state {
            state.write();
        }
    }
}

impl Service {
    /// Counts a stranger's death.
    fn passed_over(&self, time: SystemTime) {
        self.shared.change_state(|state| {
            state.strangers += 1;
            state.last_stranger = Some(rfc3339(time));
        });
        // The workers end only after this sender is dropped.
        let _ = self.jobs.send(Work::State(Transaction::begin()));
    }
}

/// Through a reference, as many threads as like may capture at a time.
impl Receiver for &Service {
    fn may_ask(&mut self, pid: i32) -> bool {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take(pid, Instant::now())
    }

    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        if !triage::is_reported(&death.exception, death.signal) {
            return None;
        }
        let scope = &self.shared.settings.scope;
        if triage::whose_unread(scope, task.is_client()) == Some(Whose::Stranger) {
            self.passed_over(death.time);
            return None;
        }
        let generous = self.shared.waiting_bytes.load(Ordering::Relaxed) < GENEROUS_BYTES;
        let limits = if generous { Limits::default() } else { Limits::frugal() };
        let mut notes = Vec::new();
        let (time, readable) = (death.time, task.is_readable());
        let refuse = |annotations: &Annotations| match triage::whose(scope, annotations, task.own_pid()) {
            Whose::Stranger if readable => Err(Whose::Stranger),
            _ => Ok(()),
        };
        let Some(captured) = protect("capture", &mut notes, || Some(capture_unless(task, death, &limits, refuse)))
        else {
            // Nothing is known of it, so there is nothing to report but the defect itself. The system's own report remains.
            notes.iter().for_each(|note| tracing::error!("a death was not captured: {}", note.what));
            self.shared.change_state(|state| {
                state.failures += 1;
                state.last_failure = notes.pop().map(|note| note.what);
            });
            let _ = self.jobs.send(Work::State(Transaction::begin()));
            return None;
        };
        let Ok(mut snapshot) = captured else {
            self.passed_over(time);
            return None;
        };
        if !readable {
            // Its exception came by a client's port, and no more can be known: a stranger's report is better than none of a
            // client that the system hides from us.
            snapshot
                .gaps
                .push(Gap::new("task", "it can't be read, so nothing shows whether it is a client of this service"));
        }
        Some(Box::new(snapshot))
    }

    fn released(&mut self, mut snapshot: Box<Snapshot>, held: Duration) {
        snapshot.times.held = held;
        let time = snapshot.death.time;
        if snapshot.death.exception != Exception::Simulated {
            self.shared.change_state(|state| {
                state.crashes += 1;
                state.last_crash = Some(rfc3339(time));
            });
        }
        let bytes = snapshot.memory.len();
        self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now = Instant::now();
        let died = now.checked_sub(held).unwrap_or(now);
        // The workers end only after this sender is dropped.
        let _ = self.jobs.send(Work::Report(Job { snapshot, died, bytes, busy: Transaction::begin() }));
    }

    fn host_state(&mut self, host: HostState) {
        self.shared.change_state(|state| state.host = Some(host));
    }
}

#[cfg(test)]
mod tests;
