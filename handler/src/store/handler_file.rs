//! A running handler's own file, beside the reports of its product.
//!
//! Whether the handler that wrote it still runs is told by a lock on the product's folder, which the kernel drops with the
//! process: ids of processes are used again.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;

use super::files::{ensure_folder, folders, read_file, replace_file};
use super::{Store, StoreError};

/// The file's name in a product's folder.
pub const HANDLER_FILE: &str = "handler.json";
/// How the file's name begins while it is written; the process's id follows.
const ASIDE: &str = ".handler.json.";
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
        remove_asides(&folder);
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
        let aside = self.folder.join(format!("{ASIDE}{}", std::process::id()));
        let mut file = replace_file(&aside)?;
        file.write_all(bytes)
            .and_then(|()| fs::rename(&aside, self.folder.join(HANDLER_FILE)))
            .map_err(StoreError::io("write", &aside))
            .inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

/// Removes what handlers left that were killed while they wrote. One that writes at this very moment loses that once.
fn remove_asides(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(ASIDE.as_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_handlers_file_is_its_users_own_and_tells_whether_it_runs() {
        let root = std::env::temp_dir().join(format!("aftermach-handler-file-{}", std::process::id()));
        let store = Store::open(&root).unwrap();
        assert!(store.handlers().unwrap().is_empty());
        let product = Product::new("com.example", "Tunnel", "").unwrap();
        let folder = root.join(product.directory());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(".handler.json.1"), "half of o").unwrap();
        let (one, other) = (store.handler_file(&product).unwrap(), store.handler_file(&product).unwrap());
        one.write(b"one").unwrap();
        other.write(b"other").unwrap();
        drop(other);
        let found = store.handlers().unwrap().remove(0);
        assert_eq!((found.bytes.unwrap().as_slice(), found.running), (&b"other"[..], Some(true)));
        assert_eq!(fs::metadata(&found.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing lies aside");
        drop(one);
        // A child that another test forks meanwhile holds the lock for as long as it lives.
        while store.handlers().unwrap()[0].running != Some(false) {
            std::thread::yield_now();
        }
        fs::write(folder.join(HANDLER_FILE), vec![b' '; MAX_FILE as usize + 1]).unwrap();
        assert!(store.handlers().unwrap()[0].bytes.is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
