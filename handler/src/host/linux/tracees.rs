//! Which threads are traced, and which process each belongs to.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use aftermach_protocol::exception::LinuxSignal;

use super::point::Point;
use super::ptrace;
use super::wait::Ending;
use crate::snapshot::Fault;

/// How far a thread has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Announced by the thread that made it; has not stopped for the first time.
    New,
    /// Runs, or waits in the kernel, or in a group-stop.
    Alive,
    /// Held in its exit stop.
    Held,
    /// Let go from its exit stop: all that comes of it is its end.
    Leaving,
}

/// How a thread that was kept in a stop is to leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// It goes on, with this signal (0: none).
    Go(i32),
    /// It stays in its group-stop.
    Listen,
}

/// The last signal that a thread got of those whose default is a crash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blow {
    pub(super) signal: LinuxSignal,
    /// Where the thread was, if its registers could be read.
    pub(super) point: Option<Point>,
    /// Counts up over all threads.
    pub(super) order: u64,
}

/// A traced thread.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) process: i32,
    pub(super) stage: Stage,
    /// The last hardware fault that it met.
    pub(super) fault: Option<Fault>,
    pub(super) blow: Option<Blow>,
    /// It stands in a stop that it is kept in while the process is read, and then leaves like this.
    pub(super) parked: Option<Parked>,
    /// It was told to stop, and has not stopped for that yet.
    pub(super) interrupted: bool,
}

impl Thread {
    /// Whether it lives and is not kept in a stop.
    pub(super) fn is_loose(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Alive) && self.parked.is_none()
    }
}

/// What is kept of a process that has asked to be watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// Its soft limit on core files before it was changed, to be given back when it is released.
    pub(super) core_limit: Option<u64>,
}

/// Every traced thread by its id, and every traced process with its threads.
#[derive(Debug, Default)]
pub(super) struct Tracees {
    threads: HashMap<i32, Thread>,
    processes: HashMap<i32, HashSet<i32>>,
    /// Processes that have asked to be watched.
    clients: HashMap<i32, Client>,
    /// The process whose end is waited for.
    root: Option<i32>,
    root_ending: Option<Ending>,
}

impl Tracees {
    /// Takes in thread `tid` of process `pid`; one that is known stays as it is.
    pub(super) fn insert(&mut self, tid: i32, pid: i32, stage: Stage) -> &mut Thread {
        self.processes.entry(pid).or_default().insert(tid);
        let new = Thread { process: pid, stage, fault: None, blow: None, parked: None, interrupted: false };
        self.threads.entry(tid).or_insert(new)
    }

    pub(super) fn get(&self, tid: i32) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    pub(super) fn get_mut(&mut self, tid: i32) -> Option<&mut Thread> {
        self.threads.get_mut(&tid)
    }

    /// The thread `tid`, taken in first if need be. `None`: it is gone before it could be asked whose it is.
    pub(super) fn learn(&mut self, tid: i32) -> Option<&mut Thread> {
        if !self.threads.contains_key(&tid) {
            self.insert(tid, process_of(tid)?, Stage::New);
        }
        self.threads.get_mut(&tid)
    }

    /// Forgets a thread; its process with the last one. Returns what was known of it.
    pub(super) fn remove(&mut self, tid: i32) -> Option<Thread> {
        let thread = self.threads.remove(&tid)?;
        if let Some(threads) = self.processes.get_mut(&thread.process) {
            threads.remove(&tid);
            if threads.is_empty() {
                self.processes.remove(&thread.process);
                self.clients.remove(&thread.process);
            }
        }
        Some(thread)
    }

    /// Forgets a thread that has been reaped.
    pub(super) fn ended(&mut self, tid: i32, ending: Ending) {
        self.remove(tid);
        if self.root == Some(tid) {
            self.root_ending = Some(ending);
        }
    }

    /// Takes in the first thread of the process whose end is waited for.
    pub(super) fn insert_root(&mut self, pid: i32) {
        self.insert(pid, pid, Stage::New);
        self.root = Some(pid);
    }

    /// The process whose end is waited for.
    pub(super) fn root(&self) -> Option<i32> {
        self.root
    }

    /// How it ended.
    pub(super) fn root_ending(&self) -> Option<Ending> {
        self.root_ending
    }

    /// Notes that process `pid` has asked to be watched.
    pub(super) fn insert_client(&mut self, pid: i32, client: Client) {
        self.clients.insert(pid, client);
    }

    /// Whether process `pid` has asked to be watched, since it last executed a program.
    pub(super) fn is_client(&self, pid: i32) -> bool {
        self.clients.contains_key(&pid)
    }

    /// As [`Tracees::is_client`]; `None` where everything is watched that a program does.
    pub(super) fn known_client(&self, pid: i32) -> Option<bool> {
        self.root.is_none().then(|| self.is_client(pid))
    }

    /// Process `pid` asks for it no longer.
    pub(super) fn remove_client(&mut self, pid: i32) -> Option<Client> {
        self.clients.remove(&pid)
    }

    /// Forgets all threads of process `pid`, and that it asked to be watched.
    pub(super) fn remove_process(&mut self, pid: i32) {
        self.clients.remove(&pid);
        for tid in self.processes.remove(&pid).unwrap_or_default() {
            self.threads.remove(&tid);
        }
    }

    /// Whether process `pid` is traced.
    pub(super) fn has_process(&self, pid: i32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// The known threads of process `pid`.
    pub(super) fn threads_of(&self, pid: i32) -> impl Iterator<Item = (i32, &Thread)> {
        let threads = self.processes.get(&pid).into_iter().flatten();
        threads.filter_map(|&tid| Some((tid, self.threads.get(&tid)?)))
    }

    /// Every known thread.
    pub(super) fn all(&self) -> impl Iterator<Item = (i32, &Thread)> {
        self.threads.iter().map(|(&tid, thread)| (tid, thread))
    }

    /// Whether nothing is traced.
    pub(super) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Takes in every thread of process `pid` that the system has and we don't know yet, which happens when it dies between
    /// making a thread and telling us.
    pub(super) fn complete(&mut self, pid: i32) {
        let known = self.processes.get(&pid).map_or(0, HashSet::len) as u64;
        // The link count of the folder is the number of threads plus 2 (fs/proc/base.c, proc_task_getattr): one call
        // instead of a listing, which makes an inode for every thread.
        if fs::metadata(format!("/proc/{pid}/task")).is_ok_and(|task| task.nlink() == known + 2) {
            return;
        }
        for tid in list_threads(pid) {
            self.insert(tid, pid, Stage::New);
        }
    }
}

/// The threads of process `pid` as the system lists them; empty if it is gone.
pub(super) fn list_threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn process_of(tid: i32) -> Option<i32> {
    // Most that were not announced are new processes, whose announcement comes second.
    if ptrace::is_thread_of(tid, tid) {
        return Some(tid);
    }
    status_field(tid, "Tgid:")?.parse().ok()
}

/// A field of /proc/TID/status.
pub(super) fn status_field(tid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// The thread that traces thread `tid`, 0 if none does. Despite the field's name it is a thread's id (`fs/proc/array.c`,
/// `task_state`).
pub(super) fn tracer_of(tid: i32) -> Option<i32> {
    status_field(tid, "TracerPid:")?.parse().ok()
}

/// Whether the calling thread traces thread `tid`.
pub(super) fn is_traced_here(tid: i32) -> bool {
    // SAFETY: no memory is involved.
    tracer_of(tid) == Some(unsafe { libc::gettid() })
}
