//! What unwinding needs of an image: its tables, its text, where its functions start. From the copied memory, or from a file
//! that is the image that was loaded: the same file, or one with the same build id or UUID.

use std::sync::{Mutex, OnceLock};

use aftermach_protocol::platform::Cpu;

use super::cfi::{Bases, Cfi};
use super::code::CodeMap;
use super::file::{FileError, FileSection, Format, ObjectFile};
use crate::snapshot::{Gap, Image, ImageFile, ImageId, ImageKind, OwnSharedCache, SharedCache, Snapshot};

/// Bytes of one unwind section. Chromium's `.eh_frame` has about 30 MB.
const SECTION: u64 = 128 << 20;

/// The sections of every image of one snapshot. An image costs nothing until a frame lies in it.
#[derive(Debug)]
pub struct Sections {
    images: Vec<OnceLock<ImageSections>>,
    pub(crate) code: CodeMap,
    cache: Option<OwnSharedCache>,
    gaps: Mutex<Vec<Gap>>,
}

/// One image's sections. Addresses are the file's own: less `bias` than in memory.
#[derive(Debug)]
pub(crate) struct ImageSections {
    /// Address in memory less the file's own.
    pub(crate) bias: u64,
    /// Its unwind tables.
    pub(crate) tables: Tables,
    /// The file, if there is one that is the image.
    file: Option<ObjectFile>,
    /// Mach-O stubs, each a jump through a pointer to a function of another image. No table describes them.
    pub(crate) stubs: Option<(u64, u64)>,
    /// Mach-O stub helpers, which have the loader find the function. No table describes them either.
    pub(crate) stub_helpers: Option<(u64, u64)>,
    /// Darwin's signal trampoline, looked up when first asked for.
    trampoline: OnceLock<Option<(u64, u64)>>,
}

/// What describes an image's frames.
#[derive(Debug)]
pub(crate) enum Tables {
    /// DWARF call frame information; the second one is asked where the first says nothing.
    Dwarf(Box<Cfi>, Option<Box<Cfi>>),
    /// Mach-O compact unwind information, and the `__eh_frame` that it refers to.
    Compact {
        /// `__unwind_info`.
        unwind_info: Vec<u8>,
        /// Address of the image's first byte, which the table counts from.
        base: u64,
        /// `__eh_frame`.
        eh_frame: Option<Box<Cfi>>,
    },
    /// Nothing does.
    None,
}

impl Sections {
    /// The sections of `snapshot`'s images; nothing is read yet.
    pub fn new(snapshot: &Snapshot) -> Sections {
        Sections::with_shared_cache(snapshot, None)
    }

    /// The same, with the shared cache that this process has mapped.
    pub fn with_shared_cache(snapshot: &Snapshot, cache: Option<OwnSharedCache>) -> Sections {
        Sections {
            images: snapshot.images.iter().map(|_| OnceLock::new()).collect(),
            code: CodeMap::new(snapshot),
            cache,
            gaps: Mutex::default(),
        }
    }

    /// What could not be read so far.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.lock().map(|gaps| gaps.clone()).unwrap_or_default()
    }

    /// The file of an image, if there is one that is the image that was loaded.
    pub(crate) fn file(&self, snapshot: &Snapshot, image: usize) -> Option<&ObjectFile> {
        self.image(snapshot, image)?.file.as_ref()
    }

    /// An image's sections, read when first asked for.
    pub(crate) fn image(&self, snapshot: &Snapshot, index: usize) -> Option<&ImageSections> {
        let image = snapshot.images.get(index)?;
        Some(self.images.get(index)?.get_or_init(|| {
            let mut problems = Vec::new();
            let sections = load(snapshot, image, self.cache.as_ref(), &mut problems);
            if let (false, Ok(mut gaps)) = (problems.is_empty(), self.gaps.lock()) {
                let path = image.path.display();
                gaps.extend(problems.into_iter().map(|what| Gap::new("unwinding", format!("{path}: {what}"))));
            }
            sections
        }))
    }

    /// Reads code at `address`: from the copied memory, else from the image's file. Returns how many bytes there were.
    pub(crate) fn text(&self, snapshot: &Snapshot, address: u64, buffer: &mut [u8]) -> usize {
        if let Some(bytes) = snapshot.memory.slice(address, buffer.len()) {
            buffer.copy_from_slice(bytes);
            return buffer.len();
        }
        let Some(image) = self.code.image(address).and_then(|index| self.image(snapshot, index)) else { return 0 };
        image.file.as_ref().map_or(0, |file| file.read_address(address.wrapping_sub(image.bias), buffer))
    }
}

