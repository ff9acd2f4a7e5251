//! The macOS host: real Mach.
//!
//! Almost nothing here calls the kernel: what arrives is decoded, rights are owned and given back, and a task is read through
//! one trait whose answers are numbers and bytes ([`Kernel`]). So all of it compiles and is tested on any system, over a
//! kernel that lies and fails.

mod dispatch;
mod first_chances;
mod incoming;
mod kernel;
mod opened;
mod pass_on;
mod pending;
pub mod ports;
mod process;
mod region;
pub mod registers;
mod server;
mod sessions;
#[cfg(test)]
mod stand_in;
mod system;
mod task;
mod told;
mod unwatch;
mod watchdog;
mod words;
#[cfg(target_os = "macos")]
pub mod xnu;

pub use kernel::{FileId, Kernel, RawAction, RawRegion, TaskFlavor};
pub use server::{Handled, Policy, Server};
pub use system::Facts;
pub use task::MachTask;
pub use told::Told;
#[cfg(target_os = "macos")]
pub use xnu::{HostError, ServeOptions, Stopper, probe, run, serve};

#[cfg(test)]
mod tests;
