//! Files and folders for one user only, and on the disk when a function says so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;

/// Largest `report.json` that is read, in bytes. The builder's limits keep ours well under it.
pub(super) const MAX_JSON: u64 = 256 << 20;

/// Makes a folder that only its owner may enter.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes the folder, and those above it, unless it is there.
pub(super) fn ensure_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(StoreError::io("create", path))
}

/// Makes a file that is not there yet, for its owner only.
pub(super) fn create_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(StoreError::io("create", path))
}

/// Makes a file, or empties the one that is there.
pub(super) fn replace_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(StoreError::io("create", path))
}

/// Opens a plain file to read. A link that leads elsewhere or a pipe that would block is refused.
pub(super) fn open_file(path: &Path) -> Result<File, StoreError> {
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        Ok(file)
    };
    open().map_err(StoreError::io("read", path))
}

/// Reads a plain file of at most `limit` bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let file = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let why = io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"));
        return Err(StoreError::io("read", path)(why));
    }
    Ok(bytes)
}

/// Waits until a folder's entries are on the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io("write", path))
}

/// The plain files of a folder, one level deep, as (name, bytes, time of last change). Names that are not UTF-8 and what
/// vanishes meanwhile are left out.
pub(super) fn plain_files(folder: &Path) -> Result<Vec<(String, fs::Metadata)>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let entry = entry.map_err(StoreError::io("read", folder))?;
        // `DirEntry::metadata` does not follow links.
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if metadata.is_file() {
            files.push((name, metadata));
        }
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(files)
}

/// The names of the folders in a folder, sorted.
pub(super) fn folders(folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let entry = entry.map_err(StoreError::io("read", folder))?;
        if let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type())
            && kind.is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
