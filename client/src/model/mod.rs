//! The client under a model: built with `--cfg aftermach_model`, its atomics hand control to an explorer before each operation,
//! which runs the threads of a test in every order that differs in at most so many preemptions, and looks at the memory after
//! each write, as a reader of the process would find it that died there. Nothing of this is in a client that ships.
//!
//! Operations take effect in the order in which they are run (sequential consistency): that a processor or the compiler moves
//! one before another is not explored. A process that died has no operation under way, and what the compiler moves is what the
//! check sums of the record are for.

mod atomics;
mod explore;
mod host;

pub(crate) use atomics::{AtomicU32, AtomicU64, alone};
pub use explore::{Explored, explore};
pub use host::{Model, fail_next_registration, is_registered};

/// Slots of annotations and of breadcrumbs: few, so that rings wrap and tables are full after few steps.
pub const SLOTS: usize = 2;

/// In a forked child: the threads that it lacks are in nothing any more, and what its parent has registered is not the child's.
pub fn forked() {
    host::reset();
    atomics::reset();
}

/// Everything as it is when a program starts.
pub fn reset() {
    atomics::reset();
    crate::install::reset();
    crate::record::reset();
    crate::annotations::reset();
    crate::breadcrumbs::reset();
    host::reset();
}
