//! dyld's shared cache: the system's libraries, linked into one piece that every process of a release has mapped.

use std::fmt;
use std::sync::Arc;

use crate::host::ReadMemory;

/// A task's shared cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedCache {
    /// What identifies its contents.
    pub uuid: [u8; 16],
    /// Where it begins in the task's memory.
    pub base: u64,
}

/// The shared cache that this process has mapped. Where a victim's has the same UUID, all that is not written to is the same
/// in both: what unwinding and symbols need of the system's libraries is read here, when the victim is gone.
#[derive(Clone)]
pub struct OwnSharedCache {
    /// Which one, and where it is in this process.
    pub cache: SharedCache,
    /// Bytes from its base to its end.
    pub size: u64,
    /// This process's own memory, which has holes between the cache's parts.
    pub memory: Arc<dyn ReadMemory + Send + Sync>,
}

impl OwnSharedCache {
    /// Where this process has what a task whose cache is `theirs` has at `address`; `None` outside of the cache, and if it is
    /// another one.
    pub fn translate(&self, theirs: &SharedCache, address: u64) -> Option<u64> {
        let offset = address.checked_sub(theirs.base).filter(|offset| *offset < self.size)?;
        if theirs.uuid != self.cache.uuid {
            return None;
        }
        self.cache.base.checked_add(offset)
    }

    /// Reads at `address` of this process, as far as it is in the cache and can be read.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let left = address.checked_sub(self.cache.base).and_then(|offset| self.size.checked_sub(offset)).unwrap_or(0);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.memory.read(address, &mut buffer[..length])
    }
}

impl fmt::Debug for OwnSharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSharedCache").field("cache", &self.cache).field("size", &self.size).finish_non_exhaustive()
    }
}
