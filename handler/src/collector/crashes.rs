//! The collector's folders: one a crash, put together aside and renamed in, so that a crash is there whole or not at all.
//!
//! ```text
//! ROOT/.lock               held by the collector that serves this store
//! ROOT/.incoming/…         uploads that are not complete
//! ROOT/ID/minidump.dmp     the dump as it came, byte for byte
//! ROOT/ID/fields.json      the form's text fields
//! ROOT/ID/report.json      the report, if one came along
//! ROOT/ID/meta.json        what the list shows
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::meta::Meta;
use super::refusal::Refusal;

/// The dump's name in a crash's folder.
pub(super) const DUMP_FILE: &str = "minidump.dmp";
/// The report's.
pub(super) const REPORT_FILE: &str = "report.json";
/// The fields'.
pub(super) const FIELDS_FILE: &str = "fields.json";
const META_FILE: &str = "meta.json";
const LOCK_FILE: &str = ".lock";
const INCOMING: &str = ".incoming";

/// A larger file of our own making would be no file of our making.
const MAX_OWN_FILE: u64 = 16 << 20;
/// Most crashes that a list looks at, so that it fits in memory whatever was sent.
const MAX_LISTED: usize = 10_000;
/// Bytes compared at a time.
const BLOCK: usize = 64 * 1024;

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its folder can't be made, read or written.
    #[error("can't use {path} as the collector's store: {source}")]
    Unusable {
        /// The folder, or what in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another collector serves it.
    #[error("another collector is using {0}")]
    Locked(PathBuf),
}

/// A store of crashes.
#[derive(Debug)]
pub(super) struct Crashes {
    root: PathBuf,
    /// Two collectors would take each other's incoming uploads for leftovers. The lock goes with the process.
    _lock: File,
}

/// What a store holds of one id.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Whole(Box<Meta>),
    /// A folder of that name whose contents can't be read, and why.
    Damaged(Uuid, String),
}

impl Crashes {
    /// Opens the store in `root`, making the folder if need be, and removes what an earlier collector left incomplete.
    pub(super) fn open(root: &Path) -> Result<Crashes, StoreError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Unusable { path, source }
        };
        private_folders(root).map_err(unusable(root))?;
        let lock_path = root.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path)(error)),
        }
        let incoming = root.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&incoming)(error)),
            _ => {}
        }
        private_folders(&incoming).map_err(unusable(&incoming))?;
        fs::read_dir(root).map_err(unusable(root))?;
        Ok(Crashes { root: root.to_owned(), _lock: lock })
    }

    /// A place for an upload.
    pub(super) fn incoming(&self) -> Result<Incoming, Refusal> {
        let folder = self.root.join(INCOMING).join(Uuid::new_v4().to_string());
        private_folders(&folder).map_err(|error| Refusal::disk("can't keep the upload", &error))?;
        Ok(Incoming { folder })
    }

    /// Takes a complete upload in, under `wanted` if that is free. The same dump under the same id is the same crash, sent again:
    /// it is there already. Returns its id.
    pub(super) fn keep(&self, upload: Incoming, mut meta: Meta, wanted: Option<Uuid>) -> Result<Uuid, Refusal> {
        let refused = |error: io::Error| Refusal::disk("can't keep the crash", &error);
        let mut id = wanted.unwrap_or_else(Uuid::new_v4);
        loop {
            meta.id = id.hyphenated().to_string();
            let path = upload.folder.join(META_FILE);
            let _ = fs::remove_file(&path);
            upload.write(META_FILE, &meta.to_bytes())?;
            let target = self.folder(id);
            // Renaming onto a folder works only if that is empty, so two uploads of one id can't both win.
            match fs::rename(&upload.folder, &target) {
                Ok(()) => {
                    // The rename itself must outlive a power failure.
                    File::open(&self.root).and_then(|root| root.sync_all()).map_err(refused)?;
                    return Ok(id);
                }
                Err(_) if target.exists() => {
                    if same_bytes(&upload.folder.join(DUMP_FILE), &target.join(DUMP_FILE)).unwrap_or(false) {
                        return Ok(id);
                    }
                    id = Uuid::new_v4();
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// The newest crashes, the newest first, without their notes; and how many there are in all.
    pub(super) fn list(&self) -> io::Result<(Vec<Entry>, usize)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if let Some(id) = entry.file_name().to_str().and_then(parse_id) {
                // The folder changed last when the crash was put together, which is near enough to choose by.
                found.push((entry.metadata().and_then(|metadata| metadata.modified()).ok(), id));
            }
        }
        let count = found.len();
        found.sort_unstable_by(|a, b| b.cmp(a));
        let entries = found.into_iter().take(MAX_LISTED).filter_map(|(_, id)| self.entry(id));
        let mut entries: Vec<Entry> = entries.map(Entry::without_notes).collect();
        // Times are RFC 3339 in UTC with milliseconds: their order is the text's. What is damaged has none and comes last.
        entries.sort_by(|a, b| b.sort_key().cmp(&a.sort_key()));
        Ok((entries, count))
    }

    /// The crash of that id.
    pub(super) fn entry(&self, id: Uuid) -> Option<Entry> {
        let folder = self.folder(id);
        let bytes = match read_limited(&folder.join(META_FILE)) {
            Ok(bytes) => bytes,
            Err(_) if !folder.is_dir() => return None,
            Err(error) => return Some(Entry::Damaged(id, format!("{META_FILE}: {error}"))),
        };
        Some(match Meta::from_bytes(&bytes) {
            Ok(meta) => Entry::Whole(Box::new(Meta { id: id.hyphenated().to_string(), ..meta })),
            Err(error) => Entry::Damaged(id, format!("{META_FILE}: {error}")),
        })
    }

    /// A file of a crash, in memory; `None` if there is none.
    pub(super) fn read(&self, id: Uuid, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read_limited(&self.folder(id).join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The dump of a crash, whatever its size.
    pub(super) fn dump_path(&self, id: Uuid) -> PathBuf {
        self.folder(id).join(DUMP_FILE)
    }

    fn folder(&self, id: Uuid) -> PathBuf {
        self.root.join(id.hyphenated().to_string())
    }
}

impl Entry {
    fn without_notes(mut self) -> Entry {
        if let Entry::Whole(meta) = &mut self {
            meta.notes = Vec::new();
        }
        self
    }

    fn sort_key(&self) -> (&str, &str) {
        match self {
            Entry::Whole(meta) => (&meta.received, &meta.id),
            Entry::Damaged(..) => ("", ""),
        }
    }
}

/// An id as folders are named: hyphenated, lower case, and nothing else, so that no path can be said with it.
pub(super) fn parse_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text)
}

/// An upload that is not in the store yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Incoming {
    folder: PathBuf,
}

