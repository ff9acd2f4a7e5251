//! The header as the descriptor of an ELF note: a loaded segment of notes (PT_NOTE) leads any reader of the process to it.

use aftermach_protocol::record::{ELF_NOTE_NAME, ELF_NOTE_TYPE, HEADER_SIZE};

use super::Header;

/// `Elf64_Nhdr` (elf(5)), the name padded to four bytes, the descriptor.
#[repr(C)]
struct Note {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; 12],
    header: Header,
}

const _: () = assert!(core::mem::offset_of!(Note, header) == 24, "the descriptor follows the padded name");

const fn padded_name() -> [u8; 12] {
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9] = *ELF_NOTE_NAME;
    [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, 0, 0]
}

// A section whose name starts with ".note" gets the type SHT_NOTE from LLVM, and its atomics make it writable.
#[used]
#[unsafe(link_section = ".note.aftermach")]
static NOTE: Note = Note {
    name_size: ELF_NOTE_NAME.len() as u32,
    descriptor_size: HEADER_SIZE as u32,
    kind: ELF_NOTE_TYPE,
    name: padded_name(),
    header: Header::new(),
};

/// This image's header.
pub(crate) fn header() -> &'static Header {
    &NOTE.header
}
