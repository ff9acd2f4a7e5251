//! Delivery: a report's dump is posted to a dashboard, after consent, and what came of it is kept with the report.

mod destination;
mod metadata;
pub mod multipart;
mod outcome;
mod request;
mod retry_after;

pub use destination::{BadDestination, Format, Profile};
pub use metadata::Metadata;
pub use outcome::{Answer, Outcome, classify};
pub use request::{DUMP_PART, Files, MAX_REPORT, REPORT_PART, plan};
