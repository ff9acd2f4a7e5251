//! The service: clients that ask to be watched, and peers that ask for anything else.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::{env, fs, thread};

use aftermach_handler::host::linux::{self, HostError, ServeOptions, Stopper};
use aftermach_protocol::session::{self, Kind, Request, Status};

use crate::support::{Recorder, can_trace, ended, victim};

/// A service on a socket of its own.
pub(crate) struct Service {
    pub(crate) path: PathBuf,
    stopper: Stopper,
    thread: JoinHandle<(Result<(), HostError>, Recorder)>,
}

impl Service {
    pub(crate) fn start() -> Service {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("aftermach-test-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let stopper = Stopper::new().expect("an eventfd");
        let stop = stopper.clone();
        let thread = thread::spawn(move || {
            let mut recorder = Recorder::default();
            let result = linux::serve(listener, &ServeOptions::default(), &mut recorder, &stop);
            (result, recorder)
        });
        Service { path, stopper, thread }
    }

    /// A client of it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let mut command = shell(arguments);
        command.env("UNWATCHED_SOCKET", &self.path);
        command
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).expect("the service listens")
    }

    pub(crate) fn stop(self) -> Recorder {
        self.stopper.stop();
        let (result, recorder) = self.thread.join().expect("the service does not panic");
        fs::remove_file(&self.path).expect("the socket is there");
        assert_eq!(result, Ok(()));
        assert!(recorder.told.iter().all(|told| told.released), "{recorder:?}");
        recorder
    }
}

/// A shell that runs the victim and prints its status. The service runs in this process, and a tracer that is the parent as
/// well leaves no status for another thread to wait for; so the victim must be somebody else's child.
pub(crate) fn shell(arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "\"$@\"; echo \"status $?\"", "sh"]).arg(victim()).args(arguments);
    command
}

fn answer(mut peer: UnixStream, bytes: &[u8]) -> Vec<u8> {
    peer.write_all(bytes).expect("the service reads");
    let mut reply = vec![0; session::REPLY_SIZE];
    let count = peer.read(&mut reply).unwrap_or(0);
    reply.truncate(count);
    reply
}

#[test]
fn a_client_that_crashes_is_told_and_ends_as_ever() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    for arguments in [&["null"][..], &["crash-among", "100"], &["crash-without-leader"], &["handler-aborts"]] {
        let outcome = ended(&mut service.client(arguments));
        assert_eq!(outcome, ended(&mut shell(arguments)));
    }
    let recorder = service.stop();
    let threads: Vec<usize> = recorder.told.iter().map(|told| told.threads.len()).collect();
    assert_eq!(threads, [1, 101, 1, 1]);
    assert!(recorder.told.iter().all(|told| told.is_client == Some(true)), "{recorder:?}");
}

#[test]
fn a_client_that_does_not_crash_ends_as_ever() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    for arguments in [
        &["exit", "7"][..],
        &["raise", "15"],
        &["handled-segv", "1000"],
        &["threads", "500"],
        &["tree", "30"],
        &["exec-from-thread", "5"],
        &["exec-among-dying", "10"],
        &["stop-child"],
        &["stop-self"],
    ] {
        assert_eq!(ended(&mut service.client(arguments)), ended(&mut shell(arguments)), "{arguments:?}");
    }
    assert!(service.stop().told.is_empty());
}

#[test]
fn clients_that_crash_at_once_are_all_told_with_their_descendants() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    let clients: Vec<Child> = (0..10)
        .map(|_| service.client(&["crash-together", "10"]).stdout(Stdio::null()).spawn().expect("it starts"))
        .collect();
    for mut client in clients {
        assert!(client.wait().expect("it ends").success());
    }
    let told = service.stop().told;
    assert_eq!(told.len(), 100);
    assert!(told.iter().all(|told| told.is_client == Some(false)), "they are children of those that asked");
}

#[test]
fn clients_survive_the_service() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    let mut client = service.client(&["term-handler"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = BufReader::new(client.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it prints its number");
    let pid: i32 = line.trim().parse().expect("a number");
    assert!(service.stop().told.is_empty());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    // SAFETY: its parent, the shell, waits for it, and so can't have been told of its end.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    line.clear();
    output.read_line(&mut line).expect("the shell prints its status");
    assert_eq!(line, format!("status {}\n", 50 + libc::SIGTERM));
    client.wait().expect("the shell ends");
}

#[test]
fn a_client_with_restless_threads_is_attached_and_released_whole() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    let outcome = ended(shell(&["attach-and-release", "50"]).env("SERVICE", &service.path));
    assert_eq!(outcome.output, "50\nstatus 0\n");
    assert!(service.stop().told.is_empty());
}

#[test]
fn peers_that_speak_otherwise_are_refused_and_disturb_nobody() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    let good = session::encode_request(&Request { kind: Kind::Attach, about: 0 });
    let unsupported = session::encode_reply(Status::Unsupported);
    // Held open to the end: half a request, and nothing at all.
    let mut half = service.connect();
    half.write_all(&good[..9]).expect("the service reads");
    let silent = service.connect();
    assert_eq!(answer(service.connect(), b"GET / HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(answer(service.connect(), &[0xff; 16]), b"");
    let mut version = good;
    version[4] = 9;
    assert_eq!(answer(service.connect(), &version), unsupported);
    let mut kind = good;
    kind[6] = 9;
    assert_eq!(answer(service.connect(), &kind), unsupported);
    assert_eq!(ended(&mut service.client(&["null"])).output, "status 139\n");
    drop((half, silent));
    assert_eq!(service.stop().told.len(), 1);
}

#[test]
fn thousands_of_connections_do_not_keep_a_client_out() {
    if !can_trace() {
        return;
    }
    let service = Service::start();
    let mut held = VecDeque::new();
    for _ in 0..3000 {
        held.push_back(service.connect());
        if held.len() > 200 {
            held.pop_front();
        }
    }
    assert_eq!(ended(&mut service.client(&["null"])).output, "status 139\n");
    // One process may have four; those are closed when they have said nothing for a while.
    let mut busy = 0;
    for mut peer in held {
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).expect("the service closes it");
        busy += u32::from(reply == session::encode_reply(Status::Busy));
    }
    assert!(busy >= 196, "{busy}");
    assert_eq!(service.stop().told.len(), 1);
}

#[test]
fn a_process_that_another_traces_is_refused_with_the_reason() {
    if !can_trace() {
        return;
    }
    let (first, second) = (Service::start(), Service::start());
    let outcome = ended(first.client(&["ask"]).env("SERVICE", &second.path));
    assert_eq!(outcome.output, "AlreadyTraced\nstatus 0\n");
    assert!(first.stop().told.is_empty());
    assert!(second.stop().told.is_empty());
}
