//! What a store holds, and finding one report in it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aftermach_protocol::report::{Exception, Process, Product, ReadError, Report, Signature, Times, Upload, read};
use serde::Deserialize;

use super::files::{MAX_JSON, folders, plain_files, read_file};
use super::{REPORT_JSON, StoreError, is_id};
use crate::time::rfc3339;

/// Where a report is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its id.
    pub id: String,
    /// Its product's folder name.
    pub product: String,
    /// Its folder.
    pub folder: PathBuf,
}

impl Location {
    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bytes of one of its files, of at most 256 MiB.
    pub fn read_bytes(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        read_file(&self.file(name), MAX_JSON)
    }

    /// Its `report.json`.
    pub fn read(&self) -> Result<Report, StoreError> {
        let path = self.file(REPORT_JSON);
        let bytes = self.read_bytes(REPORT_JSON)?;
        Report::from_bytes(&bytes).map_err(|why| StoreError::Report { path, why })
    }
}

/// A report in a list.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub location: Location,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it happened, or when its first file was finished if the report does not say: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a report's folder.
#[derive(Debug)]
pub enum Contents {
    /// A report.
    Report(Box<Head>),
    /// A report that a later version wrote, with its schema.
    Newer(u32),
    /// Something that can't be read, and why.
    Damaged(String),
}

/// The parts of a report that a list shows. Threads and images, nearly all of a report's bytes, are skipped.
#[derive(Debug, Default, Deserialize)]
pub struct Head {
    /// See [`Report::report_id`].
    pub report_id: String,
    /// See [`Report::product`].
    #[serde(default)]
    pub product: Option<Product>,
    /// See [`Report::times`].
    #[serde(default)]
    pub times: Times,
    /// See [`Report::signature`].
    #[serde(default)]
    pub signature: Option<Signature>,
    /// See [`Report::exception`].
    #[serde(default)]
    pub exception: Exception,
    /// See [`Report::process`].
    #[serde(default)]
    pub process: Process,
    /// See [`Report::upload`].
    #[serde(default)]
    pub upload: Vec<Upload>,
}

/// What a store holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Its reports, the newest first.
    pub entries: Vec<Entry>,
    /// Folders of products that could not be read.
    pub unreadable: Vec<StoreError>,
}

/// Every report's location, without opening any. Folders that can't be read are returned beside.
pub(super) fn locations(root: &Path) -> Result<(Vec<Location>, Vec<StoreError>), StoreError> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for product in folders(root)?.into_iter().filter(|name| !name.starts_with('.')) {
        let folder = root.join(&product);
        match folders(&folder) {
            Ok(names) => found.extend(names.into_iter().filter(|name| is_id(name)).map(|id| Location {
                folder: folder.join(&id),
                product: product.clone(),
                id,
            })),
            Err(error) => unreadable.push(error),
        }
    }
    Ok((found, unreadable))
}

/// Every report with what a list shows of it.
pub(super) fn list(root: &Path) -> Result<Listing, StoreError> {
    let (found, unreadable) = locations(root)?;
    let mut entries: Vec<Entry> = found.into_iter().filter_map(entry).collect();
    entries.sort_by(|one, other| (&other.time, &other.location.id).cmp(&(&one.time, &one.location.id)));
    Ok(Listing { entries, unreadable })
}

/// `None` if the report was deleted meanwhile.
fn entry(location: Location) -> Option<Entry> {
    let (bytes, age, contents) = match plain_files(&location.folder) {
        Ok(files) => (
            files.iter().map(|(_, metadata)| metadata.len()).sum(),
            files.iter().filter_map(|(_, metadata)| metadata.modified().ok()).min(),
            contents(&location),
        ),
        Err(error) => (0, None, Contents::Damaged(error.to_string())),
    };
    if !location.folder.is_dir() {
        return None;
    }
    let time = match &contents {
        Contents::Report(head) => head.times.died.clone(),
        _ => None,
    };
    let time = time.unwrap_or_else(|| rfc3339(age.unwrap_or(SystemTime::UNIX_EPOCH)));
    Some(Entry { location, bytes, time, contents })
}

fn contents(location: &Location) -> Contents {
    let bytes = match read_file(&location.file(REPORT_JSON), MAX_JSON) {
        Ok(bytes) => bytes,
        Err(error) => return Contents::Damaged(error.to_string()),
    };
    match read::<Head>(&bytes) {
        Ok(head) if head.report_id != location.id => {
            Contents::Damaged(format!("its report.json is that of report {}", head.report_id.escape_debug()))
        }
        Ok(head) => Contents::Report(Box::new(head)),
        Err(ReadError::Newer(schema)) => Contents::Newer(schema),
        Err(ReadError::Damaged(why)) => Contents::Damaged(why),
    }
}

/// The one report whose id starts with `prefix`; "latest" is the newest.
pub(super) fn find(root: &Path, prefix: &str) -> Result<Location, StoreError> {
    if prefix == "latest" {
        let newest = list(root)?.entries.into_iter().next();
        return newest.map(|entry| entry.location).ok_or_else(|| StoreError::Empty(root.to_owned()));
    }
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(StoreError::BadId(prefix.to_owned()));
    }
    let prefix = prefix.to_ascii_lowercase();
    let (found, mut unreadable) = locations(root)?;
    let mut matching: Vec<Location> = found.into_iter().filter(|location| location.id.starts_with(&prefix)).collect();
    match (matching.len(), unreadable.pop()) {
        (0, Some(error)) => Err(error),
        (0, None) => Err(StoreError::NotFound(prefix)),
        (1, _) => Ok(matching.remove(0)),
        _ => Err(StoreError::Ambiguous {
            prefix,
            ids: matching.into_iter().map(|location| location.id).take(10).collect(),
        }),
    }
}