impl ImageSections {
    /// The function that `address` (in the file's own terms) lies in: its first address and the one after its last.
    pub(crate) fn function(&self, address: u64) -> Option<(u64, u64)> {
        self.file.as_ref()?.function_at(address)
    }

    /// Whether `address` lies in `_sigtramp`, by the image's symbols.
    pub(crate) fn is_sigtramp(&self, address: u64) -> bool {
        let range = self.trampoline.get_or_init(|| {
            let file = self.file.as_ref()?;
            file.function_at(file.code_symbol_named("__sigtramp")?)
        });
        range.is_some_and(|(start, end)| (start..end).contains(&address))
    }

    /// Whether `address` lies in the function that the image is started at. Where no symbol says how long that is, it is taken
    /// to be as long as `_start` is in C libraries.
    pub(crate) fn is_entry(&self, address: u64) -> bool {
        const START: u64 = 64;
        let Some(entry) = self.file.as_ref().and_then(ObjectFile::entry) else { return false };
        match self.function(address) {
            Some((start, _)) => start == entry,
            None => address >= entry && address - entry < START,
        }
    }
}

fn load(
    snapshot: &Snapshot,
    image: &Image,
    cache: Option<&OwnSharedCache>,
    problems: &mut Vec<String>,
) -> ImageSections {
    let file = match (image.file, cache, &snapshot.shared_cache) {
        (ImageFile::SharedCache, Some(ours), Some(theirs)) => cached(image, ours, theirs, snapshot.cpu, problems),
        _ => open(image, snapshot.cpu, problems),
    };
    let source = Source { snapshot, image, file: file.as_ref() };
    let tables = match file.as_ref().map(ObjectFile::format) {
        Some(Format::MachO) => source.macho(problems),
        Some(Format::Elf) => source.elf(problems),
        None if image.sections.iter().any(|section| section.name.starts_with("__")) => source.macho(problems),
        None => source.elf(problems),
    };
    let (stubs, stub_helpers) = (source.range("__TEXT,__stubs"), source.range("__TEXT,__stub_helper"));
    ImageSections { bias: image.bias, tables, file, stubs, stub_helpers, trampoline: OnceLock::new() }
}

/// The image in our own shared cache, if it is the victim's.
fn cached(
    image: &Image,
    ours: &OwnSharedCache,
    theirs: &SharedCache,
    cpu: Cpu,
    problems: &mut Vec<String>,
) -> Option<ObjectFile> {
    let base = ours.translate(theirs, image.base)?;
    usable(ObjectFile::in_shared_cache(ours, base, cpu), &image.id, problems)
}

/// The image's file, if it is certain to be what was loaded.
fn open(image: &Image, cpu: Cpu, problems: &mut Vec<String>) -> Option<ObjectFile> {
    let known = image.id != ImageId::None;
    if image.kind == ImageKind::Vdso || !known && image.file != ImageFile::Same {
        return None;
    }
    // The file of another version, or none, is no surprise where the path is known to mean nothing.
    let mut expected = Vec::new();
    let problems = if image.file == ImageFile::Same { problems } else { &mut expected };
    usable(ObjectFile::open(&image.path, cpu), &image.id, problems)
}

/// The file, if it has the image's id; any, if that is not known.
fn usable(file: Result<ObjectFile, FileError>, id: &ImageId, problems: &mut Vec<String>) -> Option<ObjectFile> {
    let right = |file: &ObjectFile| *id == ImageId::None || file.id() == id;
    let file = file.and_then(|file| if right(&file) { Ok(file) } else { Err(FileError::OtherId) });
    file.map_err(|error| problems.push(error.to_string())).ok()
}

/// Where one image's sections come from.
struct Source<'a> {
    snapshot: &'a Snapshot,
    image: &'a Image,
    file: Option<&'a ObjectFile>,
}

