//! The Linux host: ptrace stands where Mach stands on macOS.

pub mod errno;
pub mod ptrace;
pub mod wait;
