//! The shared cache of this process, which is every other's too: of the same release and for the same CPU.

use std::ffi::c_void;
use std::sync::{Arc, OnceLock};

use aftermach_protocol::message::PortName;

use super::{ffi, own_space, task_calls};
use crate::host::ReadMemory;
use crate::snapshot::{OwnSharedCache, SharedCache};

/// `_dyld_get_shared_cache_range` (dyld, `mach-o/dyld_priv.h`, macOS 10.13): where it begins, and how long it is; null without
/// one.
type Range = unsafe extern "C" fn(length: *mut usize) -> *const c_void;
/// `_dyld_get_shared_cache_uuid` (the same header): whether there is one.
type Uuid = unsafe extern "C" fn(uuid: *mut [u8; 16]) -> bool;

/// It, if this system says where it is.
pub(crate) fn own_shared_cache() -> Option<OwnSharedCache> {
    static OWN: OnceLock<Option<OwnSharedCache>> = OnceLock::new();
    OWN.get_or_init(find).clone()
}

fn find() -> Option<OwnSharedCache> {
    let (range, uuid) = (ffi::symbol(c"_dyld_get_shared_cache_range"), ffi::symbol(c"_dyld_get_shared_cache_uuid"));
    if range.is_null() || uuid.is_null() {
        return None;
    }
    // SAFETY: dyld's functions of these names have these types.
    let (range, uuid) =
        unsafe { (std::mem::transmute::<*mut c_void, Range>(range), std::mem::transmute::<*mut c_void, Uuid>(uuid)) };
    let (mut size, mut bytes) = (0, [0; 16]);
    // SAFETY: a number to write to.
    let base = unsafe { range(&mut size) } as u64;
    // SAFETY: sixteen bytes to write to.
    let known = unsafe { uuid(&mut bytes) };
    let cache = SharedCache { uuid: bytes, base };
    (base != 0 && known).then(|| OwnSharedCache { cache, size: size as u64, memory: Arc::new(OwnMemory) })
}

/// This process's own memory, read by the kernel: the cache has holes between its parts, and touching one would be a crash.
struct OwnMemory;

impl ReadMemory for OwnMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        match task_calls::read(PortName(own_space()), address, buffer) {
            Ok(()) => buffer.len(),
            Err(_) => 0,
        }
    }
}