impl Source<'_> {
    fn in_file(&self, name: &str) -> Option<(&ObjectFile, &FileSection)> {
        let file = self.file?;
        Some((file, file.section(name).filter(|section| section.size > 0 && !section.compressed)?))
    }

    /// First address of a section and the one after it, in the file's own terms.
    fn range(&self, name: &str) -> Option<(u64, u64)> {
        let (address, size) = match self.in_file(name) {
            Some((_, section)) => (section.address, section.size),
            None => {
                let section = self.image.sections.iter().find(|section| section.name == name)?;
                (section.address, section.size)
            }
        };
        Some((address, address.checked_add(size)?))
    }

    /// Bytes and address of a section: from the file, else from the copied memory.
    fn section(&self, name: &str, problems: &mut Vec<String>) -> Option<(Vec<u8>, u64)> {
        if let Some((file, section)) = self.in_file(name) {
            match file.read(section.offset, section.size, SECTION) {
                Ok(bytes) => return Some((bytes, section.address)),
                Err(error) => problems.push(format!("{name}: {error}")),
            }
        }
        let section = self.image.sections.iter().find(|section| section.name == name)?;
        Some((self.copied(section.address, Some(section.size))?, section.address))
    }

    /// Copied memory at an address in the file's own terms, to the end of its block or `size` bytes.
    fn copied(&self, address: u64, size: Option<u64>) -> Option<Vec<u8>> {
        let bytes = self.snapshot.memory.slice_from(address.wrapping_add(self.image.bias))?;
        let size = size.map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
        Some(bytes[..bytes.len().min(size).min(SECTION as usize)].to_vec())
    }

    /// Mapped bytes at `address` of an image without section headers, to the end of its segment.
    fn mapped(&self, address: u64, problems: &mut Vec<String>) -> Option<Vec<u8>> {
        let Some(file) = self.file else { return self.copied(address, None) };
        let inside = |address: u64, start: u64, size: u64| address >= start && address - start < size;
        let segment = file.segments().iter().find(|s| inside(address, s.address, s.file_size))?;
        let skipped = address - segment.address;
        match file.read(segment.offset.checked_add(skipped)?, segment.file_size - skipped, SECTION) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        }
    }

    fn elf(&self, problems: &mut Vec<String>) -> Tables {
        let cpu = self.snapshot.cpu;
        let start = |name: &str| self.range(name).map_or(0, |(start, _)| start);
        let header = self.section(".eh_frame_hdr", problems);
        let eh_frame = self.section(".eh_frame", problems).or_else(|| {
            let address = eh_frame_pointer(header.as_ref()?)?;
            Some((self.mapped(address, problems)?, address))
        });
        // Programs built without .eh_frame (-fno-asynchronous-unwind-tables) have this if they were built with -g.
        let mut debug_frame = || {
            let (bytes, _) = self.section(".debug_frame", problems)?;
            Some(Box::new(Cfi::debug_frame(cpu, bytes)))
        };
        match eh_frame {
            Some((bytes, address)) => {
                let bases = Bases { eh_frame: address, text: start(".text"), got: start(".got") };
                let cfi = Box::new(Cfi::eh_frame(cpu, bytes, bases, header));
                Tables::Dwarf(cfi, debug_frame())
            }
            None => debug_frame().map_or(Tables::None, |cfi| Tables::Dwarf(cfi, None)),
        }
    }

    fn macho(&self, problems: &mut Vec<String>) -> Tables {
        let cpu = self.snapshot.cpu;
        let start = |name: &str| self.range(name).map_or(0, |(start, _)| start);
        let eh_frame = self.section("__TEXT,__eh_frame", problems);
        let bases = Bases {
            eh_frame: eh_frame.as_ref().map_or(0, |(_, address)| *address),
            text: start("__TEXT,__text"),
            got: start("__DATA_CONST,__got"),
        };
        let unwind_info = self.section("__TEXT,__unwind_info", problems);
        match (unwind_info, eh_frame) {
            (Some((unwind_info, _)), eh_frame) => Tables::Compact {
                unwind_info,
                base: self.image.base.wrapping_sub(self.image.bias),
                eh_frame: eh_frame.map(|(bytes, _)| Box::new(Cfi::with_given_entries(cpu, bytes, bases))),
            },
            (None, Some((bytes, _))) => Tables::Dwarf(Box::new(Cfi::eh_frame(cpu, bytes, bases, None)), None),
            (None, None) => Tables::None,
        }
    }
}

/// Where `.eh_frame` is, by its header: a 32-bit distance from the field itself (LSB Core 5.0, 10.6.2).
fn eh_frame_pointer((bytes, address): &(Vec<u8>, u64)) -> Option<u64> {
    const PCREL_SDATA4: u8 = 0x1b;
    let [1, PCREL_SDATA4, _, _, distance @ ..] = bytes.first_chunk::<8>()? else { return None };
    Some(address.wrapping_add(4).wrapping_add_signed(i32::from_le_bytes(*distance).into()))
}
