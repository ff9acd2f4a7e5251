//! `aftermach doctor`, run as people and scripts run it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Folder, example, ptrace_works, tool};

const GROUP: &str = "com.example";
const NAME: &str = "Tunnel";

/// What the tool found, by `--json`, and its exit status.
struct Answer {
    status: i32,
    checks: Vec<Value>,
}

impl Answer {
    /// The verdict of a check, and what was found.
    #[track_caller]
    fn check(&self, name: &str) -> (&str, &str) {
        let check = self.checks.iter().find(|check| check["check"] == name).unwrap();
        (check["verdict"].as_str().unwrap(), check["found"].as_str().unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check["check"] == name)
    }
}

/// Runs it over a home of its own.
fn doctor(home: &Path, arguments: &[&str]) -> Answer {
    let mut command = tool();
    command.arg("doctor").arg("--json").args(arguments).arg("--store").arg(home.join("store"));
    command.env("XDG_RUNTIME_DIR", home).env_remove("AFTERMACH_UPLOAD_TO");
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["schema"], 1);
    let failed = answer["verdict"] == "failed";
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{answer:#}");
    Answer { status: output.status.code().unwrap(), checks: answer["checks"].as_array().unwrap().clone() }
}

struct Service(Child);

impl Service {
    fn start(home: &Path) -> Service {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aftermach-handler"))
            .args(["serve", "--group", GROUP, "--name", NAME, "--store"])
            .arg(home.join("store"))
            .env("XDG_RUNTIME_DIR", home)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("serving"), "{line:?}");
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Service(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_is_watched_from_before_its_start_to_after_its_end() {
    if !ptrace_works("a_service_is_watched_from_before_its_start_to_after_its_end") {
        return;
    }
    let folder = Folder::new("doctor-service");
    let home = folder.path();
    let product = ["--group", GROUP, "--name", NAME];
    let before = doctor(home, &product);
    assert_eq!((before.status, before.check("service-socket").0), (1, "failed"));
    assert_eq!(before.check("store-folder").0, "ok", "it is not there yet, which is no fault");

    let mut service = Service::start(home);
    // Without being told which product: its handler left its name in the store.
    let during = doctor(home, &[]);
    assert_eq!(during.status, 0);
    let pid = service.0.id().to_string();
    assert!(during.check("service-socket").1.contains(&pid));
    assert_eq!(during.check("service-answer"), ("ok", "it answers"));
    assert!(during.check("handler-state").1.contains(&pid));

    let mut client = Command::new(example("registered"));
    client.args([GROUP, NAME, "crash"]).env("XDG_RUNTIME_DIR", home).stdout(Stdio::null());
    assert_eq!(client.status().unwrap().signal(), Some(libc::SIGSEGV));
    // A worker writes the report, and then how the handler stands.
    let after = loop {
        let answer = doctor(home, &[]);
        if answer.check("handler-crashes").1.starts_with("1 crash taken") && answer.has("report-times") {
            break answer;
        }
    };
    assert!(after.check("report-newest").1.contains("died of SIGSEGV"));
    assert_eq!(after.check("report-times").0, "ok");

    service.0.kill().unwrap();
    service.0.wait().unwrap();
    let gone = doctor(home, &[]);
    assert_eq!((gone.status, gone.check("service-socket").0), (1, "failed"));
    assert_eq!(gone.check("handler-state").0, "warning");
    assert!(gone.check("handler-state").1.contains("is gone without having ended"));
}

#[test]
fn a_crash_of_its_own_is_caught_whole_and_leaves_nothing_behind() {
    if !ptrace_works("a_crash_of_its_own_is_caught_whole_and_leaves_nothing_behind") {
        return;
    }
    let folder = Folder::new("doctor-crash");
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let output = tool().args(["doctor", "--crash"]).env("TMPDIR", &temporary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for check in ["crash-caught", "crash-threads", "crash-frames", "crash-times", "crash-notes", "crash-minidump"] {
        assert!(text.lines().any(|line| line.starts_with("ok ") && line.contains(check)), "{check}: {text}");
    }
    assert!(text.contains("there are no ports on this system"), "{text}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn a_program_is_told_by_whether_it_links_the_client() {
    let folder = Folder::new("doctor-program");
    let with = example("registered");
    let linked = doctor(folder.path(), &["--program", with.to_str().unwrap()]);
    assert_eq!((linked.status, linked.check("program-client").0), (0, "ok"));
    let without = doctor(folder.path(), &["--program", env!("CARGO_BIN_EXE_aftermach-handler")]);
    assert_eq!((without.status, without.check("program-client").0), (1, "failed"));
    assert!(!without.has("store-folder"), "a program alone was asked about");
}

#[test]
fn what_is_wrong_with_a_store_and_its_settings_is_told_with_what_to_do() {
    let folder = Folder::new("doctor-store");
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(store.join("settings.json"), "{").unwrap();
    let answer = doctor(folder.path(), &["--upload-to", "http://crashes.example.com/submit?token=0123456789abcdef"]);
    assert_eq!(answer.status, 1);
    assert_eq!(answer.check("store-folder").0, "warning");
    assert_eq!(answer.check("uploads-consent").0, "failed");
    assert_eq!(answer.check("uploads-destination").0, "warning");
    assert!(answer.checks.iter().all(|check| check["verdict"] == "ok" || check["advice"].is_string()));
    assert!(!format!("{:?}", answer.checks).contains("0123456789abcdef"), "no key is shown");
}
