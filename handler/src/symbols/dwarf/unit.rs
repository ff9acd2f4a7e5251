//! One unit of debug information: its header, what its root entry says of all of it, and its entries.

use std::borrow::Cow;

use addr2line::gimli::{
    self, Abbreviations, AttributeValue, DebugAbbrev, DebugAddrIndex, EndianSlice, EntriesRaw, LittleEndian,
    RangeLists, RawRngListEntry, UnitOffset,
};

use super::section::Sections;
use crate::unwind::file::FileError;

/// Bytes of debug information.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes of a unit's header and root entry.
const HEAD: u64 = 512;
/// Bytes of abbreviations that are read first; there are more in few units.
const ABBREVIATIONS: u64 = 16 << 10;
/// Bytes of a unit's abbreviations at most.
const MOST_ABBREVIATIONS: u64 = 16 << 20;
/// Ranges of one function; a unit has as many as functions.
const RANGES: usize = 1 << 20;

/// `initial length` (DWARF 5, 7.4): bytes that it has itself, and of the whole with it.
pub(super) fn length_of(bytes: &[u8]) -> Option<(usize, u64)> {
    let short = u32::from_le_bytes(*bytes.first_chunk()?);
    match short {
        0xffff_ffff => {
            let long = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
            Some((12, long.checked_add(12)?))
        }
        // Reserved.
        0xffff_fff0.. => None,
        _ => Some((4, u64::from(short) + 4)),
    }
}

pub(super) fn malformed<E>(_: E) -> FileError {
    FileError::Malformed("debug information")
}

/// A unit's header (DWARF 5, 7.5.1).
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Offset in `.debug_info`.
    start: u64,
    /// Bytes of the whole unit.
    length: u64,
    encoding: gimli::Encoding,
    /// Offset of its abbreviations in `.debug_abbrev`.
    abbreviations: u64,
    /// Offset of its root entry from `start`.
    entries: usize,
}

impl Header {
    /// The header in `bytes`, which begin at `start`; `None` for a unit of types, and for what is no unit.
    fn parse(start: u64, bytes: &[u8]) -> Option<Header> {
        let (prefix, length) = length_of(bytes)?;
        let format = if prefix > 4 { gimli::Format::Dwarf64 } else { gimli::Format::Dwarf32 };
        let mut rest = bytes.get(prefix..)?;
        let mut take = |size: usize| {
            let (number, after) = rest.split_at_checked(size)?;
            rest = after;
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(number);
            Some(u64::from_le_bytes(wide))
        };
        let word = usize::from(format.word_size());
        let version = take(2)?;
        let (address_size, abbreviations, kind) = match version {
            2..=4 => {
                let abbreviations = take(word)?;
                (take(1)?, abbreviations, gimli::DW_UT_compile)
            }
            5 => {
                let kind = gimli::DwUt(u8::try_from(take(1)?).ok()?);
                (take(1)?, take(word)?, kind)
            }
            _ => return None,
        };
        match kind {
            gimli::DW_UT_compile | gimli::DW_UT_partial => {}
            // With the id of the split unit.
            gimli::DW_UT_skeleton => drop(take(8)?),
            _ => return None,
        }
        let encoding =
            gimli::Encoding { address_size: u8::try_from(address_size).ok()?, format, version: version as u16 };
        (encoding.address_size == 8).then_some(Header {
            start,
            length,
            encoding,
            abbreviations,
            entries: bytes.len() - rest.len(),
        })
    }
}

/// What the root entry says of the whole unit.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) encoding: gimli::Encoding,
    /// Offset of its line program in `.debug_line`.
    pub(super) line: Option<u64>,
    /// The folder in which it was compiled.
    pub(super) directory: Option<String>,
    low: u64,
    ranges: Vec<(u64, u64)>,
    address_base: u64,
    string_offsets_base: u64,
    range_lists_base: u64,
}

/// A unit.
pub(super) struct Unit<'s> {
    header: Header,
    pub(super) root: Root,
    bytes: Cow<'s, [u8]>,
    abbreviations: Abbreviations,
}

