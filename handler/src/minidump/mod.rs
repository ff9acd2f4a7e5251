//! Minidumps: checking those that others send.

mod check;
mod walk;

pub use check::{CheckedModule, Summary, Unreadable, check};
