//! Real victims for tests: this test program run again as a child, which is seized, told to die, and held.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use aftermach_protocol::exception::{Exception, LinuxSignal};

use super::super::errno::Errno;
use super::super::ptrace;
use super::super::wait::{self, Ending, Status, Stop};
use super::LinuxTask;
use crate::snapshot::{self, Death, Limits, Snapshot};

/// Says to the child how to die, and that it is one.
const KIND: &str = "AFTERMACH_TEST_VICTIM";
/// Starts programs for [`Held::stillborn`].
const SHELL: &str = "/bin/sh";
/// What the child prints when all is set up.
const READY: &str = "victim is ready";

/// A dead process whose threads are all held by the calling thread.
pub(in crate::host::linux) struct Held {
    pub(in crate::host::linux) pid: i32,
    pub(in crate::host::linux) tids: Vec<i32>,
    pub(in crate::host::linux) crashed: i32,
    child: Child,
}

/// A process that is about to die, and lives.
pub(in crate::host::linux) struct Ready {
    pub(in crate::host::linux) pid: i32,
    child: Child,
}

impl Ready {
    /// Runs the victim `kind` of [`entry`] up to where it waits for the word to die.
    pub(in crate::host::linux) fn new(kind: &str) -> Ready {
        Ready::of(&std::env::current_exe().unwrap(), kind)
    }

    /// The same, run from the copy of this program at `path`.
    pub(in crate::host::linux) fn of(path: &Path, kind: &str) -> Ready {
        let mut command = Command::new(path);
        command.args(["--exact", "host::linux::task::victim::entry", "--ignored", "--nocapture"]).env(KIND, kind);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains(READY)));
        Ready { pid: child.id() as i32, child }
    }

    /// Has it die, and holds it at its death. `None`, after a line that says why, where ptrace is refused.
    pub(in crate::host::linux) fn die(mut self) -> Option<Held> {
        for tid in threads_of(self.pid) {
            match ptrace::seize(tid, libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_TRACEEXEC) {
                Ok(()) => {}
                Err(Errno(libc::EPERM)) => {
                    println!("SKIP: ptrace is refused here ({})", Errno(libc::EPERM));
                    self.child.kill().unwrap();
                    self.child.wait().unwrap();
                    return None;
                }
                Err(error) => panic!("seize {tid}: {error}"),
            }
        }
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let (tids, crashed) = hold(self.pid);
        Some(Held { pid: self.pid, tids, crashed, child: self.child })
    }
}

impl Held {
    /// Runs `program` and holds it dead before its first instruction. `None` where ptrace is refused.
    pub(in crate::host::linux) fn stillborn(program: &str) -> Option<Held> {
        let mut command = Command::new(SHELL);
        command.args(["-c", "read line; exec \"$0\"", program]).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        Ready { pid: child.id() as i32, child }.die()
    }

    /// Runs the victim `kind` of [`entry`] and holds it at its death, as [`Ready::die`].
    pub(in crate::host::linux) fn new(kind: &str) -> Option<Held> {
        Ready::new(kind).die()
    }

    pub(in crate::host::linux) fn task(&self) -> LinuxTask {
        LinuxTask::new(self.pid, self.tids.clone(), Default::default())
    }

    pub(in crate::host::linux) fn death(&self) -> Death {
        let signal = LinuxSignal { signal: libc::SIGSEGV, code: 1, address: Some(0), sender: None };
        Death {
            pid: self.pid,
            thread: Some(self.crashed as u64),
            exception: Exception::Linux(signal),
            signal: libc::SIGSEGV,
            time: SystemTime::now(),
            gathering: Duration::ZERO,
        }
    }

    pub(in crate::host::linux) fn capture(&self) -> Snapshot {
        snapshot::capture(&self.task(), self.death(), &Limits::default())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for tid in &self.tids {
            // A thread that is gone already has no need of it.
            let _ = ptrace::resume(*tid, 0);
        }
        for tid in self.tids.iter().filter(|tid| **tid != self.pid) {
            while matches!(wait::block(*tid), Ok((_, Status::Stopped(_)))) {
                let _ = ptrace::resume(*tid, 0);
            }
        }
        let _ = self.child.wait();
    }
}

