//! The record that a client keeps in its own memory, and how it is read once the process is dead.
//!
//! A *header* stands where the handler finds it without symbols: section [`MACHO_SECTION`] of [`MACHO_SEGMENT`] in a Mach-O
//! image, the descriptor of a loaded ELF note named [`ELF_NOTE_NAME`] otherwise. It points at the *space*, one block of fixed
//! size in zero-filled memory, whose parts it names by offset. Several images of one process may each have a record.
//!
//! Rules for change (so that any reader reads any client): the header says its own size and only grows at its end; a reader
//! takes the smaller of that size and what it knows, and keeps the rest raw; parts are found by offset, count and stride, so
//! capacities may change. Every number is little-endian.
//!
//! ```text
//! header                                           space
//!   0 magic "AFTMREC\0"                              identity     count strings: length u8, bytes
//!   8 version u32                                    directory    count words, one an annotation slot:
//!  12 header size u32                                               bits 0-31 sequence, 32-63 key hash
//!  16 state u32                                      annotations  count slots of two copies each; a copy is
//!  20 pid of the installer u32                                      0 check u64   8 stamp u32   12 value length u16
//!  24 installed at u64, ns since the Unix epoch                     14 key length u8   15 flags u8
//!  32 clock base u64, monotonic ns                                  16 key (64 bytes)   80 value (to the copy's end)
//!  40 address of the space u64                       breadcrumbs  count slots:
//!  48 size of the space u32                                         0 sequence u64   8 check u64   16 time u64
//!  52 identity      offset, count, stride u32                       24 length u16   26 flags u8
//!  64 directory     offset, count, stride u32                       32 text (to the slot's end)
//!  76 annotations   offset, count, stride u32
//!  88 breadcrumbs   offset, count, stride u32
//! 100 flags u32
//! 104 exception mask u32
//! 108 exception behaviour u32
//! 112 dropped u32
//! 116 reserved
//! ```
//!
//! A process can die at any instant, also inside a write. An annotation is written to the copy that is not current; storing
//! its sequence makes it current. Sequence `2v` says that version `v` is complete and in copy `v & 1`; `2v + 1` that version
//! `v` still is, while the other copy is being written. A breadcrumb's sequence is `2n` once the `n`th (from 1) is complete
//! and `2n + 1` while it is being written. Each copy and breadcrumb carries a [`Check`] over its words, so what
//! was torn, or overwritten by the bug that killed the process, is seen and not believed.

mod contents;
mod header;
mod words;

pub use contents::{Annotation, Breadcrumb, Contents, Damage};
pub use header::{Flags, Header, HeaderError, Part, State};
pub use words::{Check, cut, each_word, key_hash};

/// First bytes of a header.
pub const MAGIC: [u8; 8] = *b"AFTMREC\0";
/// The layout's version.
pub const VERSION: u32 = 1;
/// Bytes in this version's header.
pub const HEADER_SIZE: usize = 128;
/// Largest header a reader accepts, in bytes: room for many versions, and a bound on what a victim can claim.
pub const MAX_HEADER_SIZE: usize = 4096;
/// Largest space a reader accepts, in bytes; this version's is about 80 KiB.
pub const MAX_SPACE: usize = 1 << 20;
/// Most slots of a kind that a reader looks at.
pub const MAX_SLOTS: u32 = 1024;

/// Mach-O segment that holds the header.
pub const MACHO_SEGMENT: &str = "__DATA";
/// Mach-O section that holds the header, and nothing else.
pub const MACHO_SECTION: &str = "__aftermach";
/// ELF section that holds the note.
pub const ELF_SECTION: &str = ".note.aftermach";
/// Name of the ELF note, with its NUL (`n_namesz` is 10). The header is its descriptor, 24 bytes after the note's start.
pub const ELF_NOTE_NAME: &[u8; 10] = b"Aftermach\0";
/// Type of the ELF note.
pub const ELF_NOTE_TYPE: u32 = 1;

/// Strings in the identity: group, name, channel, version.
pub const IDENTITY_STRINGS: usize = 4;
/// Places for strings in the identity, the unused ones for later versions.
pub const IDENTITY_COUNT: usize = 8;
/// Bytes in an identity string's place: one for its length, the rest for its bytes.
pub const IDENTITY_STRIDE: usize = 64;
/// Annotation slots.
pub const ANNOTATION_COUNT: usize = 64;
/// Longest key, in bytes.
pub const KEY_CAPACITY: usize = 64;
/// Longest value, in bytes; a longer one is cut and marked.
pub const VALUE_CAPACITY: usize = COPY_SIZE - COPY_VALUE;
/// Bytes in one of an annotation's two copies.
pub const COPY_SIZE: usize = 512;
/// Offset of the key in a copy.
pub const COPY_KEY: usize = 16;
/// Offset of the value in a copy.
pub const COPY_VALUE: usize = COPY_KEY + KEY_CAPACITY;
/// Breadcrumb slots.
pub const BREADCRUMB_COUNT: usize = 64;
/// Bytes in a breadcrumb's slot.
pub const BREADCRUMB_SIZE: usize = 256;
/// Offset of the text in a breadcrumb's slot.
pub const BREADCRUMB_TEXT: usize = 32;
/// Longest breadcrumb, in bytes; a longer one is cut and marked.
pub const BREADCRUMB_CAPACITY: usize = BREADCRUMB_SIZE - BREADCRUMB_TEXT;
/// Flag of a copy or breadcrumb: the text was cut.
pub const CUT: u8 = 1;

#[cfg(test)]
mod tests;
