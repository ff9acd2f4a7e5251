//! The Linux host: ptrace stands where Mach stands on macOS.

pub mod errno;
pub mod ptrace;
pub mod wait;

mod task;

pub use task::{LinuxTask, warm_up};
