//! A Linux process whose threads are all held by the calling thread: the Linux stand-in for a corpse's task port.
//!
//! Nearly all of this runs while the victim is held, so each fact costs as few system calls as it can: one read of
//! `/proc/PID/maps`, two ptrace calls a thread, one `process_vm_readv` for hundreds of ranges. The threads' names, three calls
//! each, are read when the process has been let go to its end.

mod directory;
mod helper;
mod maps;
mod memory;
mod process;
mod system;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod victim;

#[cfg(target_arch = "aarch64")]
#[path = "registers_arm64.rs"]
mod registers;
#[cfg(target_arch = "x86_64")]
#[path = "registers_x86_64.rs"]
mod registers;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::iter;
use std::path::Path;
use std::sync::Arc;

use aftermach_protocol::platform::{Cpu, Os};

use self::directory::Directory;
use self::maps::Maps;
use self::memory::Piece;
use crate::host::{ImageList, ReadMemory, Task};
use crate::snapshot::{Fault, Gap, ImageFile, MemoryBlock, Process, Region, Snapshot, System, ThreadState};

pub use self::system::warm_up;

/// Names that are read at a time by one of two threads.
const ERRANDS: usize = 8;
/// Threads of a victim from which on a second one of ours reads along.
const THREADS_WORTH_A_THREAD: usize = 48;
/// Pieces of memory from which on a second thread reads along.
const PIECES_WORTH_A_THREAD: usize = 6;
/// Bytes of a thread's name: 15 in the kernel's `TASK_COMM_LEN`, 63 for its own workers, and a newline.
const COMM: usize = 64;

/// A process whose threads are all in a ptrace stop of the calling thread, by rule `PTRACE_EVENT_EXIT`.
#[derive(Debug)]
pub struct LinuxTask {
    pid: i32,
    tids: Vec<i32>,
    first_chances: HashMap<i32, Fault>,
    /// `/proc/PID/task`.
    threads: Arc<io::Result<Directory>>,
    /// `/proc/PID/task/TID` of a thread that still has the memory: a leader that has ended before the others (`pthread_exit`
    /// in `main`) is a zombie, whose own maps, auxv and arguments are empty.
    files: Arc<io::Result<Directory>>,
    memory: memory::Source,
    /// The text of maps, if it has been read ahead.
    maps_text: RefCell<Option<io::Result<Vec<u8>>>>,
    maps: OnceCell<Maps>,
    auxv: OnceCell<Vec<u8>>,
    same_mounts: OnceCell<bool>,
    status: OnceCell<io::Result<Vec<u8>>>,
    is_client: Option<bool>,
    names_later: bool,
}

impl LinuxTask {
    /// The process `pid`, of which the calling thread holds the threads `tids`; `first_chances` are the hardware exceptions
    /// that its threads met last, by thread id. What can't be opened here shows as gaps when it is read.
    pub fn new(pid: i32, tids: Vec<i32>, first_chances: HashMap<i32, Fault>) -> LinuxTask {
        let alive = if tids.contains(&pid) { pid } else { tids.first().copied().unwrap_or(pid) };
        LinuxTask {
            pid,
            first_chances,
            threads: Arc::new(Directory::open(&format!("/proc/{pid}/task"))),
            files: Arc::new(Directory::open(&format!("/proc/{pid}/task/{alive}"))),
            memory: memory::Source::new(alive),
            tids,
            maps_text: RefCell::new(None),
            maps: OnceCell::new(),
            auxv: OnceCell::new(),
            same_mounts: OnceCell::new(),
            names_later: false,
            status: OnceCell::new(),
            is_client: None,
        }
    }

    /// Says whether it has asked to be watched itself; `None` if nobody is asked.
    pub fn with_client(self, is_client: Option<bool>) -> LinuxTask {
        LinuxTask { is_client, ..self }
    }

    /// `/proc/PID/status`.
    fn status(&self) -> &io::Result<Vec<u8>> {
        self.status.get_or_init(|| self.file("status", process::FILE_LIMIT))
    }