/// A unit's root entry alone.
pub(super) struct Head(Root);

impl Head {
    /// The code of the unit.
    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        &self.0.ranges
    }
}

impl<'s> Unit<'s> {
    /// The unit at `start` of `.debug_info`.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub(super) fn read(sections: &'s Sections<'_>, start: u64) -> Result<Unit<'s>, FileError> {
        let (_, length) =
            length_of(&sections.up_to(&sections.info, start, 12)?).ok_or(FileError::Malformed("a unit"))?;
        let bytes = sections.bytes(&sections.info, start, length)?;
        let header = Header::parse(start, &bytes).ok_or(FileError::Malformed("a unit"))?;
        let abbreviations = abbreviations(sections, header.abbreviations)?;
        let root = Root::parse(&header, &bytes, &abbreviations, sections, Wanted::Everything)?;
        Ok(Unit { header, root, bytes, abbreviations })
    }

    /// What the unit at `start` says of its code.
    pub(super) fn head(sections: &Sections<'_>, start: u64) -> Result<Head, FileError> {
        let bytes = sections.up_to(&sections.info, start, HEAD)?;
        let header = Header::parse(start, &bytes).ok_or(FileError::Malformed("a unit"))?;
        let declaration = first_declaration(&sections.up_to(&sections.abbreviations, header.abbreviations, HEAD)?);
        let code = bytes.get(header.entries);
        let abbreviations = match declaration {
            // The root entry's is the first in all that compilers write.
            Some(declaration) if declaration.first() == code => {
                let section = DebugAbbrev::new(&declaration, LittleEndian);
                section.abbreviations(gimli::DebugAbbrevOffset(0)).map_err(malformed)?
            }
            _ => abbreviations(sections, header.abbreviations)?,
        };
        Ok(Head(Root::parse(&header, &bytes, &abbreviations, sections, Wanted::Ranges)?))
    }

    /// The entries from the root on, or from an offset that a reference within the unit has.
    pub(super) fn entries(&self, offset: Option<usize>) -> EntriesRaw<'_, Slice<'_>> {
        self.header.entries(&self.bytes, &self.abbreviations, offset.unwrap_or(self.header.entries))
    }

    /// Offset within the unit of an offset in `.debug_info`.
    pub(super) fn offset_of(&self, offset: u64) -> Option<usize> {
        let inside = offset.checked_sub(self.header.start).filter(|inside| *inside < self.header.length)?;
        usize::try_from(inside).ok()
    }
}

impl Header {
    fn entries<'a>(
        &self,
        bytes: &'a [u8],
        abbreviations: &'a Abbreviations,
        offset: usize,
    ) -> EntriesRaw<'a, Slice<'a>> {
        let bytes = bytes.get(offset..).unwrap_or_default();
        EntriesRaw::new(EndianSlice::new(bytes, LittleEndian), self.encoding, abbreviations, UnitOffset(offset))
    }
}

/// What is to be found out of a root entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Everything,
    Ranges,
}

