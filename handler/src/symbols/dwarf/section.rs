//! The debug sections of one file, of which only those parts are read that are asked for: a program's debug information has
//! hundreds of megabytes, and the frames of a crash lie in a few units of it.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use addr2line::gimli::SectionId;
use object::read::{CompressedData, CompressionFormat};

use super::section_name;
use crate::unwind::file::{COMPRESSION_HEADER, FileError, FileSection, ObjectFile, compression_header};

/// Bytes that are read at once where little is asked for: names of one unit lie near each other.
const WINDOW: u64 = 16 << 10;
/// Bytes of one string that are read.
const STRING: u64 = 32 << 10;

/// The sections that names and lines are in.
pub(super) struct Sections<'a> {
    pub(super) abbreviations: Section<'a>,
    pub(super) addresses: Section<'a>,
    pub(super) address_ranges: Section<'a>,
    pub(super) info: Section<'a>,
    pub(super) line: Section<'a>,
    pub(super) line_strings: Section<'a>,
    pub(super) ranges: Section<'a>,
    pub(super) range_lists: Section<'a>,
    pub(super) strings: Section<'a>,
    pub(super) string_offsets: Section<'a>,
    file: &'a ObjectFile,
    left: Rc<Cell<u64>>,
}

/// The parts, offset and size, of the sections of a package that are one unit's; `None` for all of a section.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) info: Part,
    pub(super) abbreviations: Part,
    pub(super) string_offsets: Part,
    pub(super) range_lists: Part,
}

type Part = Option<(u64, u64)>;

/// One section. One that is not there is empty.
pub(super) struct Section<'a> {
    file: &'a ObjectFile,
    section: Option<&'a FileSection>,
    /// What of it is looked at: from this offset, at most so many bytes.
    part: (u64, u64),
    /// Of a compressed section, what it holds.
    uncompressed: OnceCell<Vec<u8>>,
    /// The part that was last read a little of, and its offset.
    window: RefCell<(u64, Vec<u8>)>,
}

