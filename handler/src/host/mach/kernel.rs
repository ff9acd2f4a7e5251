//! What XNU is asked, as numbers and bytes.
//!
//! One method a call, none of which interprets anything: the real one (`xnu`) is thin, and the one that tests use can lie
//! and fail at every point. Layouts are decoded by the modules here, at offsets that are checked against the system's
//! headers when compiled for a Mac.

use std::path::PathBuf;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;
use aftermach_protocol::platform::Cpu;

use super::ports::PortSpace;

/// How much a task port may do (`osfmk/mach/task.h`: `TASK_FLAVOR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskFlavor {
    /// Everything; the only one that a corpse's token converts to.
    Control = 0,
    /// Read memory, registers and mappings; suspend.
    Read = 1,
    /// Only say which process it is.
    Name = 3,
}

/// One answer of `mach_vm_region_recurse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRegion {
    /// First address; at or after the one that was asked for.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// `vm_region_submap_info_64` as far as the kernel filled it in.
    pub info: Vec<u32>,
}

/// Where some exceptions of a task go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAction {
    /// `EXC_MASK_*`.
    pub mask: u32,
    /// The port; null for nobody, and dead if it has died.
    pub port: PortName,
    /// The behaviour with its modifiers.
    pub behaviour: u32,
    /// The flavour of thread state.
    pub flavor: i32,
}

/// The file that is mapped somewhere, as `stat` identifies files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// The kernel, as a reader of other tasks sees it. Arrays of information are in 32-bit words, as Mach counts them; a call
/// that fills one returns how many it filled in.
pub trait Kernel: PortSpace {
    /// The CPU that this process and, translation apart, every other runs on.
    fn cpu(&self) -> Cpu;
    /// This process's id.
    fn own_pid(&self) -> i32;
    /// Bytes in a page.
    fn page_size(&self) -> u64;

    /// `mach_msg` with `MACH_SEND_MSG`: sends a reply. On success the rights in the message are the receiver's; on failure
    /// they are still ours. Must not block: nobody who waits for a reply has a queue that fills.
    fn send(&self, message: &mut [u8]) -> Result<(), KernReturn>;
    /// `mach_msg_destroy`: gives back every right and all memory that a received message carries.
    fn destroy_message(&self, message: &mut [u8]);

    /// `mach_port_allocate(MACH_PORT_RIGHT_RECEIVE)`: a port that we receive on.
    fn allocate_receive(&self) -> Result<PortName, KernReturn>;
    /// `mach_port_insert_member`: has a port that we receive on be received on with `set`.
    fn insert_member(&self, port: PortName, set: PortName) -> Result<(), KernReturn>;
    /// `mach_port_insert_right(MACH_MSG_TYPE_MAKE_SEND)`: one send right more to a port that we receive on, under its name.
    fn make_send(&self, port: PortName) -> Result<(), KernReturn>;
    /// `mach_port_request_notification(MACH_NOTIFY_NO_SENDERS)`, to the port itself: a notice once no send right is left and
    /// `made` have been made, at once if that is so already. The send-once right of an earlier request, or null.
    fn notify_no_senders(&self, port: PortName, made: u32) -> Result<PortName, KernReturn>;
    /// `mach_port_type`: whether the name stands for a receive right. A send right to a port that we receive on arrives under
    /// that port's name.
    fn is_received_here(&self, port: PortName) -> bool;
    /// `mach_port_kobject`: whether the send right leads to an object of the kernel's and not to a queue. Since macOS 13 who sends
    /// to such a one by `mach_msg` is killed (`osfmk/ipc/ipc_policy.c`).
    fn is_kernel_object(&self, port: PortName) -> bool;

    /// `task_identity_token_get_task_port`: a send right. Absent before macOS 12.
    fn task_of_identity(&self, token: PortName, flavor: TaskFlavor) -> Result<PortName, KernReturn>;
    /// `task_suspend2`: a send-once right that keeps the task suspended until it is given back.
    fn suspend(&self, task: PortName) -> Result<PortName, KernReturn>;
    /// `pid_for_task`.
    fn pid(&self, task: PortName) -> Result<i32, KernReturn>;
    /// `task_info`.
    fn task_info(&self, task: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn>;
    /// `task_policy_get(TASK_CATEGORY_POLICY)`: the role that was asked for.
    fn task_role(&self, task: PortName) -> Result<i32, KernReturn>;
    /// `task_threads`: a send right each.
    fn threads(&self, task: PortName) -> Result<Vec<PortName>, KernReturn>;
    /// `thread_info`.
    fn thread_info(&self, thread: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn>;
    /// `thread_get_state`.
    fn thread_state(&self, thread: PortName, flavor: u32, state: &mut [u32]) -> Result<usize, KernReturn>;
    /// `mach_vm_read_overwrite`: fills the whole buffer or nothing.
    fn read(&self, task: PortName, address: u64, buffer: &mut [u8]) -> Result<(), KernReturn>;
    /// `mach_vm_region_recurse` at any depth, with room for so many words of information.
    ///
    /// Errors: `KERN_INVALID_ADDRESS` after the last.
    fn region(&self, task: PortName, address: u64, words: usize) -> Result<RawRegion, KernReturn>;

    /// `task_get_exception_ports`, by a control port: a send right with each answer.
    fn exception_ports(&self, task: PortName, mask: u32) -> Result<Vec<RawAction>, KernReturn>;
    /// `task_set_exception_ports`, by a control port. The port's right is copied.
    fn set_exception_ports(&self, task: PortName, action: &RawAction) -> Result<(), KernReturn>;
    /// `csops(CS_OPS_STATUS)`: what the kernel thinks of a process's signature (`CS_*`).
    fn signature_flags(&self, pid: i32) -> Option<u32>;
    /// `csops(CS_OPS_ENTITLEMENTS_BLOB)`: a process's entitlements, as XML behind a header; empty if it has none.
    fn entitlements(&self, pid: i32) -> Option<Vec<u8>>;

    /// `proc_pidinfo`: how many bytes were filled in; 0 if the process is gone or its owner is another.
    fn process_info(&self, pid: i32, flavor: i32, info: &mut [u8]) -> usize;
    /// `proc_pid_rusage`: user and system time in nanoseconds.
    fn process_times(&self, pid: i32) -> Option<(u64, u64)>;
    /// `proc_pidpath`.
    fn process_path(&self, pid: i32) -> Option<PathBuf>;
    /// `sysctl` of `KERN_PROCARGS2`.
    fn process_arguments(&self, pid: i32) -> Option<Vec<u8>>;
    /// `PROC_PIDREGIONPATHINFO`: the file mapped at `address`.
    fn mapped_file(&self, pid: i32, address: u64) -> Option<FileId>;
    /// `sysctlbyname`.
    fn sysctl(&self, name: &str) -> Option<Vec<u8>>;
    /// The UUID of the shared cache that this process has mapped and can read.
    fn own_shared_cache(&self) -> Option<[u8; 16]>;
    /// libdispatch's exported `dispatch_queue_offsets`, of this process: the same library as in every other.
    fn dispatch_queue_offsets(&self) -> Option<Vec<u16>>;
}
