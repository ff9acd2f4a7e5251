//! The Mach-O lab: real Mach-O programs of our own (`victims/`, built into `bin/` by `build.sh`), loaded on Linux by
//! `tests/victims/macho_loader`, held and read by the Linux host, and shown to the rest as the Darwin tasks they are.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod crashes;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod darwin;
mod figures;
mod images;
mod judge;
mod peer;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stepper;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod torture;
