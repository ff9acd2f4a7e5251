//! The service with programs that link the client, as `docs/client.md` has them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use aftermach_handler::service::HandlerState;
use aftermach_handler::store::Store;
use aftermach_protocol::report::{ExceptionKind, Report};
use minidump::system_info::{Cpu, Os};
use support::{Folder, assert_functions, crashed, example, ptrace_works, tool};

const GROUP: &str = "com.example";
const NAME: &str = "Tunnel";

/// `aftermach-handler serve` with a runtime directory and a store of its own.
struct Service {
    folder: Folder,
    child: Child,
}

impl Service {
    fn start(name: &str) -> Service {
        let folder = Folder::new(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_aftermach-handler"))
            .args(["serve", "--group", GROUP, "--name", NAME, "--store"])
            .arg(folder.path().join("store"))
            .env("XDG_RUNTIME_DIR", folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("serving"), "{line:?}");
        // Read on, so that the service never waits for its log to be read.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        Service { folder, child }
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(example("registered"));
        command.args([GROUP, NAME]).args(arguments).env("XDG_RUNTIME_DIR", self.folder.path());
        command.stdout(Stdio::piped());
        command
    }

    /// Ends it as a supervisor would, and returns the reports.
    fn stop(self) -> Vec<Report> {
        let (_folder, reports) = self.stop_with_store();
        reports.into_iter().map(|(_, report)| report).collect()
    }

    /// As [`Service::stop`], with the reports' folders, which go with the first value.
    fn stop_with_store(mut self) -> (Folder, Vec<(PathBuf, Report)>) {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert!(self.child.wait().unwrap().success(), "the service ends in good order");
        let folder = std::mem::replace(&mut self.folder, Folder::none());
        let reports = support::reports_in(&folder.path().join("store"));
        (folder, reports)
    }
}

impl Drop for Service {
    /// A test that failed leaves no service behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_registered_program_is_reported_with_what_it_said_of_itself() {
    if !ptrace_works("a_registered_program_is_reported_with_what_it_said_of_itself") {
        return;
    }
    let service = Service::start("serve-one");
    let output = service.client(&["thread"]).output().unwrap();
    assert_eq!(output.stdout, b"registered\n");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    let reports = service.stop();
    let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    let product = report.product.as_ref().unwrap();
    assert_eq!((product.group.as_str(), product.name.as_str()), (GROUP, NAME));
    assert_eq!(product.version.as_deref(), Some("2.5"));
    assert_eq!(report.annotations.0, [("tunnel".to_owned(), "utun7".to_owned())]);
    let breadcrumbs: Vec<_> = report.breadcrumbs.iter().map(|breadcrumb| breadcrumb.text.as_str()).collect();
    assert_eq!(breadcrumbs, ["connected", "lost the network"]);
    assert_eq!(report.exception.address.map(|address| address.0), Some(24));
    assert_eq!(crashed(report).name, "packets");
    assert_functions(crashed(report), &["packet_loop"]);
}

#[test]
fn a_program_that_asks_is_reported_as_it_stands_and_goes_on() {
    if !ptrace_works("a_program_that_asks_is_reported_as_it_stands_and_goes_on") {
        return;
    }
    let service = Service::start("serve-dump");
    let output = service.client(&["dump", "1"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "registered\nreported\n");
    let (folder, reports) = service.stop_with_store();
    let [(path, report)] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    assert_eq!(report.exception.kind, ExceptionKind::Simulated);
    assert_eq!((report.exception.name.as_str(), &report.exception.signal), ("SIMULATED", &None));
    assert_eq!(report.annotations.0, [("tunnel".to_owned(), "utun7".to_owned())]);
    assert_eq!(crashed(report).name, "checker");
    assert_eq!(report.threads.len(), 2);
    assert_functions(crashed(report), &["aftermach_client::", "dump_without_crashing", "check_state"]);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let summary = &report.exception.summary;
    let start = "The program asked for this report and went on: Thread 1 \"checker\" of registered (pid ";
    assert!(summary.starts_with(start) && summary.contains("in registered::check_state (registered.rs:"), "{summary}");
    assert_eq!(report.signature.as_ref().unwrap().text, "simulated | registered::check_state");
    let text = std::fs::read_to_string(path.join("report.txt")).unwrap();
    assert!(text.starts_with(summary), "{text}");
    let dump = minidump::Minidump::read_path(path.join("minidump.dmp")).unwrap();
    let exception = dump.get_stream::<minidump::MinidumpException<'_>>().unwrap();
    assert_eq!(exception.get_crash_reason(Os::Linux, Cpu::X86_64).to_string(), "DUMP_REQUESTED");
    assert_eq!(u64::from(exception.get_crashing_thread_id()), crashed(report).id);
    drop(folder);
}

#[test]
fn a_program_that_asked_is_still_reported_when_it_crashes() {
    if !ptrace_works("a_program_that_asked_is_still_reported_when_it_crashes") {
        return;
    }
    let service = Service::start("serve-dump-and-crash");
    let output = service.client(&["dump", "2", "crash"]).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "registered\nreported\nreported\n");
    let mut kinds: Vec<_> = service.stop().into_iter().map(|report| report.exception.kind).collect();
    kinds.sort_by_key(|kind| *kind == ExceptionKind::Simulated);
    assert_eq!(kinds, [ExceptionKind::NullPointer, ExceptionKind::Simulated, ExceptionKind::Simulated]);
}

#[test]
fn a_program_that_asks_without_end_gets_ten_reports_and_is_told_so() {
    if !ptrace_works("a_program_that_asks_without_end_gets_ten_reports_and_is_told_so") {
        return;
    }
    let service = Service::start("serve-dumps");
    let output = service.client(&["dump", "30"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let reported = answers.lines().filter(|line| *line == "reported").count();
    let refused = answers.lines().filter(|line| line.contains("as many")).count();
    // Another one a minute: a slow machine may take longer than that.
    assert!(reported >= 10 && reported + refused == 30, "{answers}");
    assert_eq!(service.stop().len(), reported);
}

#[test]
fn many_registered_programs_that_die_at_once_are_all_reported() {
    if !ptrace_works("many_registered_programs_that_die_at_once_are_all_reported") {
        return;
    }
    const CLIENTS: usize = 20;
    let service = Service::start("serve-many");
    let clients: Vec<_> = (0..CLIENTS).map(|_| service.client(&["crash"]).spawn().unwrap()).collect();
    let pids: Vec<_> = clients.iter().map(|client| client.id() as i32).collect();
    for mut client in clients {
        assert_eq!(client.wait().unwrap().signal(), Some(libc::SIGSEGV));
    }
    let mut reported: Vec<_> = service.stop().iter().map(|report| report.process.pid).collect();
    reported.sort_unstable();
    let mut pids = pids;
    pids.sort_unstable();
    assert_eq!(reported, pids);
}

#[test]
fn a_child_of_a_client_is_a_stranger_unless_it_registers_itself() {
    if !ptrace_works("a_child_of_a_client_is_a_stranger_unless_it_registers_itself") {
        return;
    }
    let service = Service::start("serve-descendants");
    let program = tool().get_program().to_str().unwrap().to_owned();
    // It has its parent's memory, and with it the record that its parent installed.
    for how in ["fork", "fork-detach"] {
        assert!(service.client(&[how]).status().unwrap().success());
    }
    // The same process, another program: its record is gone with its memory.
    let executed = service.client(&["exec", &program, "crash", "null-read"]).status().unwrap();
    assert_eq!(executed.signal(), Some(libc::SIGSEGV));
    assert!(service.client(&["spawn", &program, "crash", "abort"]).status().unwrap().success());
    let mut parent = service.client(&["fork-install"]).spawn().unwrap();
    let pid = parent.id() as i32;
    assert!(parent.wait().unwrap().success());
    let reports = service.stop();
    let [report] = reports.as_slice() else { panic!("the child's alone that registered: {}", reports.len()) };
    assert_functions(crashed(report), &["packet_loop"]);
    assert_eq!((report.process.parent, report.process.pid == pid), (Some(pid), false));
}

#[test]
fn clients_outlive_the_service_and_run_without_it() {
    if !ptrace_works("clients_outlive_the_service_and_run_without_it") {
        return;
    }
    let mut service = Service::start("serve-killed");
    let mut client = service.client(&["input"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "registered\n");
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success(), "it reads the end of its input and exits as ever");
    let alone = service.client(&["crash"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(3), "without a service, the client says so");
}

#[test]
fn a_second_service_on_the_same_socket_is_refused() {
    if !ptrace_works("a_second_service_on_the_same_socket_is_refused") {
        return;
    }
    let service = Service::start("serve-twice");
    let second = Command::new(env!("CARGO_BIN_EXE_aftermach-handler"))
        .args(["serve", "--group", GROUP, "--name", NAME, "--store"])
        .arg(service.folder.path().join("store"))
        .env("XDG_RUNTIME_DIR", service.folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another service"), "{second:?}");
    assert!(service.stop().is_empty());
}

#[test]
fn a_running_service_tells_how_it_stands_and_one_that_was_killed_leaves_that_behind() {
    if !ptrace_works("a_running_service_tells_how_it_stands_and_one_that_was_killed_leaves_that_behind") {
        return;
    }
    let state = |store: &Store| {
        let mut found = store.handlers().unwrap();
        assert_eq!(found.len(), 1);
        let found = found.remove(0);
        (found.running, HandlerState::from_bytes(&found.bytes.unwrap()).unwrap())
    };
    let mut service = Service::start("serve-state");
    let store = Store::open_existing(service.folder.path().join("store")).unwrap();
    let (running, started) = state(&store);
    assert_eq!((running, started.pid, started.crashes), (Some(true), service.child.id(), 0));
    assert!(service.client(&["crash"]).status().unwrap().signal().is_some());
    let program = tool().get_program().to_str().unwrap().to_owned();
    assert!(service.client(&["spawn", &program, "crash", "abort"]).status().unwrap().success());
    // Written by a worker, soon: the last to be counted is the stranger.
    let told = loop {
        let (_, told) = state(&store);
        if told.strangers == 1 && told.crashes == 1 {
            break told;
        }
        std::thread::yield_now();
    };
    assert!(told.last_crash.is_some() && told.last_stranger.is_some() && told.ended.is_none(), "{told:?}");
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    let (running, left) = state(&store);
    assert_eq!((running, left.ended), (Some(false), None));
    drop(service);

    let service = Service::start("serve-state");
    let store = Store::open_existing(service.folder.path().join("store")).unwrap();
    // SAFETY: no memory is involved.
    unsafe { libc::kill(service.child.id() as i32, libc::SIGTERM) };
    let mut service = service;
    assert!(service.child.wait().unwrap().success());
    let (running, ended) = state(&store);
    assert_eq!((running, ended.ended.is_some()), (Some(false), true));
}
