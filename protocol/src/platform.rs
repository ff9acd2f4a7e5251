//! What kind of machine and system a task runs on.

/// The system whose rules a task follows. A Mach-O task under the lab's loader on Linux is a [`Os::MacOs`] task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Os {
    /// Linux: signals, ELF images.
    Linux,
    /// macOS: Mach exceptions, Mach-O images.
    MacOs,
}

/// The instruction set that a task executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// x86-64.
    X86_64,
    /// AArch64, with or without pointer authentication.
    Arm64,
}

impl Os {
    /// The name used in `report.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Os::Linux => "linux",
            Os::MacOs => "macos",
        }
    }
}

impl Cpu {
    /// The name used in `report.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Cpu::X86_64 => "x86_64",
            Cpu::Arm64 => "arm64",
        }
    }

    /// Bytes in a pointer.
    pub const fn pointer_size(self) -> u64 {
        8
    }
}
