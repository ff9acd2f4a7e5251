use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aftermach_protocol::report::{ReadError, SCHEMA, Upload, UploadState};

use super::*;

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aftermach-store-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn store(&self) -> Store {
        Store::open(self.0.join("store")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn product() -> Product {
    Product::new("com.example", "Tunnel", "").unwrap()
}

/// A report that died `minute` minutes after the epoch, with a minidump of `bytes` bytes, whose files are as old.
fn add(store: &Store, minute: u64, bytes: usize) -> Location {
    let pending = store.create(&product()).unwrap();
    let mut report = Report { schema: SCHEMA, report_id: pending.id().to_owned(), ..Report::default() };
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60);
    report.times.died = Some(crate::time::rfc3339(time));
    pending.write(MINIDUMP, &vec![7; bytes]).unwrap();
    pending.write(REPORT_JSON, &report.to_bytes()).unwrap();
    let id = pending.id().to_owned();
    let folder = pending.commit().unwrap();
    for name in [MINIDUMP, REPORT_JSON] {
        fs::File::open(folder.join(name)).unwrap().set_modified(time).unwrap();
    }
    Location { id, product: product().directory(), folder }
}

fn ids(store: &Store) -> Vec<String> {
    store.list(None).unwrap().entries.into_iter().map(|entry| entry.location.id).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_report_appears_whole_and_for_its_owner_only() {
    let folder = Folder::new();
    let store = folder.store();
    let pending = store.create(&product()).unwrap();
    pending.write(MINIDUMP, b"MDMP").unwrap();
    assert!(ids(&store).is_empty());
    let report = Report { schema: SCHEMA, report_id: pending.id().to_owned(), ..Report::default() };
    pending.write(REPORT_JSON, &report.to_bytes()).unwrap();
    assert!(ids(&store).is_empty());
    let id = pending.id().to_owned();
    let at = pending.commit().unwrap();
    assert_eq!(at, store.root().join("com.example.Tunnel").join(&id));
    assert_eq!(store.load(&id).unwrap(), report);
    assert_eq!(ids(&store), [id]);
    assert_eq!([mode(store.root()), mode(at.parent().unwrap()), mode(&at)], [0o700; 3]);
    assert_eq!([mode(&at.join(MINIDUMP)), mode(&at.join(REPORT_JSON))], [0o600; 2]);
}

#[test]
fn a_report_that_is_not_committed_leaves_nothing() {
    let folder = Folder::new();
    let store = folder.store();
    let pending = store.create(&product()).unwrap();
    pending.write(MINIDUMP, b"MDMP").unwrap();
    // Without its report.json it is no report.
    assert!(matches!(pending.commit(), Err(StoreError::NoFile(_))));
    assert_eq!(fs::read_dir(store.root().join(product().directory())).unwrap().count(), 0);
}

#[test]
fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not() {
    let folder = Folder::new();
    let store = folder.store();
    let living = store.create(&product()).unwrap();
    living.write(MINIDUMP, b"MDMP").unwrap();
    let products = store.root().join(product().directory());
    let dead = products.join(".new-6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
    let half_deleted = products.join(".deleted-6f9619ff-8b86-4d01-b42d-00cf4fc964fe");
    for leftover in [&dead, &half_deleted] {
        fs::create_dir(leftover).unwrap();
        fs::write(leftover.join(REPORT_JSON), b"{").unwrap();
    }
    assert!(ids(&store).is_empty());
    let second = Store::open(store.root()).unwrap();
    assert!(!dead.exists() && !half_deleted.exists());
    assert!(living.folder().join(MINIDUMP).exists());
    living.write(REPORT_JSON, br#"{"schema":1,"report_id":""}"#).unwrap();
    living.commit().unwrap();
    assert_eq!(second.list(None).unwrap().entries.len(), 1);
}

#[test]
fn a_file_name_that_leaves_the_folder_is_refused() {
    let folder = Folder::new();
    let pending = folder.store().create(&product()).unwrap();
    for name in ["", ".", "..", "../x", "/x", ".hidden", "a\0b"] {
        assert!(matches!(pending.write(name, b""), Err(StoreError::BadName(_))), "{name:?}");
    }
}

#[test]
fn the_list_is_newest_first_and_latest_is_its_first() {
    let folder = Folder::new();
    let store = folder.store();
    let two = add(&store, 2, 0);
    let three = add(&store, 3, 0);
    let one = add(&store, 1, 0);
    assert_eq!(ids(&store), [&three.id[..], &two.id, &one.id]);
    assert_eq!(store.find("latest").unwrap(), three);
}

#[test]
fn a_report_is_found_by_the_start_of_its_id() {
    let folder = Folder::new();
    let store = folder.store();
    let one = add(&store, 1, 0);
    assert_eq!(store.find(&one.id[..8]).unwrap(), one);
    assert_eq!(store.find(&one.id.to_uppercase()).unwrap(), one);
    let sister = one.folder.with_file_name(format!("{}0", &one.id[..35]));
    if !sister.exists() {
        fs::create_dir(&sister).unwrap();
        assert!(matches!(store.find(&one.id[..8]), Err(StoreError::Ambiguous { ids, .. }) if ids.len() == 2));
    }
    assert!(matches!(store.find("../etc"), Err(StoreError::BadId(_))));
    assert!(matches!(store.find(""), Err(StoreError::BadId(_))));
    let absent = if one.id.starts_with('0') { "1" } else { "0" };
    assert!(matches!(store.find(absent), Err(StoreError::NotFound(_))));
}

#[test]
fn at_the_report_limit_the_oldest_goes() {
    let folder = Folder::new();
    let store = Store::open_with(folder.0.join("store"), Limits { reports: 3, ..Limits::default() }).unwrap();
    let all: Vec<Location> = [5, 3, 4].into_iter().map(|minute| add(&store, minute, 10)).collect();
    assert_eq!(ids(&store).len(), 3);
    let newest = add(&store, 6, 10);
    assert_eq!(ids(&store), [&newest.id[..], &all[0].id, &all[2].id]);
}

#[test]
fn at_the_byte_limit_as_many_go_as_needed() {
    let folder = Folder::new();
    let json = Report { schema: SCHEMA, report_id: "x".repeat(36), ..Report::default() };
    let json = json.to_bytes().len() as u64 + 64;
    let store = Store::open_with(folder.0.join("store"), Limits { reports: 100, bytes: 30_000 + 3 * json }).unwrap();
    let three: Vec<Location> = [1, 2, 3].into_iter().map(|minute| add(&store, minute, 10_000)).collect();
    assert_eq!(ids(&store).len(), 3);
    let newest = add(&store, 4, 15_000);
    assert_eq!(ids(&store), [&newest.id[..], &three[2].id]);
    let pending = store.create(&product()).unwrap();
    pending.write(REPORT_JSON, &[b' '; 40_000]).unwrap();
    assert!(matches!(pending.commit(), Err(StoreError::TooLarge { size: 40_000, .. })));
    assert_eq!(ids(&store).len(), 2);
}

#[test]
fn recording_an_upload_makes_a_report_no_younger() {
    let folder = Folder::new();
    let store = Store::open_with(folder.0.join("store"), Limits { reports: 2, ..Limits::default() }).unwrap();
    let old = add(&store, 1, 10);
    let new = add(&store, 2, 10);
    store.update(&old.id, |report| report.upload.push(Upload::default())).unwrap();
    let newest = add(&store, 3, 10);
    assert_eq!(ids(&store), [newest.id, new.id]);
}

#[test]
fn one_products_crash_loop_costs_another_none_of_its_reports() {
    let folder = Folder::new();
    let store = Store::open_with(folder.0.join("store"), Limits { reports: 1, ..Limits::default() }).unwrap();
    let ours = add(&store, 1, 10);
    let other = Product::new("com.example", "Other", "").unwrap();
    for _ in 0..3 {
        let pending = store.create(&other).unwrap();
        pending.write(REPORT_JSON, b"{}").unwrap();
        pending.commit().unwrap();
    }
    assert_eq!(store.list(Some("com.example.Other")).unwrap().entries.len(), 1);
    assert_eq!(store.list(Some("com.example.Tunnel")).unwrap().entries[0].location, ours);
}

#[test]
fn a_report_of_a_newer_schema_is_listed_but_neither_pruned_nor_rewritten() {
    let folder = Folder::new();
    let store = Store::open_with(folder.0.join("store"), Limits { reports: 1, ..Limits::default() }).unwrap();
    let newer = add(&store, 1, 10);
    let future = br#"{"schema":2,"everything":"is different"}"#;
    fs::write(newer.file(REPORT_JSON), future).unwrap();
    let ours = add(&store, 2, 10);
    let later = add(&store, 3, 10);
    assert!(!ours.folder.exists());
    let entries = store.list(None).unwrap().entries;
    let contents = entries.iter().find(|entry| entry.location == newer).map(|entry| &entry.contents);
    assert!(matches!(contents, Some(Contents::Newer(2))), "{contents:?}");
    assert!(later.folder.exists());
    let refused = store.update(&newer.id, |report| report.upload.clear());
    assert!(matches!(refused, Err(StoreError::Report { why: ReadError::Newer(2), .. })));
    assert_eq!(fs::read(newer.file(REPORT_JSON)).unwrap(), future);
}

#[test]
fn a_damaged_report_is_listed_as_such_whatever_lies_there() {
    let folder = Folder::new();
    let store = folder.store();
    let damage: [fn(&Path); 7] = [
        |json| fs::write(json, b"").unwrap(),
        |json| fs::write(json, b"{\"schema\":1,").unwrap(),
        |json| fs::write(json, b"{\"schema\":1,\"report_id\":\"somebody else's\\u001b[2J\"}").unwrap(),
        |json| fs::remove_file(json).unwrap(),
        |json| {
            fs::remove_file(json).unwrap();
            fs::create_dir(json).unwrap();
        },
        |json| {
            fs::remove_file(json).unwrap();
            symlink("/dev/zero", json).unwrap();
        },
        |json| {
            // Opening a pipe to read waits for a writer that never comes.
            fs::remove_file(json).unwrap();
            let made = std::process::Command::new("mkfifo").arg(json).status().unwrap();
            assert!(made.success());
        },
    ];
    for (minute, damage) in damage.into_iter().enumerate() {
        let location = add(&store, minute as u64, 10);
        damage(&location.file(REPORT_JSON));
        let entries = store.list(None).unwrap().entries;
        let entry = entries.iter().find(|entry| entry.location == location).unwrap();
        let Contents::Damaged(why) = &entry.contents else { panic!("{:?}", entry.contents) };
        assert!(!why.is_empty() && !why.contains('\x1b'), "{why:?}");
        assert!(store.load(&location.id).is_err() || minute == 2);
    }
    assert_eq!(store.list(None).unwrap().entries.len(), 7);
}

#[test]
fn two_who_record_an_upload_at_once_both_keep_theirs() {
    let folder = Folder::new();
    let store = folder.store();
    let location = add(&store, 1, 10);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (store, id) = (&store, &location.id);
            scope.spawn(move || {
                for _ in 0..10 {
                    let state = UploadState::Retry;
                    let upload = Upload { profile: format!("{writer}"), state, ..Upload::default() };
                    store.update(id, |report| report.upload.push(upload)).unwrap();
                }
            });
        }
    });
    assert_eq!(store.load(&location.id).unwrap().upload.len(), 40);
    assert_eq!(fs::read_dir(&location.folder).unwrap().count(), 2);
}

#[test]
fn many_handlers_write_one_store_at_once() {
    let folder = Folder::new();
    let root = folder.0.join("store");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for minute in 0..5 {
                    add(&Store::open_with(&root, Limits { reports: 10, bytes: 1 << 20 }).unwrap(), minute, 100);
                }
            });
        }
    });
    let entries = Store::open_existing(&root).unwrap().list(None).unwrap().entries;
    assert!(entries.iter().all(|entry| matches!(entry.contents, Contents::Report(_))));
    // Whoever counts just before another's rename keeps one too many.
    assert!((1..=17).contains(&entries.len()), "{}", entries.len());
    add(&Store::open_with(&root, Limits { reports: 10, bytes: 1 << 20 }).unwrap(), 9, 100);
    assert!(ids(&Store::open_existing(&root).unwrap()).len() <= 10);
    assert_eq!(fs::read_dir(root.join(product().directory())).unwrap().count(), ids(&folder.store()).len());
}

