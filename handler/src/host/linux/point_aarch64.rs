//! Where pc and sp are in the general registers of ARM64.

use std::mem;

/// Bytes of the structure.
pub(super) const SIZE: usize = size_of::<libc::user_regs_struct>();
/// `pc`.
pub(super) const PC: usize = mem::offset_of!(libc::user_regs_struct, pc);
/// `sp`.
pub(super) const SP: usize = mem::offset_of!(libc::user_regs_struct, sp);