    /// Leaves the threads' names and nice values for [`LinuxTask::name_threads`], which can have them when the process has been
    /// let go to its end: they are a third of what a capture costs.
    pub fn naming_later(self) -> LinuxTask {
        LinuxTask { names_later: true, ..self }
    }

    /// Fills in the names and nice values of the threads of `snapshot`, which is of this task. A thread that has come to its end
    /// keeps both until its tracer has waited for it: nobody else may (`kernel/exit.c`, `exit_notify`).
    pub fn name_threads(&self, snapshot: &mut Snapshot) {
        let mut gaps = Vec::new();
        for state in snapshot.threads.iter_mut().map(|thread| &mut thread.state) {
            let Ok(tid) = i32::try_from(state.id) else { continue };
            let mut text = [0; COMM];
            let length = match self.threads.as_ref() {
                Ok(threads) => threads.read_once(&format!("{tid}/comm"), &mut text),
                // That has been told.
                Err(_) => Ok(0),
            };
            state.name = name(tid, text, length, &mut gaps);
            state.priority = process::nice(tid);
        }
        let more = gaps.len().saturating_sub(1);
        snapshot.gaps.extend(gaps.into_iter().next());
        if more > 0 {
            snapshot.gaps.push(Gap::new("threads", format!("and the names of {more} more")));
        }
    }

    /// One of the process's files, at most `limit` bytes of it.
    fn file(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_file(&self.files, name, limit)
    }

    fn maps(&self, gaps: &mut Vec<Gap>) -> &Maps {
        self.maps.get_or_init(|| match self.maps_text.take().unwrap_or_else(|| self.file("maps", maps::LIMIT)) {
            Ok(text) => Maps::parse(text, gaps),
            Err(error) => {
                gaps.push(Gap::new("regions", format!("/proc/{}/maps: {error}", self.pid)));
                Maps::default()
            }
        })
    }

    fn auxv(&self, gaps: &mut Vec<Gap>) -> &[u8] {
        self.auxv.get_or_init(|| {
            self.file("auxv", process::AUXV_LIMIT).unwrap_or_else(|error| {
                gaps.push(Gap::new("images", format!("/proc/{}/auxv: {error}", self.pid)));
                Vec::new()
            })
        })
    }

    /// Whether paths mean the same there as here.
    fn same_mounts(&self) -> bool {
        *self.same_mounts.get_or_init(|| {
            let theirs = self.files.as_ref().as_ref().ok().and_then(|files| files.identity("ns/mnt").ok());
            let ours = Directory::open("/proc/self").and_then(|own| own.identity("ns/mnt")).ok();
            // Where it isn't told (no permission), the comparison of device and inode decides alone.
            theirs.is_none() || ours.is_none() || theirs == ours
        })
    }
}

