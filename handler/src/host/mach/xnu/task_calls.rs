//! Calls on task and thread ports (`osfmk/mach/{task,thread_act,mach_vm}.defs`).

use std::ffi::c_int;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;
use mach2::message::mach_msg_type_number_t;
use mach2::port::MACH_PORT_NULL;
use mach2::task::{self, task_policy_get, task_suspend2, task_threads};
use mach2::thread_act::thread_get_state;
use mach2::vm::{mach_vm_deallocate, mach_vm_read_overwrite, mach_vm_region_recurse};

use super::super::kernel::RawRegion;
use super::{check, ffi, own_space};

/// Calls with a room for words and returns how many were filled in.
fn fill(
    room: &mut [u32],
    call: impl FnOnce(*mut c_int, *mut mach_msg_type_number_t) -> c_int,
) -> Result<usize, KernReturn> {
    let mut count = room.len() as mach_msg_type_number_t;
    check(call(room.as_mut_ptr().cast(), &mut count))?;
    Ok((count as usize).min(room.len()))
}

pub(super) fn suspend(task: PortName) -> Result<PortName, KernReturn> {
    let mut token = MACH_PORT_NULL;
    // SAFETY: plain numbers, and a name to write to.
    check(unsafe { task_suspend2(task.0, &mut token) })?;
    Ok(PortName(token))
}

pub(super) fn pid(task: PortName) -> Result<i32, KernReturn> {
    let mut pid = 0;
    // SAFETY: plain numbers, and a number to write to.
    check(unsafe { ffi::pid_for_task(task.0, &mut pid) })?;
    Ok(pid)
}

pub(super) fn task_info(task: PortName, flavor: u32, room: &mut [u32]) -> Result<usize, KernReturn> {
    // SAFETY: room for as many words as the count says.
    fill(room, |info, count| unsafe { task::task_info(task.0, flavor, info, count) })
}

pub(super) fn role(task: PortName) -> Result<i32, KernReturn> {
    const TASK_CATEGORY_POLICY: u32 = 1;
    let mut role = [0];
    // Not the default: what was asked for.
    let mut get_default = 0;
    // SAFETY: room for one word, which is what the flavour has, and a truth value to write to.
    fill(&mut role, |info, count| unsafe {
        task_policy_get(task.0, TASK_CATEGORY_POLICY as _, info, count, &mut get_default)
    })?;
    Ok(role[0] as i32)
}

/// An array that the kernel put into our memory.
struct KernelArray {
    address: u64,
    bytes: u64,
}

impl Drop for KernelArray {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: memory that the kernel allocated for us, and that nobody refers to any more.
            unsafe { mach_vm_deallocate(own_space(), self.address, self.bytes) };
        }
    }
}

pub(super) fn threads(task: PortName) -> Result<Vec<PortName>, KernReturn> {
    let mut list = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: a pointer and a number to write to.
    check(unsafe { task_threads(task.0, &mut list, &mut count) })?;
    let bytes = u64::from(count) * size_of::<u32>() as u64;
    let _array = KernelArray { address: list as u64, bytes };
    if list.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the kernel put `count` names there, and they stay until the array goes.
    let names = unsafe { std::slice::from_raw_parts(list, count as usize) };
    Ok(names.iter().map(|name| PortName(*name)).collect())
}

pub(super) fn thread_info(thread: PortName, flavor: u32, room: &mut [u32]) -> Result<usize, KernReturn> {
    // SAFETY: room for as many words as the count says.
    fill(room, |info, count| unsafe { ffi::thread_info(thread.0, flavor, info, count) })
}

pub(super) fn thread_state(thread: PortName, flavor: u32, room: &mut [u32]) -> Result<usize, KernReturn> {
    // SAFETY: room for as many words as the count says.
    fill(room, |state, count| unsafe { thread_get_state(thread.0, flavor as _, state.cast(), count) })
}

pub(super) fn read(task: PortName, address: u64, buffer: &mut [u8]) -> Result<(), KernReturn> {
    let size = buffer.len() as u64;
    let mut read = 0;
    // SAFETY: the destination has `size` bytes of our own.
    check(unsafe { mach_vm_read_overwrite(task.0, address, size, buffer.as_mut_ptr() as u64, &mut read) })?;
    if read == size { Ok(()) } else { Err(KernReturn::FAILURE) }
}

pub(super) fn region(task: PortName, address: u64, words: usize) -> Result<RawRegion, KernReturn> {
    let (mut address, mut size) = (address, 0);
    // Deeper than any map is nested: no submap is ever answered instead of what it holds.
    let mut depth = 1024;
    let mut info = vec![0; words];
    // SAFETY: numbers to write to, and room for as many words as the count says.
    let filled = fill(&mut info, |info, count| unsafe {
        mach_vm_region_recurse(task.0, &mut address, &mut size, &mut depth, info, count)
    })?;
    info.truncate(filled);
    Ok(RawRegion { address, size, info })
}
