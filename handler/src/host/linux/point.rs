//! The point at which a thread stands.

use super::errno::Errno;
use super::ptrace;

#[cfg_attr(target_arch = "x86_64", path = "point_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "point_aarch64.rs")]
mod layout;

/// Program counter and stack pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) pc: u64,
    pub(super) sp: u64,
}

impl Point {
    /// Of a stopped tracee.
    pub(super) fn of(tid: i32) -> Result<Point, Errno> {
        let mut bytes = [0; layout::SIZE];
        let length = ptrace::get_regset(tid, ptrace::NT_PRSTATUS, &mut bytes)?;
        let word = |offset: usize| match bytes[..length].get(offset..offset + 8) {
            Some(&[a, b, c, d, e, f, g, h]) => Ok(u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
            // A 32-bit program's registers are fewer.
            _ => Err(Errno(libc::ENODATA)),
        };
        Ok(Point { pc: word(layout::PC)?, sp: word(layout::SP)? })
    }
}
