//! A task some of whose threads could not be held.

use std::path::Path;
use std::time::Duration;

use aftermach_protocol::platform::{Cpu, Os};

use crate::host::{ImageList, ReadMemory, Task};
use crate::snapshot::{Gap, ImageFile, MemoryBlock, Process, Region, System, ThreadState};

/// `task`, which says that threads are missing.
pub(super) struct Incomplete<'a> {
    task: &'a dyn Task,
    missing: usize,
    patience: Duration,
}

impl<'a> Incomplete<'a> {
    /// `missing` threads were waited for that long.
    pub(super) fn new(task: &'a dyn Task, missing: usize, patience: Duration) -> Incomplete<'a> {
        Incomplete { task, missing, patience }
    }
}

impl ReadMemory for Incomplete<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.task.read(address, buffer)
    }

    fn read_all(&self, ranges: Vec<(u64, usize)>) -> Vec<MemoryBlock> {
        self.task.read_all(ranges)
    }
}

impl Task for Incomplete<'_> {
    fn is_client(&self) -> Option<bool> {
        self.task.is_client()
    }

    fn own_pid(&self) -> i32 {
        self.task.own_pid()
    }

    fn os(&self) -> Os {
        self.task.os()
    }

    fn cpu(&self) -> Cpu {
        self.task.cpu()
    }

    fn system(&self, gaps: &mut Vec<Gap>) -> System {
        self.task.system(gaps)
    }

    fn process(&self, gaps: &mut Vec<Gap>) -> Process {
        self.task.process(gaps)
    }

    fn threads(&self, gaps: &mut Vec<Gap>) -> Vec<ThreadState> {
        let (missing, seconds) = (self.missing, self.patience.as_secs());
        gaps.push(Gap::new(
            "threads",
            format!("{missing} threads could not be held within {seconds} s (an uninterruptible sleep)"),
        ));
        self.task.threads(gaps)
    }

    fn regions(&self, gaps: &mut Vec<Gap>) -> Vec<Region> {
        self.task.regions(gaps)
    }

    fn image_list(&self, gaps: &mut Vec<Gap>) -> Option<ImageList> {
        self.task.image_list(gaps)
    }
    fn image_file(&self, address: u64, path: &Path) -> ImageFile {
        self.task.image_file(address, path)
    }
}