fn read_file(directory: &io::Result<Directory>, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    match directory {
        Ok(directory) => directory.read(name, limit),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

/// What can be read besides a thread's registers, and by another thread.
enum Errand {
    /// `/proc/PID/maps`.
    Maps(io::Result<Vec<u8>>),
    /// A thread's name.
    Name { tid: i32, text: [u8; COMM], length: io::Result<usize> },
}

impl Errand {
    fn run(&mut self, threads: &io::Result<Directory>, files: &io::Result<Directory>) {
        match self {
            Errand::Maps(text) => *text = read_file(files, "maps", maps::LIMIT),
            Errand::Name { tid, text, length } => {
                if let Ok(threads) = threads {
                    *length = threads.read_once(&format!("{tid}/comm"), text);
                }
            }
        }
    }
}

/// The name that was read, without its newline.
fn name(tid: i32, text: [u8; COMM], length: io::Result<usize>, gaps: &mut Vec<Gap>) -> String {
    let length = length.unwrap_or_else(|error| {
        gaps.push(Gap::new("threads", format!("name of thread {tid}: {error}")));
        0
    });
    String::from_utf8_lossy(text[..length].trim_ascii_end()).into_owned()
}

impl ReadMemory for LinuxTask {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.memory.read(address, buffer, |address| self.maps(&mut Vec::new()).readable_until(address))
    }

    fn read_all(&self, ranges: Vec<(u64, usize)>) -> Vec<MemoryBlock> {
        // One byte shows which way of reading is allowed; only the usual one may be used from two threads.
        if let Some((first, _)) = ranges.first() {
            self.read(*first, &mut [0]);
        }
        let Some(direct) = self.memory.direct() else {
            let read = |(address, length)| {
                let mut bytes = vec![0; length];
                let length = self.read(address, &mut bytes);
                bytes.truncate(length);
                MemoryBlock { address, bytes: bytes.into() }
            };
            return ranges.into_iter().map(read).collect();
        };
        let count = ranges.len();
        let pieces = Piece::of(ranges);
        let worth = pieces.len() >= PIECES_WORTH_A_THREAD;
        let ((), pieces) = helper::share(pieces, 1, worth, || (), move |piece| direct.read_piece(piece));
        let mut blocks = Vec::with_capacity(count);
        blocks.extend(pieces.into_iter().flat_map(Piece::into_blocks));
        blocks
    }
}

impl Task for LinuxTask {
    fn is_client(&self) -> Option<bool> {
        self.is_client
    }

    fn own_pid(&self) -> i32 {
        self.status().as_ref().ok().and_then(|status| process::own_pid(status)).unwrap_or(self.pid)
    }

    fn os(&self) -> Os {
        Os::Linux
    }

    fn cpu(&self) -> Cpu {
        registers::CPU
    }

    fn system(&self, _gaps: &mut Vec<Gap>) -> System {
        system::facts().system.clone()
    }

    fn process(&self, gaps: &mut Vec<Gap>) -> Process {
        process::read(self, gaps)
    }

    fn threads(&self, gaps: &mut Vec<Gap>) -> Vec<ThreadState> {
        if let Err(error) = self.threads.as_ref() {
            gaps.push(Gap::new("threads", format!("/proc/{}/task: {error}", self.pid)));
        }
        let named: &[i32] = if self.names_later { &[] } else { &self.tids };
        let names = named.iter().map(|tid| Errand::Name { tid: *tid, text: [0; COMM], length: Ok(0) });
        let errands = iter::once(Errand::Maps(Ok(Vec::new()))).chain(names).collect();
        let (threads, files) = (Arc::clone(&self.threads), Arc::clone(&self.files));
        let (registers, errands) = helper::share(
            errands,
            ERRANDS,
            self.tids.len() >= THREADS_WORTH_A_THREAD,
            || registers::read_all(&self.tids),
            move |errand| errand.run(&threads, &files),
        );
        let mut states = Vec::with_capacity(self.tids.len());
        for (tid, registers) in self.tids.iter().zip(registers) {
            let told = |error| gaps.push(Gap::new("threads", format!("registers of thread {tid}: {error}")));
            states.push(ThreadState {
                id: *tid as u64,
                name: String::new(),
                registers: registers.map_err(told).ok(),
                priority: None,
                queue: None,
                first_chance: self.first_chances.get(tid).cloned(),
            });
        }
        let mut unnamed = states.iter_mut();
        for errand in errands {
            match errand {
                Errand::Maps(text) => _ = self.maps_text.replace(Some(text)),
                Errand::Name { tid, text, length } => {
                    if let Some(state) = unnamed.next() {
                        state.name = name(tid, text, length, gaps);
                        state.priority = process::nice(tid);
                    }
                }
            }
        }
        states
    }

    fn regions(&self, gaps: &mut Vec<Gap>) -> Vec<Region> {
        self.maps(gaps).regions().to_vec()
    }

    fn image_list(&self, gaps: &mut Vec<Gap>) -> Option<ImageList> {
        process::image_list(self.auxv(gaps))
    }

    fn image_file(&self, address: u64, path: &Path) -> ImageFile {
        match self.maps(&mut Vec::new()).file_at(address) {
            Some(file) if self.same_mounts() => file.compare(path),
            _ => ImageFile::Unreachable,
        }
    }
}
