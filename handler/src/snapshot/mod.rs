//! The model of a dead process: one plain value, copied out while the task is held, read by everyone after.

mod annotations;
mod capture;
mod images;
pub mod limits;
mod memory;
mod nearby;
mod registers;
mod shared_cache;
mod stacks;
#[cfg(test)]
pub(crate) mod test_task;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use aftermach_protocol::exception::Exception;
use aftermach_protocol::platform::{Cpu, Os};

pub use capture::{capture, capture_unless};
pub use limits::Limits;
pub use memory::{Memory, MemoryBlock};
pub use registers::{Arm64Registers, Registers, X86_64Registers};
pub use shared_cache::{OwnSharedCache, SharedCache};

/// All that is known of one death.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The rules the task followed.
    pub os: Os,
    /// What it executed.
    pub cpu: Cpu,
    /// The system it ran on.
    pub system: System,
    /// The process as a whole.
    pub process: Process,
    /// What ended it.
    pub death: Death,
    /// Every thread, in the system's order.
    pub threads: Vec<Thread>,
    /// Every image, the main executable first.
    pub images: Vec<Image>,
    /// Where the system's own libraries lie (macOS).
    pub shared_cache: Option<SharedCache>,
    /// Every mapping, by ascending address.
    pub regions: Vec<Region>,
    /// The bytes that were copied.
    pub memory: Memory,
    /// What the program said of itself through the client, if it links it.
    pub annotations: Annotations,
    /// What could not be read, and which limits bit.
    pub gaps: Vec<Gap>,
    /// When it happened and what it cost.
    pub times: Times,
}

/// The system a task ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// Version of the kernel (Linux, "6.1.0-13-amd64") or of the system (macOS, "15.4.1").
    pub version: String,
    /// Build: `uname -v` on Linux, "24E263" on macOS.
    pub build: String,
    /// The distribution (`PRETTY_NAME` of os-release), or "macOS".
    pub name: String,
    /// The processor as it names itself.
    pub cpu_model: String,
    /// CPUID vendor (12 bytes), leaf 1 eax and edx, for the minidump's SystemInfo. x86-64 only.
    pub cpuid: Option<CpuId>,
    /// Number of processors online.
    pub cpu_count: u32,
    /// Machine model ("Mac16,13"), where the system names one.
    pub machine: Option<String>,
    /// Bytes in a page.
    pub page_size: u64,
    /// Bits of a pointer that are address: arm64 with pointer authentication has others on top, which this mask removes.
    pub pointer_mask: Option<u64>,
}

/// What CPUID says of an x86-64 processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuId {
    /// Vendor string, leaf 0.
    pub vendor: [u8; 12],
    /// Leaf 1, eax: family, model, stepping.
    pub version: u32,
    /// Leaf 1, edx: features.
    pub features: u32,
}

/// A process as a whole.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id at the time of death.
    pub parent: i32,
    /// Its short name (`comm`).
    pub name: String,
    /// The executable's path.
    pub path: PathBuf,
    /// Its arguments, as bytes: they need not be UTF-8.
    pub arguments: Vec<Vec<u8>>,
    /// When it started.
    pub started: Option<SystemTime>,
    /// How long it lived.
    pub uptime: Option<Duration>,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub effective_uid: u32,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// macOS task role ("foreground application", "daemon", …).
    pub role: Option<String>,
    /// Processor time spent in user and kernel mode.
    pub cpu_time: Option<(Duration, Duration)>,
    /// The /proc files that Linux minidumps carry, as (stream, bytes).
    pub linux_files: Vec<(LinuxFile, Vec<u8>)>,
}

/// A file that Linux minidumps carry whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinuxFile {
    /// /proc/PID/maps
    Maps,
    /// /proc/PID/status
    Status,
    /// /proc/PID/auxv
    Auxv,
    /// /proc/PID/cmdline
    CommandLine,
    /// /proc/cpuinfo
    CpuInfo,
    /// /etc/os-release or /etc/lsb-release
    Release,
    /// /proc/PID/limits
    Limits,
}

/// What ended the task. [`Death::exception`] is what the system killed it for; a thread's own [`Fault`] may say more.
///
/// A simulated death, [`Exception::Simulated`], is the program's own request: the task is held in the same way, is as readable
/// as a dead one until it is let go, and then goes on living.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Process id.
    pub pid: i32,
    /// The thread that died of it, or asked for it, where that is known.
    pub thread: Option<u64>,
    /// For what.
    pub exception: Exception,
    /// The signal that the parent will see; 0 of a simulated death.
    pub signal: i32,
    /// Wall-clock time at which the death became known.
    pub time: SystemTime,
    /// From that moment until every thread was held.
    pub gathering: Duration,
}

/// A hardware exception that a thread met: the first chance, seen before any signal handler ran. A handler may have dealt
/// with it long before the death; the report joins the two only if the fault's frame is still on the thread's stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it was.
    pub exception: Exception,
    /// Where it was.
    pub pc: u64,
    /// Stack pointer at that moment.
    pub sp: u64,
    /// When.
    pub time: SystemTime,
}

