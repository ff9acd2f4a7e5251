//! The numbers, in one run: how long a victim is held and how long its report takes, beside minidump-writer dumping the same
//! victim; where that time goes; what memory it takes; a storm of crashes; and how fast stacks are walked, beside framehop.
//! The machine's noise is in both sides of each comparison, so read the ratios.
//!
//!     cargo run --release -p aftermach-bench [-- [ROUNDS] [TABLE ...]]
//!
//! with `held`, `memory`, `storm` and `unwinding` as tables; all of them without one.

#[cfg_attr(target_os = "linux", path = "linux/mod.rs")]
#[cfg_attr(not(target_os = "linux"), path = "none.rs")]
mod tables;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tables::run(&arguments)
}
