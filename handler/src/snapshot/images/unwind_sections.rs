//! The call frame information of an image whose file is gone or out of reach: what the unwinder would read from it.

use super::super::capture::Capture;
use super::super::{Image, ImageFile, ImageKind, Section, Thread};
use super::elf::{Elf, Range, quarter, word};

/// The sections that are copied: what unwinding can't do without.
const COPIED: [&str; 4] = [".eh_frame_hdr", ".eh_frame", "__TEXT,__unwind_info", "__TEXT,__eh_frame"];
/// Bits of a user address on macOS (`MACH_VM_MAX_ADDRESS`) and on Linux with four levels of page tables.
const ADDRESS: u64 = (1 << 47) - 1;

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

/// Copies the unwind sections of those images that the file won't give and that some thread may have a frame in: a pc, a
/// register or a word on a stack points into them. With hundreds of libraries out of reach that is a few of them.
pub(super) fn copy_needed(capture: &mut Capture<'_>, images: &[Image], threads: &[Thread]) {
    let away = |image: &&Image| {
        !matches!(image.file, ImageFile::Same | ImageFile::SharedCache) && image.kind != ImageKind::Vdso
    };
    let mut candidates: Vec<(&Image, bool)> = images.iter().filter(away).map(|image| (image, false)).collect();
    candidates.sort_by_key(|(image, _)| image.base);
    let ends = candidates.iter().map(|(image, _)| image.base.saturating_add(image.size)).max();
    let Some(((first, _), end)) = candidates.first().copied().zip(ends) else { return };
    let span = first.base..end;
    let mut mark = |value: u64| {
        // Return addresses may bear pointer authentication; user addresses have no more bits than these anywhere.
        let address = value & ADDRESS;
        if span.contains(&address)
            && let Some(index) = candidates.partition_point(|(image, _)| image.base <= address).checked_sub(1)
            && address - candidates[index].0.base < candidates[index].0.size
        {
            candidates[index].1 = true;
        }
    };
    for thread in threads {
        let registers = thread.state.registers.iter().flat_map(|registers| registers.general());
        registers.for_each(|(_, value)| mark(value));
        thread.state.first_chance.iter().for_each(|fault| mark(fault.pc));
    }
    for block in capture.memory.blocks() {
        // Blocks begin at any address; words on stacks don't.
        let aligned = block.bytes.get(block.address.wrapping_neg() as usize % 8..).unwrap_or_default();
        aligned.chunks_exact(8).for_each(|bytes| mark(word(bytes, 0)));
    }
    for (image, _) in candidates.into_iter().filter(|(_, needed)| *needed) {
        copy(capture, image);
    }
}

/// Copies the unwind sections of `image`.
fn copy(capture: &mut Capture<'_>, image: &Image) {
    let limits = capture.limits;
    let path = image.path.display();
    for section in image.sections.iter().filter(|section| COPIED.contains(&&*section.name)) {
        if capture.out_of_time() {
            return capture.gap("images", format!("{path}: {} was left behind for time", section.name));
        }
        let room = limits.unwind_section.min(limits.unwind_sections.saturating_sub(capture.unwind_sections));
        let length = section.size.min(room);
        let start = section.address.wrapping_add(image.bias);
        let end = capture.copy(start, start.saturating_add(length));
        capture.unwind_sections += end - start;
        if end - start < section.size {
            let (name, size, copied) = (&section.name, section.size, end - start);
            capture.gap("images", format!("{path}: {copied} of {size} bytes of {name} copied"));
        }
    }
}

fn section(name: &str, range: Range) -> Section {
    Section { name: name.to_owned(), address: range.address, size: range.size }
}
