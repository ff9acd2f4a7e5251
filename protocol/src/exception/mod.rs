//! What happened to a thread or a task, in the terms of the system it ran on.

mod codes;
mod crash;
pub mod darwin;
mod exit_reason;
mod guard;
mod kern_return;
pub mod linux;
pub mod mach;
mod resource;
mod translate;

pub use crash::{Cause, Crash};
pub use exit_reason::ExitReason;
pub use guard::{Guard, GuardKind};
pub use kern_return::KernReturn;
pub use linux::LinuxSignal;
pub use resource::Resource;

/// A Mach exception as its message carries it: type and two 64-bit codes (`osfmk/mach/exception_types.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachException {
    /// `EXC_BAD_ACCESS` = 1 … `EXC_CORPSE_NOTIFY` = 13.
    pub kind: u32,
    /// `code[0]` and `code[1]`. Kept raw; other modules here say what they mean.
    pub codes: [u64; 2],
}

/// One exception, of either system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// A signal, on Linux.
    Linux(LinuxSignal),
    /// A Mach exception, on macOS or in the lab.
    Mach(MachException),
    /// None: the program asked for a report of itself as it stood, and went on.
    Simulated,
}
