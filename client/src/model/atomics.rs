//! Atomic types that tell the explorer of each operation.

use core::sync::atomic::{self, AtomicBool, Ordering};

use super::explore::{step, wrote};

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        /// As `core`'s, and laid out like it.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(atomic::$name);

        #[allow(missing_docs, dead_code, reason = "each is core's own")]
        impl $name {
            pub const fn new(value: $number) -> $name {
                $name(atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $number {
                step();
                self.0.load(order)
            }

            pub fn store(&self, value: $number, order: Ordering) {
                step();
                self.0.store(value, order);
                wrote();
            }

            pub fn swap(&self, value: $number, order: Ordering) -> $number {
                step();
                let before = self.0.swap(value, order);
                wrote();
                before
            }

            pub fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                step();
                let before = self.0.fetch_add(value, order);
                wrote();
                before
            }

            pub fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                step();
                let result = self.0.compare_exchange(current, new, success, failure);
                wrote();
                result
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

static TAKEN: AtomicBool = AtomicBool::new(false);

/// No thread is in [`alone`].
pub(super) fn reset() {
    TAKEN.store(false, Ordering::Relaxed);
}

/// Runs `touch`, in which another thread may get its turn, and sees to it that no other one is in here meanwhile.
pub(crate) fn alone<R>(touch: impl FnOnce() -> R) -> R {
    assert!(!TAKEN.swap(true, Ordering::Relaxed), "two threads touch what is one's alone");
    step();
    let result = touch();
    step();
    TAKEN.store(false, Ordering::Relaxed);
    result
}
