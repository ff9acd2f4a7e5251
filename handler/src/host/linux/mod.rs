//! The Linux host: ptrace stands where Mach stands on macOS.
//!
//! One thread makes every ptrace call. It seizes a program before it executes ([`run`]), or when it asks for it ([`serve`]), and
//! so has all of its descendants as well. A signal that is about to be delivered for a hardware fault is the
//! first-chance exception: noted, and always delivered. `PTRACE_EVENT_EXIT` with a signal that dumps core is the death: each
//! thread stops there once more with all its registers and memory, and is held until the receiver has copied them.
//!
//! Everything else must go on as if nobody watched. That is most of the code here.

mod attach;
mod death;
mod door;
mod endpoint;
mod error;
mod imitate;
mod incomplete;
mod living;
mod point;
mod probe;
mod program;
pub mod ptrace;
mod relay;
mod restart;
mod run;
mod serve;
mod standing;
mod task;
mod tracees;
mod tracer;
mod visit;
pub mod wait;
mod wakeup;

pub use endpoint::{Endpoint, EndpointError};
pub use error::HostError;
pub(super) use imitate::die_of;
pub use probe::{Refused, probe};
pub use run::run;
pub use serve::{ServeOptions, Stopper, serve};
pub use standing::Transaction;
pub(crate) use standing::{own_shared_cache, work_in_background};
pub use task::{LinuxTask, warm_up};
pub use visit::{Visit, visit};
pub use wait::Ending;

pub use super::errno;
pub use super::program::{Options, Program};
