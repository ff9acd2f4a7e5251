//! The bytes copied out of a task: blocks by ascending address that never touch or overlap.

use bytes::Bytes;

use crate::host::ReadMemory;

/// One run of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBlock {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes, which may lie in one piece of memory with those of other blocks.
    pub bytes: Bytes,
}

impl MemoryBlock {
    /// Address after the last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}

/// The copied memory of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    blocks: Vec<MemoryBlock>,
}

impl Memory {
    /// The blocks, by ascending address.
    pub fn blocks(&self) -> &[MemoryBlock] {
        &self.blocks
    }

    /// Bytes held in all.
    pub fn len(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes.len() as u64).sum()
    }

    /// Whether nothing was copied.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The bytes from `address` to the end of their block.
    pub fn slice_from(&self, address: u64) -> Option<&[u8]> {
        let after = self.blocks.partition_point(|block| block.address <= address);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let bytes = block.bytes.get(usize::try_from(address - block.address).ok()?..)?;
        (!bytes.is_empty()).then_some(bytes)
    }

    /// `length` bytes at `address`, if all of them were copied.
    pub fn slice(&self, address: u64, length: usize) -> Option<&[u8]> {
        if length == 0 {
            return Some(&[]);
        }
        self.slice_from(address)?.get(..length)
    }

    /// The 64-bit little-endian word at `address`.
    pub fn word(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.slice(address, 8)?.try_into().ok()?))
    }

    /// Takes in `bytes` at `address`. Where some of it is there already, what is there stays; blocks that touch are joined.
    /// Bytes past the end of the address space are left out.
    pub fn insert(&mut self, address: u64, bytes: Vec<u8>) {
        self.insert_shared(address, bytes.into());
    }

    /// As [`Memory::insert`], for bytes that lie in one piece of memory with others.
    pub fn insert_shared(&mut self, address: u64, mut bytes: Bytes) {
        bytes.truncate(usize::try_from(u64::MAX - address).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return;
        }
        let end = address + bytes.len() as u64;
        // The blocks that overlap or touch [address, end].
        let first = self.blocks.partition_point(|block| block.end() < address);
        let last = self.blocks.partition_point(|block| block.address <= end);
        if first == last {
            self.blocks.insert(first, MemoryBlock { address, bytes });
            return;
        }
        let merged = self.blocks.drain(first..last).fold(MemoryBlock { address, bytes }, join);
        self.blocks.insert(first, merged);
    }
}

/// One block out of two that overlap or touch; where both have a byte, `kept`'s stays.
fn join(new: MemoryBlock, kept: MemoryBlock) -> MemoryBlock {
    let (new_end, kept_end) = (new.end(), kept.end());
    let mut bytes = Vec::with_capacity((new_end.max(kept_end) - new.address.min(kept.address)) as usize);
    if new.address < kept.address {
        bytes.extend_from_slice(&new.bytes[..(kept.address - new.address) as usize]);
    }
    bytes.extend_from_slice(&kept.bytes);
    if new_end > kept_end {
        bytes.extend_from_slice(&new.bytes[(kept_end - new.address) as usize..]);
    }
    MemoryBlock { address: new.address.min(kept.address), bytes: bytes.into() }
}

impl ReadMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(bytes) = self.slice_from(address) else { return 0 };
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(parts: &[(u64, &[u8])]) -> Memory {
        let mut memory = Memory::default();
        for (address, bytes) in parts {
            memory.insert(*address, bytes.to_vec());
        }
        memory
    }

    #[test]
    fn blocks_that_touch_are_one() {
        let memory = memory(&[(10, b"cd"), (14, b"gh"), (12, b"ef"), (8, b"ab")]);
        assert_eq!(memory.blocks(), [MemoryBlock { address: 8, bytes: Bytes::from_static(b"abcdefgh") }]);
    }

    #[test]
    fn where_two_inserts_overlap_the_first_stays() {
        assert_eq!(memory(&[(10, b"XY"), (8, b"abcdef")]).blocks(), memory(&[(8, b"abXYef")]).blocks());
        assert_eq!(memory(&[(8, b"abcdef"), (10, b"XY")]).blocks(), memory(&[(8, b"abcdef")]).blocks());
        assert_eq!(memory(&[(8, b"ab"), (12, b"ef"), (9, b"....")]).slice(8, 6), Some(&b"ab..ef"[..]));
    }

    #[test]
    fn a_slice_never_crosses_a_hole() {
        let memory = memory(&[(8, b"ab"), (12, b"ef")]);
        assert_eq!(memory.slice(8, 2), Some(&b"ab"[..]));
        assert_eq!(memory.slice(8, 3), None);
        assert_eq!(memory.slice(10, 1), None);
        assert_eq!(memory.slice_from(9), Some(&b"b"[..]));
        let mut buffer = [0; 4];
        assert_eq!(memory.read(12, &mut buffer), 2);
    }

    #[test]
    fn the_end_of_the_address_space_is_no_place_to_wrap() {
        let mut memory = Memory::default();
        memory.insert(u64::MAX - 2, vec![1, 2, 3, 4]);
        assert_eq!(memory.slice(u64::MAX - 2, 2), Some(&[1, 2][..]));
        assert_eq!(memory.slice(u64::MAX, 1), None);
    }
}
