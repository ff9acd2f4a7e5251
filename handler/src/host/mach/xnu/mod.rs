//! The real kernel: the only place of the macOS host that calls it.
//!
//! Kernel objects are called by libSystem's exported functions only. A message made by hand is refused there since macOS 13,
//! and kills the caller (`osfmk/ipc/ipc_policy.c`); by hand go only our own messages between processes, and replies.

#[cfg_attr(target_arch = "x86_64", path = "cpu_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "cpu_arm64.rs")]
mod cpu;
mod error;
mod ffi;
mod imitate;
mod layout;
mod lookup;
mod process_calls;
mod queue;
mod registration;
mod relay;
mod run;
mod serve;
mod shared_cache;
mod spawn;
mod standing;
mod task_calls;

use std::ffi::{CStr, c_int};
use std::path::PathBuf;
use std::sync::Arc;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{Header, PortName};
use aftermach_protocol::platform::Cpu;
use mach2::mach_port::{
    mach_port_allocate, mach_port_deallocate, mach_port_insert_right, mach_port_mod_refs,
    mach_port_request_notification,
};
use mach2::message::{
    MACH_MSG_TYPE_MAKE_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE, MACH_SEND_MSG, MACH_SEND_TIMEOUT, mach_msg,
    mach_msg_destroy, mach_msg_header_t,
};
use mach2::notify::MACH_NOTIFY_NO_SENDERS;
use mach2::port::{MACH_PORT_NULL, MACH_PORT_RIGHT_PORT_SET, MACH_PORT_RIGHT_RECEIVE, MACH_PORT_RIGHT_SEND};
use mach2::traps::mach_task_self;

use super::kernel::{FileId, Kernel, RawAction, RawRegion, TaskFlavor};
use super::ports::{Ledger, PortSpace, Rights};
use super::system::Facts;

pub use error::HostError;
pub(in crate::host) use imitate::die_of;
pub use lookup::{Lookup, look_up};
pub use queue::{Arrival, Buffer, CheckInError, Queue, Stopper};
pub use run::{probe, run};
pub use serve::{ServeOptions, serve};
pub(crate) use shared_cache::own_shared_cache;
pub use standing::Transaction;
pub(crate) use standing::work_in_background;

/// The kernel that this process runs on.
#[derive(Debug)]
pub struct Xnu {
    /// Absent before macOS 12.
    task_of_identity: Option<ffi::TaskOfIdentity>,
    /// Of the kernel's interface for debuggers, which needs not be there.
    port_kobject: Option<ffi::PortKobject>,
    /// Nanoseconds of one unit of the kernel's clock, as a fraction: 1/1 on Intel, 125/3 on Apple silicon.
    timebase: (u64, u64),
}

impl Xnu {
    /// Looks up what only newer systems have.
    pub fn new() -> Xnu {
        let address = ffi::symbol(c"task_identity_token_get_task_port");
        let task_of_identity = (!address.is_null()).then(|| {
            // SAFETY: the exported function of this name has this type (task.defs, `task_identity_token_get_task_port`).
            unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::TaskOfIdentity>(address) }
        });
        let address = ffi::symbol(c"mach_port_kobject");
        let port_kobject = (!address.is_null()).then(|| {
            // SAFETY: the exported function of this name has this type (mach_port.defs, `mach_port_kobject`).
            unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::PortKobject>(address) }
        });
        Xnu { task_of_identity, port_kobject, timebase: process_calls::timebase() }
    }

    /// Whether tasks can be named by identity tokens, and so the protected messages be used.
    pub fn has_identity_tokens(&self) -> bool {
        self.task_of_identity.is_some()
    }

    /// The kernel, the rights of this process with a ledger of their own, and what is known of the machine.
    pub fn open() -> (Arc<Xnu>, Rights, Facts) {
        let kernel = Arc::new(Xnu::new());
        let rights = Rights::new(Arc::<Xnu>::clone(&kernel), Arc::new(Ledger::new()));
        let facts = Facts::read(&*kernel, cpu::cpuid());
        (kernel, rights, facts)
    }
}

impl Default for Xnu {
    fn default() -> Xnu {
        Xnu::new()
    }
}

/// A kernel's answer as a result.
fn check(code: c_int) -> Result<(), KernReturn> {
    if code == 0 { Ok(()) } else { Err(KernReturn(code)) }
}

/// This process's own name space.
fn own_space() -> u32 {
    // SAFETY: reads a variable that libSystem sets before any code of ours runs.
    unsafe { mach_task_self() }
}

