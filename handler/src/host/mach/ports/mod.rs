//! Port rights: who owns them, and a ledger of how many there are.
//!
//! A right that is not given back is silent: the references of a name saturate at 65,535, and from then on no error tells
//! (`osfmk/ipc/ipc_right.c`). So each right that the kernel hands out is owned by a [`Port`], which gives it back when it
//! goes out of scope and is counted in a [`Ledger`] under the [`Group`] that holds it, as XNU counts its task references
//! (`doc/debugging/task_ref.md`). After a crash the counts must be back where they were.

mod group;
mod ledger;
mod port;
mod space;
#[cfg(test)]
pub(super) mod stand_in;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use ledger::{Counts, Ledger, Outstanding};
pub use port::{Port, Rights};
pub use space::{PortSpace, Right};
