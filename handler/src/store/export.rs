//! Copies of a report for elsewhere.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::files::{create_file, create_folder, open_file, plain_files};
use super::{Location, MINIDUMP, StoreError};

/// Copies a report's minidump, byte for byte, to `destination`: a file, or a folder that then has it as `ID.dmp`. A file
/// that is there already is replaced only if `overwrite`. Returns where it is.
///
/// The copy appears at once and whole, except on something that is not a plain file, such as a pipe: that is written into.
pub fn export_minidump(report: &Location, destination: &Path, overwrite: bool) -> Result<PathBuf, StoreError> {
    let source = report.file(MINIDUMP);
    if !fs::symlink_metadata(&source).is_ok_and(|metadata| metadata.is_file()) {
        return Err(StoreError::NoFile(source));
    }
    let target = match fs::metadata(destination) {
        Ok(there) if there.is_dir() => destination.join(format!("{}.dmp", report.id)),
        Ok(there) if !there.is_file() => {
            let mut target =
                OpenOptions::new().write(true).open(destination).map_err(StoreError::io("write", destination))?;
            io::copy(&mut open_file(&source)?, &mut target).map_err(StoreError::io("write", destination))?;
            return Ok(destination.to_owned());
        }
        _ => destination.to_owned(),
    };
    if !overwrite && fs::symlink_metadata(&target).is_ok() {
        return Err(StoreError::Exists(target));
    }
    let aside = aside(&target);
    let copied =
        copy(&source, &aside).and_then(|()| fs::rename(&aside, &target).map_err(StoreError::io("rename", &aside)));
    if let Err(error) = copied {
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    Ok(target)
}

/// Copies all of a report's files into a new folder: `destination`, or `destination/ID` if that is a folder already.
/// Returns where it is.
pub fn export_bundle(report: &Location, destination: &Path) -> Result<PathBuf, StoreError> {
    let target = if destination.is_dir() { destination.join(&report.id) } else { destination.to_owned() };
    if fs::symlink_metadata(&target).is_ok() {
        return Err(StoreError::Exists(target));
    }
    let files = plain_files(&report.folder)?;
    let aside = aside(&target);
    let copied = create_folder(&aside).map_err(StoreError::io("create", &aside)).and_then(|()| {
        for (name, _) in files.iter().filter(|(name, _)| !name.starts_with('.')) {
            copy(&report.file(name), &aside.join(name))?;
        }
        fs::rename(&aside, &target).map_err(StoreError::io("rename", &aside))
    });
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&aside);
        return Err(error);
    }
    Ok(target)
}

/// A hidden name in the same folder, for what is not whole yet.
fn aside(target: &Path) -> PathBuf {
    target.with_file_name(format!(".aftermach-{}", Uuid::new_v4()))
}

fn copy(source: &Path, target: &Path) -> Result<(), StoreError> {
    let (mut from, mut to) = (open_file(source)?, create_file(target)?);
    io::copy(&mut from, &mut to).map_err(StoreError::io("write", target))?;
    to.sync_all().map_err(StoreError::io("write", target))
}
