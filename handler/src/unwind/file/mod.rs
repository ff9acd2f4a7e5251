//! Image files on disk: opened once, checked, and read in parts. Those of the system's libraries on macOS lie in the shared
//! cache instead, which this process has mapped itself.
//!
//! Files are read, never mapped: a mapped file that somebody truncates kills the reader (SIGBUS), and an updater may do that
//! to any program while its crash is being worked on.

mod bytes;
#[cfg(test)]
mod cached_tests;
mod elf;
mod macho;
mod symbols;

pub(crate) use elf::{COMPRESSION_HEADER, compression_header};
pub(crate) use symbols::FileSymbol;

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

use aftermach_protocol::platform::Cpu;
use object::read::ReadCache;

use self::bytes::Bytes;
use crate::snapshot::{ImageId, OwnSharedCache};

/// Section headers, program headers or load commands that are read of one file; more is not a real image.
const HEADERS: usize = 65_536;
/// Bytes of Mach-O function starts.
const FUNCTION_STARTS: u64 = 8 << 20;
/// Bytes of one section's or segment's name.
const NAME: usize = 256;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be opened or read.
    #[error("can't read it: {0}")]
    Io(#[from] io::Error),
    /// A directory, device, pipe or socket.
    #[error("not a regular file")]
    NotRegular,
    /// Neither ELF nor Mach-O.
    #[error("neither ELF nor Mach-O")]
    UnknownFormat,
    /// 32-bit, big-endian, or for another CPU.
    #[error("for another machine: {0}")]
    OtherMachine(&'static str),
    /// A header that contradicts itself or the file's length.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// More bytes than the limit allows.
    #[error("{0} bytes, more than the limit")]
    TooLarge(u64),
    /// It has another build id or UUID than the image that was loaded.
    #[error("its build id or UUID is not the loaded image's")]
    OtherId,
    /// What was split off its debug information is of no use.
    #[error("{path}, split off: {problem}")]
    Split {
        /// The name that the image has for the file.
        path: String,
        /// What is the matter with that file.
        problem: Box<FileError>,
    },
}

/// What kind of object file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ELF, 64-bit little-endian.
    Elf,
    /// Mach-O, 64-bit little-endian.
    MachO,
}

/// A part of the file that is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Mach-O: "__TEXT"; ELF segments have no name.
    pub name: String,
    /// Address in the file's own terms.
    pub address: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file; the rest is zero.
    pub file_size: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSection {
    /// ".text", or segment and section of Mach-O: "__TEXT,__text".
    pub name: String,
    /// Address in the file's own terms; 0 if it is not loaded.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file; 0 for .bss and the like.
    pub size: u64,
    /// ELF: `sh_link`.
    pub link: u32,
    /// ELF: `SHF_COMPRESSED`.
    pub compressed: bool,
}

/// Mach-O tables that are no sections, as (offset, size) in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachOTables {
    /// `LC_FUNCTION_STARTS`.
    pub function_starts: (u64, u64),
    /// `LC_SYMTAB`: symbols (offset, number) and strings (offset, size).
    pub symbols: (u64, u64),
    /// Strings of the symbols.
    pub strings: (u64, u64),
}

/// What tells a file from others, and from itself before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of its inode, which a program can't set.
    changed: (i64, i64),
    id: ImageId,
}

impl Identity {
    fn of(metadata: &Metadata, id: ImageId) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            id,
        }
    }

    /// Whether the file at `path` is this one, unchanged.
    pub(crate) fn is_still(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|metadata| *self == Identity::of(&metadata, self.id.clone()))
    }
}

/// An open object file.
#[derive(Debug)]
pub struct ObjectFile {
    bytes: Bytes,
    format: Format,
    id: ImageId,
    segments: Vec<Segment>,
    sections: Vec<FileSection>,
    macho: MachOTables,
    entry: Option<u64>,
    function_starts: OnceLock<Vec<u64>>,
}

/// What the parser of a format finds.
struct Parsed {
    start: u64,
    length: u64,
    format: Format,
    id: ImageId,
    segments: Vec<Segment>,
    sections: Vec<FileSection>,
    macho: MachOTables,
    entry: Option<u64>,
}

