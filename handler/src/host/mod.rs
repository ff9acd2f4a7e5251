//! Where exceptions come from, and how a task that is held is read.
//!
//! One trait each for the two: [`Task`] is a held task, [`Receiver`] is told of deaths. `linux` and `mach` implement them.

use std::path::Path;
use std::time::Duration;

use aftermach_protocol::platform::{Cpu, Os};

use crate::snapshot::{Death, Gap, ImageFile, MemoryBlock, Process, Region, Snapshot, System, ThreadState};

mod ending;
pub mod errno;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod mach;
mod program;
mod space;
mod state;
mod user;

// The system's own host under names that are the same everywhere.
pub use ending::Ending;
#[cfg(target_os = "linux")]
use linux::die_of;
#[cfg(target_os = "linux")]
pub use linux::{HostError, ServeOptions, Stopper, Transaction, probe, run};
#[cfg(target_os = "linux")]
pub(crate) use linux::{own_shared_cache, work_in_background};
#[cfg(target_os = "macos")]
pub use mach::xnu::Transaction;
#[cfg(target_os = "macos")]
use mach::xnu::die_of;
#[cfg(target_os = "macos")]
pub(crate) use mach::xnu::{own_shared_cache, work_in_background};
#[cfg(target_os = "macos")]
pub use mach::{HostError, ServeOptions, Stopper, probe, run};
pub use program::{Options, Program};
pub use space::free_bytes;
pub use state::{HostState, PortGroup};
pub use user::user_id;

/// Reads a task's memory.
pub trait ReadMemory {
    /// Reads at `address` into `buffer` and returns how many bytes could be read from its start: less than asked where the
    /// range runs into memory that is unmapped or not readable, 0 if its first byte already is. Never blocks.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;

    /// Reads each of `ranges` (address and length), as [`ReadMemory::read`] would, and returns as many blocks of what could be
    /// read. A host may do several at a time: this is where most of a capture's bytes go.
    fn read_all(&self, ranges: Vec<(u64, usize)>) -> Vec<MemoryBlock> {
        let read = |(address, length)| {
            let mut bytes = vec![0; length];
            let length = self.read(address, &mut bytes);
            bytes.truncate(length);
            MemoryBlock { address, bytes: bytes.into() }
        };
        ranges.into_iter().map(read).collect()
    }
}

/// Where a task's dynamic loader keeps its list of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageList {
    /// ELF: found from the program's own headers, by `PT_DYNAMIC`, `DT_DEBUG` and `struct r_debug`.
    LinkMap {
        /// Address of the executable's program headers (`AT_PHDR`).
        program_headers: u64,
        /// Their number (`AT_PHNUM`).
        count: u64,
        /// Address of the vDSO's ELF header (`AT_SYSINFO_EHDR`).
        vdso: Option<u64>,
        /// Where the program interpreter was loaded (`AT_BASE`); 0 or absent in static programs.
        interpreter: Option<u64>,
    },
    /// Mach-O: address of dyld's `dyld_all_image_infos` (`TASK_DYLD_INFO`).
    Dyld {
        /// The structure's address.
        all_image_infos: u64,
    },
}

/// A task that is held: nothing in it runs until it is let go. Reading never fails as a whole: what can't be read is a
/// [`Gap`], and costs only its part.
pub trait Task: ReadMemory {
    /// Whether anything of the task can be read. Where the system gives no right to it, only what its message says is known.
    fn is_readable(&self) -> bool {
        true
    }
    /// Whether the process has asked this host itself to be watched, where the host knows that of every process. `Some(false)`:
    /// it is watched for what started it.
    fn is_client(&self) -> Option<bool> {
        None
    }
    /// The number by which the process knows itself: not that by which we know it where it lives in a pid namespace of its own. 0
    /// if that is not known.
    fn own_pid(&self) -> i32;
    /// The rules the task follows. The lab's Mach-O tasks on Linux answer [`Os::MacOs`].
    fn os(&self) -> Os;
    /// What it executes.
    fn cpu(&self) -> Cpu;
    /// The system it ran on.
    fn system(&self, gaps: &mut Vec<Gap>) -> System;
    /// Facts about the process as a whole.
    fn process(&self, gaps: &mut Vec<Gap>) -> Process;
    /// Every thread with its registers, in the system's order.
    fn threads(&self, gaps: &mut Vec<Gap>) -> Vec<ThreadState>;
    /// Every mapping, by ascending address, none overlapping.
    fn regions(&self, gaps: &mut Vec<Gap>) -> Vec<Region>;
    /// Where the loader's list of images is, if the system says so.
    fn image_list(&self, gaps: &mut Vec<Gap>) -> Option<ImageList>;
    /// Whether this process has the shared cache of this UUID mapped as well: what unwinding needs of it need not be copied.
    fn has_shared_cache(&self, uuid: &[u8; 16]) -> bool {
        let _ = uuid;
        false
    }
    /// Whether `path` still names the file that is mapped at `address`. Where that can't be told it is
    /// [`ImageFile::Unreachable`], and what unwinding needs of the image is copied from memory.
    fn image_file(&self, address: u64, path: &Path) -> ImageFile {
        let _ = (address, path);
        ImageFile::Unreachable
    }
}

/// Who is told of deaths, real and simulated. Called on the host's own thread while the task is held, so it must be quick.
pub trait Receiver {
    /// Whether the living process `pid`, which asks for a report of itself, may have one now. Asked before it is held: a
    /// program that asks without end must not fill the disk with it.
    fn may_ask(&mut self, pid: i32) -> bool {
        let _ = pid;
        true
    }
    /// The task is held: it is dead or, with [`Exception::Simulated`](crate::snapshot::Exception::Simulated), goes on living
    /// when it is let go. A `Some` is handed back to [`Receiver::released`] once it has been, on Linux with the names and nice
    /// values of a dead task's threads, which can wait so long; `None` means that there will be no report.
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>>;
    /// The task has been let go after `held`, counted from the moment its death became known.
    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration);
    /// How the host stands: told before the first message, and when a message about a death, or one that was refused, has been
    /// dealt with. Hosts that hold nothing worth telling never call it.
    fn host_state(&mut self, state: HostState) {
        let _ = state;
    }
}
