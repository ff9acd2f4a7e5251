//! What threads share, under names that the model takes over (`--cfg aftermach_model`, see `model`).

pub(crate) use core::sync::atomic::{Ordering, fence};

#[cfg(not(aftermach_model))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(aftermach_model)]
pub(crate) use crate::model::{AtomicU32, AtomicU64, alone};

/// Reads or writes what only one thread at a time may touch, which the model checks.
#[cfg(not(aftermach_model))]
#[inline(always)]
pub(crate) fn alone<R>(touch: impl FnOnce() -> R) -> R {
    touch()
}
