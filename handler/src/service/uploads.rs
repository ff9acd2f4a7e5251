//! Sends reports that were made, one after the other, so that no report waits for a slow server to be made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::host::{Transaction, work_in_background};
use crate::store::Store;
use crate::upload::{self, Consent, Options, Profile, Settings, Timeouts};

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
    pub(super) fn start(store: Store, profile: Profile) -> std::io::Result<Uploads> {
        let (reports, waiting) = mpsc::channel::<String>();
        let (end, ended) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        thread::Builder::new().name("uploads".to_owned()).spawn(move || {
            work_in_background();
            for report_id in waiting {
                if !told.load(Ordering::Relaxed) {
                    let _busy = Transaction::begin();
                    send(&store, &profile, &report_id);
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

/// Sends one report, with consent. What came of it is in the stored report.
fn send(store: &Store, profile: &Profile, report_id: &str) {
    // Asking is for people: here is nobody to ask.
    if Settings::load(store.root()).consent != Consent::Always {
        return;
    }
    let options = Options { confirmed: false, attach_report: true, timeouts: Timeouts::default() };
    let delivered = store.find(report_id).map_err(Into::into);
    match delivered.and_then(|location| upload::deliver(store, &location, profile, options)) {
        Ok(delivered) => {
            tracing::info!("{report_id}: upload {}", delivered.sent.outcome.name());
            if let Some(error) = delivered.unrecorded {
                tracing::warn!("{report_id}: what came of the upload could not be kept: {error}");
            }
        }
        Err(error) => tracing::warn!("{report_id}: {error}"),
    }
}
