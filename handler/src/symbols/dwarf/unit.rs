//! One unit of debug information: its header, what its root entry says of all of it, and its entries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use addr2line::gimli::{
    self, Abbreviations, AttributeValue, DebugAbbrev, DebugAddrIndex, EndianSlice, EntriesRaw, LittleEndian,
    RangeLists, RawRngListEntry, UnitOffset,
};

use super::section::Sections;
use super::split::Skeleton;
use crate::unwind::file::FileError;

/// Bytes of debug information.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes of a unit's header and root entry.
pub(super) const HEAD: u64 = 512;
/// Bytes of abbreviations in which a root entry's is looked for.
const DECLARATIONS: u64 = 2048;
/// Different declarations of root entries that are kept.
const KNOWN: usize = 1024;
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
    /// What a skeleton and the unit that is split off it have in common, since DWARF 5.
    id: Option<u64>,
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
        let id = match kind {
            gimli::DW_UT_compile | gimli::DW_UT_partial => None,
            gimli::DW_UT_skeleton | gimli::DW_UT_split_compile => Some(take(8)?),
            _ => return None,
        };
        let encoding =
            gimli::Encoding { address_size: u8::try_from(address_size).ok()?, format, version: version as u16 };
        (encoding.address_size == 8).then_some(Header {
            start,
            length,
            encoding,
            abbreviations,
            entries: bytes.len() - rest.len(),
            id,
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
    /// Whether its language has namespaces and types that functions stand in.
    pub(super) has_scopes: bool,
    /// The file that has the unit's entries, if this one has a skeleton of it only.
    pub(super) skeleton: Option<Skeleton>,
    low: u64,
    address_base: u64,
    string_offsets_base: u64,
    /// In DWARF 4, where the ranges of the unit that was split off begin in `.debug_ranges`.
    range_lists_base: u64,
    /// What DWARF 4 has instead of the id in the header.
    id: Option<u64>,
    is_split: bool,
}

/// A unit.
pub(super) struct Unit<'s> {
    header: Header,
    pub(super) root: Root,
    bytes: Cow<'s, [u8]>,
    abbreviations: Abbreviations,
}

/// Reads the root entries of many units, one after the other.
#[derive(Default)]
pub(super) struct Heads {
    /// Declarations of root entries, and what they mean: there are few different ones.
    known: HashMap<Vec<u8>, Abbreviations>,
}

