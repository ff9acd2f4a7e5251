//! Reading another process's memory.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::errno::Errno;
use super::super::ptrace;

/// Where a process's memory is read from: `process_vm_readv`, or `/proc/TID/mem` where that is refused (containers whose
/// seccomp filter allows ptrace but not it; containerd before 1.7).
#[derive(Debug)]
pub(super) struct Source {
    tid: i32,
    refused: Cell<bool>,
    file: OnceCell<Option<File>>,
}

impl Source {
    /// The memory of the process that the thread `tid` belongs to.
    pub(super) fn new(tid: i32) -> Source {
        Source { tid, refused: Cell::new(false), file: OnceCell::new() }
    }

    /// The usual way of reading, if it is allowed.
    pub(super) fn direct(&self) -> Option<Direct> {
        (!self.refused.get()).then_some(Direct(self.tid))
    }

    /// As [`crate::host::ReadMemory::read`]. `readable_until` says where the readable mapping that holds an address ends:
    /// `/proc/TID/mem` reads what the process itself may not (`FOLL_FORCE`), and guard pages must stay what they are.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8], readable_until: impl Fn(u64) -> Option<u64>) -> usize {
        if !self.refused.get() {
            let mut refused = false;
            let length = whole(address, buffer, |at, rest| match ptrace::read_memory(self.tid, at, rest) {
                Err(Errno(libc::EPERM | libc::ENOSYS | libc::EACCES)) => {
                    refused = true;
                    0
                }
                result => result.unwrap_or(0),
            });
            if !refused {
                return length;
            }
            self.refused.set(true);
        }
        whole(address, buffer, |at, rest| self.read_file(at, rest, &readable_until))
    }

    fn read_file(&self, address: u64, buffer: &mut [u8], readable_until: impl Fn(u64) -> Option<u64>) -> usize {
        let file = self.file.get_or_init(|| File::open(format!("/proc/{}/mem", self.tid)).ok());
        let (Some(file), Some(end)) = (file, readable_until(address)) else { return 0 };
        let length = buffer.len().min(usize::try_from(end - address).unwrap_or(usize::MAX));
        file.read_at(&mut buffer[..length], address).unwrap_or(0)
    }
}

/// `process_vm_readv`. It obeys protections, needs no descriptor, and may be used from any thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct(i32);

impl Direct {
    /// As [`crate::host::ReadMemory::read`].
    pub(super) fn read(self, address: u64, buffer: &mut [u8]) -> usize {
        whole(address, buffer, |at, rest| ptrace::read_memory(self.0, at, rest).unwrap_or(0))
    }
}

/// Reads until the buffer is full or `read` gives no more: one call may end early, with a page or a mapping.
fn whole(address: u64, buffer: &mut [u8], mut read: impl FnMut(u64, &mut [u8]) -> usize) -> usize {
    let mut done = 0;
    while done < buffer.len() {
        let Some(at) = address.checked_add(done as u64) else { break };
        let count = read(at, &mut buffer[done..]);
        if count == 0 {
            break;
        }
        done += count;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Page(*mut u8);

    /// A readable page with an unreadable one after it, in this process.
    fn page_and_guard() -> Page {
        // SAFETY: a new mapping; nothing is replaced.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                0x2000,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(pages, libc::MAP_FAILED);
        let pages = pages.cast::<u8>();
        // SAFETY: both pages are ours and writable until the second is closed.
        unsafe {
            pages.write_bytes(7, 0x2000);
            assert_eq!(libc::mprotect(pages.add(0x1000).cast(), 0x1000, libc::PROT_NONE), 0);
        }
        Page(pages)
    }

    #[test]
    fn both_ways_stop_at_a_guard_page() {
        let page = page_and_guard();
        let start = page.0 as u64;
        let readable = |address: u64| (start..start + 0x1000).contains(&address).then_some(start + 0x1000);
        for refused in [false, true] {
            let source = Source::new(std::process::id() as i32);
            source.refused.set(refused);
            let mut buffer = [0_u8; 64];
            assert_eq!(source.read(start + 0xff0, &mut buffer, readable), 16, "refused: {refused}");
            assert_eq!(buffer[..17], [&[7; 16][..], &[0]].concat()[..]);
            assert_eq!(source.read(start + 0x1000, &mut buffer, readable), 0);
            assert_eq!(source.read(u64::MAX - 3, &mut buffer, readable), 0);
            assert_eq!(source.read(0, &mut buffer, readable), 0);
        }
    }
}