#[test]
fn a_store_that_is_not_there_is_said_to_be_so() {
    let folder = Folder::new();
    let error = Store::open_existing(folder.0.join("none")).unwrap_err();
    assert!(error.to_string().ends_with("/none"), "{error}");
    fs::write(folder.0.join("file"), b"").unwrap();
    assert!(matches!(Store::open(folder.0.join("file")), Err(StoreError::Io { .. })));
    assert!(matches!(folder.store().find("latest"), Err(StoreError::Empty(_))));
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_beside_the_list() {
    let folder = Folder::new();
    let store = folder.store();
    let location = add(&store, 1, 10);
    let closed = store.root().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&closed).is_ok() {
        println!("SKIP: this user may read everything");
        return;
    }
    let listing = store.list(None).unwrap();
    assert_eq!((listing.entries.len(), listing.unreadable.len()), (1, 1));
    assert_eq!(store.find(&location.id).unwrap(), location);
}

#[test]
fn a_deleted_report_is_gone_and_deleting_it_again_is_no_error() {
    let folder = Folder::new();
    let store = folder.store();
    let location = add(&store, 1, 10);
    store.delete(&location).unwrap();
    store.delete(&location).unwrap();
    assert_eq!(fs::read_dir(store.root().join(product().directory())).unwrap().count(), 0);
}

