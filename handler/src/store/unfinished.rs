//! Folders of reports that are being written or deleted, or were when their handler was killed.

use std::path::PathBuf;

use super::files::folders;
use super::lock::{self, Attempt};
use super::pending::{DELETED, NEW};
use super::{Store, StoreError};

/// A hidden folder in a product's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The folder.
    pub path: PathBuf,
    /// Whether somebody is writing it now; `None` if that can't be told.
    pub alive: Option<bool>,
}

impl Store {
    /// The folders in it that are no reports yet, or no longer. The next handler to open the store removes those that are
    /// left over.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        for product in folders(self.root())?.into_iter().filter(|name| !name.starts_with('.')) {
            let folder = self.root().join(product);
            // What can't be read is told by the list of reports.
            for name in folders(&folder).unwrap_or_default() {
                let path = folder.join(&name);
                if name.starts_with(DELETED) {
                    found.push(Unfinished { path, alive: Some(false) });
                } else if name.starts_with(NEW) {
                    let alive = match lock::try_lock(&path) {
                        Ok(Attempt::Taken) => Some(true),
                        Ok(Attempt::Locked(_)) => Some(false),
                        Ok(Attempt::Unsupported(_)) => None,
                        // It became a report, or went, this very moment.
                        Err(_) => continue,
                    };
                    found.push(Unfinished { path, alive });
                }
            }
        }
        Ok(found)
    }

    /// How much is kept of a product.
    pub fn limits(&self) -> super::Limits {
        self.limits
    }
}