impl Root {
    fn parse(
        header: &Header,
        bytes: &[u8],
        abbreviations: &Abbreviations,
        sections: &Sections<'_>,
        wanted: Wanted,
    ) -> Result<Root, FileError> {
        let mut root = Root {
            encoding: header.encoding,
            line: None,
            directory: None,
            low: 0,
            ranges: Vec::new(),
            address_base: 0,
            string_offsets_base: 0,
            range_lists_base: 0,
        };
        let mut entries = header.entries(bytes, abbreviations, header.entries);
        let entry = entries.read_abbreviation().map_err(malformed)?.ok_or(FileError::Malformed("a unit"))?;
        let mut directory = None;
        let mut extent = Extent::default();
        for specification in entry.attributes() {
            let attribute = entries.read_attribute(*specification).map_err(malformed)?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_comp_dir, value) => directory = Some(value),
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => root.line = Some(offset.0 as u64),
                (gimli::DW_AT_addr_base, AttributeValue::DebugAddrBase(base)) => root.address_base = base.0 as u64,
                (gimli::DW_AT_str_offsets_base, AttributeValue::DebugStrOffsetsBase(base)) => {
                    root.string_offsets_base = base.0 as u64;
                }
                (gimli::DW_AT_rnglists_base, AttributeValue::DebugRngListsBase(base)) => {
                    root.range_lists_base = base.0 as u64;
                }
                (name, value) => extent.note(name, value),
            }
        }
        // What these mean depends on the bases, which may come after them.
        root.low = extent.low.and_then(|low| root.address(sections, low)).unwrap_or(0);
        match wanted {
            Wanted::Everything => root.directory = directory.and_then(|value| root.string(sections, value)),
            Wanted::Ranges => root.ranges = root.ranges(sections, &extent),
        }
        Ok(root)
    }

    /// A string that an attribute has.
    pub(super) fn string(&self, sections: &Sections<'_>, value: AttributeValue<Slice<'_>>) -> Option<String> {
        match value {
            AttributeValue::String(text) => Some(text.to_string_lossy().into_owned()),
            AttributeValue::DebugStrRef(offset) => sections.string(&sections.strings, offset.0 as u64),
            AttributeValue::DebugLineStrRef(offset) => sections.string(&sections.line_strings, offset.0 as u64),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let size = self.encoding.format.word_size();
                let at = (index.0 as u64).checked_mul(size.into())?.checked_add(self.string_offsets_base)?;
                let offset = sections.number(&sections.string_offsets, at, size)?;
                sections.string(&sections.strings, offset)
            }
            _ => None,
        }
    }

    fn address(&self, sections: &Sections<'_>, value: Address) -> Option<u64> {
        match value {
            Address::Given(address) => Some(address),
            Address::Index(index) => {
                let at = (index.0 as u64).checked_mul(8)?.checked_add(self.address_base)?;
                sections.number(&sections.addresses, at, 8)
            }
        }
    }

    /// The ranges of code that an entry stands for; none if they can't be read.
    pub(super) fn ranges(&self, sections: &Sections<'_>, extent: &Extent) -> Vec<(u64, u64)> {
        if let Some(list) = extent.list {
            return self.range_list(sections, list).unwrap_or_default();
        }
        let range = || {
            let low = self.address(sections, extent.low?)?;
            let high = match extent.high? {
                High::Address(address) => self.address(sections, address)?,
                High::Size(size) => low.checked_add(size)?,
            };
            (low < high).then_some((low, high))
        };
        range().into_iter().collect()
    }

    fn range_list(&self, sections: &Sections<'_>, list: List) -> Option<Vec<(u64, u64)>> {
        let offset = match list {
            List::Offset(offset) => offset,
            List::Index(index) => {
                let size = self.encoding.format.word_size();
                let at = index.checked_mul(size.into())?.checked_add(self.range_lists_base)?;
                sections.number(&sections.range_lists, at, size)?.checked_add(self.range_lists_base)?
            }
        };
        let section = if self.encoding.version >= 5 { &sections.range_lists } else { &sections.ranges };
        let mut size = 1024;
        loop {
            let bytes = sections.up_to(section, offset, size).ok()?;
            if let Some(ranges) = self.parse_ranges(sections, &bytes) {
                return Some(ranges);
            }
            if (bytes.len() as u64) < size || bytes.len() / 16 > RANGES {
                return None;
            }
            size *= 16;
        }
    }

    /// The ranges of a list, if all of it is in `bytes`.
    fn parse_ranges(&self, sections: &Sections<'_>, bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
        // A list says where it ends, but its reader takes the end of the bytes for one too. No entry begins like this.
        let mut bytes = bytes.to_vec();
        bytes.extend([0xff; 8]);
        let lists = RangeLists::new(
            gimli::DebugRanges::new(&bytes, LittleEndian),
            gimli::DebugRngLists::new(&bytes, LittleEndian),
        );
        let mut list = lists.raw_ranges(gimli::RangeListsOffset(0), self.encoding).ok()?;
        let mut ranges = Vec::new();
        let mut base = self.low;
        while let Some(entry) = list.next().ok()? {
            let indexed = |index| self.address(sections, Address::Index(index));
            let (start, end) = match entry {
                RawRngListEntry::BaseAddress { addr } => {
                    base = addr;
                    continue;
                }
                RawRngListEntry::BaseAddressx { addr } => {
                    base = indexed(addr)?;
                    continue;
                }
                RawRngListEntry::AddressOrOffsetPair { begin, end } | RawRngListEntry::OffsetPair { begin, end } => {
                    (base.wrapping_add(begin), base.wrapping_add(end))
                }
                RawRngListEntry::StartxEndx { begin, end } => (indexed(begin)?, indexed(end)?),
                RawRngListEntry::StartxLength { begin, length } => {
                    let begin = indexed(begin)?;
                    (begin, begin.wrapping_add(length))
                }
                RawRngListEntry::StartEnd { begin, end } => (begin, end),
                RawRngListEntry::StartLength { begin, length } => (begin, begin.wrapping_add(length)),
            };
            if start < end {
                ranges.push((start, end));
            }
        }
        Some(ranges)
    }
}

