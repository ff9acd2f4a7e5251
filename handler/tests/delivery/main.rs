//! Delivery over real sockets: our uploader, curl and hand-made requests against the collector, and our uploader against
//! servers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects by unwrapping it"
)]

mod good;
mod hostile;
mod pages;
mod retry;
mod servers;
mod start;
mod support;
mod tool;