impl Heads {
    /// Calls `each` with the ranges of the unit at `start`, whose first bytes `bytes` are.
    pub(super) fn ranges(
        &mut self,
        sections: &Sections<'_>,
        start: u64,
        bytes: &[u8],
        each: &mut dyn FnMut(u64, u64),
    ) -> Result<(), FileError> {
        let header = Header::parse(start, bytes).ok_or(FileError::Malformed("a unit"))?;
        let code = bytes.get(header.entries..).and_then(|bytes| number(bytes, &mut 0));
        let code = code.ok_or(FileError::Malformed("a unit"))?;
        // Not all of the unit's abbreviations are parsed for the sake of one.
        let declared = sections
            .look(&sections.abbreviations, header.abbreviations, DECLARATIONS, |bytes| declaration(bytes, code));
        let other;
        let abbreviations = match declared? {
            Some(table) => {
                if self.known.len() > KNOWN {
                    self.known.clear();
                }
                match self.known.entry(table) {
                    Entry::Occupied(known) => &*known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let section = DebugAbbrev::new(unknown.key(), LittleEndian);
                        let abbreviations = section.abbreviations(gimli::DebugAbbrevOffset(0)).map_err(malformed)?;
                        &*unknown.insert(abbreviations)
                    }
                }
            }
            None => {
                other = read_abbreviations(sections, header.abbreviations)?;
                &other
            }
        };
        let RootEntry { root, extent, .. } = Root::parse(&header, bytes, abbreviations, sections)?;
        root.ranges(sections, &extent, each);
        Ok(())
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
        let abbreviations = read_abbreviations(sections, header.abbreviations)?;
        let RootEntry { mut root, directory, split, .. } = Root::parse(&header, &bytes, &abbreviations, sections)?;
        root.directory = directory.and_then(|value| root.string(sections, value));
        let name = split.and_then(|value| root.string(sections, value));
        root.skeleton = name.zip(root.id).map(|(name, id)| Skeleton { name, id });
        Ok(Unit { header, root, bytes, abbreviations })
    }

    /// The unit at `start` of the file that it was split off into; `skeleton` has what stays in the image.
    pub(super) fn read_split(sections: &'s Sections<'_>, start: u64, skeleton: &Root) -> Result<Unit<'s>, FileError> {
        let mut unit = Unit::read(sections, start)?;
        let root = &mut unit.root;
        root.is_split = true;
        root.skeleton = None;
        root.low = skeleton.low;
        root.address_base = skeleton.address_base;
        root.directory.clone_from(&skeleton.directory);
        // Offsets into the unit's part are counted from behind that part's header (DWARF 5, 7.26 and 7.28); DWARF 4 has none.
        let (strings, ranges) = match (root.encoding.version, root.encoding.format) {
            (..=4, _) => (0, skeleton.range_lists_base),
            (_, gimli::Format::Dwarf32) => (8, 12),
            (_, gimli::Format::Dwarf64) => (16, 20),
        };
        root.string_offsets_base = strings;
        root.range_lists_base = ranges;
        Ok(unit)
    }

    /// What it has in common with its skeleton.
    pub(super) fn id(&self) -> Option<u64> {
        self.root.id
    }

    /// The entries from the root on, or from an offset that a reference within the unit has.
    pub(super) fn entries(&self, offset: Option<usize>) -> EntriesRaw<'_, Slice<'_>> {
        self.header.entries(&self.bytes, &self.abbreviations, offset.unwrap_or(self.header.entries))
    }

    /// Whether it may have an entry of one of these kinds with entries in it.
    pub(super) fn may_have(&self, kind: impl Fn(gimli::DwTag) -> bool) -> bool {
        // Compilers number abbreviations from 1.
        let declared = (1..).map_while(|code| self.abbreviations.get(code));
        declared.into_iter().any(|abbreviation| abbreviation.has_children() && kind(abbreviation.tag()))
    }

    /// Offset in `.debug_info`.
    pub(super) fn start(&self) -> u64 {
        self.header.start
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

/// Whether functions of a language stand in namespaces and types. Go's and C's names are whole.
fn has_scopes(language: gimli::DwLang) -> bool {
    matches!(
        language,
        gimli::DW_LANG_C_plus_plus
            | gimli::DW_LANG_C_plus_plus_03
            | gimli::DW_LANG_C_plus_plus_11
            | gimli::DW_LANG_C_plus_plus_14
            | gimli::DW_LANG_C_plus_plus_17
            | gimli::DW_LANG_C_plus_plus_20
            | gimli::DW_LANG_ObjC_plus_plus
            | gimli::DW_LANG_Rust
            | gimli::DW_LANG_Swift
            | gimli::DW_LANG_D
    )
}

/// What a root entry says.
struct RootEntry<'a> {
    /// Without the folder.
    root: Root,
    extent: Extent,
    directory: Option<AttributeValue<Slice<'a>>>,
    /// The name of the file that has the rest of it.
    split: Option<AttributeValue<Slice<'a>>>,
}

