//! The Linux host, with real processes: what it sees of their deaths, and that it changes nothing else.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping it")]

mod deaths;
mod living;
mod service;
mod stand_in;
mod support;
mod unchanged;
