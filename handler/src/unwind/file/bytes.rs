//! Where an object's bytes are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::snapshot::OwnSharedCache;

/// The bytes of one object.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In a file.
    File {
        /// The file.
        file: File,
        /// Where the object starts in it: not 0 in fat Mach-O files.
        start: u64,
        /// The object's length.
        length: u64,
    },
    /// In the shared cache. Its parts have been put together from many files, so what counts as an offset is the address that
    /// the image has in its own terms.
    Cache {
        /// The cache.
        cache: OwnSharedCache,
        /// Address in this process less the image's own.
        slide: u64,
        /// First address and size of the segments that are the same in every process.
        shared: Vec<(u64, u64)>,
    },
}

impl Bytes {
    /// The file, if they are in one.
    pub(super) fn file(&self) -> Option<&File> {
        match self {
            Bytes::File { file, .. } => Some(file),
            Bytes::Cache { .. } => None,
        }
    }

    /// Whether there are `size` bytes at `offset`.
    pub(super) fn holds(&self, offset: u64, size: u64) -> bool {
        match self {
            Bytes::File { length, .. } => offset.checked_add(size).is_some_and(|end| end <= *length),
            Bytes::Cache { shared, .. } => shared.iter().any(|(start, length)| {
                offset
                    .checked_sub(*start)
                    .and_then(|skipped| length.checked_sub(skipped))
                    .is_some_and(|left| size <= left)
            }),
        }
    }

    /// Reads all of `buffer`, which [`Bytes::holds`] has been asked of.
    pub(super) fn read_exact(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Bytes::File { file, start, .. } => file.read_exact_at(buffer, start.saturating_add(offset)),
            Bytes::Cache { cache, slide, .. } => match cache.read(offset.wrapping_add(*slide), buffer) {
                length if length == buffer.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// Reads as much of `buffer` as there is; 0 if nothing can be read.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        match self {
            Bytes::File { file, start, .. } => {
                start.checked_add(offset).and_then(|at| file.read_at(buffer, at).ok()).unwrap_or(0)
            }
            Bytes::Cache { cache, slide, .. } if self.holds(offset, buffer.len() as u64) => {
                cache.read(offset.wrapping_add(*slide), buffer)
            }
            Bytes::Cache { .. } => 0,
        }
    }
}