#[test]
fn an_exported_minidump_is_the_same_bytes() {
    let folder = Folder::new();
    let store = folder.store();
    let location = add(&store, 1, 100_000);
    let bytes = fs::read(location.file(MINIDUMP)).unwrap();
    let file = folder.0.join("out.dmp");
    assert_eq!(export_minidump(&location, &file, false).unwrap(), file);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert!(matches!(export_minidump(&location, &file, false), Err(StoreError::Exists(_))));
    fs::write(&file, b"old").unwrap();
    export_minidump(&location, &file, true).unwrap();
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let named = export_minidump(&location, &folder.0, false).unwrap();
    assert_eq!(named, folder.0.join(format!("{}.dmp", location.id)));
    assert!(export_minidump(&location, &folder.0.join("none/out.dmp"), false).is_err());
    fs::remove_file(location.file(MINIDUMP)).unwrap();
    assert!(matches!(export_minidump(&location, &folder.0.join("x"), false), Err(StoreError::NoFile(_))));
    // The two copies and the store; nothing half-written.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3);
}

#[test]
fn exporting_onto_a_device_writes_into_it_and_does_not_replace_it() {
    let folder = Folder::new();
    let location = add(&folder.store(), 1, 100);
    let before = fs::metadata("/dev/null").unwrap().rdev();
    export_minidump(&location, Path::new("/dev/null"), true).unwrap();
    assert_eq!(fs::metadata("/dev/null").unwrap().rdev(), before);
}

#[test]
fn an_exported_bundle_has_every_file_but_no_leftover() {
    let folder = Folder::new();
    let location = add(&folder.store(), 1, 100);
    fs::write(location.file(".report.json.new"), b"{").unwrap();
    let bundle = export_bundle(&location, &folder.0).unwrap();
    assert_eq!(bundle, folder.0.join(&location.id));
    let names: Vec<String> = files::plain_files(&bundle).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [MINIDUMP, REPORT_JSON]);
    assert!(matches!(export_bundle(&location, &folder.0), Err(StoreError::Exists(_))));
}
