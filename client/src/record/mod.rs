//! The record in this process's memory: a header that the handler finds by its section, and the space that it points at.
//!
//! Layout and rules are `aftermach_protocol::record`'s. Everything is atomic words, so that threads, signal handlers and the
//! handler's copy at any instant are all well defined.

#[cfg(not(target_os = "macos"))]
mod elf;
#[cfg(target_os = "macos")]
mod macho;

#[cfg(not(aftermach_model))]
use aftermach_protocol::record::{ANNOTATION_COUNT, BREADCRUMB_COUNT};
use aftermach_protocol::record::{
    BREADCRUMB_SIZE, COPY_SIZE, CUT, Check, HEADER_SIZE, IDENTITY_COUNT, IDENTITY_STRIDE, MAGIC, VERSION, cut,
    each_word,
};

#[cfg(not(target_os = "macos"))]
pub(crate) use elf::header;
#[cfg(target_os = "macos")]
pub(crate) use macho::header;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Annotations and breadcrumbs that there is room for. The model has fewer.
#[cfg(not(aftermach_model))]
pub(crate) const ANNOTATIONS: usize = ANNOTATION_COUNT;
#[cfg(not(aftermach_model))]
pub(crate) const BREADCRUMBS: usize = BREADCRUMB_COUNT;
#[cfg(aftermach_model)]
pub(crate) const ANNOTATIONS: usize = crate::model::SLOTS;
#[cfg(aftermach_model)]
pub(crate) const BREADCRUMBS: usize = crate::model::SLOTS;

/// Words in one of an annotation's copies.
pub(crate) const COPY_WORDS: usize = COPY_SIZE / 8;

const BREADCRUMB_WORDS: usize = BREADCRUMB_SIZE / 8;
const IDENTITY_WORDS: usize = IDENTITY_STRIDE / 8;

/// One of an annotation's two copies.
pub(crate) type Copy = [AtomicU64; COPY_WORDS];
/// A breadcrumb.
pub(crate) type Crumb = [AtomicU64; BREADCRUMB_WORDS];
/// One string of the identity.
pub(crate) type IdentityString = [AtomicU64; IDENTITY_WORDS];

/// The block that the header points at.
#[repr(C)]
pub(crate) struct Space {
    pub(crate) identity: [IdentityString; IDENTITY_COUNT],
    pub(crate) directory: [AtomicU64; ANNOTATIONS],
    pub(crate) annotations: [[Copy; 2]; ANNOTATIONS],
    pub(crate) breadcrumbs: [Crumb; BREADCRUMBS],
}

/// Zero-filled memory: no bytes in the file, and a page is only there once it is written.
pub(crate) static SPACE: Space = Space {
    identity: [const { [const { AtomicU64::new(0) }; IDENTITY_WORDS] }; IDENTITY_COUNT],
    directory: [const { AtomicU64::new(0) }; ANNOTATIONS],
    annotations: [const { [const { [const { AtomicU64::new(0) }; COPY_WORDS] }; 2] }; ANNOTATIONS],
    breadcrumbs: [const { [const { AtomicU64::new(0) }; BREADCRUMB_WORDS] }; BREADCRUMBS],
};

#[repr(C)]
struct Part {
    offset: u32,
    count: u32,
    stride: u32,
}

/// The header. Its fields are documented with the layout.
#[repr(C, align(8))]
pub(crate) struct Header {
    magic: [u8; 8],
    version: u32,
    header_size: u32,
    pub(crate) state: AtomicU32,
    pub(crate) pid: AtomicU32,
    pub(crate) installed_at: AtomicU64,
    pub(crate) clock_base: AtomicU64,
    space: &'static Space,
    space_size: u32,
    identity: Part,
    directory: Part,
    annotations: Part,
    breadcrumbs: Part,
    pub(crate) flags: AtomicU32,
    pub(crate) exception_mask: AtomicU32,
    pub(crate) exception_behaviour: AtomicU32,
    pub(crate) dropped: AtomicU32,
    reserved: [u32; 3],
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_SIZE);
    assert!(core::mem::offset_of!(Header, state) == 16);
    assert!(core::mem::offset_of!(Header, clock_base) == 32);
    assert!(core::mem::offset_of!(Header, space) == 40);
    assert!(core::mem::offset_of!(Header, identity) == 52);
    assert!(core::mem::offset_of!(Header, breadcrumbs) == 88);
    assert!(core::mem::offset_of!(Header, dropped) == 112);
    assert!(cfg!(target_endian = "little"), "the record is little-endian");
};