/// What an entry says of where its code is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    low: Option<Address>,
    high: Option<High>,
    list: Option<List>,
}

#[derive(Debug, Clone, Copy)]
enum Address {
    Given(u64),
    Index(DebugAddrIndex),
}

#[derive(Debug, Clone, Copy)]
enum High {
    Address(Address),
    Size(u64),
}

#[derive(Debug, Clone, Copy)]
enum List {
    /// In `.debug_ranges` or `.debug_rnglists`, as the version has it.
    Offset(u64),
    /// Of the offsets at the unit's base.
    Index(u64),
}

impl Extent {
    /// Takes an attribute, if it is about this.
    pub(super) fn note(&mut self, name: gimli::DwAt, value: AttributeValue<Slice<'_>>) {
        let address = match value {
            AttributeValue::Addr(address) => Some(Address::Given(address)),
            AttributeValue::DebugAddrIndex(index) => Some(Address::Index(index)),
            _ => None,
        };
        match (name, value) {
            (gimli::DW_AT_low_pc, _) => self.low = address,
            (gimli::DW_AT_high_pc, AttributeValue::Udata(size)) => self.high = Some(High::Size(size)),
            (gimli::DW_AT_high_pc, _) => self.high = address.map(High::Address),
            (gimli::DW_AT_ranges, AttributeValue::RangeListsRef(offset)) => {
                self.list = Some(List::Offset(offset.0 as u64));
            }
            (gimli::DW_AT_ranges, AttributeValue::DebugRngListsIndex(index)) => {
                self.list = Some(List::Index(index.0 as u64));
            }
            _ => {}
        }
    }
}

/// The abbreviations at an offset of `.debug_abbrev`.
fn abbreviations(sections: &Sections<'_>, offset: u64) -> Result<Abbreviations, FileError> {
    let mut size = ABBREVIATIONS;
    loop {
        let bytes = sections.up_to(&sections.abbreviations, offset, size)?;
        let section = DebugAbbrev::new(&bytes, LittleEndian);
        match section.abbreviations(gimli::DebugAbbrevOffset(0)) {
            Ok(abbreviations) => return Ok(abbreviations),
            // They go on after what was read.
            Err(gimli::Error::UnexpectedEof(_)) if bytes.len() as u64 == size && size < MOST_ABBREVIATIONS => size *= 8,
            Err(error) => return Err(malformed(error)),
        }
    }
}

/// The first declaration of abbreviations (DWARF 5, 7.5.3), made a whole table, if its code has one byte.
fn first_declaration(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut number = || {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *bytes.get(at)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value, at));
            }
        }
        None
    };
    let (_code, 1) = number()? else { return None };
    // The tag, and whether there are children: one byte, 0 or 1.
    number()?;
    number()?;
    loop {
        match (number()?, number()?) {
            ((0, _), (0, end)) => {
                let mut table = bytes[..end].to_vec();
                table.push(0);
                return Some(table);
            }
            // DW_FORM_implicit_const has its value here.
            (_, (0x21, _)) => drop(number()?),
            _ => {}
        }
    }
}
