//! Mach-O headers in a task's memory (`<mach-o/loader.h>`). Whatever a header or a load command claims, what can be read of
//! the image is kept: one bad command never costs the rest.

use super::super::capture::Capture;
use super::super::{ImageId, Section};
use super::elf::{quarter, word};

/// `mach_header_64`.
const HEADER: usize = 32;
/// Read at once from an image's start; most have their load commands in it.
const HEAD: usize = 4096;
/// Bytes of load commands. Large apps have 20 KiB.
const COMMANDS: usize = 256 << 10;

const MH_MAGIC_64: u32 = 0xfeed_facf;
const MH_EXECUTE: u32 = 2;
const MH_DYLINKER: u32 = 7;
/// The image lies in the shared cache: its segments are not together.
const MH_DYLIB_IN_CACHE: u32 = 0x8000_0000;

const LC_SEGMENT_64: u32 = 0x19;
const LC_ID_DYLIB: u32 = 0xd;
const LC_LOAD_DYLINKER: u32 = 0xe;
const LC_ID_DYLINKER: u32 = 0xf;
const LC_UUID: u32 = 0x1b;
const LC_SOURCE_VERSION: u32 = 0x2a;

/// The sections that matter to unwinding (`framehop::ExplicitModuleSectionInfo`).
const UNWINDING: [(&str, &str); 7] = [
    ("__TEXT", "__text"),
    ("__TEXT", "__stubs"),
    ("__TEXT", "__stub_helper"),
    ("__TEXT", "__unwind_info"),
    ("__TEXT", "__eh_frame"),
    ("__DATA", "__got"),
    ("__DATA_CONST", "__got"),
];

/// What an image's header and load commands say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MachO {
    /// It is a program (`MH_EXECUTE`).
    pub(super) is_executable: bool,
    /// It is dyld (`MH_DYLINKER`).
    pub(super) is_loader: bool,
    /// It lies in the shared cache.
    pub(super) in_cache: bool,
    /// Bytes from `__TEXT` to the end of the last segment, in the shared cache of `__TEXT`; 0 if no segment could be read.
    pub(super) size: u64,
    /// Its slide: address in memory less address in the file.
    pub(super) bias: u64,
    /// `LC_UUID`.
    pub(super) id: Option<ImageId>,
    /// The library's own version, or the version of its source.
    pub(super) version: Option<String>,
    /// The name that it gives itself (`LC_ID_DYLIB`, `LC_ID_DYLINKER`).
    pub(super) name: Option<Vec<u8>>,
    /// The loader that it asks for (`LC_LOAD_DYLINKER`).
    pub(super) loader: Option<Vec<u8>>,
    /// What matters to unwinding.
    pub(super) sections: Vec<Section>,
    /// Where messages for the crash reporter are.
    pub(super) crash_info: Vec<u64>,
    /// Where headers of client records are.
    pub(super) records: Vec<u64>,
    /// What could not be read, or is not believed.
    pub(super) trouble: Option<String>,
}

/// Where the image has its header, in memory.
pub(super) fn is_header(capture: &Capture<'_>, address: u64) -> bool {
    capture.read_array::<4>(address).is_some_and(|magic| u32::from_le_bytes(magic) == MH_MAGIC_64)
}

/// Reads the image whose header is at `base`. What is not there is left out; [`MachO::trouble`] says what.
pub(super) fn read(capture: &Capture<'_>, base: u64) -> MachO {
    let mut image = MachO::default();
    let mut bytes = capture.read(base, HEAD);
    if bytes.len() < HEADER || quarter(&bytes, 0) != MH_MAGIC_64 {
        image.trouble = Some("there is no Mach-O header".to_owned());
        return image;
    }
    let (kind, count, size, flags) =
        (quarter(&bytes, 12), quarter(&bytes, 16), quarter(&bytes, 20), quarter(&bytes, 24));
    image.is_executable = kind == MH_EXECUTE;
    image.is_loader = kind == MH_DYLINKER;
    let end = HEADER + (size as usize).min(COMMANDS);
    if end > bytes.len() {
        bytes = capture.read(base, end);
    }
    if size as usize > COMMANDS {
        image.trouble = Some(format!("{size} bytes of load commands; {COMMANDS} were read"));
    } else if bytes.len() < end {
        image.trouble = Some("its load commands can be read in part only".to_owned());
    }
    bytes.truncate(end);
    let commands = commands(&bytes[HEADER..], count, capture.limits.load_commands, &mut image.trouble);
    let segments: Vec<Segment<'_>> = commands.iter().filter_map(|(kind, command)| segment(*kind, command)).collect();
    image.in_cache = flags & MH_DYLIB_IN_CACHE != 0;
    image.place(base, &segments);
    for (kind, command) in &commands {
        image.take(*kind, command);
    }
    for segment in &segments {
        image.take_sections(segment);
    }
    image
}

