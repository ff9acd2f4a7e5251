//! Delivery: a report's dump is posted to a dashboard, after consent, and what came of it is kept with the report.
//!
//! [`Profile`] is where to and in which dialect, [`plan`] the exact bytes of the request, [`send`] the one request, [`Outcome`]
//! what the answer means, [`Settings`] what the user allows; [`deliver`] does it all for one report of a store.

mod client;
mod deliver;
mod destination;
mod metadata;
pub mod multipart;
mod outcome;
mod reach;
mod request;
mod retry_after;
mod settings;
mod tls;

pub use client::{SendError, Sent, Timeouts, send};
pub use deliver::{DeliverError, Delivered, Options, deliver, draft};
pub use destination::{BadDestination, Format, Profile};
pub use metadata::Metadata;
pub use outcome::{Answer, Outcome, classify};
pub use reach::reach;
pub use request::{DUMP_PART, MAX_REPORT, REPORT_PART, plan};
pub use settings::{Consent, SETTINGS_FILE, Settings};
