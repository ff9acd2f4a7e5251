//! Calls of the BSD side: libproc and sysctl.

use std::ffi::{CString, OsString, c_int};
use std::mem::{MaybeUninit, offset_of};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

use super::super::kernel::FileId;
use super::ffi;
use crate::host::errno::Errno;

/// The bytes of words: aligned, as messages must be.
pub(super) fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    let length = size_of_val(words);
    // SAFETY: as many bytes as the words have; any bytes are a word and any word is bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), length) }
}

pub(super) fn page_size() -> u64 {
    // SAFETY: plain numbers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Nanoseconds of one unit of `mach_absolute_time`, as numerator and denominator.
pub(super) fn timebase() -> (u64, u64) {
    let mut info = mach2::mach_time::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: a structure to write to.
    let result = unsafe { mach2::mach_time::mach_timebase_info(&mut info) };
    if result == 0 && info.denom != 0 { (info.numer.into(), info.denom.into()) } else { (1, 1) }
}

pub(super) fn info(pid: i32, flavor: i32, argument: u64, room: &mut [u8]) -> usize {
    let size = c_int::try_from(room.len()).unwrap_or(c_int::MAX);
    // SAFETY: room for `size` bytes.
    let filled = unsafe { libc::proc_pidinfo(pid, flavor, argument, room.as_mut_ptr().cast(), size) };
    usize::try_from(filled).map_or(0, |filled| filled.min(room.len()))
}

pub(super) fn times(pid: i32, (numerator, denominator): (u64, u64)) -> Option<(u64, u64)> {
    let mut usage = MaybeUninit::<libc::rusage_info_v0>::zeroed();
    // SAFETY: a structure of this version to write to.
    let result = unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V0, usage.as_mut_ptr().cast()) };
    if result != 0 {
        return None;
    }
    // SAFETY: zeroed, then filled in.
    let usage = unsafe { usage.assume_init() };
    let nanoseconds = |units: u64| (u128::from(units) * u128::from(numerator) / u128::from(denominator)) as u64;
    Some((nanoseconds(usage.ri_user_time), nanoseconds(usage.ri_system_time)))
}

pub(super) fn path(pid: i32) -> Option<PathBuf> {
    let mut room = vec![0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    // SAFETY: room for as many bytes as the size says.
    let length = unsafe { libc::proc_pidpath(pid, room.as_mut_ptr().cast(), room.len() as u32) };
    let length = usize::try_from(length).ok().filter(|length| (1..=room.len()).contains(length))?;
    room.truncate(length);
    Some(PathBuf::from(OsString::from_vec(room)))
}

pub(super) fn arguments(pid: i32) -> Option<Vec<u8>> {
    /// `ARG_MAX`: with less room the kernel gives the end instead of the beginning.
    const MOST: usize = 1 << 20;
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut room = vec![0; MOST];
    let mut length = room.len();
    // SAFETY: a name of three numbers, and room for as many bytes as the length says.
    let result =
        unsafe { libc::sysctl(name.as_mut_ptr(), 3, room.as_mut_ptr().cast(), &mut length, ptr::null_mut(), 0) };
    room.truncate(length);
    (result == 0).then_some(room)
}

/// `struct proc_regionwithpathinfo`: 96 bytes of `struct proc_regioninfo`, then libc's `vnode_info_path`.
const REGION_INFO: usize = 96;

pub(super) fn mapped_file(pid: i32, address: u64) -> Option<FileId> {
    const PROC_PIDREGIONPATHINFO: i32 = 8;
    const SIZE: usize = REGION_INFO + size_of::<libc::vnode_info_path>();
    let mut room = [0; SIZE];
    if info(pid, PROC_PIDREGIONPATHINFO, address, &mut room) < SIZE {
        return None;
    }
    // The answer is for the mapping at or after the address.
    let start = u64::from_le_bytes(*room.get(80..)?.first_chunk()?);
    let size = u64::from_le_bytes(*room.get(88..)?.first_chunk()?);
    if address.checked_sub(start).is_none_or(|offset| offset >= size) {
        return None;
    }
    let device = room.get(REGION_INFO + offset_of!(libc::vinfo_stat, vst_dev)..)?;
    let inode = room.get(REGION_INFO + offset_of!(libc::vinfo_stat, vst_ino)..)?;
    let device = i32::from_le_bytes(*device.first_chunk()?);
    let inode = u64::from_le_bytes(*inode.first_chunk()?);
    // As the standard library widens a device number, which is signed here.
    (inode != 0).then_some(FileId { device: device as u64, inode })
}

pub(super) fn sysctl_by_name(name: &str) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    let mut room = vec![0; 1024];
    let mut length = room.len();
    // SAFETY: the name ends in NUL, and there is room for as many bytes as the length says.
    let result =
        unsafe { libc::sysctlbyname(name.as_ptr(), room.as_mut_ptr().cast(), &mut length, ptr::null_mut(), 0) };
    room.truncate(length);
    (result == 0).then_some(room)
}

/// `CS_OPS_STATUS` and `CS_OPS_ENTITLEMENTS_BLOB` (`bsd/sys/codesign.h`). Anyone may ask either of any process
/// (`bsd/kern/kern_cs.c`, `csops_internal`).
const CS_OPS_STATUS: u32 = 0;
const CS_OPS_ENTITLEMENTS_BLOB: u32 = 7;
/// Room for entitlements: few have a hundredth of it.
const ENTITLEMENTS: usize = 64 * 1024;

pub(super) fn signature_flags(pid: i32) -> Option<u32> {
    let mut flags = 0_u32;
    // SAFETY: room for the four bytes that the operation writes.
    let result = unsafe { ffi::csops(pid, CS_OPS_STATUS, (&raw mut flags).cast(), size_of::<u32>()) };
    (result == 0).then_some(flags)
}

pub(super) fn entitlements(pid: i32) -> Option<Vec<u8>> {
    let mut room = vec![0_u8; ENTITLEMENTS];
    // SAFETY: room for as many bytes as said.
    let result = unsafe { ffi::csops(pid, CS_OPS_ENTITLEMENTS_BLOB, room.as_mut_ptr().cast(), room.len()) };
    match result {
        0 => Some(room),
        // It is not signed, and has none.
        _ if Errno::last() == Errno(libc::EINVAL) => Some(Vec::new()),
        _ => None,
    }
}
