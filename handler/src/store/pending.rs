//! A report that is being written: a hidden folder beside the others, which becomes a report by one rename.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::files::{create_file, create_folder, folders, open_file, plain_files, sync_folder};
use super::lock::{self, Attempt};
use super::prune::{self, Limits};
use super::{REPORT_JSON, StoreError};

/// Bytes that are written at a time.
const PIECE: usize = 64 << 10;
/// Files that are synced at the same time; a report has three.
const MOST_THREADS: usize = 4;

/// Folders of reports that are being written.
pub(super) const NEW: &str = ".new-";
/// Folders of reports that are being deleted.
pub(super) const DELETED: &str = ".deleted-";

/// A report that is being written. Dropped without [`PendingReport::commit`], nothing of it stays.
#[derive(Debug)]
pub struct PendingReport {
    id: String,
    product_folder: PathBuf,
    folder: PathBuf,
    limits: Limits,
    committed: bool,
    /// Holds the lock that tells a living writer's folder from a leftover.
    _lock: File,
}

impl PendingReport {
    /// Starts a report in a product's folder.
    pub(super) fn create(product_folder: &Path, limits: Limits) -> Result<PendingReport, StoreError> {
        loop {
            let id = Uuid::new_v4().to_string();
            let folder = product_folder.join(format!("{NEW}{id}"));
            create_folder(&folder).map_err(StoreError::io("create", &folder))?;
            // Between these two lines another handler may take the folder for a leftover: then it has the lock, or the
            // folder is gone, and another folder is made.
            let locked = match lock::try_lock(&folder) {
                Ok(Attempt::Locked(file) | Attempt::Unsupported(file)) if lock::is_still(&folder, &file) => file,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let _ = fs::remove_dir(&folder);
                    return Err(StoreError::io("lock", &folder)(error));
                }
            };
            let product_folder = product_folder.to_owned();
            return Ok(PendingReport { id, product_folder, folder, limits, committed: false, _lock: locked });
        }
    }

    /// The report's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder to write into. It moves with [`PendingReport::commit`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a file of the report.
    pub fn create_file(&self, name: &str) -> Result<File, StoreError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(StoreError::BadName(name.to_owned()));
        }
        create_file(&self.folder.join(name))
    }

    /// Writes a whole file of the report.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = self.create_file(name)?;
        file.write_all(bytes).map_err(StoreError::io("write", &self.folder.join(name)))
    }

    /// Writes a whole file of the report as `write` gives it out, piece by piece.
    pub fn write_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut out = BufWriter::with_capacity(PIECE, self.create_file(name)?);
        write(&mut out).and_then(|()| out.flush()).map_err(StoreError::io("write", &self.folder.join(name)))
    }

    /// Deletes the oldest reports of the product until `bytes` more fit. Worth calling before a large file is written;
    /// [`PendingReport::commit`] does it again with the real size.
    pub fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        prune::make_room(&self.product_folder, self.limits, bytes)
    }

    /// The report's files so far, with their sizes in bytes.
    pub fn files(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(plain_files(&self.folder)?.into_iter().map(|(name, metadata)| (name, metadata.len())).collect())
    }

    /// Puts everything on the disk, makes room, and lets the report appear, all of it at once. Returns its folder.
    pub fn commit(mut self) -> Result<PathBuf, StoreError> {
        let files = self.files()?;
        if !files.iter().any(|(name, _)| name == REPORT_JSON) {
            return Err(StoreError::NoFile(self.folder.join(REPORT_JSON)));
        }
        self.make_room(files.iter().map(|(_, bytes)| bytes).sum())?;
        self.sync(&files)?;
        let folder = self.product_folder.join(&self.id);
        fs::rename(&self.folder, &folder).map_err(StoreError::io("rename", &self.folder))?;
        self.committed = true;
        sync_folder(&self.product_folder)?;
        Ok(folder)
    }
}

impl PendingReport {
    /// Waits until the files and their names are on the disk: all at the same time, since a journal takes them in one turn. Only
    /// when all of it is there may the folder get its real name.
    fn sync(&self, files: &[(String, u64)]) -> Result<(), StoreError> {
        let sync = |name: &str| {
            let path = self.folder.join(name);
            open_file(&path)?.sync_all().map_err(StoreError::io("write", &path))
        };
        thread::scope(|scope| {
            let start = |(name, _): &'_ (String, u64)| {
                let name = name.clone();
                let own = name.clone();
                let thread = thread::Builder::new().name("sync".to_owned());
                (name, thread.spawn_scoped(scope, move || sync(&own)))
            };
            let threads: Vec<_> = files.iter().take(MOST_THREADS).map(start).collect();
            let rest = files.iter().skip(MOST_THREADS).map(|(name, _)| sync(name));
            let rest: Result<(), StoreError> = rest.collect();
            let names = sync_folder(&self.folder);
            for (name, thread) in threads {
                match thread.map(|thread| thread.join()) {
                    Ok(Ok(synced)) => synced?,
                    // It could not be started, or has panicked.
                    Ok(Err(_)) | Err(_) => sync(&name)?,
                }
            }
            rest.and(names)
        })
    }
}

impl Drop for PendingReport {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// How old an unfinished folder must be to be a leftover, where the file system knows no locks.
const SURELY_DEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what killed writers left in a product's folder. What can't be removed stays for the next time.
pub(super) fn remove_leftovers(product_folder: &Path) -> Result<(), StoreError> {
    for name in folders(product_folder)? {
        let path = product_folder.join(&name);
        let dead = if name.starts_with(DELETED) {
            true
        } else if name.starts_with(NEW) {
            match lock::try_lock(&path) {
                // The lock is held while the folder goes: a writer that is about to lock it sees that it lost it.
                Ok(Attempt::Locked(_held)) => {
                    let _ = fs::remove_dir_all(&path);
                    false
                }
                Ok(Attempt::Unsupported(_)) => is_older(&path, SURELY_DEAD),
                Ok(Attempt::Taken) | Err(_) => false,
            }
        } else {
            false
        };
        if dead {
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|passed| passed > age))
}
