//! A running handler's own file, beside the reports of its product.
//!
//! Whether the handler that wrote it still runs is told by a lock on the product's folder, which the kernel drops with the
//! process: ids of processes are used again.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;

use super::files::{ensure_folder, folders, read_file, replace_file};
use super::{Store, StoreError};

/// The file's name in a product's folder.
pub const HANDLER_FILE: &str = "handler.json";
/// A larger file is not ours.
const MAX_FILE: u64 = 64 << 10;

/// The file of a handler that runs.
#[derive(Debug)]
pub struct HandlerFile {
    folder: PathBuf,
    /// Shared, so that two handlers of one product both count as running. `None` where the file system knows no locks.
    _lock: Option<File>,
}

/// A handler's file that was found.
#[derive(Debug)]
pub struct FoundHandler {
    /// The folder's name of its product.
    pub product: String,
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Result<Vec<u8>, StoreError>,
    /// Whether a handler of the product runs; `None` if that can't be told.
    pub running: Option<bool>,
}

impl Store {
    /// Tells others that a handler of `product` runs, until this is dropped.
    pub fn handler_file(&self, product: &Product) -> Result<HandlerFile, StoreError> {
        let folder = self.root().join(product.directory());
        ensure_folder(&folder)?;
        let open = File::open(&folder).map_err(StoreError::io("read", &folder))?;
        // Whoever asks has it for an instant only.
        let lock = open.lock_shared().is_ok().then_some(open);
        Ok(HandlerFile { folder, _lock: lock })
    }

    /// The files that handlers left or keep in this store, by product.
    pub fn handlers(&self) -> Result<Vec<FoundHandler>, StoreError> {
        let names = folders(self.root())?.into_iter().filter(|name| !name.starts_with('.'));
        Ok(names.filter_map(|name| find(self.root(), name)).collect())
    }
}

impl HandlerFile {
    /// Replaces its content at once: a reader sees the old or the new. Not waited for until it is on the disk: it tells of a
    /// process, which does not outlive a loss of power either.
    pub fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let aside = self.folder.join(format!(".{HANDLER_FILE}.{}", std::process::id()));
        let mut file = replace_file(&aside)?;
        file.write_all(bytes)
            .and_then(|()| fs::rename(&aside, self.folder.join(HANDLER_FILE)))
            .map_err(StoreError::io("write", &aside))
            .inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

fn find(root: &Path, product: String) -> Option<FoundHandler> {
    let folder = root.join(&product);
    let path = folder.join(HANDLER_FILE);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        _ => {}
    }
    let running = File::open(&folder).ok().and_then(|folder| match folder.try_lock() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    });
    Some(FoundHandler { bytes: read_file(&path, MAX_FILE), product, path, running })
}