impl<'a> Sections<'a> {
    /// Those of `file`; of all of them together, at most `limit` bytes are read.
    pub(super) fn new(file: &'a ObjectFile, limit: u64) -> Sections<'a> {
        let section = |id: SectionId| Section::new(file, section_name(file, id), None);
        Sections {
            abbreviations: section(SectionId::DebugAbbrev),
            addresses: section(SectionId::DebugAddr),
            address_ranges: section(SectionId::DebugAranges),
            info: section(SectionId::DebugInfo),
            line: section(SectionId::DebugLine),
            line_strings: section(SectionId::DebugLineStr),
            ranges: section(SectionId::DebugRanges),
            range_lists: section(SectionId::DebugRngLists),
            strings: section(SectionId::DebugStr),
            string_offsets: section(SectionId::DebugStrOffsets),
            file,
            left: Rc::new(Cell::new(limit)),
        }
    }

    /// Whether what two readers read would have to be uncompressed twice.
    pub(super) fn any_compressed(&self) -> bool {
        let all = [&self.abbreviations, &self.info, &self.line, &self.ranges, &self.range_lists, &self.strings];
        all.iter().any(|section| section.section.is_some_and(|section| section.compressed))
    }

    /// Bytes that may still be read.
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Allows no more than `limit` bytes to be read from now on.
    pub(super) fn allow(&self, limit: u64) {
        self.left.set(self.left.get().min(limit));
    }

    /// Those of a unit that was split off into `file`, of whose sections it has `parts`: entries, names and, since DWARF 5, range
    /// lists are there, the rest is here. Both share one limit.
    pub(super) fn split(&self, file: &'a ObjectFile, parts: &Parts) -> Sections<'a> {
        let here = |id: SectionId| Section::new(self.file, section_name(self.file, id), None);
        let there = |id: SectionId, part| Section::new(file, id.dwo_name().map(str::to_owned), part);
        Sections {
            abbreviations: there(SectionId::DebugAbbrev, parts.abbreviations),
            addresses: here(SectionId::DebugAddr),
            address_ranges: here(SectionId::DebugAranges),
            info: there(SectionId::DebugInfo, parts.info),
            line: here(SectionId::DebugLine),
            line_strings: here(SectionId::DebugLineStr),
            ranges: here(SectionId::DebugRanges),
            range_lists: there(SectionId::DebugRngLists, parts.range_lists),
            strings: there(SectionId::DebugStr, None),
            string_offsets: there(SectionId::DebugStrOffsets, parts.string_offsets),
            file,
            left: Rc::clone(&self.left),
        }
    }

    /// All of a section of another file, within the same limit.
    pub(super) fn of_another(&self, file: &ObjectFile, section: &FileSection) -> Result<Vec<u8>, FileError> {
        let section = Section::new(file, Some(section.name.clone()), None);
        Ok(section.bytes(0, section.size(&self.left)?, &self.left)?.into_owned())
    }

    /// `size` bytes of a section.
    ///
    /// # Errors
    /// There are not so many, they can't be read, or more has been read of this file than is allowed.
    pub(super) fn bytes<'s>(&self, of: &'s Section<'a>, offset: u64, size: u64) -> Result<Cow<'s, [u8]>, FileError> {
        of.bytes(offset, size, &self.left)
    }

    /// At most `size` bytes of a section: fewer at its end.
    pub(super) fn up_to<'s>(&self, of: &'s Section<'a>, offset: u64, size: u64) -> Result<Cow<'s, [u8]>, FileError> {
        let left = of.size(&self.left)?.checked_sub(offset).ok_or(BEYOND)?;
        of.bytes(offset, left.min(size), &self.left)
    }

    /// Has `look` see at least `size` bytes of a section, or those to its end. For small parts that lie near each other.
    pub(super) fn look<T>(
        &self,
        of: &Section<'a>,
        offset: u64,
        size: u64,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, FileError> {
        of.with_window(offset, size, &self.left, look)
    }

    /// The string at an offset of a section, without its end.
    pub(super) fn string(&self, of: &Section<'a>, offset: u64) -> Option<String> {
        let mut size = 256;
        loop {
            let whole = of.with_window(offset, size, &self.left, |bytes| {
                let end = bytes.iter().position(|byte| *byte == 0);
                let text = |end: usize| String::from_utf8_lossy(&bytes[..end]).into_owned();
                let last = (bytes.len() as u64) < size || size >= STRING;
                end.map(text).or_else(|| last.then(|| text(bytes.len())))
            });
            match whole.ok()? {
                Some(text) => return Some(text),
                None => size *= 8,
            }
        }
    }

    /// A little-endian number of `size` bytes, 4 or 8.
    pub(super) fn number(&self, of: &Section<'a>, offset: u64, size: u8) -> Option<u64> {
        let number = of.with_window(offset, size.into(), &self.left, |bytes| match size {
            4 => Some(u64::from(u32::from_le_bytes(*bytes.first_chunk()?))),
            _ => Some(u64::from_le_bytes(*bytes.first_chunk()?)),
        });
        number.ok()?
    }
}

const BEYOND: FileError = FileError::Malformed("debug information that refers beyond its end");

impl<'a> Section<'a> {
    fn new(file: &'a ObjectFile, name: Option<String>, part: Part) -> Section<'a> {
        let section = name.and_then(|name| file.section(&name)).filter(|section| section.size > 0);
        let part = part.unwrap_or((0, u64::MAX));
        Section { file, section, part, uncompressed: OnceCell::new(), window: RefCell::default() }
    }

    /// Bytes in the section, uncompressed, as far as they are looked at.
    fn size(&self, left: &Cell<u64>) -> Result<u64, FileError> {
        let whole = match self.section {
            Some(section) if section.compressed => self.uncompressed(left)?.len() as u64,
            Some(section) => section.size,
            None => 0,
        };
        Ok(whole.saturating_sub(self.part.0).min(self.part.1))
    }

    fn bytes(&self, offset: u64, size: u64, left: &Cell<u64>) -> Result<Cow<'_, [u8]>, FileError> {
        let end = offset.checked_add(size).filter(|end| self.size(left).is_ok_and(|size| *end <= size));
        let end = end.ok_or(BEYOND)?;
        // What is within the size is within the section.
        let (offset, end) = (offset + self.part.0, end + self.part.0);
        match self.section {
            Some(section) if section.compressed => {
                let range = offset as usize..end as usize;
                Ok(Cow::Borrowed(self.uncompressed(left)?.get(range).ok_or(BEYOND)?))
            }
            Some(section) => {
                let allowed = left.get();
                let at = section.offset.checked_add(offset).ok_or(BEYOND)?;
                let bytes = self.file.read(at, size, allowed)?;
                left.set(allowed - size);
                Ok(Cow::Owned(bytes))
            }
            None => Ok(Cow::Borrowed(&[])),
        }
    }

    /// Has `look` see at least `size` bytes at `offset`, or those to the section's end; what lies around them is read along.
    fn with_window<T>(
        &self,
        offset: u64,
        size: u64,
        left: &Cell<u64>,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, FileError> {
        let total = self.size(left)?;
        let end = offset.checked_add(size).ok_or(BEYOND)?.min(total);
        if offset >= total {
            return Err(BEYOND);
        }
        if let Some(bytes) = self.uncompressed.get() {
            let range = (offset + self.part.0) as usize..(total + self.part.0) as usize;
            return Ok(look(bytes.get(range).ok_or(BEYOND)?));
        }
        let mut window = self.window.borrow_mut();
        let (start, bytes) = &mut *window;
        if offset < *start || end > *start + bytes.len() as u64 {
            let from = offset & !(WINDOW - 1);
            let to = end.max(from.saturating_add(WINDOW)).min(total);
            *bytes = self.bytes(from, to - from, left)?.into_owned();
            *start = from;
        }
        let from = (offset - *start) as usize;
        Ok(look(bytes.get(from..).ok_or(BEYOND)?))
    }

    fn uncompressed(&self, left: &Cell<u64>) -> Result<&[u8], FileError> {
        if let Some(bytes) = self.uncompressed.get() {
            return Ok(bytes);
        }
        let section = self.section.ok_or(BEYOND)?;
        let compressed = self.file.read(section.offset, section.size, left.get())?;
        let bytes = decompress(&compressed, left.get())?;
        left.set(left.get().saturating_sub(bytes.len() as u64));
        Ok(self.uncompressed.get_or_init(|| bytes))
    }
}

fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, FileError> {
    let (algorithm, size) = compression_header(bytes).ok_or(FileError::Malformed("a compressed section"))?;
    if size > limit {
        return Err(FileError::TooLarge(size));
    }
    let format = match algorithm {
        object::elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
        object::elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
        _ => return Err(FileError::Malformed("a section compressed in an unknown way")),
    };
    let data = bytes.get(COMPRESSION_HEADER..).unwrap_or_default();
    let data = CompressedData { format, data, uncompressed_size: size };
    let bytes = data.decompress().map_err(|_| FileError::Malformed("a compressed section"))?;
    Ok(bytes.into_owned())
}
