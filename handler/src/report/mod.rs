//! The report of one crash: `report.json`'s contents, the text for people, and the signature.
//!
//! [`build()`] makes a [`Report`] of what was captured and unwound; [`text`] and [`signature`] need nothing but that.

mod build;
mod cause;
mod describe;
mod frames;
mod instruction;
mod panic;
mod request;
mod scene;
mod sentence;
pub mod signature;
pub mod text;

pub use aftermach_protocol::report::Report;

pub use build::{Input, MAX_FRAMES, build};

#[cfg(test)]
mod tests;
