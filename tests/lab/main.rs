//! The Mach-O lab: real Mach-O programs of our own (`victims/`, built into `bin/` by `build.sh`), loaded on Linux by
//! `tests/victims/macho_loader`, held and read by the Linux host, and shown to the rest as the Darwin tasks they are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects by unwrapping it"
)]
#![cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    allow(dead_code, reason = "the programs themselves run on x86-64 Linux only")
)]

mod arm64;
mod dumps;
mod figures;
mod images;
mod judge;
mod peer;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86_64;
