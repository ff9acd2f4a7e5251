//! launchd jobs for the handler: made, checked, and put in place.
//!
//! - [`Definition`]: what one user's job is, as a property list. A plain value.
//! - [`check`]: what is wrong with a property list that claims to be one. Bounded, for any bytes.
//! - [`launchctl`]: how launchd is asked, and what its answers say.
//! - [`Agents`]: one user's jobs: installs, removes and describes them.
//!
//! All of it compiles everywhere, so that all of it is tested everywhere; only macOS has a launchd to speak to.
//! Keys and their effects: launchd.plist(5), and launchd-842 `src/core.c` where the manual is silent.

mod agents;
mod check;
mod definition;
pub mod launchctl;

pub use agents::{AgentError, Agents, Installed, Status, Uninstalled};
pub use check::{MAX_BYTES, MAX_COLLECTIONS, Problem, Program, check, product_of, program};
pub use definition::{Definition, DefinitionError, EXIT_TIMEOUT};
