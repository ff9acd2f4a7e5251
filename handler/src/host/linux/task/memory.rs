//! Reading another process's memory.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::super::errno::Errno;
use super::super::ptrace;
use crate::snapshot::MemoryBlock;

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

    /// Reads a piece: all its ranges by one call, unless one of them can't be read to its end.
    pub(super) fn read_piece(self, piece: &mut Piece) {
        let mut bytes = vec![0; piece.ranges.iter().map(|(_, length)| length).sum()];
        let mut left = piece.ranges.as_slice();
        let mut done = 0;
        while !left.is_empty() {
            let some = &left[..left.len().min(ptrace::MOST_RANGES)];
            let mut read = ptrace::read_ranges(self.0, some, &mut bytes[done..]).unwrap_or(0);
            let mut whole = 0;
            for (_, length) in some {
                let Some(rest) = read.checked_sub(*length) else { break };
                piece.lengths.push(*length);
                (read, done, whole) = (rest, done + length, whole + 1);
            }
            left = &left[whole..];
            // The one that it stopped in, or at. What was read of it is read again.
            if whole < some.len()
                && let Some(((address, length), rest)) = left.split_first()
            {
                piece.lengths.push(self.read(*address, &mut bytes[done..done + length]));
                done += length;
                left = rest;
            }
        }
        piece.bytes = bytes.into();
    }
}

/// Ranges that are read together, into one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Address and length.
    ranges: Vec<(u64, usize)>,
    bytes: Bytes,
    /// What could be read of each.
    lengths: Vec<usize>,
}

impl Piece {
    /// `ranges` in pieces that are large enough for their memory to come from the system and to go back to it, and small
    /// enough for two threads to share them.
    pub(super) fn of(ranges: Vec<(u64, usize)>) -> Vec<Piece> {
        const BYTES: usize = 256 << 10;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut room = 0;
        for range in ranges {
            if room == 0 {
                pieces.push(Piece::default());
                room = BYTES;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.ranges.push(range);
            }
            room = room.saturating_sub(range.1);
        }
        pieces
    }

    /// What was read.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = MemoryBlock> {
        let Piece { ranges, bytes, lengths } = self;
        let mut at = 0;
        ranges.into_iter().zip(lengths).map(move |((address, wanted), length)| {
            let block = MemoryBlock { address, bytes: bytes.slice(at..at + length) };
            at += wanted;
            block
        })
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
    fn ranges_that_are_read_together_are_each_as_long_as_when_read_alone() {
        let page = page_and_guard();
        let start = page.0 as u64;
        let direct = Direct(std::process::id() as i32);
        let ranges = [(0x10, 16), (0xff0, 64), (0x1000, 8), (0, 0x1000), (0x2000 - 8, 8), (0xfff, 1), (0x800, 0)];
        let ranges = ranges.map(|(offset, length)| (start + offset, length)).to_vec();
        // More than one call takes.
        let ranges = ranges.repeat(ptrace::MOST_RANGES / 4);
        let mut pieces = Piece::of(ranges.clone());
        assert!(pieces.len() > 2);
        pieces.iter_mut().for_each(|piece| direct.read_piece(piece));
        let blocks: Vec<MemoryBlock> = pieces.into_iter().flat_map(Piece::into_blocks).collect();
        assert_eq!(blocks.len(), ranges.len());
        for (block, (address, _)) in blocks.iter().zip(ranges) {
            let expected = match address - start {
                0x10 | 0xff0 => 16,
                0 => 0x1000,
                0xfff => 1,
                _ => 0,
            };
            assert_eq!((block.address, block.bytes.len()), (address, expected));
            assert!(block.bytes.iter().all(|byte| *byte == 7));
        }
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
