//! Source lines and inlined functions from DWARF, through addr2line.

use std::borrow::Cow;
use std::time::Instant;

use addr2line::gimli::{self, EndianSlice, LittleEndian, SectionId};
use object::read::{CompressedData, CompressionFormat};

use crate::unwind::file::{COMPRESSION_HEADER, FileError, Format, ObjectFile, compression_header};

/// One function at an address, as DWARF has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Name as it is in DWARF: the linker's name, mangled, if there is one.
    pub(super) name: Option<String>,
    /// Source file and line.
    pub(super) source: Option<(String, u32)>,
}

/// The sections that addr2line reads.
const SECTIONS: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// Inlined functions at one address at most.
const INLINED: usize = 64;

/// Whether the file has debug information.
pub(super) fn has_debug_information(file: &ObjectFile) -> bool {
    size(file) > 0
}

fn size(file: &ObjectFile) -> u64 {
    section_name(file, SectionId::DebugInfo).and_then(|name| file.section(&name)).map_or(0, |section| section.size)
}

/// The places of each address (in the file's own terms), the innermost first; none where DWARF says nothing.
///
/// # Errors
/// Debug information that is larger than `limit` bytes, can't be read or can't be parsed.
pub(super) fn places(
    file: &ObjectFile,
    addresses: &[u64],
    limit: u64,
    deadline: Instant,
) -> Result<Vec<Vec<Place>>, FileError> {
    let mut left = limit;
    let mut sections: Vec<(SectionId, Cow<'_, [u8]>)> = Vec::new();
    for id in SECTIONS {
        let bytes = load(file, id, left)?;
        left -= bytes.len() as u64;
        sections.push((id, Cow::Owned(bytes)));
    }
    let find = |id: SectionId| -> Result<EndianSlice<'_, LittleEndian>, gimli::Error> {
        let bytes = sections.iter().find(|(other, _)| *other == id).map_or(&[][..], |(_, bytes)| bytes);
        Ok(EndianSlice::new(bytes, LittleEndian))
    };
    let malformed = |_| FileError::Malformed("debug information");
    let dwarf = gimli::Dwarf::load(find).map_err(malformed)?;
    let context = addr2line::Context::from_dwarf(dwarf).map_err(malformed)?;
    Ok(addresses.iter().map(|address| places_at(&context, *address, deadline)).collect())
}

fn places_at(
    context: &addr2line::Context<EndianSlice<'_, LittleEndian>>,
    address: u64,
    deadline: Instant,
) -> Vec<Place> {
    let mut places = Vec::new();
    if Instant::now() >= deadline {
        return places;
    }
    // Split DWARF (.dwo) is not followed: what the main file says is what there is.
    let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return places };
    while let (Ok(Some(frame)), true) = (frames.next(), places.len() < INLINED) {
        let name = frame.function.and_then(|function| Some(function.raw_name().ok()?.into_owned()));
        let source = frame.location.and_then(|location| Some((location.file?.to_owned(), location.line?)));
        places.push(Place { name, source });
    }
    places
}

fn section_name(file: &ObjectFile, id: SectionId) -> Option<String> {
    match file.format() {
        Format::Elf => Some(id.name().to_owned()),
        // Section names have 16 bytes in Mach-O: "__debug_str_offs".
        Format::MachO => {
            let name = id.name().strip_prefix('.')?;
            Some(format!("__DWARF,__{}", &name[..name.len().min(14)]))
        }
    }
}

/// A section's bytes, uncompressed; none if there is no such section.
fn load(file: &ObjectFile, id: SectionId, limit: u64) -> Result<Vec<u8>, FileError> {
    let section = section_name(file, id).and_then(|name| file.section(&name));
    let Some(section) = section.filter(|section| section.size > 0) else { return Ok(Vec::new()) };
    let bytes = file.read(section.offset, section.size, limit)?;
    if !section.compressed {
        return Ok(bytes);
    }
    let (algorithm, size) = compression_header(&bytes).ok_or(FileError::Malformed("a compressed section"))?;
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
