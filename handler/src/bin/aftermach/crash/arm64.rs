//! Instructions that no safe program has, on arm64.

use std::arch::asm;

/// Whether dividing by zero is an exception here: `udiv` by zero gives 0 (Arm ARM, C6.2).
pub(super) const DIVISION_TRAPS: bool = false;

/// Calls `address`.
///
/// # Safety
/// There must be a function at `address`, or none of the caller's business afterwards.
#[inline(always)]
pub(super) unsafe fn call(address: usize) {
    // SAFETY: as the caller says; the clobbers are those of the C ABI.
    unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) }
}

/// `udf #0`.
#[inline(always)]
pub(super) fn illegal() {
    // SAFETY: raises an exception, touches nothing.
    unsafe { asm!("udf #0") }
}

/// `brk #0`.
#[inline(always)]
pub(super) fn breakpoint() {
    // SAFETY: raises an exception, touches nothing.
    unsafe { asm!("brk #0") }
}

/// Nothing: see [`DIVISION_TRAPS`].
#[inline(always)]
pub(super) fn divide_by_zero() {}
