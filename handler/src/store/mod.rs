//! The report folder: `root/PRODUCT/ID/{report.json, minidump.dmp, report.txt}`.
//!
//! A report is there whole or not at all: it is written into a hidden folder beside the others and renamed in. Any number of
//! handlers may write one store at a time, and any of them may be killed at any point: what it leaves is hidden, told from a
//! living writer's by the kernel's own lock, and removed when a store is next opened to write. Folders are 0700, files 0600.

mod error;
mod export;
mod files;
mod handler_file;
mod list;
mod lock;
mod pending;
mod prune;
#[cfg(target_os = "macos")]
#[path = "root_macos.rs"]
mod root;
#[cfg(not(target_os = "macos"))]
#[path = "root_linux.rs"]
mod root;
mod unfinished;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::Report;

pub use error::StoreError;
pub use export::{export_bundle, export_minidump};
pub use handler_file::{FoundHandler, HANDLER_FILE, HandlerFile};
pub use list::{Contents, Entry, Head, Listing, Location};
pub use pending::PendingReport;
pub use prune::Limits;
pub use root::default_root;
pub use unfinished::Unfinished;

/// The report for programs: the truth.
pub const REPORT_JSON: &str = "report.json";
/// The minidump.
pub const MINIDUMP: &str = "minidump.dmp";
/// The report for people, as it was when the report was written.
pub const REPORT_TEXT: &str = "report.txt";

/// A report folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
}

impl Store {
    /// Opens a store to write into: makes it if it is not there, and removes what killed writers left.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, StoreError> {
        Store::open_with(root, Limits::default())
    }

    /// Opens a store to write into, with other limits.
    pub fn open_with(root: impl Into<PathBuf>, limits: Limits) -> Result<Store, StoreError> {
        let root = root.into();
        files::ensure_folder(&root)?;
        for product in files::folders(&root)?.into_iter().filter(|name| !name.starts_with('.')) {
            // A product's folder that can't be read is an error for that product's reports, when one is written.
            let _ = pending::remove_leftovers(&root.join(product));
        }
        Ok(Store { root, limits })
    }

    /// Opens a store that is there. Writes nothing.
    pub fn open_existing(root: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(there) if there.is_dir() => Ok(Store { root, limits: Limits::default() }),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("read", &root)(error)),
            _ => Err(StoreError::NoStore(root)),
        }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts a report, after making room for it.
    pub fn create(&self, product: &Product) -> Result<PendingReport, StoreError> {
        let folder = self.root.join(product.directory());
        files::ensure_folder(&folder)?;
        let pending = PendingReport::create(&folder, self.limits)?;
        pending.make_room(0)?;
        Ok(pending)
    }

    /// Every report, the newest first; of one product only, if its folder's name is given.
    pub fn list(&self, product: Option<&str>) -> Result<Listing, StoreError> {
        let mut listing = list::list(&self.root)?;
        listing.entries.retain(|entry| product.is_none_or(|product| entry.location.product == product));
        Ok(listing)
    }

    /// Where the report is whose id starts with `prefix`, if it is the only one. "latest" is the newest of all.
    pub fn find(&self, prefix: &str) -> Result<Location, StoreError> {
        list::find(&self.root, prefix)
    }

    /// The report whose id starts with `prefix`.
    pub fn load(&self, prefix: &str) -> Result<Report, StoreError> {
        self.find(prefix)?.read()
    }

    /// Reads a report, changes it and writes it again, atomically: a reader sees it before or after, and of two who change it
    /// at the same time neither loses what it wrote. A report of a newer schema is left as it is. Returns what was written.
    pub fn update(&self, prefix: &str, change: impl FnOnce(&mut Report)) -> Result<Report, StoreError> {
        let location = self.find(prefix)?;
        let locked = lock::lock(&location.folder).map_err(StoreError::io("lock", &location.folder))?;
        let mut report = location.read()?;
        change(&mut report);
        // One name for all: whoever is here has the lock, so what lies there is a leftover.
        let aside = location.file(".report.json.new");
        let mut file = files::replace_file(&aside)?;
        file.write_all(&report.to_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&aside, location.file(REPORT_JSON)))
            .map_err(StoreError::io("write", &aside))
            .inspect_err(|_| drop(fs::remove_file(&aside)))?;
        files::sync_folder(&location.folder)?;
        drop(locked);
        Ok(report)
    }

    /// Deletes a report.
    pub fn delete(&self, location: &Location) -> Result<(), StoreError> {
        prune::delete(&location.folder)
    }
}

/// Whether a folder's name is a report's id: a UUID in lower case with hyphens.
fn is_id(name: &str) -> bool {
    let hyphen = |at| matches!(at, 8 | 13 | 18 | 23);
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match byte {
            b'-' => hyphen(at),
            b'0'..=b'9' | b'a'..=b'f' => !hyphen(at),
            _ => false,
        })
}

#[cfg(test)]
mod tests;
