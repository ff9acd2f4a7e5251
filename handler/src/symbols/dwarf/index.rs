//! Which unit an address lies in: by `.debug_aranges`, and for units that it leaves out (clang writes none) by what they say
//! of themselves.

use std::collections::HashSet;
use std::time::Instant;

use super::section::Sections;
use super::unit::{HEAD, Heads, length_of};
use crate::unwind::file::{FileError, ObjectFile};

/// Bytes of `.debug_aranges` that are read at once.
const CHUNK: u64 = 256 << 10;
/// Units in one file; Chromium has some ten thousand.
const UNITS: usize = 1 << 20;

/// The addresses that are looked up, and the units found for them.
pub(super) struct Index<'a> {
    addresses: &'a [u64],
    /// Offset of the unit in `.debug_info`, for each address.
    pub(super) units: Vec<Option<u64>>,
    /// Where code is. Functions that the linker left out stand at address 0, and there is none.
    code: Vec<(u64, u64)>,
    /// Where the program is started.
    entry: Option<u64>,
}

impl<'a> Index<'a> {
    /// The units of `addresses`, which are sorted.
    pub(super) fn new(
        file: &ObjectFile,
        sections: &Sections<'_>,
        addresses: &'a [u64],
        deadline: Instant,
    ) -> Result<Index<'a>, FileError> {
        let code = file.segments().iter().filter(|segment| segment.executable);
        let code = code.map(|segment| (segment.address, segment.address.saturating_add(segment.size))).collect();
        let mut index = Index { addresses, units: vec![None; addresses.len()], code, entry: file.entry() };
        // A table that can't be read is as good as none.
        let described = index.address_ranges(sections).unwrap_or_default();
        if index.is_wanting() {
            index.undescribed(sections, &described, deadline)?;
        }
        Ok(index)
    }

    /// Whether a function may start here.
    pub(super) fn is_code(&self, address: u64) -> bool {
        is_code(&self.code, address)
    }

    /// Whether units are worth looking for that `.debug_aranges` leaves out. `_start` stands at the end of every first thread's
    /// stack, is assembly of the C library, and seldom has a unit: for it alone all others are not asked, thousands in a large
    /// program.
    fn is_wanting(&self) -> bool {
        const START: u64 = 64;
        let is_start = |address: u64| self.entry.is_some_and(|entry| address >= entry && address - entry < START);
        self.addresses.iter().zip(&self.units).any(|(address, unit)| unit.is_none() && !is_start(*address))
    }

    fn note(&mut self, start: u64, end: u64, unit: u64) {
        // Nearly all are not among them.
        let (Some(lowest), Some(highest)) = (self.addresses.first(), self.addresses.last()) else { return };
        if end <= *lowest || start > *highest {
            return;
        }
        let first = self.addresses.partition_point(|address| *address < start);
        for (address, found) in self.addresses[first..].iter().zip(&mut self.units[first..]) {
            if *address >= end {
                return;
            }
            if found.is_none() && is_code(&self.code, start) {
                *found = Some(unit);
            }
        }
    }

    /// Reads `.debug_aranges` (DWARF 5, 6.1.2) and returns which units it describes.
    fn address_ranges(&mut self, sections: &Sections<'_>) -> Result<HashSet<u64>, FileError> {
        let section = &sections.address_ranges;
        let mut described = HashSet::new();
        let mut chunk = sections.up_to(section, 0, CHUNK)?;
        let mut chunk_start = 0;
        let mut at = 0;
        loop {
            let rest = chunk.get((at - chunk_start) as usize..).unwrap_or_default();
            let whole = length_of(rest).filter(|(_, length)| *length <= rest.len() as u64);
            let Some((prefix, length)) = whole else {
                if at == chunk_start {
                    // A set that is larger than a chunk, or the end.
                    let Some((_, length)) = length_of(rest) else { return Ok(described) };
                    chunk = sections.bytes(section, at, length)?;
                } else {
                    chunk = sections.up_to(section, at, CHUNK)?;
                    chunk_start = at;
                }
                continue;
            };
            described.extend(self.set(prefix, &rest[..length as usize]));
            at += length;
        }
    }

    /// One set of `.debug_aranges`, whose unit it returns.
    fn set(&mut self, prefix: usize, set: &[u8]) -> Option<u64> {
        // The offset of the unit has 4 bytes after a length of 4, 8 after one of 12.
        let wide = prefix > 4;
        let offset = set.get(prefix + 2..)?;
        let unit = if wide {
            u64::from_le_bytes(*offset.first_chunk()?)
        } else {
            u32::from_le_bytes(*offset.first_chunk()?).into()
        };
        let sizes = prefix + 2 + if wide { 8 } else { 4 };
        // Addresses of 8 bytes, no segments.
        if set.get(sizes..sizes + 2)? != [8, 0] {
            return None;
        }
        // Tuples are aligned, counted from the set's start.
        let tuples = set.get((sizes + 2).next_multiple_of(16)..)?;
        for tuple in tuples.as_chunks::<16>().0 {
            let (start, length) = tuple.split_at(8);
            let start = u64::from_le_bytes(*start.first_chunk()?);
            let length = u64::from_le_bytes(*length.first_chunk()?);
            self.note(start, start.saturating_add(length), unit);
        }
        Some(unit)
    }

    /// Asks the units that `.debug_aranges` does not describe.
    fn undescribed(
        &mut self,
        sections: &Sections<'_>,
        described: &HashSet<u64>,
        deadline: Instant,
    ) -> Result<(), FileError> {
        let mut at = 0;
        let mut heads = Heads::default();
        for count in 0..UNITS {
            if count % 64 == 0 && (Instant::now() >= deadline || !self.is_wanting()) {
                return Ok(());
            }
            let bytes = sections.up_to(&sections.info, at, HEAD)?;
            let Some((_, length)) = length_of(&bytes) else { return Ok(()) };
            if !described.contains(&at) {
                // One that can't be read is one that does not have them.
                let _ = heads.ranges(sections, at, &bytes, &mut |start, end| self.note(start, end, at));
            }
            at = at.saturating_add(length);
        }
        Ok(())
    }
}

fn is_code(code: &[(u64, u64)], address: u64) -> bool {
    code.is_empty() || code.iter().any(|(start, end)| (*start..*end).contains(&address))
}

/// The offset of the unit that `.debug_info` has at `offset`.
pub(super) fn unit_around(sections: &Sections<'_>, offset: u64) -> Option<u64> {
    let mut at = 0;
    for _ in 0..UNITS {
        let (_, length) = length_of(&sections.up_to(&sections.info, at, 12).ok()?)?;
        let end = at.checked_add(length)?;
        if offset < end {
            return Some(at);
        }
        at = end;
    }
    None
}
