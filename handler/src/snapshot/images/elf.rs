//! ELF headers in a task's memory (System V ABI, chapters 4 and 5; `include/uapi/linux/elf.h`). Only what is mapped can be
//! read, so there are program headers and no sections.

use aftermach_protocol::record;

use super::super::ImageId;
use super::super::capture::Capture;

/// Read at once from an image's start: its header, a dozen program headers and, in most images, the build id.
const HEAD: usize = 1536;
/// Bytes of one note segment. A build id has 36; the rest are ABI tags.
const NOTES: usize = 4096;
/// Bytes of a build id (`Image::id`).
const BUILD_ID: usize = 64;
/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;
/// No user address is higher; a header that claims more memory is wrong.
const USER_SPACE: u64 = 1 << 57;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
const PT_PHDR: u32 = 6;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const NT_GNU_BUILD_ID: u32 = 3;

/// What an image's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elf {
    /// Where its header is.
    pub(super) base: u64,
    /// Bytes from `base` to the end of its last segment.
    pub(super) size: u64,
    /// Address in memory less address in the file.
    pub(super) bias: u64,
    /// Its build id.
    pub(super) id: ImageId,
    /// Address and size in memory of its dynamic section.
    pub(super) dynamic: Option<Range>,
    /// Its segments, in its own addresses.
    pub(super) segments: Vec<Range>,
    /// `.eh_frame_hdr`, in its own addresses.
    pub(super) eh_frame_header: Option<Range>,
    /// Where the headers of client records are.
    pub(super) records: Vec<u64>,
    /// It has more program headers than were read.
    pub(super) cut: bool,
}

/// Address and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: u64,
    pub(super) size: u64,
}

impl Range {
    pub(super) fn end(self) -> u64 {
        self.address.saturating_add(self.size)
    }

    pub(super) fn contains(self, address: u64) -> bool {
        self.address <= address && address < self.end()
    }
}

#[derive(Debug, Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    memory_size: u64,
    align: u64,
}

/// Reads the image whose header is at `base`. `None`: there is none.
pub(super) fn read(capture: &Capture<'_>, base: u64) -> Option<Elf> {
    let head = capture.read(base, HEAD);
    // 64-bit, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") || head.len() < 64 || half(&head, 54) as usize != PROGRAM_HEADER {
        return None;
    }
    let (offset, count) = (word(&head, 32), half(&head, 56).into());
    let (table, cut) = program_headers(capture, base.checked_add(offset)?, count, Some((base, &head)));
    let first = first_segment(&table)?;
    let bias = base.wrapping_sub(first.address.wrapping_sub(first.offset));
    Some(describe(capture, base, bias, &table, cut, &head))
}

/// Reads the main executable, from its program headers (`AT_PHDR`, `AT_PHNUM`).
pub(super) fn executable(capture: &Capture<'_>, address: u64, count: u64) -> Option<Elf> {
    if address == 0 {
        return None;
    }
    let (table, cut) = program_headers(capture, address, count, None);
    let first = first_segment(&table)?;
    // A static program has no PT_PHDR, but then its mappings say where it begins.
    let own = table.iter().find(|header| header.kind == PT_PHDR);
    let base = super::file_start(capture, address);
    let bias = match (own, base) {
        (Some(own), _) => address.wrapping_sub(own.address),
        (None, Some(base)) => base.wrapping_sub(first.address.wrapping_sub(first.offset)),
        (None, None) => 0,
    };
    let base = bias.wrapping_add(first.address.wrapping_sub(first.offset));
    let head = capture.read(base, HEAD);
    Some(describe(capture, base, bias, &table, cut, &head))
}

/// The segment with the file's first byte, or else the lowest.
fn first_segment(table: &[ProgramHeader]) -> Option<&ProgramHeader> {
    let mut segments = table.iter().filter(|header| header.kind == PT_LOAD);
    segments.clone().find(|header| header.offset == 0).or_else(|| segments.next())
}

fn describe(capture: &Capture<'_>, base: u64, bias: u64, table: &[ProgramHeader], cut: bool, head: &[u8]) -> Elf {
    let range = |header: &ProgramHeader| Range { address: header.address, size: header.memory_size };
    let in_memory = |header: &ProgramHeader| Range { address: header.address.wrapping_add(bias), ..range(header) };
    let of_kind = |kind: u32| table.iter().filter(move |header| header.kind == kind);
    let plausible = |header: &&ProgramHeader| {
        let end = in_memory(header).address.checked_add(header.memory_size);
        in_memory(header).address >= base && end.is_some_and(|end| end - base < USER_SPACE)
    };
    let segments: Vec<&ProgramHeader> = of_kind(PT_LOAD).filter(plausible).collect();
    let end = segments.iter().map(|header| in_memory(header).end()).max().unwrap_or(base);
    let (mut id, mut records) = (ImageId::None, Vec::new());
    for header in of_kind(PT_NOTE) {
        read_notes(capture, in_memory(header), header.align, (base, head), &mut id, &mut records);
    }
    Elf {
        base,
        size: end - base,
        bias,
        id,
        records,
        dynamic: of_kind(PT_DYNAMIC).map(in_memory).next(),
        segments: segments.into_iter().map(range).collect(),
        eh_frame_header: of_kind(PT_GNU_EH_FRAME).map(range).next(),
        cut,
    }
}

