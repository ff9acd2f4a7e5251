//! Where pc and sp are in the general registers of x86-64.

use std::mem;

/// Bytes of the structure.
pub(super) const SIZE: usize = size_of::<libc::user_regs_struct>();
/// `rip`.
pub(super) const PC: usize = mem::offset_of!(libc::user_regs_struct, rip);
/// `rsp`.
pub(super) const SP: usize = mem::offset_of!(libc::user_regs_struct, rsp);