impl PortSpace for Xnu {
    fn deallocate(&self, name: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers. The caller owns the right that is given back.
        check(unsafe { mach_port_deallocate(own_space(), name.0) })
    }

    fn destroy_receive(&self, name: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers. The caller owns the right that is given back.
        check(unsafe { mach_port_mod_refs(own_space(), name.0, MACH_PORT_RIGHT_RECEIVE, -1) })
    }

    fn destroy_set(&self, name: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers. The caller owns the right that is given back.
        check(unsafe { mach_port_mod_refs(own_space(), name.0, MACH_PORT_RIGHT_PORT_SET, -1) })
    }

    fn retain_send(&self, name: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers.
        check(unsafe { mach_port_mod_refs(own_space(), name.0, MACH_PORT_RIGHT_SEND, 1) })
    }
}

/// The bytes of a message as the system calls take it; `None` if they are not one: not aligned as a header, or shorter.
fn as_message(bytes: &mut [u8]) -> Option<*mut mach_msg_header_t> {
    let header = bytes.as_mut_ptr().cast::<mach_msg_header_t>();
    (bytes.len() >= Header::SIZE && header.is_aligned()).then_some(header)
}

impl Kernel for Xnu {
    fn cpu(&self) -> Cpu {
        cpu::CPU
    }

    fn own_pid(&self) -> i32 {
        // SAFETY: no memory is involved.
        unsafe { libc::getpid() }
    }

    fn page_size(&self) -> u64 {
        process_calls::page_size()
    }

    fn send(&self, message: &mut [u8]) -> Result<(), KernReturn> {
        const NOT_A_MESSAGE: KernReturn = KernReturn(0x1000_0008); // MACH_SEND_MSG_TOO_SMALL
        let size = message.len() as u32;
        // A vector of bytes may lie anywhere.
        let mut aligned = vec![0_u64; message.len().div_ceil(8)];
        let bytes = process_calls::bytes_of(&mut aligned);
        let bytes = bytes.get_mut(..message.len()).ok_or(NOT_A_MESSAGE)?;
        bytes.copy_from_slice(message);
        let header = as_message(bytes).ok_or(NOT_A_MESSAGE)?;
        // With a timeout of zero: a hostile client's full queue must not stop us. The kernel's has room for its one reply.
        let options = MACH_SEND_MSG | MACH_SEND_TIMEOUT;
        // SAFETY: `size` bytes of message are there; nothing is received.
        let result = check(unsafe { mach_msg(header, options, size, 0, MACH_PORT_NULL, 0, MACH_PORT_NULL) });
        // What could not be sent comes back, perhaps under other names.
        message.copy_from_slice(bytes);
        result
    }

    fn destroy_message(&self, message: &mut [u8]) {
        if let Some(header) = as_message(message) {
            // SAFETY: a message as it was received, whose rights nobody else owns.
            unsafe { mach_msg_destroy(header) };
        }
    }

    fn allocate_receive(&self) -> Result<PortName, KernReturn> {
        let mut name = MACH_PORT_NULL;
        // SAFETY: a name to write to.
        check(unsafe { mach_port_allocate(own_space(), MACH_PORT_RIGHT_RECEIVE, &mut name) })?;
        Ok(PortName(name))
    }

    fn insert_member(&self, port: PortName, set: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers.
        check(unsafe { ffi::mach_port_insert_member(own_space(), port.0, set.0) })
    }

    fn make_send(&self, port: PortName) -> Result<(), KernReturn> {
        // SAFETY: plain numbers.
        check(unsafe { mach_port_insert_right(own_space(), port.0, port.0, MACH_MSG_TYPE_MAKE_SEND) })
    }

    fn notify_no_senders(&self, port: PortName, made: u32) -> Result<PortName, KernReturn> {
        let mut earlier = MACH_PORT_NULL;
        // SAFETY: plain numbers, and a name to write to; the notice comes to the port itself.
        check(unsafe {
            mach_port_request_notification(
                own_space(),
                port.0,
                MACH_NOTIFY_NO_SENDERS,
                made,
                port.0,
                MACH_MSG_TYPE_MAKE_SEND_ONCE,
                &mut earlier,
            )
        })?;
        Ok(PortName(earlier))
    }

    fn is_received_here(&self, port: PortName) -> bool {
        let mut kinds = 0;
        // SAFETY: plain numbers, and a number to write to.
        let known = check(unsafe { ffi::mach_port_type(own_space(), port.0, &mut kinds) });
        known.is_ok() && kinds & ffi::MACH_PORT_TYPE_RECEIVE != 0
    }

