//! The lab's host: a Linux task that runs Mach-O images, shown as the Darwin task that it would be on macOS.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aftermach_handler::host::{ImageList, ReadMemory, Receiver, Task};
use aftermach_handler::snapshot::{
    Death, Exception, Gap, ImageFile, MemoryBlock, Process, Region, Snapshot, System, ThreadState,
};
use aftermach_protocol::platform::{Cpu, Os};

/// How macho_loader names the mapping that holds `dyld_all_image_infos`.
const INFOS: &str = "/memfd:dyld_all_image_infos (deleted)";

/// A Linux task as a Darwin one.
pub(crate) struct DarwinTask<'a>(pub(crate) &'a dyn Task);

impl ReadMemory for DarwinTask<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.0.read(address, buffer)
    }

    fn read_all(&self, ranges: Vec<(u64, usize)>) -> Vec<MemoryBlock> {
        self.0.read_all(ranges)
    }
}

impl Task for DarwinTask<'_> {
    fn own_pid(&self) -> i32 {
        self.0.own_pid()
    }

    fn os(&self) -> Os {
        Os::MacOs
    }

    fn cpu(&self) -> Cpu {
        self.0.cpu()
    }

    fn system(&self, gaps: &mut Vec<Gap>) -> System {
        // The version that the victims are linked for.
        let (name, version, build) = ("macOS".to_owned(), "13.0".to_owned(), "22A380".to_owned());
        System { name, version, build, ..self.0.system(gaps) }
    }

    fn process(&self, gaps: &mut Vec<Gap>) -> Process {
        let mut process = self.0.process(gaps);
        process.linux_files.clear();
        // The loader is what dyld is: part of the program it runs.
        process.arguments.remove(0);
        process.path = PathBuf::from(String::from_utf8_lossy(&process.arguments[0]).into_owned());
        process
    }

    fn threads(&self, gaps: &mut Vec<Gap>) -> Vec<ThreadState> {
        let mut threads = self.0.threads(gaps);
        for thread in &mut threads {
            thread.first_chance = thread.first_chance.take().and_then(|mut fault| {
                let Exception::Linux(signal) = fault.exception else { return Some(fault) };
                fault.exception = Exception::Mach(signal.to_mach(self.cpu())?);
                Some(fault)
            });
        }
        threads
    }

    fn regions(&self, gaps: &mut Vec<Gap>) -> Vec<Region> {
        self.0.regions(gaps)
    }

    fn image_list(&self, gaps: &mut Vec<Gap>) -> Option<ImageList> {
        let regions = self.0.regions(gaps);
        let infos = regions.iter().find(|region| region.path.as_deref() == Some(Path::new(INFOS)))?;
        Some(ImageList::Dyld { all_image_infos: infos.start })
    }

    fn image_file(&self, address: u64, path: &Path) -> ImageFile {
        self.0.image_file(address, path)
    }
}

/// What the loader has set aside for the main thread's stack, its guard included. After an overflow the stack pointer stands
/// in the guard.
fn main_stack(task: &dyn Task, pid: i32) -> Option<Range<u64>> {
    let main = task.threads(&mut Vec::new()).into_iter().find(|thread| thread.id == pid as u64)?;
    let sp = main.registers?.sp();
    let regions = task.regions(&mut Vec::new());
    let at = regions.iter().position(|region| (region.start..region.end).contains(&sp))?;
    let (guard, stack) = match regions[at].protection.read {
        true => (regions.get(at.checked_sub(1)?)?, &regions[at]),
        false => (&regions[at], regions.get(at + 1)?),
    };
    Some(guard.start..stack.end)
}

/// A receiver that is told of Darwin deaths instead of Linux ones.
pub(crate) struct Darwin<R>(pub(crate) R);

impl<R: Receiver> Receiver for Darwin<R> {
    fn death(&mut self, mut death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        let Exception::Linux(signal) = death.exception else { return self.0.death(death, task) };
        let (exception, signal) = signal.to_mach_crash(task.cpu(), main_stack(task, death.pid).as_ref())?;
        death.exception = Exception::Mach(exception);
        death.signal = signal;
        self.0.death(death, &DarwinTask(task))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration) {
        self.0.released(snapshot, held);
    }
}
