//! A program that does, by its first argument, something that a tracer could get wrong. It prints what it saw, so that a
//! traced run can be compared with one that is not.
#![allow(clippy::expect_used, clippy::panic, reason = "a victim: what goes wrong in it is a test's business")]

#[cfg(target_os = "linux")]
#[path = "unwatched/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "unwatched/other.rs"]
mod system;

fn main() {
    system::main();
}
