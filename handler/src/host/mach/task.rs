//! A task read through its port.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::PortName;
use aftermach_protocol::platform::{Cpu, Os};

use super::kernel::{FileId, Kernel};
use super::ports::{Group, Port, Right, Rights};
use super::registers::{self, Flavor};
use super::system::Facts;
use super::words::{Words, c_string};
use super::{process, region};
use crate::host::{ImageList, ReadMemory, Task};
use crate::snapshot::{Fault, Gap, ImageFile, Limits, Process, Region, Registers, System, ThreadState};

/// `TASK_DYLD_INFO`: five words.
pub(super) const TASK_DYLD_INFO: (u32, usize) = (17, 5);
/// `THREAD_IDENTIFIER_INFO`: six words.
pub(super) const THREAD_IDENTIFIER_INFO: (u32, usize) = (4, 6);
/// `THREAD_EXTENDED_INFO`: 28 words.
pub(super) const THREAD_EXTENDED_INFO: (u32, usize) = (5, 28);
/// `KERN_TERMINATED`: the thread is about to be gone; nothing of it is missing in the report.
const KERN_TERMINATED: KernReturn = KernReturn(37);

/// A task whose exception we were sent. Its port may be a read port: nothing here changes the task.
pub struct MachTask<'a> {
    kernel: &'a dyn Kernel,
    rights: &'a Rights,
    facts: &'a Facts,
    port: Option<PortName>,
    pid: i32,
    message_thread: Option<(u64, Option<Registers>)>,
    faults: HashMap<u64, Fault>,
}

impl<'a> MachTask<'a> {
    /// The task behind `port`, a control or read port that outlives the reading; `None` if no port could be had, and then the
    /// report holds what is known without: the process, and the thread that the message names.
    pub fn new(
        kernel: &'a dyn Kernel,
        rights: &'a Rights,
        facts: &'a Facts,
        port: Option<PortName>,
        pid: i32,
    ) -> MachTask<'a> {
        MachTask { kernel, rights, facts, port, pid, message_thread: None, faults: HashMap::new() }
    }

    /// Names the thread that the message is about, with the registers that the message brought, if it did. They stand in where
    /// the thread itself can't be read, and only there: a message's pc and lr may be signed with the victim's keys.
    #[must_use]
    pub fn with_thread(mut self, id: Option<u64>, registers: Option<Registers>) -> MachTask<'a> {
        self.message_thread = id.map(|id| (id, registers));
        self
    }

    /// Adds the hardware exceptions that the task's threads met before, by thread.
    #[must_use]
    pub fn with_faults(mut self, faults: HashMap<u64, Fault>) -> MachTask<'a> {
        self.faults = faults;
        self
    }

    fn thread(&self, thread: PortName, gaps: &mut Vec<Gap>) -> Option<ThreadState> {
        let identifier = info(THREAD_IDENTIFIER_INFO, |flavor, info| self.kernel.thread_info(thread, flavor, info));
        let identifier = match identifier {
            Ok(words) => words,
            Err(KERN_TERMINATED) => return None,
            Err(code) => {
                gaps.push(Gap::new("threads", format!("a thread does not say who it is: {code}")));
                return None;
            }
        };
        let words = Words(&identifier);
        let id = words.u64(0)?;
        let queue = self.facts.queues.zip(words.u64(16));
        let queue = queue.and_then(|(layout, slot)| layout.label(slot, |address, buffer| self.read(address, buffer)));
        let extended = info(THREAD_EXTENDED_INFO, |flavor, info| self.kernel.thread_info(thread, flavor, info));
        let (name, priority) = match &extended {
            Ok(words) => (c_string(&Words(words).bytes(48, 112)), Words(words).i32(40)),
            Err(code) => {
                gaps.push(Gap::new("threads", format!("thread {id}: name and priority: {code}")));
                Default::default()
            }
        };
        let registers = self.registers(thread, id, words.u64(8), gaps);
        let first_chance = self.faults.get(&id).cloned();
        Some(ThreadState { id, name, registers, priority, queue, first_chance })
    }

    fn complete(&self, threads: &mut Vec<ThreadState>, id: u64, registers: &Option<Registers>, gaps: &mut Vec<Gap>) {
        let index = threads.iter().position(|thread| thread.id == id).unwrap_or_else(|| {
            gaps.push(Gap::new("threads", format!("thread {id}, which died, is not among the task's threads")));
            let first_chance = self.faults.get(&id).cloned();
            let (name, registers, priority, queue) = Default::default();
            threads.push(ThreadState { id, name, registers, priority, queue, first_chance });
            threads.len() - 1
        });
        if let (None, Some(registers)) = (&threads[index].registers, registers) {
            threads[index].registers = Some(registers.clone());
            gaps.push(Gap::new("threads", format!("thread {id}: its registers are those of the exception message")));
        }
    }

    fn registers(&self, thread: PortName, id: u64, handle: Option<u64>, gaps: &mut Vec<Gap>) -> Option<Registers> {
        let get = |flavor: Flavor| thread_state(self.kernel, thread, flavor);
        match registers::read(self.kernel.cpu(), get) {
            Ok((mut registers, missing)) => {
                if let (Registers::X86_64(registers), Some(handle)) = (&mut registers, handle) {
                    // The thread's own area is what gs points to on x86-64; the flavour has no segment bases.
                    registers.gs_base = handle;
                }
                gaps.extend(
                    missing.iter().map(|(what, code)| Gap::new("threads", format!("thread {id}: {what}: {code}"))),
                );
                Some(registers)
            }
            Err(KERN_TERMINATED) => None,
            Err(code) => {
                gaps.push(Gap::new("threads", format!("thread {id}: registers: {code}")));
                None
            }
        }
    }
}

