//! One report of a store, delivered: consent, request, answer, record.

use std::io;
use std::time::SystemTime;

use super::client::{SendError, Sent, Timeouts, send};
use super::destination::Profile;
use super::metadata::Metadata;
use super::multipart::Plan;
use super::request::plan;
use super::settings::{Consent, Settings};
use crate::store::{Location, MINIDUMP, Store, StoreError};

/// How to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Somebody said yes to sending this very report.
    pub confirmed: bool,
    /// Send `report.json` along with the dump.
    pub attach_report: bool,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// A report that was sent, or at least tried.
#[derive(Debug)]
pub struct Delivered {
    /// What came of it.
    pub sent: Sent,
    /// Why that could not be kept with the report, if so.
    pub unrecorded: Option<StoreError>,
    /// When it may be tried again, if it is to be.
    pub next_attempt: Option<SystemTime>,
}

/// Why a report was not even tried. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Nobody allowed it.
    #[error("not sent: {0}")]
    NotAllowed(String),
    /// The report can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report's id is no UUID, so it is no report of ours.
    #[error("not sent: the report's id, {0:?}, is no UUID")]
    BadId(String),
    /// The dump can't be read, or the settings can't be written.
    #[error("not sent: {0}")]
    Io(#[from] io::Error),
    /// The request could not be made.
    #[error("not sent: {0}")]
    Send(#[from] SendError),
}

/// The request that [`deliver`] would send, as exact bytes.
pub fn draft(store: &Store, report: &Location, profile: &Profile, attach_report: bool) -> Result<Plan, DeliverError> {
    draft_as(&Settings::load(store.root()), report, profile, attach_report)
}

/// Sends a report, if it may be sent now, and keeps what came of it with the report. Blocks until there is an answer; not
/// within an async runtime.
pub fn deliver(
    store: &Store,
    report: &Location,
    profile: &Profile,
    options: Options,
) -> Result<Delivered, DeliverError> {
    // Read now, not earlier: consent may have been taken back since the report was queued.
    let mut settings = Settings::load(store.root());
    allowed(&settings, options.confirmed).map_err(DeliverError::NotAllowed)?;
    settings.ensure_client_id(store.root())?;
    let plan = draft_as(&settings, report, profile, options.attach_report)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sent = runtime.block_on(send(profile, &plan, options.timeouts))?;
    let now = SystemTime::now();
    let mut next_attempt = None;
    let record = store.update(&report.id, |report| {
        next_attempt = sent.outcome.record(&mut report.upload, profile, sent.status, now);
    });
    Ok(Delivered { sent, unrecorded: record.err(), next_attempt })
}

/// Whether a report may be sent under these settings.
fn allowed(settings: &Settings, confirmed: bool) -> Result<(), String> {
    match (settings.consent, confirmed) {
        (Consent::Always, _) | (Consent::Ask, true) => Ok(()),
        (Consent::Ask, false) => Err("nobody agreed to sending this report".to_owned()),
        (Consent::Never, _) => {
            Err(settings.note.clone().unwrap_or_else(|| "uploads are switched off in this store".to_owned()))
        }
    }
}

fn draft_as(
    settings: &Settings,
    location: &Location,
    profile: &Profile,
    attach_report: bool,
) -> Result<Plan, DeliverError> {
    let mut report = location.read()?;
    let Some(metadata) = Metadata::of(&report, settings.client_id) else {
        return Err(DeliverError::BadId(report.report_id));
    };
    // Where it was sent before is no server's business, and would make a resend other bytes than the first.
    report.upload.clear();
    let attached = attach_report.then(|| report.to_bytes());
    let dump = location.file(MINIDUMP);
    plan(profile, &metadata, &dump, attached)
        .map_err(|error| io::Error::new(error.kind(), format!("can't read {}: {error}", dump.display())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_decides_and_a_yes_never_overrides_a_no() {
        let settings = |consent| {
            let mut settings = Settings::default();
            settings.consent = consent;
            settings
        };
        assert!(allowed(&settings(Consent::Always), false).is_ok());
        assert!(allowed(&settings(Consent::Ask), true).is_ok());
        assert!(allowed(&settings(Consent::Ask), false).is_err());
        assert!(allowed(&settings(Consent::Never), true).is_err());
    }
}
