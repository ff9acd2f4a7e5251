//! MemoryInfoList: `MINIDUMP_MEMORY_INFO_LIST` of `MINIDUMP_MEMORY_INFO`, one for each mapping.

use std::io::{Seek, Write};

use minidump_writer::minidump_format::format::{MemoryProtection, MemoryState, MemoryType};
use minidump_writer::minidump_format::{MDMemoryInfo, MDMemoryInfoList, MDStreamType};

use super::Error;
use super::file::DumpFile;
use crate::snapshot::{Protection, Snapshot};

/// Writes the list; no stream if the mappings are not known. Mappings that end before they start are left out.
pub(super) fn write<W: Write + Seek>(file: &mut DumpFile<'_, W>, snapshot: &Snapshot) -> Result<(), Error> {
    let regions = || snapshot.regions.iter().filter(|region| region.start < region.end);
    let count = regions().count();
    if count == 0 {
        return Ok(());
    }
    file.stream(MDStreamType::MemoryInfoListStream, |file| {
        file.put(MDMemoryInfoList { size_of_header: 16, size_of_entry: 48, number_of_entries: count as u64 })?;
        for region in regions() {
            let protection = protection(region.protection).bits();
            let kind = if region.shared { MemoryType::MEM_MAPPED } else { MemoryType::MEM_PRIVATE };
            file.put(MDMemoryInfo {
                base_address: region.start,
                allocation_base: region.start,
                allocation_protection: protection,
                __alignment1: 0,
                region_size: region.end - region.start,
                state: MemoryState::MEM_COMMIT.bits(),
                protection,
                _type: kind.bits(),
                __alignment2: 0,
            })?;
        }
        Ok(())
    })
}

/// Windows has no name for memory that may be written but not read: the next wider one stands for it.
fn protection(protection: Protection) -> MemoryProtection {
    match (protection.read, protection.write, protection.execute) {
        (false, false, false) => MemoryProtection::PAGE_NOACCESS,
        (true, false, false) => MemoryProtection::PAGE_READONLY,
        (_, true, false) => MemoryProtection::PAGE_READWRITE,
        (false, false, true) => MemoryProtection::PAGE_EXECUTE,
        (true, false, true) => MemoryProtection::PAGE_EXECUTE_READ,
        (_, true, true) => MemoryProtection::PAGE_EXECUTE_READWRITE,
    }
}