    fn is_kernel_object(&self, port: PortName) -> bool {
        // Without the call there is nothing to tell by.
        let Some(call) = self.port_kobject else { return false };
        let (mut kind, mut address) = (0, 0);
        // SAFETY: plain numbers, and two to write to.
        let known = check(unsafe { call(own_space(), port.0, &mut kind, &mut address) });
        // `IKOT_NONE` is 0 (osfmk/kern/ipc_kobject.h). A dead name is no object: sending to it merely fails.
        known.is_ok() && kind != 0
    }

    fn task_of_identity(&self, token: PortName, flavor: TaskFlavor) -> Result<PortName, KernReturn> {
        const KERN_NOT_SUPPORTED: KernReturn = KernReturn(46);
        let call = self.task_of_identity.ok_or(KERN_NOT_SUPPORTED)?;
        let mut task = MACH_PORT_NULL;
        // SAFETY: plain numbers, and a name to write to.
        check(unsafe { call(token.0, flavor as u32, &mut task) })?;
        Ok(PortName(task))
    }

    fn suspend(&self, task: PortName) -> Result<PortName, KernReturn> {
        task_calls::suspend(task)
    }

    fn pid(&self, task: PortName) -> Result<i32, KernReturn> {
        task_calls::pid(task)
    }

    fn task_info(&self, task: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn> {
        task_calls::task_info(task, flavor, info)
    }

    fn task_role(&self, task: PortName) -> Result<i32, KernReturn> {
        task_calls::role(task)
    }

    fn threads(&self, task: PortName) -> Result<Vec<PortName>, KernReturn> {
        task_calls::threads(task)
    }

    fn thread_info(&self, thread: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn> {
        task_calls::thread_info(thread, flavor, info)
    }

    fn thread_state(&self, thread: PortName, flavor: u32, state: &mut [u32]) -> Result<usize, KernReturn> {
        task_calls::thread_state(thread, flavor, state)
    }

    fn read(&self, task: PortName, address: u64, buffer: &mut [u8]) -> Result<(), KernReturn> {
        task_calls::read(task, address, buffer)
    }

    fn region(&self, task: PortName, address: u64, words: usize) -> Result<RawRegion, KernReturn> {
        task_calls::region(task, address, words)
    }

    fn exception_ports(&self, task: PortName, mask: u32) -> Result<Vec<RawAction>, KernReturn> {
        registration::actions(task, mask)
    }

    fn set_exception_ports(&self, task: PortName, action: &RawAction) -> Result<(), KernReturn> {
        registration::set_action(task, action)
    }

    fn signature_flags(&self, pid: i32) -> Option<u32> {
        process_calls::signature_flags(pid)
    }

    fn entitlements(&self, pid: i32) -> Option<Vec<u8>> {
        process_calls::entitlements(pid)
    }

    fn process_info(&self, pid: i32, flavor: i32, info: &mut [u8]) -> usize {
        process_calls::info(pid, flavor, 0, info)
    }

    fn process_times(&self, pid: i32) -> Option<(u64, u64)> {
        process_calls::times(pid, self.timebase)
    }

    fn process_path(&self, pid: i32) -> Option<PathBuf> {
        process_calls::path(pid)
    }

    fn process_arguments(&self, pid: i32) -> Option<Vec<u8>> {
        process_calls::arguments(pid)
    }

    fn mapped_file(&self, pid: i32, address: u64) -> Option<FileId> {
        process_calls::mapped_file(pid, address)
    }

    fn sysctl(&self, name: &str) -> Option<Vec<u8>> {
        process_calls::sysctl_by_name(name)
    }

    fn own_shared_cache(&self) -> Option<[u8; 16]> {
        Some(own_shared_cache()?.cache.uuid)
    }

    fn dispatch_queue_offsets(&self) -> Option<Vec<u16>> {
        const WORDS: usize = 5;
        let table = ffi::symbol(c"dispatch_queue_offsets").cast::<u16>();
        if table.is_null() {
            return None;
        }
        // SAFETY: an exported structure of u16 fields; every version has at least the version, and offset and size of label
        // and flags (libdispatch, private/layout_private.h).
        Some((0..WORDS).map(|index| unsafe { table.add(index).read() }).collect())
    }
}

/// `bootstrap_strerror`, for people.
fn bootstrap_text(code: c_int) -> String {
    // SAFETY: answers a constant string for any number.
    let text = unsafe { mach2::bootstrap::bootstrap_strerror(code) };
    if text.is_null() {
        return KernReturn(code).to_string();
    }
    // SAFETY: not null, so a string that ends in NUL and lives as long as the program.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
