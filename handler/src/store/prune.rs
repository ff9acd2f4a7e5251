//! Keeping each product's reports within their limits: the oldest go first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aftermach_protocol::report::{SCHEMA, schema_of};

use super::files::{MAX_JSON, folders, plain_files, read_file};
use super::pending::DELETED;
use super::{REPORT_JSON, StoreError, is_id};

/// How much is kept of one product. A product that crashes over and over never costs another one its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Reports; at least 1.
    pub reports: usize,
    /// Bytes of all reports' files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        // A report takes about 1 MiB, one of a victim with hundreds of threads ten times that.
        Limits { reports: 1000, bytes: 2 << 30 }
    }
}

/// A report's folder as pruning sees it.
struct Kept {
    folder: PathBuf,
    bytes: u64,
    /// When its first file was finished. The folder's own time changes with every upload that is recorded.
    age: SystemTime,
}

/// Deletes the oldest reports in a product's folder until one more of `incoming` bytes fits.
///
/// Reports of a newer schema are neither deleted nor counted: a later version of the handler looks after them.
pub(super) fn make_room(product_folder: &Path, limits: Limits, incoming: u64) -> Result<(), StoreError> {
    if incoming > limits.bytes {
        return Err(StoreError::TooLarge { size: incoming, limit: limits.bytes });
    }
    let mut kept: Vec<Kept> = Vec::new();
    for name in folders(product_folder)?.into_iter().filter(|name| is_id(name)) {
        let folder = product_folder.join(name);
        // One that can't be looked into is another handler's deletion, or not ours to delete.
        let Ok(files) = plain_files(&folder) else { continue };
        let age = files.iter().filter_map(|(_, metadata)| metadata.modified().ok()).min();
        let bytes = files.iter().map(|(_, metadata)| metadata.len()).sum();
        kept.push(Kept { folder, bytes, age: age.unwrap_or(SystemTime::UNIX_EPOCH) });
    }
    kept.sort_by(|one, other| (one.age, &one.folder).cmp(&(other.age, &other.folder)));
    let mut count = kept.len();
    let mut bytes: u64 = kept.iter().map(|report| report.bytes).sum();
    for report in kept {
        if count < limits.reports.max(1) && bytes.saturating_add(incoming) <= limits.bytes {
            break;
        }
        if !is_newer(&report.folder) {
            delete(&report.folder)?;
        }
        count -= 1;
        bytes -= report.bytes;
    }
    Ok(())
}

fn is_newer(folder: &Path) -> bool {
    let schema = read_file(&folder.join(REPORT_JSON), MAX_JSON).map(|bytes| schema_of(&bytes));
    matches!(schema, Ok(Ok(schema)) if schema > SCHEMA)
}

/// Deletes a report: it disappears at once, by a rename, and then piece by piece. That it is gone already is no error.
pub(super) fn delete(folder: &Path) -> Result<(), StoreError> {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        return Err(StoreError::BadName(folder.display().to_string()));
    };
    let hidden = folder.with_file_name(format!("{DELETED}{name}"));
    let result = fs::rename(folder, &hidden).and_then(|()| fs::remove_dir_all(&hidden));
    match result {
        // Another handler's clean-up may be taking the same folder apart.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(StoreError::io("delete", folder)),
    }
}
