//! Instructions that no safe program has, on x86-64.

use std::arch::asm;

/// Whether dividing by zero is an exception here.
pub(super) const DIVISION_TRAPS: bool = true;

/// Calls `address`.
///
/// # Safety
/// There must be a function at `address`, or none of the caller's business afterwards.
#[inline(always)]
pub(super) unsafe fn call(address: usize) {
    // SAFETY: as the caller says; the clobbers are those of the C ABI.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) }
}

/// `ud2`.
#[inline(always)]
pub(super) fn illegal() {
    // SAFETY: raises an exception, touches nothing.
    unsafe { asm!("ud2") }
}

/// `int3`.
#[inline(always)]
pub(super) fn breakpoint() {
    // SAFETY: raises an exception, touches nothing.
    unsafe { asm!("int3") }
}

/// `div` by zero.
#[inline(always)]
pub(super) fn divide_by_zero() {
    // SAFETY: raises an exception; the registers it would change are named.
    unsafe { asm!("div {zero:e}", zero = in(reg) 0u32, inout("eax") 1u32 => _, inout("edx") 0u32 => _) }
}
