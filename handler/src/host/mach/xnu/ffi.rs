//! What libSystem exports and neither mach2 nor libc declares. Signatures: MIG's output for the named definitions, and the
//! headers of macOS's SDK.

use std::ffi::{c_char, c_int, c_void};

use mach2::exception_types::{exception_behavior_t, exception_mask_t};
use mach2::kern_return::kern_return_t;
use mach2::message::mach_msg_type_number_t;
use mach2::port::{mach_port_name_t, mach_port_t};
use mach2::thread_status::thread_state_flavor_t;

unsafe extern "C" {
    /// `osfmk/mach/thread_act.defs`.
    pub(super) fn thread_info(
        thread: mach_port_t,
        flavor: u32,
        info: *mut c_int,
        count: *mut mach_msg_type_number_t,
    ) -> kern_return_t;

    /// `osfmk/mach/mach_traps.h`.
    pub(super) fn pid_for_task(task: mach_port_name_t, pid: *mut c_int) -> kern_return_t;

    /// `osfmk/mach/mach_port.defs`.
    pub(super) fn mach_port_insert_member(
        space: mach_port_t,
        name: mach_port_name_t,
        set: mach_port_name_t,
    ) -> kern_return_t;

    /// `osfmk/mach/mach_port.defs`.
    pub(super) fn mach_port_type(space: mach_port_t, name: mach_port_name_t, kinds: *mut u32) -> kern_return_t;

    /// `spawn.h`.
    pub(super) fn posix_spawnattr_setexceptionports_np(
        attributes: *mut libc::posix_spawnattr_t,
        mask: exception_mask_t,
        port: mach_port_t,
        behavior: exception_behavior_t,
        flavor: thread_state_flavor_t,
    ) -> c_int;

    /// `bsd/sys/codesign.h`; in libSystem, not in its public headers.
    pub(super) fn csops(pid: c_int, operation: u32, data: *mut c_void, size: usize) -> c_int;

    /// `xpc/xpc.h`: while a transaction is open, launchd does not take the process for idle.
    pub(super) fn xpc_transaction_begin();
    /// `xpc/xpc.h`.
    pub(super) fn xpc_transaction_end();
}

/// `MACH_PORT_TYPE(MACH_PORT_RIGHT_RECEIVE)` (`osfmk/mach/port.h`).
pub(super) const MACH_PORT_TYPE_RECEIVE: u32 = 1 << (1 + 16);

/// `task_identity_token_get_task_port` (`osfmk/mach/task.defs`).
pub(super) type TaskOfIdentity =
    unsafe extern "C" fn(token: mach_port_t, flavor: u32, task: *mut mach_port_t) -> kern_return_t;

/// `mach_port_kobject` (`osfmk/mach/mach_port.defs`): which kind of kernel object a right leads to, and where it is for those who
/// may know.
pub(super) type PortKobject = unsafe extern "C" fn(
    space: mach_port_t,
    name: mach_port_name_t,
    kind: *mut u32,
    address: *mut u64,
) -> kern_return_t;

/// A symbol that only newer systems have; null where this one hasn't.
pub(super) fn symbol(name: &'static std::ffi::CStr) -> *mut c_void {
    // SAFETY: the name ends in NUL; looking up has no other effect.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast::<c_char>()) }
}