impl Header {
    const fn new() -> Header {
        const fn part(offset: usize, count: usize, stride: usize) -> Part {
            Part { offset: offset as u32, count: count as u32, stride: stride as u32 }
        }
        Header {
            magic: MAGIC,
            version: VERSION,
            header_size: HEADER_SIZE as u32,
            state: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            installed_at: AtomicU64::new(0),
            clock_base: AtomicU64::new(0),
            space: &SPACE,
            space_size: size_of::<Space>() as u32,
            identity: part(core::mem::offset_of!(Space, identity), IDENTITY_COUNT, IDENTITY_STRIDE),
            directory: part(core::mem::offset_of!(Space, directory), ANNOTATIONS, 8),
            annotations: part(core::mem::offset_of!(Space, annotations), ANNOTATIONS, 2 * COPY_SIZE),
            breadcrumbs: part(core::mem::offset_of!(Space, breadcrumbs), BREADCRUMBS, BREADCRUMB_SIZE),
            flags: AtomicU32::new(0),
            exception_mask: AtomicU32::new(0),
            exception_behaviour: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            reserved: [0; 3],
        }
    }

    /// Where the handler finds it.
    pub(crate) fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// One annotation or breadcrumb was not kept.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The record's header as it stands, byte for byte: what a reader in this process would see. The space's address is in it.
pub fn header_bytes() -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    let words = core::ptr::from_ref(header()).cast::<AtomicU64>();
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        // SAFETY: the header is HEADER_SIZE bytes, aligned to eight, and lives as long as the program; index stays below
        // HEADER_SIZE / 8. Fields that change are atomics, and the others never change.
        let word = unsafe { &*words.add(index) }.load(Ordering::Relaxed);
        for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }
    bytes
}

// Out of line, most of what follows: the compiler would otherwise unroll the loops at every place that uses them, and the
// client is to be small.

/// The check over fields and texts.
#[inline(never)]
pub(crate) fn check(fields: &[u64], key: &[u8], text: &[u8]) -> u64 {
    with_text(with_text(Check::of(fields), key), text).value()
}

#[inline(never)]
fn with_text(check: Check, text: &[u8]) -> Check {
    check.with_text(text)
}

/// The longest start of `text` that fits, and the flags that say whether it is all.
#[inline(never)]
pub(crate) fn fitting(text: &[u8], capacity: usize) -> (&[u8], u8) {
    let kept = cut(text, capacity);
    (kept, if kept.len() < text.len() { CUT } else { 0 })
}

/// Writes `text` over the first words of `room`.
#[inline(never)]
pub(crate) fn store(room: &[AtomicU64], text: &[u8]) {
    let mut places = room.iter();
    each_word(text, |word| {
        if let Some(place) = places.next() {
            place.store(word, Ordering::Relaxed);
        }
    });
}

/// The monotonic clock, in nanoseconds. Safe in signal handlers (POSIX: clock_gettime).
pub(crate) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Time since the Unix epoch, in nanoseconds.
pub(crate) fn wall_clock() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

#[inline(never)]
fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to. On failure it stays zero.
    unsafe { libc::clock_gettime(id, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Starts the record's clock at its first use.
#[inline(never)]
pub(crate) fn start_clock(header: &Header) {
    if header.clock_base.load(Ordering::Relaxed) == 0 {
        // Another thread may have been first: then its time stands.
        let _ = header.clock_base.compare_exchange(0, monotonic(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// As if the program had just started.
#[cfg(aftermach_model)]
pub(crate) fn reset() {
    let header = header();
    for number in [&header.state, &header.pid, &header.flags, &header.dropped] {
        number.store(0, Ordering::Relaxed);
    }
    header.installed_at.store(0, Ordering::Relaxed);
    header.clock_base.store(0, Ordering::Relaxed);
    let words = SPACE.identity.iter().flatten().chain(&SPACE.directory);
    let words = words.chain(SPACE.annotations.iter().flatten().flatten());
    words.chain(SPACE.breadcrumbs.iter().flatten()).for_each(|word| word.store(0, Ordering::Relaxed));
}