impl Root {
    fn parse<'a>(
        header: &Header,
        bytes: &'a [u8],
        abbreviations: &'a Abbreviations,
        sections: &Sections<'_>,
    ) -> Result<RootEntry<'a>, FileError> {
        let mut root = Root {
            encoding: header.encoding,
            line: None,
            directory: None,
            has_scopes: false,
            skeleton: None,
            id: header.id,
            is_split: false,
            low: 0,
            address_base: 0,
            string_offsets_base: 0,
            range_lists_base: 0,
        };
        let mut entries = header.entries(bytes, abbreviations, header.entries);
        let entry = entries.read_abbreviation().map_err(malformed)?.ok_or(FileError::Malformed("a unit"))?;
        let mut directory = None;
        let mut split = None;
        let mut extent = Extent::default();
        for specification in entry.attributes() {
            let attribute = entries.read_attribute(*specification).map_err(malformed)?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_comp_dir, value) => directory = Some(value),
                (gimli::DW_AT_dwo_name | gimli::DW_AT_GNU_dwo_name, value) => split = Some(value),
                (gimli::DW_AT_GNU_dwo_id, AttributeValue::DwoId(id)) => root.id = Some(id.0),
                (gimli::DW_AT_language, AttributeValue::Language(language)) => root.has_scopes = has_scopes(language),
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => root.line = Some(offset.0 as u64),
                (gimli::DW_AT_addr_base | gimli::DW_AT_GNU_addr_base, AttributeValue::DebugAddrBase(base)) => {
                    root.address_base = base.0 as u64
                }
                (gimli::DW_AT_str_offsets_base, AttributeValue::DebugStrOffsetsBase(base)) => {
                    root.string_offsets_base = base.0 as u64;
                }
                (
                    gimli::DW_AT_rnglists_base | gimli::DW_AT_GNU_ranges_base,
                    AttributeValue::DebugRngListsBase(base),
                ) => {
                    root.range_lists_base = base.0 as u64;
                }
                (name, value) => extent.note(name, value),
            }
        }
        // What these mean depends on the bases, which may come after them.
        root.low = extent.low.and_then(|low| root.address(sections, low)).unwrap_or(0);
        Ok(RootEntry { root, extent, directory, split })
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

    /// Calls `each` with the ranges of code that an entry stands for, as far as they can be read.
    pub(super) fn ranges(&self, sections: &Sections<'_>, extent: &Extent, each: &mut dyn FnMut(u64, u64)) {
        // Nothing comes of a list that can't be read.
        let _ = match extent.list {
            Some(list) => self.range_list(sections, list, each),
            None => self.single_range(sections, extent, each),
        };
    }

    fn single_range(&self, sections: &Sections<'_>, extent: &Extent, each: &mut dyn FnMut(u64, u64)) -> Option<()> {
        let low = self.address(sections, extent.low?)?;
        let high = match extent.high? {
            High::Address(address) => self.address(sections, address)?,
            High::Size(size) => low.checked_add(size)?,
        };
        if low < high {
            each(low, high);
        }
        Some(())
    }

    fn range_list(&self, sections: &Sections<'_>, list: List, each: &mut dyn FnMut(u64, u64)) -> Option<()> {
        let offset = match list {
            List::Offset(offset) => offset,
            List::Index(index) => {
                let size = self.encoding.format.word_size();
                let at = index.checked_mul(size.into())?.checked_add(self.range_lists_base)?;
                sections.number(&sections.range_lists, at, size)?.checked_add(self.range_lists_base)?
            }
        };
        if self.encoding.version <= 4 {
            let base = if self.is_split { self.range_lists_base } else { 0 };
            return self.pairs(sections, offset.checked_add(base)?, each);
        }
        let mut size = 1024;
        loop {
            let bytes = sections.up_to(&sections.range_lists, offset, size).ok()?;
            if let Some(ranges) = self.parse_ranges(sections, &bytes) {
                ranges.into_iter().for_each(|(start, end)| each(start, end));
                return Some(());
            }
            if (bytes.len() as u64) < size || bytes.len() / 16 > RANGES {
                return None;
            }
            size *= 16;
        }
    }

    /// A list of `.debug_ranges` (DWARF 4, 2.17.3). A unit has one with as many pairs as it has functions.
    fn pairs(&self, sections: &Sections<'_>, mut offset: u64, each: &mut dyn FnMut(u64, u64)) -> Option<()> {
        let mut base = self.low;
        for _ in 0..RANGES {
            let length = sections.look(&sections.ranges, offset, 16, |bytes| {
                let pairs = bytes.as_chunks::<16>().0;
                for pair in pairs {
                    let (start, end) = pair.split_at(8);
                    let (start, end) =
                        (u64::from_le_bytes(*start.first_chunk()?), u64::from_le_bytes(*end.first_chunk()?));
                    match (start, end) {
                        (0, 0) => return None,
                        (u64::MAX, _) => base = end,
                        _ if start < end => each(base.wrapping_add(start), base.wrapping_add(end)),
                        _ => {}
                    }
                }
                Some(pairs.len() as u64 * 16).filter(|length| *length > 0)
            });
            match length.ok()? {
                Some(length) => offset = offset.checked_add(length)?,
                None => return Some(()),
            }
        }
        None
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
fn read_abbreviations(sections: &Sections<'_>, offset: u64) -> Result<Abbreviations, FileError> {
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

/// A number in LEB128 at `at`, which is moved behind it.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The declaration of the abbreviation `code` (DWARF 5, 7.5.3), made a whole table, if it is in `bytes`.
fn declaration(bytes: &[u8], code: u64) -> Option<Vec<u8>> {
    let mut at = 0;
    loop {
        let start = at;
        let declared = number(bytes, &mut at).filter(|declared| *declared != 0)?;
        // The tag, and whether there are children: one byte, 0 or 1.
        number(bytes, &mut at)?;
        number(bytes, &mut at)?;
        loop {
            match (number(bytes, &mut at)?, number(bytes, &mut at)?) {
                (0, 0) => break,
                // DW_FORM_implicit_const has its value here.
                (_, 0x21) => drop(number(bytes, &mut at)?),
                _ => {}
            }
        }
        if declared == code {
            let mut table = bytes[start..at].to_vec();
            table.push(0);
            return Some(table);
        }
    }
}