impl ObjectFile {
    /// Opens `path` and reads its headers.
    ///
    /// # Errors
    /// Whatever is no regular file, no 64-bit object file for `cpu`, or lies about its own size.
    pub fn open(path: &Path, cpu: Cpu) -> Result<ObjectFile, FileError> {
        // O_NONBLOCK: a path that has become a pipe must not hold us.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(FileError::NotRegular);
        }
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).map_err(|_| FileError::UnknownFormat)?;
        let cache = ReadCache::new(file);
        let parsed = match u32::from_be_bytes(magic) {
            0x7f45_4c46 => elf::parse(&cache, cpu)?,
            0xfeed_face | 0xfeed_facf | 0xcefa_edfe | 0xcffa_edfe | 0xcafe_babe | 0xcafe_babf => {
                macho::parse(&cache, cpu)?
            }
            _ => return Err(FileError::UnknownFormat),
        };
        let (start, length) = (parsed.start, parsed.length);
        Ok(ObjectFile::of(Bytes::File { file: cache.into_inner(), start, length }, parsed))
    }

    /// The image whose header is at `base` of this process, in its shared cache.
    ///
    /// # Errors
    /// There is no Mach-O header for `cpu`, or it lies about itself.
    pub(crate) fn in_shared_cache(cache: &OwnSharedCache, base: u64, cpu: Cpu) -> Result<ObjectFile, FileError> {
        let (parsed, bytes) = macho::parse_cached(cache, base, cpu)?;
        Ok(ObjectFile::of(bytes, parsed))
    }

    fn of(bytes: Bytes, parsed: Parsed) -> ObjectFile {
        let Parsed { format, id, segments, sections, macho, entry, .. } = parsed;
        ObjectFile { bytes, format, id, segments, sections, macho, entry, function_starts: OnceLock::new() }
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What tells the file, as it is now, from any other and from itself once it is written to; `None` for what is no file.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(Identity::of(&self.bytes.file()?.metadata().ok()?, self.id.clone()))
    }

    /// Its build id or UUID.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// Where the image is started, in the file's own terms; ELF only. (What Mach-O calls an entry point is `main`, which has
    /// callers.)
    pub fn entry(&self) -> Option<u64> {
        self.entry
    }

    /// The segments that are mapped.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// All sections, by index.
    pub fn sections(&self) -> &[FileSection] {
        &self.sections
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&FileSection> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Mach-O tables that are no sections.
    pub fn macho_tables(&self) -> MachOTables {
        self.macho
    }

    /// `size` bytes at `offset` of the object.
    ///
    /// # Errors
    /// More than `limit` bytes, beyond the end, or not readable any more.
    pub fn read(&self, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>, FileError> {
        if !self.bytes.holds(offset, size) {
            return Err(FileError::Malformed("a part beyond the end of the file"));
        }
        if size > limit {
            return Err(FileError::TooLarge(size));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| FileError::TooLarge(size))?];
        self.bytes.read_exact(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Where every function starts, sorted, by the list that linkers leave in Mach-O files; empty without one. The last
    /// address is where the text ends.
    pub(crate) fn function_starts(&self) -> &[u64] {
        self.function_starts.get_or_init(|| {
            let Some(text) = self.segments.iter().find(|segment| segment.name == "__TEXT") else { return Vec::new() };
            let (offset, size) = self.macho.function_starts;
            let Ok(data) = self.read(offset, size, FUNCTION_STARTS) else { return Vec::new() };
            let mut starts = macho::function_starts(&data, text.address);
            let end = self.section("__TEXT,__text").map(|section| section.address.saturating_add(section.size));
            starts.extend(end.filter(|end| starts.last().is_some_and(|last| last < end)));
            starts
        })
    }

    /// Reads what is mapped at `address` (in the file's own terms) and returns how many bytes that were. Zero-filled memory
    /// counts as not there.
    pub fn read_address(&self, address: u64, buffer: &mut [u8]) -> usize {
        let inside = |segment: &&Segment| {
            address >= segment.address && address - segment.address < segment.file_size.min(segment.size)
        };
        let Some(segment) = self.segments.iter().find(inside) else { return 0 };
        let skipped = address - segment.address;
        let left = segment.file_size.min(segment.size) - skipped;
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(at) = segment.offset.checked_add(skipped) else { return 0 };
        self.bytes.read(at, &mut buffer[..length])
    }
}

/// A name of at most [`NAME`] bytes.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(NAME)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_file_is_refused_with_its_reason() {
        let open = |path: &str| ObjectFile::open(Path::new(path), Cpu::X86_64).err();
        assert!(matches!(open("/nonexistent"), Some(FileError::Io(_))));
        assert!(matches!(open("/dev/null"), Some(FileError::NotRegular)));
        assert!(matches!(open("/tmp"), Some(FileError::NotRegular)));
        assert!(matches!(open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), Some(FileError::UnknownFormat)));
    }

    #[test]
    fn a_file_for_another_machine_is_refused() {
        let directory = std::env::temp_dir().join(format!("aftermach-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("image");
        // e_ident of a 32-bit ELF; of a 64-bit one for another machine (EM_MIPS = 8); a 32-bit Mach-O header.
        let mut elf = vec![0u8; 128];
        elf[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, 1, 1]);
        std::fs::write(&path, &elf).unwrap();
        assert!(matches!(ObjectFile::open(&path, Cpu::X86_64), Err(FileError::OtherMachine(_))));
        elf[4] = 2;
        elf[18] = 8;
        std::fs::write(&path, &elf).unwrap();
        assert!(matches!(ObjectFile::open(&path, Cpu::X86_64), Err(FileError::OtherMachine(_))));
        std::fs::write(&path, [0xce, 0xfa, 0xed, 0xfe, 0, 0, 0, 0]).unwrap();
        assert!(matches!(ObjectFile::open(&path, Cpu::X86_64), Err(FileError::OtherMachine(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
