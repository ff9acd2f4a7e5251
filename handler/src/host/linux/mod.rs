//! The Linux host: ptrace stands where Mach stands on macOS.
