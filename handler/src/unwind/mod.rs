//! Every thread's frames, each with how it was found, and why the walk stopped.
//!
//! [`unwind`] needs the snapshot and nothing of the task, which may run or be gone by now. A step from a frame to its caller
//! takes the surest way that leads on, in this order:
//!
//! 1. after a call that went to a bad address, its return address;
//! 2. at a signal trampoline, the registers that the kernel saved;
//! 3. for the frame that was stopped, unless call frame information describes it: the function's own instructions;
//! 4. the image's unwind tables: DWARF call frame information or Mach-O compact unwind information;
//! 5. the chain of frame pointers;
//! 6. a short search of the stack for the address after a call.

mod cfi;
mod code;
mod compact;
#[cfg(test)]
mod edges;
pub mod file;
mod first_frame;
mod fold;
mod frame;
#[cfg(test)]
mod hostile;
mod limits;
mod plain;
mod registers;
mod rules;
mod sections;
mod signal;
mod stack;
mod step;
mod walk;

use std::time::Instant;

pub use frame::{Fold, Frame, Stop, Trace, Trust};
pub use limits::Limits;
pub use sections::Sections;

use crate::snapshot::Snapshot;

/// Walks every thread's stack, in the snapshot's order. `sections` must be those of the same snapshot.
///
/// Never fails: a stack that can't be walked to its end says where and why it stops ([`Trace::stop`]), and what could not be
/// read of the images is in [`Sections::gaps`].
pub fn unwind(snapshot: &Snapshot, sections: &Sections, limits: &Limits) -> Vec<Trace> {
    let deadline = Instant::now() + limits.total_time;
    let mut stepper = step::Stepper::new(snapshot, sections, limits);
    snapshot.threads.iter().map(|thread| walk::walk(thread, &mut stepper, limits, deadline)).collect()
}