/// A thread as the host reads it.
#[derive(Debug, Clone)]
pub struct ThreadState {
    /// The system's id: tid on Linux, the 64-bit thread id on macOS.
    pub id: u64,
    /// Its name; empty if it has none.
    pub name: String,
    /// Its registers; `None` if they could not be read.
    pub registers: Option<Registers>,
    /// Nice value (Linux) or base priority (macOS).
    pub priority: Option<i32>,
    /// The label of the dispatch queue it served (macOS).
    pub queue: Option<String>,
    /// The last hardware exception it met.
    pub first_chance: Option<Fault>,
}

/// A thread with its stack.
#[derive(Debug, Clone)]
pub struct Thread {
    /// What the host read.
    pub state: ThreadState,
    /// Its stack, where the stack pointer led to one.
    pub stack: Option<Stack>,
}

/// A thread's stack. The bytes are in [`Snapshot::memory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    /// First address copied: the stack pointer less the red zone, or the first readable byte above a guard page.
    pub start: u64,
    /// Address after the last byte copied.
    pub end: u64,
    /// End of the stack's mapping: `end` is less where the limit bit.
    pub limit: u64,
    /// The stack pointer stood in memory that can't be read, or at its edge, where the next push fails (stack overflow).
    pub overflowed: bool,
}

/// An image: the executable, a library, the loader, the vDSO.
#[derive(Debug, Clone)]
pub struct Image {
    /// Path of the mapped file; where the system doesn't name it, as the loader knows it. `[vdso]` for the vDSO.
    pub path: PathBuf,
    /// What it is.
    pub kind: ImageKind,
    /// Where its first byte is mapped (the ELF or Mach-O header).
    pub base: u64,
    /// Bytes from `base` to the end of its last segment; for shared-cache images, of `__TEXT`.
    pub size: u64,
    /// Address in memory less address in the file's own terms (ELF load bias, Mach-O slide), modulo 2^64.
    pub bias: u64,
    /// Its build id or UUID.
    pub id: ImageId,
    /// Its own version ("1.2.3"), where the format has one.
    pub version: Option<String>,
    /// Whether its file can be trusted to hold what was mapped.
    pub file: ImageFile,
    /// Sections and segments that matter to unwinding, in the file's own terms.
    pub sections: Vec<Section>,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageKind {
    /// The main executable.
    Executable,
    /// A shared library or bundle.
    Library,
    /// The dynamic loader.
    Loader,
    /// The kernel's own page of code.
    Vdso,
}

/// What identifies an image's contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageId {
    /// ELF `NT_GNU_BUILD_ID`, usually 20 bytes, at most 64.
    BuildId(Vec<u8>),
    /// Mach-O `LC_UUID`.
    Uuid([u8; 16]),
    /// It has none, or it could not be read.
    None,
}

/// What is known of the file an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFile {
    /// The path still names the very file that was mapped (device and inode agree).
    Same,
    /// The path names another file now, or none (deleted, updated).
    Replaced,
    /// It lies in a shared cache that this process has mapped too.
    SharedCache,
    /// The path means nothing here: another mount namespace, a shared cache that is not ours, no file at all.
    Unreachable,
}

/// A section or segment, in the image's own (unslid) addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// ".eh_frame_hdr", "__TEXT,__unwind_info", "__TEXT".
    pub name: String,
    /// First address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Address after its last byte.
    pub end: u64,
    /// What may be done with it.
    pub protection: Protection,
    /// Writes reach other processes or the file.
    pub shared: bool,
    /// macOS VM tag (`VM_MEMORY_STACK` = 30, …); 0 on Linux.
    pub tag: u32,
    /// Offset in the mapped file.
    pub offset: u64,
    /// The mapped file, or a name such as `[stack]`.
    pub path: Option<PathBuf>,
}

/// Read, write, execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

/// What a program said of itself through the client's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The product, if the client was installed: group, name, channel.
    pub product: Option<(String, String, String)>,
    /// The process that installed the client by the record which names the product, by its own number for itself. `None` if it
    /// is not installed any more: a child that detached itself, or `uninstall`.
    pub installer: Option<u32>,
    /// The product's version.
    pub version: Option<String>,
    /// Key and value, in the record's order.
    pub values: Vec<(String, String)>,
    /// Breadcrumbs, oldest first: time since the record was made, text.
    pub breadcrumbs: Vec<(Duration, String)>,
    /// Messages that libraries left for the crash reporter (`__crash_info`), as image path and text.
    pub messages: Vec<(PathBuf, String)>,
    /// The record as it was, for a reader newer than this one.
    pub raw: Vec<u8>,
}

/// A part that could not be read, or a limit that bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Which part: "threads", "images", "memory", …
    pub part: &'static str,
    /// What is missing and why, for people.
    pub what: String,
}

impl Gap {
    /// A gap in `part`.
    pub fn new(part: &'static str, what: impl Into<String>) -> Gap {
        Gap { part, what: what.into() }
    }
}

/// When it happened and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Wall-clock time at which the death became known.
    pub died: SystemTime,
    /// From then until every thread was held.
    pub gathering: Duration,
    /// From then until everything was copied.
    pub copying: Duration,
    /// How long the task was held in all; filled in when it is let go.
    pub held: Duration,
}
