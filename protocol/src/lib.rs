//! The vocabulary that the parts of Aftermach share: what an exception is, how its messages look as bytes, what the client's
//! record in a victim's memory looks like, what `report.json` says, and how a product's names are derived.
//!
//! No I/O, no operating system call, no unsafe code: everything here is decided by bytes and tested on any host.
#![forbid(unsafe_code)]

pub mod dump_message;
pub mod exception;
pub mod message;
pub mod platform;
pub mod product;
pub mod record;
pub mod reply;
#[cfg(feature = "report")]
pub mod report;
pub mod session;