/// Waits until every thread of `pid` is held at its exit; returns them and the one that met the deadly signal.
fn hold(pid: i32) -> (Vec<i32>, i32) {
    let (mut held, mut crashed, mut waiting) = (HashSet::new(), pid, threads_of(pid));
    while held.len() < waiting.len() {
        // The calling thread has this child alone.
        let (tid, status) = wait::block(-1).unwrap();
        match status {
            // The leader has ended before the others.
            Status::Stopped(Stop::Exit)
                if Ending::from_raw(ptrace::event_message(tid).unwrap() as i32) == Ending::Exited(0) =>
            {
                ptrace::resume(tid, 0).unwrap();
                waiting.retain(|waiting| *waiting != tid);
            }
            Status::Stopped(Stop::Exit) => _ = held.insert(tid),
            Status::Stopped(Stop::Signal(signal)) => {
                crashed = tid;
                ptrace::resume(tid, signal).unwrap();
            }
            Status::Stopped(Stop::Exec) => {
                // It may have been seized before it became the shell.
                let program = fs::canonicalize(format!("/proc/{pid}/exe")).unwrap();
                if program != fs::canonicalize(SHELL).unwrap() {
                    // SAFETY: plain numbers.
                    assert_eq!(unsafe { libc::kill(pid, libc::SIGSEGV) }, 0);
                }
                ptrace::resume(tid, 0).unwrap();
            }
            Status::Stopped(_) => ptrace::resume(tid, 0).unwrap(),
            Status::Gone(_) => waiting.retain(|waiting| *waiting != tid),
        }
    }
    (waiting, crashed)
}

fn threads_of(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// The victim's own code. It never returns as a victim, and does nothing in an ordinary run of the tests.
#[test]
#[ignore = "runs in a child, for the other tests"]
fn entry() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let (kind, count) = kind.split_once(' ').unwrap_or((&kind, "0"));
    let count: usize = count.parse().unwrap();
    // A thread names itself, so each must have run.
    let named = Arc::new(Barrier::new(count + 1));
    for index in 0..count {
        let named = Arc::clone(&named);
        let park = move || {
            named.wait();
            std::thread::park();
        };
        std::mem::forget(std::thread::Builder::new().name(format!("worker {index}")).spawn(park).unwrap());
    }
    named.wait();
    match kind {
        "null" => {
            ready();
            null();
        }
        "annotated" => {
            aftermach_client::set("server", "192.0.2.7").unwrap();
            aftermach_client::set("state", "connecting").unwrap();
            aftermach_client::set("state", "connected").unwrap();
            aftermach_client::breadcrumb("handshake done");
            ready();
            null();
        }
        "alternative" => {
            on_alternative_stack(null);
        }
        "replaced" => {
            // The file that is mapped is another than the one at its path from here on.
            let own = std::env::current_exe().unwrap();
            fs::remove_file(&own).unwrap();
            fs::write(&own, b"another").unwrap();
            ready();
            null();
        }
        "overflow" => {
            // Rust's own handler would run on the alternative stack and abort: not what is wanted here.
            // SAFETY: the default action needs nothing.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            ready();
            println!("{}", overflow(1));
        }
        "leader" => {
            ready();
            end_leader();
            null();
        }
        _ => unreachable!("{kind}"),
    }
}

/// Runs `work` in a signal handler with a stack of its own.
fn on_alternative_stack(work: fn()) {
    static WORK: std::sync::Mutex<Option<fn()>> = std::sync::Mutex::new(None);
    extern "C" fn handle(_: i32) {
        let work = *WORK.lock().unwrap();
        ready();
        work.unwrap()();
    }
    *WORK.lock().unwrap() = Some(work);
    let stack = Box::leak(Box::new([0_u8; 0x10000]));
    // SAFETY: the stack lives for ever, and the handler runs while this thread does nothing else.
    unsafe {
        let alternative = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        assert_eq!(libc::sigaltstack(&alternative, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(i32) as libc::sighandler_t;
        action.sa_flags = libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1);
    }
}

/// Says so, and waits for the word to die.
fn ready() {
    println!("{READY}");
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

/// Ends the process's first thread, as `pthread_exit` in `main` does, and waits until it is a zombie.
fn end_leader() {
    extern "C" fn end_thread(_: i32) {
        // SAFETY: ends this thread at once; it shares nothing that anyone waits for.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    // SAFETY: the handler makes one system call.
    unsafe {
        libc::signal(libc::SIGUSR1, end_thread as extern "C" fn(i32) as libc::sighandler_t);
        let pid = libc::getpid();
        assert_ne!(libc::gettid(), pid, "tests have threads of their own");
        libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1);
    }
    while !fs::read_to_string("/proc/self/status").unwrap().contains("State:\tZ") {
        std::thread::yield_now();
    }
}

fn null() {
    // SAFETY: it is not; the fault is what the victim is for.
    unsafe { std::ptr::without_provenance_mut::<u32>(8).write_volatile(1) };
}

#[expect(unconditional_recursion, reason = "to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box([depth; 32])[3] + overflow(depth + 1)
}
