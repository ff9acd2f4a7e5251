//! `aftermach list`, `show`, `export` and `delete`, run as people run them.

#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use aftermach_handler::store::{Location, MINIDUMP, REPORT_JSON, Store};
use aftermach_protocol::product::Product;
use aftermach_protocol::report::{self, Exception, ExceptionKind, Process, Report, SCHEMA, Times};
use serde_json::Value;

/// A store of its own for each test, removed at its end.
struct Stored {
    folder: PathBuf,
    store: Store,
}

impl Stored {
    fn new() -> Stored {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("aftermach-commands-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let store = Store::open(folder.join("store")).unwrap();
        Stored { folder, store }
    }

    /// A report of `product` that died at `second` past three in the morning.
    fn add(&self, product: &str, second: u32) -> Location {
        let identity = Product::new("com.example", product, "").unwrap();
        let pending = self.store.create(&identity).unwrap();
        let summary =
            format!("Thread 0 of {product}d (pid 42) died of SIGSEGV: read from a null pointer in f (f.rs:{second})");
        let report = Report {
            schema: SCHEMA,
            report_id: pending.id().to_owned(),
            product: Some(report::Product { group: "com.example".into(), name: product.into(), ..Default::default() }),
            times: Times { died: Some(format!("2026-01-02T03:00:{second:02}.000Z")), ..Times::default() },
            exception: Exception { summary, kind: ExceptionKind::NullPointer, ..Exception::default() },
            process: Process { pid: 42, name: format!("{product}d"), ..Process::default() },
            ..Report::default()
        };
        let dump: Vec<u8> = (0..100_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        pending.write(MINIDUMP, &dump).unwrap();
        pending.write(REPORT_JSON, &report.to_bytes()).unwrap();
        let id = pending.id().to_owned();
        Location { id, product: identity.directory(), folder: pending.commit().unwrap() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).arg("--store").arg(self.store.root()).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aftermach"));
        command.args(arguments).current_dir(&self.folder).env("XDG_DATA_HOME", &self.folder).env("HOME", &self.folder);
        command
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command that fails says: nothing on standard output, one clear line on standard error.
#[track_caller]
fn bad(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(said.starts_with("aftermach: ") && said.lines().count() == 1, "{said}");
    said
}

#[test]
fn the_list_is_a_table_with_the_newest_first() {
    let stored = Stored::new();
    let first = stored.add("Tunnel", 1);
    let third = stored.add("Tunnel", 3);
    let second = stored.add("Other", 2);
    let list = good(&stored.run(&["list"]));
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 4, "{list}");
    assert_eq!(
        lines[1],
        format!(
            "{}  2026-01-02 03:00:03  Tunnel   Tunneld  died of SIGSEGV: read from a null pointer in f (f.rs:3)",
            &third.id[..8]
        )
    );
    assert!(lines[2].starts_with(&second.id[..8]) && lines[3].starts_with(&first.id[..8]), "{list}");
    assert_eq!(good(&stored.run(&["list", "--product", "Other"])).lines().count(), 2);
    assert_eq!(good(&stored.run(&["list", "--product", "com.example.Tunnel"])).lines().count(), 3);
    assert_eq!(good(&stored.run(&["list", "-n", "1"])).lines().count(), 2);
    let json: Value = serde_json::from_str(&good(&stored.run(&["list", "--json"]))).unwrap();
    let ids: Vec<&Value> = json.as_array().unwrap().iter().map(|object| &object["report_id"]).collect();
    assert_eq!(ids, [&third.id[..], &second.id, &first.id]);
    assert_eq!(json[0]["kind"], "null_pointer");
}

#[test]
fn what_cannot_be_read_is_listed_as_such() {
    let stored = Stored::new();
    let damaged = stored.add("Tunnel", 1);
    fs::write(damaged.file(REPORT_JSON), "{\"schema\":1").unwrap();
    let newer = stored.add("Tunnel", 2);
    fs::write(newer.file(REPORT_JSON), "{\"schema\":7,\"new\":\"\\u001b[2J\"}").unwrap();
    let list = good(&stored.run(&["list"]));
    assert!(list.contains("  damaged: EOF while parsing"), "{list}");
    assert!(list.contains("  written by a later version (schema 7)"), "{list}");
    let said = bad(&stored.run(&["show", &damaged.id]));
    assert!(said.contains("the report is damaged: EOF while parsing"), "{said}");
    let said = bad(&stored.run(&["show", &newer.id]));
    assert!(said.contains("the report has schema 7"), "{said}");
    let json = good(&stored.run(&["show", "--json", &newer.id]));
    assert_eq!(json, "{\n  \"schema\": 7,\n  \"new\": \"\\u001b[2J\"\n}\n");
}

#[test]
fn a_report_is_shown_by_the_start_of_its_id() {
    let stored = Stored::new();
    stored.add("Tunnel", 1);
    let latest = stored.add("Tunnel", 2);
    for id in [&latest.id[..9], &latest.id, "latest"] {
        let text = good(&stored.run(&["show", id]));
        assert!(
            text.starts_with("Thread 0 of Tunneld (pid 42) died of SIGSEGV: read from a null pointer in f (f.rs:2)\n")
        );
        assert!(text.contains(&format!("\nReport      {}\n", latest.id)), "{text}");
    }
    let json: Value = serde_json::from_str(&good(&stored.run(&["show", "--json", "latest"]))).unwrap();
    let file: Value = serde_json::from_slice(&fs::read(latest.file(REPORT_JSON)).unwrap()).unwrap();
    assert_eq!(json, file);
    assert!(bad(&stored.run(&["show", "../../etc"])).contains("is no report id"));
    assert!(bad(&stored.run(&["show", "ffffffff-ffff-ffff-ffff-ffffffffffff"])).contains("no report's id starts with"));
    assert!(bad(&stored.run(&["show", "-"])).contains("no report's id starts with"));
}

#[test]
fn a_store_that_is_not_there_is_an_error_but_a_first_day_is_not() {
    let stored = Stored::new();
    let missing = stored.folder.join("none");
    for arguments in [&["list"][..], &["show", "latest"], &["export", "latest"], &["delete", "latest"]] {
        let output = stored.command(arguments).arg("--store").arg(&missing).output().unwrap();
        assert!(bad(&output).contains("there is no report store at"), "{arguments:?}");
    }
    let first_day = stored.command(&["list"]).output().unwrap();
    assert_eq!(good(&first_day), "");
    assert_eq!(first_day.stderr, b"aftermach: no reports yet\n");
    assert_eq!(good(&stored.command(&["list", "--json"]).output().unwrap()), "[]\n");
    assert!(bad(&stored.run(&["show", "latest"])).contains("there are no reports in"));
    // What is there is a file.
    let output = stored.command(&["list", "--store", "/dev/null"]).output().unwrap();
    assert!(bad(&output).contains("there is no report store at /dev/null"));
}

#[test]
fn an_exported_dump_is_the_same_bytes_wherever_it_goes() {
    let stored = Stored::new();
    let location = stored.add("Tunnel", 1);
    let dump = fs::read(location.file(MINIDUMP)).unwrap();
    let named = good(&stored.run(&["export", "latest"]));
    assert_eq!(Path::new(named.trim_end()), Path::new(".").join(format!("{}.dmp", location.id)));
    assert_eq!(fs::read(stored.folder.join(named.trim_end())).unwrap(), dump);
    assert_eq!(good(&stored.run(&["export", "latest", "-o", "out.dmp"])), "out.dmp\n");
    assert_eq!(fs::read(stored.folder.join("out.dmp")).unwrap(), dump);
    assert!(
        bad(&stored.run(&["export", "latest", "-o", "out.dmp"]))
            .contains("out.dmp exists already; --force replaces it")
    );
    fs::write(stored.folder.join("out.dmp"), "old").unwrap();
    good(&stored.run(&["export", "latest", "-o", "out.dmp", "--force"]));
    assert_eq!(fs::read(stored.folder.join("out.dmp")).unwrap(), dump);
    assert_eq!(stored.run(&["export", "latest", "-o", "-"]).stdout, dump);
    assert!(bad(&stored.run(&["export", "latest", "-o", "none/out.dmp"])).contains("No such file or directory"));
    let bundle = good(&stored.run(&["export", "latest", "--bundle", "-o", "bundle"]));
    assert_eq!(fs::read(stored.folder.join(bundle.trim_end()).join(MINIDUMP)).unwrap(), dump);
    fs::remove_file(location.file(MINIDUMP)).unwrap();
    assert!(bad(&stored.run(&["export", "latest", "-o", "other.dmp"])).contains("the report has no"));
}

#[test]
fn one_wrong_id_and_nothing_is_deleted() {
    let stored = Stored::new();
    let reports: Vec<Location> = (1..5).map(|second| stored.add("Tunnel", second)).collect();
    let other = stored.add("Other", 9);
    bad(&stored.run(&["delete", &reports[0].id, "ffffffff-ffff"]));
    assert!(reports[0].folder.exists());
    let deleted = good(&stored.run(&["delete", &reports[0].id, &reports[0].id]));
    assert_eq!(deleted, format!("deleted {}\n", reports[0].id));
    assert!(!reports[0].folder.exists());
    fs::write(reports[1].file(REPORT_JSON), "damaged").unwrap();
    let deleted = good(&stored.run(&["delete", "--all", "--product", "com.example.Tunnel"]));
    assert_eq!(deleted.lines().count(), 3);
    assert!(other.folder.exists());
    good(&stored.run(&["delete", "--all"]));
    assert!(!other.folder.exists());
    // Neither ids nor --all: clap's own status for wrong usage.
    assert_eq!(stored.run(&["delete"]).status.code(), Some(2));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let stored = Stored::new();
    stored.add("Tunnel", 1);
    for arguments in [&["list"][..], &["show", "latest"], &["show", "--json", "latest"]] {
        let mut command = stored.command(arguments);
        let command = command.arg("--store").arg(stored.store.root()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("SKIP: there is no /dev/full here");
        return;
    };
    let stored = Stored::new();
    stored.add("Tunnel", 1);
    let mut command = stored.command(&["show", "latest", "--store"]);
    let output = command.arg(stored.store.root()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("can't write to standard output: No space left on device"), "{said}");
    let said = bad(&stored.run(&["export", "latest", "--output", "/dev/full"]));
    assert!(said.contains("can't write /dev/full: No space left on device"), "{said}");
}
