//! The call frame information of an image whose file is gone or out of reach: what the unwinder would read from it.

use std::path::Path;

use super::super::Section;
use super::super::capture::Capture;
use super::elf::{Elf, Range, quarter};

/// `.eh_frame_hdr` of the only version there is (Linux Standard Base, "The .eh_frame_hdr section").
const HEADER_VERSION: u8 = 1;
/// Encodings of the pointer to `.eh_frame`: a signed 32-bit number relative to its own place (what linkers write), or to the
/// start of the header.
const PC_RELATIVE: u8 = 0x1b;
const DATA_RELATIVE: u8 = 0x3b;

/// `.eh_frame_hdr` and `.eh_frame`. The latter's size is in no header: it is taken to end with its segment.
pub(super) fn find(capture: &Capture<'_>, elf: &Elf) -> Vec<Section> {
    let Some(header) = elf.eh_frame_header else { return Vec::new() };
    let mut sections = vec![section(".eh_frame_hdr", header)];
    let frames = capture.read_array::<8>(header.address.wrapping_add(elf.bias)).and_then(|start| {
        let relative_to = match (start[0], start[1]) {
            (HEADER_VERSION, PC_RELATIVE) => header.address.checked_add(4)?,
            (HEADER_VERSION, DATA_RELATIVE) => header.address,
            _ => return None,
        };
        let address = relative_to.checked_add_signed(i64::from(quarter(&start, 4) as i32))?;
        let segment = elf.segments.iter().find(|segment| segment.contains(address))?;
        // The header usually comes before the frames, but need not.
        let end = if header.address > address { segment.end().min(header.address) } else { segment.end() };
        Some(Range { address, size: end - address })
    });
    sections.extend(frames.map(|frames| section(".eh_frame", frames)));
    sections
}

/// Copies `sections` of an image into the snapshot.
pub(super) fn copy(capture: &mut Capture<'_>, bias: u64, path: &Path, sections: &[Section]) {
    let limits = capture.limits;
    for section in sections {
        if capture.out_of_time() {
            return capture.gap("images", format!("{}: {} was left behind for time", path.display(), section.name));
        }
        let room = limits.unwind_section.min(limits.unwind_sections.saturating_sub(capture.unwind_sections));
        let length = section.size.min(room);
        let start = section.address.wrapping_add(bias);
        let end = capture.copy(start, start.saturating_add(length));
        capture.unwind_sections += end - start;
        if end - start < section.size {
            let (name, size, copied) = (&section.name, section.size, end - start);
            capture.gap("images", format!("{}: {copied} of {size} bytes of {name} copied", path.display()));
        }
    }
}

fn section(name: &str, range: Range) -> Section {
    Section { name: name.to_owned(), address: range.address, size: range.size }
}
