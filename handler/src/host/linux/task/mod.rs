//! A Linux process whose threads are all held by the calling thread: the Linux stand-in for a corpse's task port.
//!
//! Everything here runs while the victim is held, so each fact costs as few system calls as it can: one read of
//! `/proc/PID/maps`, two ptrace calls, one priority and one name a thread, one `process_vm_readv` a range.

mod directory;
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

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use aftermach_protocol::platform::{Cpu, Os};

use self::directory::Directory;
use self::maps::Maps;
use crate::host::{ImageList, ReadMemory, Task};
use crate::snapshot::{Fault, Gap, ImageFile, Process, Region, System, ThreadState};

pub use self::system::warm_up;

/// A name in `/proc/PID/task/TID/comm` has at most 16 bytes and a newline.
const COMM: usize = 32;

/// A process whose threads are all in a ptrace stop of the calling thread, by rule `PTRACE_EVENT_EXIT`.
#[derive(Debug)]
pub struct LinuxTask {
    pid: i32,
    tids: Vec<i32>,
    first_chances: HashMap<i32, Fault>,
    /// `/proc/PID/task`.
    threads: io::Result<Directory>,
    /// `/proc/PID/task/TID` of a thread that still has the memory: a leader that has ended before the others (`pthread_exit`
    /// in `main`) is a zombie, whose own maps, auxv and arguments are empty.
    files: io::Result<Directory>,
    memory: memory::Source,
    maps: OnceCell<Maps>,
    auxv: OnceCell<Vec<u8>>,
    same_mounts: OnceCell<bool>,
}

impl LinuxTask {
    /// The process `pid`, of which the calling thread holds the threads `tids`; `first_chances` are the hardware exceptions
    /// that its threads met last, by thread id. What can't be opened here shows as gaps when it is read.
    pub fn new(pid: i32, tids: Vec<i32>, first_chances: HashMap<i32, Fault>) -> LinuxTask {
        let alive = if tids.contains(&pid) { pid } else { tids.first().copied().unwrap_or(pid) };
        LinuxTask {
            pid,
            first_chances,
            threads: Directory::open(&format!("/proc/{pid}/task")),
            files: Directory::open(&format!("/proc/{pid}/task/{alive}")),
            memory: memory::Source::new(alive),
            tids,
            maps: OnceCell::new(),
            auxv: OnceCell::new(),
            same_mounts: OnceCell::new(),
        }
    }

    /// One of the process's files whole, at most `limit` bytes of it.
    fn file(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        match &self.files {
            Ok(files) => files.read(name, limit),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    fn maps(&self, gaps: &mut Vec<Gap>) -> &Maps {
        self.maps.get_or_init(|| match self.file("maps", maps::LIMIT) {
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

    fn thread(
        &self,
        tid: i32,
        (scratch, name): &mut (registers::Scratch, Vec<u8>),
        gaps: &mut Vec<Gap>,
    ) -> ThreadState {
        let registers = registers::read(tid, scratch).map_err(|error| {
            gaps.push(Gap::new("threads", format!("registers of thread {tid}: {error}")));
        });
        name.clear();
        if let Ok(threads) = &self.threads
            && let Err(error) = threads.read_into(&format!("{tid}/comm"), COMM, name)
        {
            gaps.push(Gap::new("threads", format!("name of thread {tid}: {error}")));
        }
        ThreadState {
            id: tid as u64,
            name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
            registers: registers.ok(),
            priority: process::nice(tid),
            queue: None,
            first_chance: self.first_chances.get(&tid).cloned(),
        }
    }

    /// Whether paths mean the same there as here.
    fn same_mounts(&self) -> bool {
        *self.same_mounts.get_or_init(|| {
            let theirs = self.files.as_ref().ok().and_then(|files| files.identity("ns/mnt").ok());
            let ours = Directory::open("/proc/self").and_then(|own| own.identity("ns/mnt")).ok();
            // Where it isn't told (no permission), the comparison of device and inode decides alone.
            theirs.is_none() || ours.is_none() || theirs == ours
        })
    }
}

impl ReadMemory for LinuxTask {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.memory.read(address, buffer, |address| self.maps(&mut Vec::new()).readable_until(address))
    }
}

impl Task for LinuxTask {
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
        if let Err(error) = &self.threads {
            gaps.push(Gap::new("threads", format!("/proc/{}/task: {error}", self.pid)));
        }
        let mut buffers = (registers::Scratch::default(), Vec::with_capacity(COMM));
        self.tids.iter().map(|tid| self.thread(*tid, &mut buffers, gaps)).collect()
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
