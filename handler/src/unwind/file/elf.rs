//! Headers of ELF files (System V gABI, chapters 4 and 5).

use std::fs::File;

use aftermach_protocol::platform::Cpu;
use object::LittleEndian;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader64, NT_GNU_BUILD_ID, PF_X, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, SHF_COMPRESSED,
    SHT_NOBITS,
};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};

use super::{FileError, FileSection, Format, HEADERS, MachOTables, Parsed, Segment, name};
use crate::snapshot::ImageId;

/// A build id is 20 bytes (SHA-1) as a rule; the snapshot keeps at most this many as well.
const BUILD_ID: usize = 64;
/// Bytes of one segment or section of notes; real ones have some hundred.
const NOTES: u64 = 1 << 20;

/// Reads the headers.
pub(super) fn parse(data: &ReadCache<File>, cpu: Cpu) -> Result<Parsed, FileError> {
    let length = data.len().map_err(|()| FileError::Malformed("no length"))?;
    let ident = data.read_bytes_at(0, 20).map_err(|()| FileError::Malformed("too short for a header"))?;
    if ident[4] != object::elf::ELFCLASS64 || ident[5] != object::elf::ELFDATA2LSB {
        return Err(FileError::OtherMachine("not 64-bit little-endian"));
    }
    let machine = u16::from_le_bytes([ident[18], ident[19]]);
    if machine
        != (match cpu {
            Cpu::X86_64 => EM_X86_64,
            Cpu::Arm64 => EM_AARCH64,
        })
    {
        return Err(FileError::OtherMachine("another CPU"));
    }
    let header = FileHeader64::<LittleEndian>::parse(data).map_err(|_| FileError::Malformed("file header"))?;
    let endian = LittleEndian;
    let program_headers = header.program_headers(endian, data).map_err(|_| FileError::Malformed("program headers"))?;

    let mut segments = Vec::new();
    let mut id = ImageId::None;
    let mut search_table = None;
    for header in program_headers.iter().take(HEADERS) {
        match header.p_type(endian) {
            PT_LOAD => segments.push(Segment {
                name: String::new(),
                address: header.p_vaddr(endian),
                size: header.p_memsz(endian),
                offset: header.p_offset(endian),
                file_size: header.p_filesz(endian),
                executable: header.p_flags(endian) & PF_X != 0,
            }),
            PT_GNU_EH_FRAME => {
                search_table = Some(FileSection {
                    name: ".eh_frame_hdr".into(),
                    address: header.p_vaddr(endian),
                    offset: header.p_offset(endian),
                    size: header.p_filesz(endian),
                    link: 0,
                    compressed: false,
                });
            }
            PT_NOTE if id == ImageId::None && header.p_filesz(endian) <= NOTES => {
                if let Ok(Some(notes)) = header.notes(endian, data) {
                    id = build_id(notes).unwrap_or(ImageId::None);
                }
            }
            _ => {}
        }
    }

    // A file stripped of its section headers is none the worse for mapping.
    let mut sections = Vec::new();
    if let Ok(table) = header.sections(endian, data) {
        for header in table.iter().take(HEADERS) {
            let no_bits = header.sh_type(endian) == SHT_NOBITS;
            sections.push(FileSection {
                name: table.section_name(endian, header).map(name).unwrap_or_default(),
                address: header.sh_addr(endian),
                offset: header.sh_offset(endian),
                size: if no_bits { 0 } else { header.sh_size(endian) },
                link: header.sh_link(endian),
                compressed: header.sh_flags(endian) & u64::from(SHF_COMPRESSED) != 0,
            });
            // Detached debug files have their notes in sections only.
            let is_note = header.sh_type(endian) == object::elf::SHT_NOTE && header.sh_size(endian) <= NOTES;
            if id == ImageId::None
                && is_note
                && let Ok(Some(notes)) = header.notes(endian, data)
            {
                id = build_id(notes).unwrap_or(ImageId::None);
            }
        }
    }
    if !sections.iter().any(|section| section.name == ".eh_frame_hdr") {
        sections.extend(search_table);
    }
    let entry = Some(header.e_entry(endian)).filter(|entry| *entry != 0);
    Ok(Parsed { start: 0, length, format: Format::Elf, id, segments, sections, macho: MachOTables::default(), entry })
}

fn build_id(mut notes: NoteIterator<'_, FileHeader64<LittleEndian>>) -> Option<ImageId> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(LittleEndian) == NT_GNU_BUILD_ID {
            let id = note.desc();
            return Some(ImageId::BuildId(id[..id.len().min(BUILD_ID)].to_vec()));
        }
    }
    None
}

/// The algorithm and the uncompressed size that an `Elf64_Chdr` names.
pub(crate) fn compression_header(bytes: &[u8]) -> Option<(u32, u64)> {
    let algorithm = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let size = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    Some((algorithm, size))
}

/// Bytes in an `Elf64_Chdr`.
pub(crate) const COMPRESSION_HEADER: usize = 24;