/// The load commands, each as its type and its bytes.
fn commands<'a>(mut rest: &'a [u8], count: u32, limit: usize, trouble: &mut Option<String>) -> Vec<(u32, &'a [u8])> {
    let mut commands = Vec::new();
    for index in 0..count {
        if commands.len() >= limit {
            trouble.get_or_insert_with(|| format!("{count} load commands; {limit} were read"));
            break;
        }
        let size = quarter(rest, 4) as usize;
        // Whatever follows a command of a wrong size, it is no command: there is no telling where the next one starts.
        let Some(command) = rest.get(..size).filter(|command| command.len() >= 8) else {
            trouble.get_or_insert_with(|| format!("load command {index} of {count} claims {size} bytes"));
            break;
        };
        commands.push((quarter(command, 0), command));
        rest = &rest[size..];
    }
    commands
}

/// `segment_command_64`.
struct Segment<'a> {
    name: &'a str,
    address: u64,
    size: u64,
    may_be_accessed: bool,
    sections: &'a [u8],
}

fn segment(kind: u32, command: &[u8]) -> Option<Segment<'_>> {
    if kind != LC_SEGMENT_64 || command.len() < 72 {
        return None;
    }
    Some(Segment {
        name: name(&command[8..24])?,
        address: word(command, 24),
        size: word(command, 32),
        may_be_accessed: quarter(command, 60) != 0,
        sections: &command[72..],
    })
}

/// A name of at most 16 bytes, padded with NULs.
fn name(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..length]).ok()
}

impl MachO {
    /// Takes slide and size from the segments, of which `__TEXT` holds the header.
    fn place(&mut self, base: u64, segments: &[Segment<'_>]) {
        // If there are two, the first is the one that dyld takes.
        let Some(text) = segments.iter().find(|segment| segment.name == "__TEXT") else {
            self.trouble.get_or_insert_with(|| "it has no __TEXT segment".to_owned());
            return;
        };
        self.bias = base.wrapping_sub(text.address);
        let ends = segments.iter().filter(|segment| segment.may_be_accessed && segment.address >= text.address);
        let last = ends.filter_map(|segment| segment.address.checked_add(segment.size)).max();
        let whole = last.map_or(text.size, |end| end - text.address);
        // Sizes that wrap round the end of memory are nobody's.
        self.size = Some(if self.in_cache { text.size } else { whole })
            .filter(|size| size.checked_add(base).is_some())
            .unwrap_or(0);
        self.sections.push(Section { name: "__TEXT".to_owned(), address: text.address, size: text.size });
    }

    fn take(&mut self, kind: u32, command: &[u8]) {
        match kind {
            LC_UUID if self.id.is_none() => {
                self.id = command.get(8..24).and_then(|uuid| uuid.try_into().ok()).map(ImageId::Uuid);
            }
            LC_ID_DYLIB => {
                self.name = string(command);
                // Major in the upper half, then two bytes.
                let version = quarter(command, 16);
                let parts = [version >> 16, version >> 8 & 0xff, version & 0xff];
                self.version = (version != 0).then(|| parts.map(|part| part.to_string()).join("."));
            }
            LC_SOURCE_VERSION if self.version.is_none() => self.version = source_version(word(command, 8)),
            LC_ID_DYLINKER => self.name = string(command),
            LC_LOAD_DYLINKER => self.loader = string(command),
            _ => {}
        }
    }

    fn take_sections(&mut self, segment: &Segment<'_>) {
        for section in segment.sections.chunks_exact(80) {
            let Some((own, of)) = name(&section[..16]).zip(name(&section[16..32])) else { continue };
            let (address, size) = (word(section, 32), word(section, 40));
            let in_memory = address.wrapping_add(self.bias);
            match (of, own) {
                // `__DATA_DIRTY` in the shared cache.
                (_, "__crash_info") if of.starts_with("__DATA") => self.crash_info.push(in_memory),
                ("__DATA", "__aftermach") => self.records.push(in_memory),
                known if UNWINDING.contains(&known) => {
                    self.sections.push(Section { name: format!("{of},{own}"), address, size });
                }
                _ => {}
            }
        }
    }
}

/// The string of a command whose first field is its offset (`lc_str`).
fn string(command: &[u8]) -> Option<Vec<u8>> {
    let text = command.get(quarter(command, 8) as usize..)?;
    let text = text.split(|byte| *byte == 0).next()?;
    (!text.is_empty()).then(|| text.to_vec())
}

/// A.B.C.D.E in 24 and four times 10 bits; zeros at the end are not written.
fn source_version(version: u64) -> Option<String> {
    let parts = [version >> 40, version >> 30 & 0x3ff, version >> 20 & 0x3ff, version >> 10 & 0x3ff, version & 0x3ff];
    let used = parts.iter().rposition(|part| *part != 0)? + 1;
    Some(parts[..used].iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}
