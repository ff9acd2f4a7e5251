//! `aftermach collect` and `aftermach upload` as programs.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Collector, Folder, Stored, dump};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn aftermach(arguments: &[&str], store: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aftermach"));
    command.args(arguments).arg("--store").arg(store).stdin(Stdio::null()).env_remove("AFTERMACH_UPLOAD_TO");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that goes with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_report_is_sent_with_a_yes_and_not_without() {
    let collector = Collector::new();
    let stored = Stored::new(dump(b"tool"));
    let store = stored.folder.path("store");
    let to = collector.url("/submit");

    let output = aftermach(&["upload", "latest", "--to", &to], &store);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--yes"), "{}", text(&output.stderr));
    assert_eq!(collector.kept(), [""; 0]);

    let output = aftermach(&["upload", "latest", "--to", &to, "--yes"], &store);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&stored.location.id));
    assert_eq!(collector.dump_of(&stored.location.id), stored.dump);
}

#[test]
fn consent_is_set_once_and_heeded() {
    let collector = Collector::new();
    let stored = Stored::new(dump(b"consent"));
    let store = stored.folder.path("store");
    let to = collector.url("/submit");

    assert_eq!(aftermach(&["upload", "--consent", "never"], &store).status.code(), Some(0));
    let output = aftermach(&["upload", "latest", "--to", &to, "--yes"], &store);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("switched off"), "{}", text(&output.stderr));
    assert_eq!(collector.kept(), [""; 0]);

    assert_eq!(aftermach(&["upload", "--consent", "always"], &store).status.code(), Some(0));
    assert_eq!(aftermach(&["upload", "latest", "--to", &to], &store).status.code(), Some(0));
    assert_eq!(collector.kept().len(), 1);
}

#[test]
fn a_dry_run_sends_nothing_and_its_body_can_be_posted_by_others() {
    let collector = Collector::new();
    let stored = Stored::new(dump(b"dry"));
    let store = stored.folder.path("store");
    let body = stored.folder.path("body");
    let to = format!("http://{KEY}@{}/1", collector.address());
    let output = aftermach(&["upload", "latest", "--to", &to, "--dry-run", "--body", body.to_str().unwrap()], &store);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(!shown.contains(KEY), "{shown}");
    assert_eq!(collector.kept(), [""; 0]);

    let header = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let bytes = std::fs::read(&body).unwrap();
    assert_eq!(header("Content-Length: "), bytes.len().to_string());
    let answer = collector.post("/api/1/minidump/", &header("Content-Type: "), &bytes);
    assert_eq!(answer.text(), stored.location.id);
    assert_eq!(collector.dump_of(&stored.location.id), stored.dump);
}

#[test]
fn the_exit_status_tells_refused_from_not_now() {
    let stored = Stored::new(dump(b"status"));
    let store = stored.folder.path("store");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = aftermach(&["upload", "latest", "--to", &format!("http://{nobody}/?key={KEY}"), "--yes"], &store);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains(KEY), "{}", text(&output.stderr));

    let collector = Collector::new();
    let output = aftermach(&["upload", "latest", "--to", &collector.url("/nothing"), "--yes"], &store);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no crash server at this address"), "{}", text(&output.stderr));

    for wrong in [
        &["upload", "latest", "--to", "ftp://x"][..],
        &["upload", "latest"],
        &["upload", "zz", "--to", "http://127.0.0.1:1"],
    ] {
        let output = aftermach(wrong, &store);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(text(&output.stderr).starts_with("aftermach: "), "{}", text(&output.stderr));
    }
}

#[test]
fn the_collector_says_where_it_is_and_ends_on_a_signal() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aftermach"));
    command.args(["collect", "--listen", "127.0.0.1:0", "--store"]).arg(folder.path("crashes"));
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().trim_end_matches('/').to_owned();

    // A second one at the same place says what is wrong, and the first goes on.
    let output = aftermach(&["collect", "--listen", &address], &folder.path("other"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the port is in use"), "{}", text(&output.stderr));
    let stored = Stored::new(dump(b"signal"));
    let to = format!("http://{address}/submit");
    let output = aftermach(&["upload", "latest", "--to", &to, "--yes"], &stored.folder.path("store"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let killed = Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_collector_refuses_what_it_cannot_serve() {
    let folder = Folder::new();
    std::fs::write(folder.path("file"), "").unwrap();
    let cases = [
        (aftermach(&["collect", "--listen", "127.0.0.1:0"], &folder.path("file")), "can't use"),
        (aftermach(&["collect", "--listen", "0.0.0.0:0"], &folder.path("crashes")), "--allow-remote"),
    ];
    for (output, reason) in cases {
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
}