impl Incoming {
    /// A new file in it.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder.join(name))
    }

    /// A small file in it, on the disk when this returns.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let write = || {
            let mut file = self.create(name)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| Refusal::disk("can't keep the upload", &error))
    }

    /// Takes a file out again.
    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.folder.join(name));
    }

    /// Where a file is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Renamed into the store, it is not there any more.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn private_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_OWN_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_OWN_FILE {
        return Err(io::Error::other(format!("larger than {MAX_OWN_FILE} bytes")));
    }
    Ok(bytes)
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut block_a, mut block_b) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let read = a.read(&mut block_a)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut block_b[..read])?;
        if block_a[..read] != block_b[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Store {
        crashes: Crashes,
        root: PathBuf,
    }

    impl Store {
        fn new() -> Store {
            let root = std::env::temp_dir().join(format!("aftermach-crashes-{}", Uuid::new_v4()));
            Store { crashes: Crashes::open(&root).unwrap(), root }
        }

        fn keep(&self, dump: &[u8], received: &str, id: Option<Uuid>) -> Uuid {
            let upload = self.crashes.incoming().unwrap();
            upload.write(DUMP_FILE, dump).unwrap();
            self.crashes.keep(upload, Meta { received: received.into(), ..Meta::default() }, id).unwrap()
        }
    }

    impl Drop for Store {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn a_dump_sent_again_is_one_crash_and_another_under_its_id_is_a_second() {
        let store = Store::new();
        let id = Uuid::new_v4();
        assert_eq!(store.keep(b"one", "1", Some(id)), id);
        assert_eq!(store.keep(b"one", "2", Some(id)), id);
        let other = store.keep(b"two", "3", Some(id));
        assert_ne!(other, id);
        assert_eq!(store.crashes.list().unwrap().0.len(), 2);
        assert_eq!(fs::read(store.crashes.dump_path(id)).unwrap(), b"one");
        assert_eq!(fs::read(store.crashes.dump_path(other)).unwrap(), b"two");
        assert_eq!(fs::read_dir(store.root.join(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn the_list_has_the_newest_first_and_the_damaged_last() {
        let store = Store::new();
        let old = store.keep(b"a", "2026-01-01T00:00:00.000Z", None);
        let new = store.keep(b"b", "2026-01-02T00:00:00.000Z", None);
        let damaged = store.keep(b"c", "2026-01-03T00:00:00.000Z", None);
        fs::write(store.root.join(damaged.to_string()).join(META_FILE), "{").unwrap();
        fs::create_dir(store.root.join("not-a-crash")).unwrap();
        let (entries, count) = store.crashes.list().unwrap();
        let ids: Vec<String> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Whole(meta) => meta.id.clone(),
                Entry::Damaged(id, _) => format!("damaged {id}"),
            })
            .collect();
        assert_eq!(ids, [new.to_string(), old.to_string(), format!("damaged {damaged}")]);
        assert_eq!(count, 3);
    }

    #[test]
    fn an_upload_that_is_given_up_leaves_nothing() {
        let store = Store::new();
        let upload = store.crashes.incoming().unwrap();
        upload.write(DUMP_FILE, b"half").unwrap();
        drop(upload);
        assert_eq!(fs::read_dir(store.root.join(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_collector_left_incomplete_is_removed() {
        let store = Store::new();
        let upload = store.crashes.incoming().unwrap();
        upload.write(DUMP_FILE, b"half").unwrap();
        std::mem::forget(upload);
        let root = store.root.clone();
        assert!(matches!(Crashes::open(&root), Err(StoreError::Locked(_))));
        std::mem::forget(store);
        fs::remove_file(root.join(LOCK_FILE)).unwrap();
        let again = Crashes::open(&root).unwrap();
        assert_eq!(fs::read_dir(root.join(INCOMING)).unwrap().count(), 0);
        drop(Store { crashes: again, root });
    }

    #[test]
    fn an_id_can_name_no_other_place() {
        for text in [
            "..",
            "../x",
            "",
            "67E55044-10B1-426F-9247-BB680E5FE0C8",
            "67e5504410b1426f9247bb680e5fe0c8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
        ] {
            assert_eq!(parse_id(text), None, "{text}");
        }
        assert!(parse_id("67e55044-10b1-426f-9247-bb680e5fe0c8").is_some());
    }
}