/// The program headers at `address`, and whether there are more than may be read. What lies in `head`, the bytes at its
/// address, isn't read again.
fn program_headers(
    capture: &Capture<'_>,
    address: u64,
    count: u64,
    head: Option<(u64, &[u8])>,
) -> (Vec<ProgramHeader>, bool) {
    let kept = usize::try_from(count).unwrap_or(usize::MAX).min(capture.limits.load_commands);
    let length = kept * PROGRAM_HEADER;
    let bytes = bytes_at(capture, address, length, head);
    let table = bytes.chunks_exact(PROGRAM_HEADER).map(|header| ProgramHeader {
        kind: quarter(header, 0),
        offset: word(header, 8),
        address: word(header, 16),
        memory_size: word(header, 40),
        align: word(header, 48),
    });
    (table.collect(), kept as u64 != count || bytes.len() < length)
}

/// `length` bytes at `address`, or as many as there are; from `head` if it has them all.
fn bytes_at(capture: &Capture<'_>, address: u64, length: usize, head: Option<(u64, &[u8])>) -> Vec<u8> {
    let known = head.and_then(|(start, head)| {
        let offset = usize::try_from(address.checked_sub(start)?).ok()?;
        head.get(offset..offset.checked_add(length)?)
    });
    known.map_or_else(|| capture.read(address, length), <[u8]>::to_vec)
}

/// Takes build id and client record from the notes in `range`.
fn read_notes(
    capture: &Capture<'_>,
    range: Range,
    align: u64,
    head: (u64, &[u8]),
    id: &mut ImageId,
    records: &mut Vec<u64>,
) {
    let length = usize::try_from(range.size).unwrap_or(usize::MAX).min(NOTES);
    let bytes = bytes_at(capture, range.address, length, Some(head));
    let notes = Notes { bytes: &bytes, offset: 0, padding: if align == 8 { 8 } else { 4 } };
    for note in notes {
        match (note.name, note.kind) {
            (b"GNU\0", NT_GNU_BUILD_ID) if (1..=BUILD_ID).contains(&note.contents.len()) => {
                *id = ImageId::BuildId(note.contents.to_vec());
            }
            (name, record::ELF_NOTE_TYPE) if name == record::ELF_NOTE_NAME => {
                records.push(range.address.wrapping_add(note.offset as u64));
            }
            _ => {}
        }
    }
}

/// A note (`Elf64_Nhdr`): sizes of name and contents, type, name, contents, each padded to 4 bytes, or to 8 where the segment
/// is aligned so.
struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    contents: &'a [u8],
    /// Of the contents, in the segment.
    offset: usize,
}

struct Notes<'a> {
    bytes: &'a [u8],
    offset: usize,
    padding: usize,
}

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let note = self.bytes.get(self.offset..).filter(|note| note.len() >= 12)?;
        let (name_size, size) = (quarter(note, 0) as usize, quarter(note, 4) as usize);
        let contents = 12_usize.checked_add(name_size)?.checked_next_multiple_of(self.padding)?;
        let end = contents.checked_add(size)?;
        let found = Note {
            name: note.get(12..12 + name_size)?,
            kind: quarter(note, 8),
            contents: note.get(contents..end)?,
            offset: self.offset + contents,
        };
        self.offset = self.offset.checked_add(end.checked_next_multiple_of(self.padding)?)?;
        Some(found)
    }
}

/// The little-endian numbers of 8, 4 and 2 bytes at an offset; 0 past the end.
pub(super) fn word(bytes: &[u8], offset: usize) -> u64 {
    number(bytes, offset).map_or(0, u64::from_le_bytes)
}

pub(super) fn quarter(bytes: &[u8], offset: usize) -> u32 {
    number(bytes, offset).map_or(0, u32::from_le_bytes)
}

fn half(bytes: &[u8], offset: usize) -> u16 {
    number(bytes, offset).map_or(0, u16::from_le_bytes)
}

fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut bytes = [name.len() as u32, contents.len() as u32, kind].map(u32::to_le_bytes).concat();
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn names(bytes: &[u8], padding: usize) -> Vec<(&[u8], &[u8])> {
        Notes { bytes, offset: 0, padding }.map(|note| (note.name, note.contents)).collect()
    }

    #[test]
    fn notes_follow_one_another() {
        let notes =
            [note(b"stapsdt\0", 3, b"odd"), note(b"GNU\0", 1, b"abi-tag!"), note(b"GNU\0", 3, b"12345")].concat();
        assert_eq!(names(&notes, 4), [(&b"stapsdt\0"[..], &b"odd"[..]), (b"GNU\0", b"abi-tag!"), (b"GNU\0", b"12345")]);
    }

    #[test]
    fn a_note_that_lies_about_its_sizes_ends_the_search() {
        let notes = note(b"GNU\0", 3, b"12345");
        for (offset, size) in [(0, u32::MAX), (4, u32::MAX), (4, 4000)] {
            let mut lying = notes.clone();
            lying[offset..offset + 4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(names(&lying, 4), []);
            assert_eq!(names(&lying, 8), []);
        }
        assert_eq!(names(&notes[..13], 4), []);
    }
}
