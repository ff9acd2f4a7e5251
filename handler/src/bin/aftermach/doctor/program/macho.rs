//! A program's file: for which CPUs it has code, and what that says of the client and of its signature.
//!
//! Mach-O: <mach-o/loader.h>, <mach-o/fat.h>; a universal file has a slice a CPU. ELF: whether the client's note is in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use aftermach_protocol::record::{ELF_NOTE_NAME, MACHO_SECTION, MACHO_SEGMENT, MAGIC};
use object::Endianness;
use object::elf::{FileHeader64, PT_NOTE};
use object::macho::{LC_CODE_SIGNATURE, MachHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::macho::{FatArch, LoadCommandVariant, MachHeader, MachOFatFile32, MachOFatFile64, Section, Segment};

use super::signature::{self, CodeSignature};

/// Bytes that hold a fat header with the most slices that are read.
const FAT_HEADER: u64 = 4096;
/// Most slices: macOS has run on five kinds of CPU. A Java class, which starts with the same four bytes, claims 45 or more.
const MAX_SLICES: usize = 16;
/// Most bytes of load commands. The largest programs have some 30,000.
const MAX_COMMANDS: u64 = 1 << 20;
/// Most load commands, and sections in one of them.
const MAX_PARTS: usize = 10_000;
/// Bytes of read-only data of one section in which a text is looked for.
const MAX_TEXT: u64 = 16 << 20;
/// Bytes of notes that are read of an ELF program.
const MAX_NOTES: u64 = 64 << 10;

/// What was read of a program's file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Contents {
    /// A Mach-O file, with its slices; one, if it is not universal.
    MachO(Vec<Slice>),
    /// An ELF file, and whether the client is in it.
    Elf { client: bool },
    /// None of these, and why not.
    Other(String),
}

/// A program for one CPU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slice {
    /// "arm64", "arm64e", "x86_64" …
    pub(super) cpu: String,
    /// What is in it, or why it can't be read.
    pub(super) program: Result<Program, String>,
}

/// What is in a slice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Program {
    /// The version of the client's record, if the client is linked.
    pub(super) client: Option<u32>,
    /// Its signature; `None` if it has none.
    pub(super) signature: Option<Result<CodeSignature, String>>,
    /// Whether the text that was looked for is in it.
    pub(super) has_text: bool,
    /// A load command can't be read: what it and those after it say is not known.
    pub(super) is_damaged: bool,
}

/// Reads the file at `path`, and looks for `text` in its read-only data.
///
/// # Errors
/// It can't be opened.
pub(super) fn read(path: &Path, text: Option<&str>) -> Result<Contents, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    // Without O_NONBLOCK, a pipe in the file's place would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let whole = Window { file: &file, start: 0, length: metadata.len() };
    let head = whole.read(0, metadata.len().min(FAT_HEADER), FAT_HEADER)?;
    let slices = match head.first_chunk() {
        Some([0xca, 0xfe, 0xba, 0xbe]) => {
            parts(MachOFatFile32::parse(head.as_slice()).ok().map(|fat| ranges(fat.arches())))
        }
        Some([0xca, 0xfe, 0xba, 0xbf]) => {
            parts(MachOFatFile64::parse(head.as_slice()).ok().map(|fat| ranges(fat.arches())))
        }
        Some([0xcf, 0xfa, 0xed, 0xfe]) => Ok(vec![(cpu_of(&head), 0, metadata.len())]),
        Some([0xce, 0xfa, 0xed, 0xfe] | [0xfe, 0xed, 0xfa, 0xce | 0xcf]) => {
            Err("a program for a CPU of 32 bits or of old".to_owned())
        }
        Some([0x7f, b'E', b'L', b'F']) => return Ok(Contents::Elf { client: elf_has_client(&whole)? }),
        Some([b'#', b'!', ..]) => Err("a script: name its interpreter, which is the program that runs".to_owned()),
        _ => Err("no program: neither Mach-O nor ELF".to_owned()),
    };
    Ok(match slices {
        Err(why) => Contents::Other(why),
        Ok(slices) => Contents::MachO(
            slices.into_iter().map(|(cpu, start, length)| whole.slice(cpu, start, length, text)).collect(),
        ),
    })
}

/// CPU, offset and size of each slice.
type Range = (String, u64, u64);

fn ranges<Fat: FatArch>(arches: &[Fat]) -> Vec<Range> {
    let range = |arch: &Fat| {
        let (offset, size) = arch.file_range();
        (cpu_name(arch.cputype(), arch.cpusubtype()), offset, size)
    };
    arches.iter().take(MAX_SLICES + 1).map(range).collect()
}

fn parts(ranges: Option<Vec<Range>>) -> Result<Vec<Range>, String> {
    match ranges {
        Some(ranges) if (1..=MAX_SLICES).contains(&ranges.len()) => Ok(ranges),
        _ => Err("no universal program, though it starts like one".to_owned()),
    }
}

fn cpu_of(head: &[u8]) -> String {
    let number = |at: usize| head.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u32::from_le_bytes);
    cpu_name(number(4), number(8))
}

/// <mach/machine.h>: the upper byte of the subtype has capabilities.
fn cpu_name(kind: u32, subtype: u32) -> String {
    match (kind, subtype & 0x00ff_ffff) {
        (object::macho::CPU_TYPE_X86_64, _) => "x86_64".to_owned(),
        (object::macho::CPU_TYPE_ARM64, 2) => "arm64e".to_owned(),
        (object::macho::CPU_TYPE_ARM64, _) => "arm64".to_owned(),
        (other, _) => format!("CPU {other:#x}"),
    }
}

