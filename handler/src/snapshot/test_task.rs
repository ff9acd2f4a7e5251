//! A made-up task: any lie that a victim's memory can tell, without a victim.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aftermach_protocol::exception::{Exception, LinuxSignal};
use aftermach_protocol::platform::{Cpu, Os};

use super::{
    Death, Gap, ImageFile, Limits, Memory, Process, Protection, Region, Registers, Snapshot, System, ThreadState,
    X86_64Registers, capture,
};
use crate::host::{ImageList, ReadMemory, Task};

/// A task of which everything is as the test sets it.
pub(crate) struct TestTask {
    pub(crate) os: Os,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) threads: Vec<ThreadState>,
    pub(crate) regions: Vec<Region>,
    pub(crate) image_list: Option<ImageList>,
    pub(crate) process: Process,
    /// What all its files are.
    pub(crate) file: ImageFile,
    /// The shared cache that this process has too.
    pub(crate) shared_cache: Option<[u8; 16]>,
    /// Whether the system lets it be read.
    pub(crate) readable: bool,
}

impl Default for TestTask {
    fn default() -> TestTask {
        TestTask {
            os: Os::Linux,
            cpu: Cpu::X86_64,
            memory: Memory::default(),
            threads: Vec::new(),
            regions: Vec::new(),
            image_list: None,
            process: Process::default(),
            file: ImageFile::Same,
            shared_cache: None,
            readable: true,
        }
    }
}

impl TestTask {
    /// Maps `bytes` at `address`, a whole number of pages, with the protection that `access` shows as in maps ("rw-").
    pub(crate) fn map(&mut self, address: u64, mut bytes: Vec<u8>, access: &str, path: Option<&str>, offset: u64) {
        bytes.resize(bytes.len().next_multiple_of(0x1000), 0);
        let end = address + bytes.len() as u64;
        self.region(address, end, access, path, offset);
        if access.starts_with('r') {
            self.memory.insert(address, bytes);
        }
    }

    /// Adds a mapping without contents.
    pub(crate) fn region(&mut self, start: u64, end: u64, access: &str, path: Option<&str>, offset: u64) {
        let protection =
            Protection { read: access.contains('r'), write: access.contains('w'), execute: access.contains('x') };
        let path = path.map(PathBuf::from);
        self.regions.push(Region { start, end, protection, shared: false, tag: 0, offset, path });
        self.regions.sort_by_key(|region| region.start);
    }

    /// Adds a thread with these registers; the rest are 0.
    pub(crate) fn thread(&mut self, id: u64, rip: u64, rsp: u64) -> &mut X86_64Registers {
        let registers = Registers::X86_64(Box::new(X86_64Registers { rip, rsp, ..Default::default() }));
        self.threads.push(ThreadState {
            id,
            name: String::new(),
            registers: Some(registers),
            priority: None,
            queue: None,
            first_chance: None,
        });
        match &mut self.threads.last_mut().unwrap().registers {
            Some(Registers::X86_64(registers)) => registers,
            _ => unreachable!(),
        }
    }

    /// Captures it; the first thread crashed.
    pub(crate) fn capture(&self, limits: &Limits) -> Snapshot {
        let signal = LinuxSignal { signal: 11, code: 1, address: Some(0), sender: None };
        let death = Death {
            pid: self.process.pid,
            thread: self.threads.first().map(|thread| thread.id),
            exception: Exception::Linux(signal),
            signal: 11,
            time: SystemTime::UNIX_EPOCH,
            gathering: Duration::ZERO,
        };
        capture(self, death, limits)
    }
}

impl ReadMemory for TestTask {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.memory.read(address, buffer)
    }
}

impl Task for TestTask {
    fn own_pid(&self) -> i32 {
        self.process.pid
    }

    fn is_readable(&self) -> bool {
        self.readable
    }

    fn os(&self) -> Os {
        self.os
    }

    fn cpu(&self) -> Cpu {
        self.cpu
    }

    fn system(&self, _gaps: &mut Vec<Gap>) -> System {
        System::default()
    }

    fn process(&self, _gaps: &mut Vec<Gap>) -> Process {
        self.process.clone()
    }

    fn threads(&self, _gaps: &mut Vec<Gap>) -> Vec<ThreadState> {
        self.threads.clone()
    }

    fn regions(&self, _gaps: &mut Vec<Gap>) -> Vec<Region> {
        self.regions.clone()
    }

    fn image_list(&self, _gaps: &mut Vec<Gap>) -> Option<ImageList> {
        self.image_list
    }

    fn has_shared_cache(&self, uuid: &[u8; 16]) -> bool {
        self.shared_cache.as_ref() == Some(uuid)
    }

    fn image_file(&self, _address: u64, _path: &Path) -> ImageFile {
        self.file
    }
}

/// What a snapshot says is missing of `part`, in one string.
pub(crate) fn gaps_of(snapshot: &Snapshot, part: &str) -> String {
    let gaps: Vec<_> = snapshot.gaps.iter().filter(|gap| gap.part == part).map(|gap| gap.what.as_str()).collect();
    gaps.join("; ")
}
