//! The record's header.

use std::fmt;

use super::{HEADER_SIZE, MAGIC, MAX_HEADER_SIZE, MAX_SPACE};

/// A record's header as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The layout's version, [`super::VERSION`] or later.
    pub version: u32,
    /// Bytes in the header as its writer knew it.
    pub size: u32,
    /// Whether the client was installed.
    pub state: State,
    /// Who installed it: after a fork, the parent.
    pub pid: u32,
    /// When it was installed, in nanoseconds since the Unix epoch; 0 if it never was.
    pub installed_at: u64,
    /// The monotonic clock, in nanoseconds, when the record was first used: breadcrumbs count from there.
    pub clock_base: u64,
    /// Address of the space in the process's memory.
    pub space: u64,
    /// Bytes in the space, at most [`MAX_SPACE`].
    pub space_size: u32,
    /// The identity's strings.
    pub identity: Part,
    /// The annotations' directory.
    pub directory: Part,
    /// The annotations' slots.
    pub annotations: Part,
    /// The breadcrumbs' slots.
    pub breadcrumbs: Part,
    /// How the client was installed.
    pub flags: Flags,
    /// The exceptions it registered for (macOS), as `EXC_MASK_*` bits.
    pub exception_mask: u32,
    /// The behaviour it registered with (macOS), as `EXCEPTION_*` and its modifier bits.
    pub exception_behaviour: u32,
    /// Annotations and breadcrumbs that found no room or a write under way.
    pub dropped: u32,
    /// What a later version added, as it was.
    pub rest: Vec<u8>,
}

/// Where the installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never installed (0): the record may hold annotations all the same.
    NotInstalled,
    /// Installed (1).
    Installed,
    /// Installed once and taken back (2): uninstalled, or detached in a forked child.
    Detached,
    /// A later version's.
    Unknown(u32),
}

/// A table in the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Bytes from the space's start.
    pub offset: u32,
    /// Entries.
    pub count: u32,
    /// Bytes from one entry to the next.
    pub stride: u32,
}

/// How a client was installed, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Deaths only: no first-chance hardware exceptions.
    pub const CRASH_ONLY: Flags = Flags(1);

    /// Whether all of `other`'s bits are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than the smallest header has: this many.
    Short(usize),
    /// They do not start with [`MAGIC`].
    Magic,
    /// The header claims a size that no version has.
    Size(u32),
    /// The space is empty, larger than [`MAX_SPACE`], or runs over the end of memory.
    Space,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Short(size) => write!(f, "the client record's header ends after {size} bytes"),
            HeaderError::Magic => f.write_str("no client record is where one should be"),
            HeaderError::Size(size) => write!(f, "the client record claims a header of {size} bytes"),
            HeaderError::Space => f.write_str("the client record's space can't be where it is said to be"),
        }
    }
}

impl std::error::Error for HeaderError {}

impl Header {
    /// The header in `bytes`, which are read from its address on: [`HEADER_SIZE`] of them, or more to keep a later version's
    /// part. Bytes after the size that the header claims are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        if bytes.len() < HEADER_SIZE {
            return Err(HeaderError::Short(bytes.len()));
        }
        if bytes.get(..8) != Some(MAGIC.as_slice()) {
            return Err(HeaderError::Magic);
        }
        let size = u32_at(bytes, 12);
        if (size as usize) < HEADER_SIZE || size as usize > MAX_HEADER_SIZE {
            return Err(HeaderError::Size(size));
        }
        let space = u64_at(bytes, 40);
        let space_size = u32_at(bytes, 48);
        let fits = space_size > 0 && space_size as usize <= MAX_SPACE && space.checked_add(space_size.into()).is_some();
        if space == 0 || !fits {
            return Err(HeaderError::Space);
        }
        let part = |at| Part { offset: u32_at(bytes, at), count: u32_at(bytes, at + 4), stride: u32_at(bytes, at + 8) };
        Ok(Header {
            version: u32_at(bytes, 8),
            size,
            state: match u32_at(bytes, 16) {
                0 => State::NotInstalled,
                1 => State::Installed,
                2 => State::Detached,
                other => State::Unknown(other),
            },
            pid: u32_at(bytes, 20),
            installed_at: u64_at(bytes, 24),
            clock_base: u64_at(bytes, 32),
            space,
            space_size,
            identity: part(52),
            directory: part(64),
            annotations: part(76),
            breadcrumbs: part(88),
            flags: Flags(u32_at(bytes, 100)),
            exception_mask: u32_at(bytes, 104),
            exception_behaviour: u32_at(bytes, 108),
            dropped: u32_at(bytes, 112),
            rest: bytes.get(HEADER_SIZE..(size as usize).min(bytes.len())).unwrap_or_default().to_vec(),
        })
    }
}

/// The number at `at`, or 0 where the bytes end before.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The number at `at`, or 0 where the bytes end before.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