/// The words of a thread-state flavour that the kernel filled in.
pub(super) fn thread_state(kernel: &dyn Kernel, thread: PortName, flavor: Flavor) -> Result<Vec<u32>, KernReturn> {
    info((flavor.number, flavor.words), |number, words| kernel.thread_state(thread, number, words))
}

/// The 64-bit id of a thread.
pub(super) fn thread_id(kernel: &dyn Kernel, thread: PortName) -> Result<u64, KernReturn> {
    let words = info(THREAD_IDENTIFIER_INFO, |flavor, info| kernel.thread_info(thread, flavor, info))?;
    Words(&words).u64(0).ok_or(KernReturn::MIG_TYPE_ERROR)
}

/// Calls for a flavour with room for its words, and cuts them to those that were filled in.
fn info(
    (flavor, words): (u32, usize),
    call: impl FnOnce(u32, &mut [u32]) -> Result<usize, KernReturn>,
) -> Result<Vec<u32>, KernReturn> {
    let mut room = vec![0; words];
    let filled = call(flavor, &mut room)?;
    room.truncate(filled);
    Ok(room)
}

impl ReadMemory for MachTask<'_> {
    /// The kernel copies all or nothing, so what runs into a page that can't be read is tried again page by page.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(port) = self.port else { return 0 };
        if buffer.is_empty() || self.kernel.read(port, address, buffer).is_ok() {
            return buffer.len();
        }
        // The smallest page of any task here: a translated one has smaller pages than the machine.
        const PAGE: u64 = 4096;
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { return done };
            let to_page_end = usize::try_from(PAGE - at % PAGE).unwrap_or(buffer.len());
            let end = done.saturating_add(to_page_end).min(buffer.len());
            if self.kernel.read(port, at, &mut buffer[done..end]).is_err() {
                return done;
            }
            done = end;
        }
        done
    }
}

impl Task for MachTask<'_> {
    fn own_pid(&self) -> i32 {
        self.pid
    }

    fn is_readable(&self) -> bool {
        self.port.is_some()
    }

    fn os(&self) -> Os {
        Os::MacOs
    }

    fn cpu(&self) -> Cpu {
        self.kernel.cpu()
    }

    fn system(&self, _gaps: &mut Vec<Gap>) -> System {
        self.facts.system.clone()
    }

    fn process(&self, gaps: &mut Vec<Gap>) -> Process {
        let role = self.port.and_then(|port| self.kernel.task_role(port).ok());
        process::read(self.kernel, self.pid, role, gaps)
    }

    fn threads(&self, gaps: &mut Vec<Gap>) -> Vec<ThreadState> {
        let names = match self.port.map(|port| self.kernel.threads(port)) {
            Some(Ok(names)) => names,
            Some(Err(code)) => {
                gaps.push(Gap::new("threads", format!("the list of threads: {code}")));
                Vec::new()
            }
            None => {
                gaps.push(Gap::new("threads", "no port to the task could be had: only the thread's id is known"));
                Vec::new()
            }
        };
        // Owned before anything else: each must go back whatever happens.
        let ports: Vec<Port> =
            names.iter().filter_map(|name| self.rights.adopt(Group::Threads, Right::Send, *name)).collect();
        let limit = Limits::default().threads;
        if ports.len() > limit {
            gaps.push(Gap::new("threads", format!("{} threads; the first {limit} were read", ports.len())));
        }
        let mut threads: Vec<ThreadState> =
            ports.iter().take(limit).filter_map(|port| self.thread(port.name(), gaps)).collect();
        // The thread that the message is about belongs into the report even if it can't be read.
        if let Some((id, registers)) = &self.message_thread {
            self.complete(&mut threads, *id, registers, gaps);
        }
        threads
    }

    fn regions(&self, gaps: &mut Vec<Gap>) -> Vec<Region> {
        let Some(port) = self.port else { return Vec::new() };
        region::walk(|address| self.kernel.region(port, address, region::SUBMAP_INFO_WORDS), gaps)
    }

    fn image_list(&self, gaps: &mut Vec<Gap>) -> Option<ImageList> {
        let port = self.port?;
        let words = match info(TASK_DYLD_INFO, |flavor, info| self.kernel.task_info(port, flavor, info)) {
            Ok(words) => words,
            Err(code) => {
                gaps.push(Gap::new("images", format!("the address of dyld's list: {code}")));
                return None;
            }
        };
        const FORMAT_64: u32 = 1;
        let words = Words(&words);
        match (words.u64(0), words.u32(16)) {
            (Some(0), _) => gaps.push(Gap::new("images", "the task has no dyld")),
            (Some(all_image_infos), Some(FORMAT_64)) => return Some(ImageList::Dyld { all_image_infos }),
            _ => gaps.push(Gap::new("images", "dyld's list is not in the 64-bit format")),
        }
        None
    }

    fn has_shared_cache(&self, uuid: &[u8; 16]) -> bool {
        self.facts.shared_cache.as_ref() == Some(uuid)
    }

    fn image_file(&self, address: u64, path: &Path) -> ImageFile {
        let Some(mapped) = self.kernel.mapped_file(self.pid, address) else { return ImageFile::Unreachable };
        match std::fs::metadata(path) {
            Ok(file) if (FileId { device: file.dev(), inode: file.ino() }) == mapped => ImageFile::Same,
            Ok(_) => ImageFile::Replaced,
            // Libraries of the system are in the shared cache only: that their path names nothing is as it should be.
            Err(_) => ImageFile::Unreachable,
        }
    }
}
