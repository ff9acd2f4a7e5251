//! Sends reports that were made, one after the other, so that no report waits for a slow server to be made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use super::retries::Retries;
use crate::host::{Transaction, work_in_background};
use crate::store::Store;
use crate::upload::{self, Consent, Options, Outcome, Profile, Settings, Timeouts};

/// How long the end of the service waits for an upload that is under way. What is not sent by then stays in the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread that sends.
pub(super) struct Uploads {
    reports: mpsc::Sender<String>,
    /// Set when no more of those that wait are to be sent.
    ending: Arc<AtomicBool>,
    /// Closed when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Uploads {
    /// Starts it. Reports go to `profile` if the settings of `store` consent at that moment.
    /// What failed earlier, of the product whose folder is `product`, is tried again when its time has come.
    pub(super) fn start(store: Store, product: String, profile: Profile) -> std::io::Result<Uploads> {
        let (reports, waiting) = mpsc::channel::<String>();
        let (end, ended) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        thread::Builder::new().name("uploads".to_owned()).spawn(move || {
            work_in_background();
            let mut retries = match may_send(&store) {
                true => Retries::find(&store, &product, &profile, SystemTime::now()),
                false => Retries::default(),
            };
            loop {
                let report_id = match retries.sleep(SystemTime::now()) {
                    // Nothing wakes this thread but the next report.
                    None => waiting.recv().map_err(RecvTimeoutError::from),
                    Some(sleep) => waiting.recv_timeout(sleep),
                };
                let report_id = match report_id {
                    Ok(report_id) => Some(report_id),
                    Err(RecvTimeoutError::Timeout) => retries.take(SystemTime::now()),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Some(report_id) = report_id.filter(|_| !told.load(Ordering::Relaxed)) {
                    let _busy = Transaction::begin();
                    match send(&store, &profile, &report_id) {
                        Sent::Failed(next) => retries.failed(report_id, next),
                        Sent::Done => retries.succeeded(),
                        // Without consent nothing is tried again, until the service starts anew.
                        Sent::NotAllowed => retries = Retries::default(),
                        Sent::Never => {}
                    }
                }
            }
            drop(end);
        })?;
        Ok(Uploads { reports, ending, ended: Mutex::new(ended) })
    }

    /// Sends a report when its turn comes.
    pub(super) fn add(&self, report_id: String) {
        // The thread ends only after this sender is dropped.
        let _ = self.reports.send(report_id);
    }

    /// Ends it: the upload that is under way may end, those that wait are not sent.
    pub(super) fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        drop(self.reports);
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("an upload was under way and is given up");
        }
    }
}

/// What came of one report.
enum Sent {
    /// The server answered, and there is no more to do.
    Done,
    /// It may be tried again at this time.
    Failed(SystemTime),
    /// Nobody consents.
    NotAllowed,
    /// It can't be sent, or not any more.
    Never,
}

/// Whether reports may be sent at this moment. Asking is for people: here is nobody to ask.
fn may_send(store: &Store) -> bool {
    Settings::load(store.root()).consent == Consent::Always
}

/// Sends one report, with consent. What came of it is in the stored report.
fn send(store: &Store, profile: &Profile, report_id: &str) -> Sent {
    if !may_send(store) {
        return Sent::NotAllowed;
    }
    let options = Options { confirmed: false, attach_report: true, timeouts: Timeouts::default() };
    let delivered = store.find(report_id).map_err(Into::into);
    match delivered.and_then(|location| upload::deliver(store, &location, profile, options)) {
        Ok(delivered) => {
            tracing::info!("{report_id}: upload {}", delivered.sent.outcome.name());
            if let Some(error) = delivered.unrecorded {
                tracing::warn!("{report_id}: what came of the upload could not be kept: {error}");
                // Nor that it was tried: it would be tried for ever.
                return Sent::Never;
            }
            match (delivered.next_attempt, &delivered.sent.outcome) {
                (Some(next), _) => Sent::Failed(next),
                (None, Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::TooLarge) => Sent::Done,
                (None, Outcome::Retry { .. } | Outcome::Offline { .. }) => Sent::Never,
            }
        }
        Err(error) => {
            tracing::warn!("{report_id}: {error}");
            Sent::Never
        }
    }
}
