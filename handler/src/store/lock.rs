//! Locks on folders: `flock` on the open folder itself. The kernel drops them with the process, however it ends, and no lock
//! file is left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What came of an attempt to lock.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is ours until the file is dropped.
    Locked(File),
    /// Another process has it.
    Taken,
    /// The file system knows no locks (some network ones).
    Unsupported(File),
}

/// Tries to lock a folder without waiting.
pub(super) fn try_lock(folder: &Path) -> io::Result<Attempt> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(Attempt::Locked(file)),
        Err(TryLockError::WouldBlock) => Ok(Attempt::Taken),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Attempt::Unsupported(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks a folder, waiting for whoever has it. Holders keep it only while they rewrite one small file.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    match file.lock() {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(file),
    }
}

/// Whether `path` still names the folder that was opened: it may have been renamed or removed before it was locked.
pub(super) fn is_still(path: &Path, opened: &File) -> bool {
    let (Ok(there), Ok(opened)) = (fs::symlink_metadata(path), opened.metadata()) else { return false };
    (there.dev(), there.ino()) == (opened.dev(), opened.ino())
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EOPNOTSUPP))
}
