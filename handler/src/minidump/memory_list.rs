//! MemoryList: `MINIDUMP_MEMORY_LIST` of `MINIDUMP_MEMORY_DESCRIPTOR`, and the copied bytes themselves.
//!
//! The 32-bit list and not Memory64List: every reader knows it, LLDB reads stacks only from it, and what is copied is bounded
//! far below 4 GiB.

use std::io::{Seek, Write};

use minidump_writer::minidump_format::{MDLocationDescriptor, MDMemoryDescriptor, MDStreamType};

use super::Error;
use super::file::DumpFile;
use crate::snapshot::Memory;

/// Where each block of the snapshot's memory is in the dump.
pub(super) struct MemoryMap<'a> {
    memory: &'a Memory,
    /// For each block, the offset of its first byte.
    rvas: Vec<u32>,
}

impl<'a> MemoryMap<'a> {
    /// Writes the bytes of every block.
    pub(super) fn write<W: Write + Seek>(
        file: &mut DumpFile<'_, W>,
        memory: &'a Memory,
    ) -> Result<MemoryMap<'a>, Error> {
        let mut rvas = Vec::with_capacity(memory.blocks().len());
        for block in memory.blocks() {
            file.align(16)?;
            rvas.push(file.rva());
            file.bytes(&block.bytes)?;
        }
        Ok(MemoryMap { memory, rvas })
    }

    /// The part of the range from `start` to `end` that was copied without a hole from `start` on. Empty if `start` was not.
    pub(super) fn descriptor(&self, start: u64, end: u64) -> MDMemoryDescriptor {
        let blocks = self.memory.blocks();
        let after = blocks.partition_point(|block| block.address <= start);
        let found = after.checked_sub(1).and_then(|index| blocks.get(index).zip(self.rvas.get(index)));
        let memory = match found {
            Some((block, rva)) if start < block.end().min(end) => {
                // Both fit in 32 bits: the block's bytes are in the dump.
                let size = block.end().min(end) - start;
                MDLocationDescriptor { data_size: size as u32, rva: rva + (start - block.address) as u32 }
            }
            _ => MDLocationDescriptor::default(),
        };
        MDMemoryDescriptor { start_of_memory_range: start, memory }
    }

    /// Writes the list.
    pub(super) fn write_list<W: Write + Seek>(&self, file: &mut DumpFile<'_, W>) -> Result<(), Error> {
        file.stream(MDStreamType::MemoryListStream, |file| {
            file.put(self.rvas.len() as u32)?;
            for (block, rva) in self.memory.blocks().iter().zip(&self.rvas) {
                file.put(MDMemoryDescriptor {
                    start_of_memory_range: block.address,
                    memory: MDLocationDescriptor { data_size: block.bytes.len() as u32, rva: *rva },
                })?;
            }
            Ok(())
        })
    }
}
