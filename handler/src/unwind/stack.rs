//! Reading the copied memory word by word, fast where the words lie on one stack.

use crate::snapshot::Memory;

/// A view of the snapshot's memory that remembers the block it read last: a walk reads thousands of words of one stack.
pub(crate) struct StackReader<'a> {
    memory: &'a Memory,
    address: u64,
    bytes: &'a [u8],
}

impl<'a> StackReader<'a> {
    /// A reader of `memory`.
    pub(crate) fn new(memory: &'a Memory) -> StackReader<'a> {
        StackReader { memory, address: 0, bytes: &[] }
    }

    /// The 64-bit word at `address`, if all of it was copied.
    #[inline]
    pub(crate) fn word(&mut self, address: u64) -> Option<u64> {
        match self.word_here(address) {
            None => self.word_elsewhere(address),
            word => word,
        }
    }

    #[inline]
    fn word_here(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.wrapping_sub(self.address)).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(offset..)?.first_chunk()?))
    }

    #[cold]
    fn word_elsewhere(&mut self, address: u64) -> Option<u64> {
        let blocks = self.memory.blocks();
        let after = blocks.partition_point(|block| block.address <= address);
        let block = blocks.get(after.checked_sub(1)?)?;
        let word =
            StackReader { memory: self.memory, address: block.address, bytes: &block.bytes }.word_here(address)?;
        (self.address, self.bytes) = (block.address, &block.bytes);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_whichever_block_holds_all_of_them() {
        let mut memory = Memory::default();
        memory.insert(0x1000, (1..=16).collect());
        memory.insert(0x2000, vec![0xff; 8]);
        let mut reader = StackReader::new(&memory);
        assert_eq!(reader.word(0x2000), Some(u64::MAX));
        assert_eq!(reader.word(0x1001), Some(0x0908_0706_0504_0302));
        assert_eq!(reader.word(0x1008), Some(0x100f_0e0d_0c0b_0a09));
        assert_eq!([0x1009, 0x0fff, 0x2001, 0, u64::MAX].map(|at| reader.word(at)), [None; 5]);
    }
}