/// A part of a file.
struct Window<'f> {
    file: &'f File,
    start: u64,
    length: u64,
}

impl Window<'_> {
    /// `size` bytes at `offset`, which must lie within.
    fn read(&self, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>, String> {
        if size > limit {
            return Err(format!("a part of it has {size} bytes, and {limit} are read at most"));
        }
        if offset.checked_add(size).is_none_or(|end| end > self.length) {
            return Err("a part of it lies outside".to_owned());
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, self.start + offset).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn slice(&self, cpu: String, start: u64, length: u64, text: Option<&str>) -> Slice {
        let program = match start.checked_add(length) {
            Some(end) if end <= self.length => Window { file: self.file, start, length }.program(text),
            _ => Err("it lies outside of the file".to_owned()),
        };
        Slice { cpu, program }
    }

    fn program(&self, text: Option<&str>) -> Result<Program, String> {
        const HEADER: u64 = size_of::<MachHeader64<Endianness>>() as u64;
        let endian = Endianness::Little;
        let head = self.read(0, HEADER, HEADER)?;
        if !head.starts_with(&[0xcf, 0xfa, 0xed, 0xfe]) {
            return Err("it is no little-endian program of 64 bits".to_owned());
        }
        let header = MachHeader64::<Endianness>::parse(head.as_slice(), 0).map_err(|error| error.to_string())?;
        let bytes = self.read(0, HEADER + u64::from(header.sizeofcmds(endian)), MAX_COMMANDS)?;
        let header = MachHeader64::<Endianness>::parse(bytes.as_slice(), 0).map_err(|error| error.to_string())?;
        let mut commands = header.load_commands(endian, bytes.as_slice(), 0).map_err(|error| error.to_string())?;
        let mut program = Program { client: None, signature: None, has_text: false, is_damaged: false };
        for _ in 0..MAX_PARTS {
            let command = match commands.next() {
                Ok(Some(command)) => command,
                Ok(None) => break,
                // One bad load command ends the list but never costs what came before it.
                Err(_) => {
                    program.is_damaged = true;
                    break;
                }
            };
            match command.variant() {
                Ok(LoadCommandVariant::Segment64(segment, data)) => {
                    for section in segment.sections(endian, data).unwrap_or_default().iter().take(MAX_PARTS) {
                        let range = (u64::from(section.offset(endian)), section.size(endian));
                        self.section(section.segment_name(), section.name(), range, text, &mut program);
                    }
                }
                Ok(LoadCommandVariant::LinkeditData(data)) if data.cmd.get(endian) == LC_CODE_SIGNATURE => {
                    let (offset, size) = (data.dataoff.get(endian).into(), data.datasize.get(endian).into());
                    let bytes = self.read(offset, size, signature::MAX_BYTES);
                    program.signature = Some(bytes.and_then(|bytes| signature::parse(&bytes)));
                }
                _ => {}
            }
        }
        Ok(program)
    }

    fn section(
        &self,
        segment: &[u8],
        name: &[u8],
        (offset, size): (u64, u64),
        text: Option<&str>,
        program: &mut Program,
    ) {
        if segment == MACHO_SEGMENT.as_bytes() && name == MACHO_SECTION.as_bytes() {
            let start = self.read(offset, 12, 12).unwrap_or_default();
            if start.starts_with(&MAGIC) {
                program.client = start.get(8..).and_then(|rest| rest.first_chunk().copied()).map(u32::from_le_bytes);
            }
        } else if let (Some(text), b"__TEXT", b"__cstring" | b"__const") = (text, segment, name)
            && !program.has_text
        {
            let bytes = self.read(offset, size.min(MAX_TEXT), MAX_TEXT).unwrap_or_default();
            program.has_text = !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes());
        }
    }
}

/// Whether the client's note is in a loaded segment of notes.
fn elf_has_client(window: &Window<'_>) -> Result<bool, String> {
    const HEADER: u64 = size_of::<FileHeader64<Endianness>>() as u64;
    let endian = Endianness::Little;
    let head = window.read(0, HEADER, HEADER)?;
    let header = FileHeader64::<Endianness>::parse(head.as_slice()).map_err(|error| error.to_string())?;
    let table = u64::from(header.e_phentsize(endian)) * u64::from(header.e_phnum(endian));
    // The table is mostly right behind the header; where it is not, the bytes between are read as well.
    let offset: u64 = header.e_phoff(endian);
    let end = offset.checked_add(table).ok_or("its headers lie outside")?;
    let bytes = window.read(0, end, MAX_COMMANDS)?;
    let header = FileHeader64::<Endianness>::parse(bytes.as_slice()).map_err(|error| error.to_string())?;
    let segments = header.program_headers(endian, bytes.as_slice()).map_err(|error| error.to_string())?;
    let notes = segments.iter().filter(|segment| segment.p_type(endian) == PT_NOTE);
    Ok(notes.take(MAX_PARTS).any(|segment| {
        let bytes = window.read(segment.p_offset(endian), segment.p_filesz(endian), MAX_NOTES).unwrap_or_default();
        // The name stands 12 bytes into a note, the header at its start 24 (protocol::record).
        let is_note = |window: &[u8]| window.starts_with(ELF_NOTE_NAME) && window.get(12..20) == Some(MAGIC.as_slice());
        bytes.windows(20).any(is_note)
    }))
}
