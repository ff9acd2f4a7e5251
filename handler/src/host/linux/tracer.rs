//! The thread that traces: what each stop is answered with.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::exception::{Exception, LinuxSignal};
use aftermach_protocol::session;

use super::death::{Dying, Progress};
use super::errno::Errno;
use super::living::Living;
use super::point::Point;
use super::ptrace;
use super::restart::restart;
use super::tracees::{Blow, Parked, Stage, Thread, Tracees, is_traced_here};
use super::wait::{self, Ending, Status, Stop};
use super::wakeup::Wakeup;
use crate::host::Receiver;
use crate::snapshot::Fault;
use crate::triage::{self, Meaning};

/// How long one death has the tracer for itself. Its threads come within microseconds of each other; only where one is stuck
/// does the rest of the world go on meanwhile.
pub(super) const ALONE: Duration = Duration::from_millis(20);

/// Signals that stop a process. What they interrupt fails when it is continued, with or without us.
const STOPPING: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Stops answered before sockets and signals are looked at again.
const BATCH: usize = 256;

/// How long tracees are waited for that do not stop to be let go. The end of the thread lets them go as well.
const FAREWELL: Duration = Duration::from_secs(1);

/// A signal as the root was about to get it, kept for a while to tell a signal to the group from one to us alone.
#[derive(Debug, Clone, Copy)]
struct Seen {
    signal: i32,
    sender: i32,
    at: Instant,
}

/// Traces. Must stay on the thread that made it.
pub(super) struct Tracer<'a> {
    pub(super) tracees: Tracees,
    pub(super) receiver: &'a mut (dyn Receiver + Send),
    pub(super) wakeup: Wakeup,
    deaths: HashMap<i32, Dying>,
    /// Processes that have asked for a report of themselves.
    pub(super) living: HashMap<i32, Living>,
    /// What those are to be told that have asked, by connection.
    pub(super) answers: Vec<(u64, session::Status)>,
    blows: u64,
    leaving: bool,
    /// The process that is just being let go.
    releasing: Option<i32>,
    /// There may be stops that were not looked at yet.
    pub(super) more: bool,
    /// Whether a tracee still has options that only the root may have.
    reset_options: bool,
    relays_signals: bool,
    root_executed: bool,
    root_stopped: Option<i32>,
    root_signals: VecDeque<Seen>,
}

impl<'a> Tracer<'a> {
    pub(super) fn new(receiver: &'a mut (dyn Receiver + Send)) -> Result<Tracer<'a>, Errno> {
        Ok(Tracer {
            tracees: Tracees::default(),
            receiver,
            wakeup: Wakeup::new()?,
            deaths: HashMap::new(),
            living: HashMap::new(),
            answers: Vec::new(),
            blows: 0,
            leaving: false,
            releasing: None,
            more: false,
            reset_options: false,
            relays_signals: false,
            root_executed: false,
            root_stopped: None,
            root_signals: VecDeque::new(),
        })
    }

    /// Takes on the process that was started to be watched. It is seized already; `options` are what it was seized with.
    /// With `relays_signals`, what it is sent is noted for [`Tracer::root_has_seen`].
    pub(super) fn adopt_root(&mut self, pid: i32, options: i32, relays_signals: bool) {
        self.tracees.insert_root(pid);
        self.reset_options = options != ptrace::FOLLOW;
        self.relays_signals = relays_signals;
    }

    pub(super) fn tracees(&mut self) -> &mut Tracees {
        &mut self.tracees
    }

    /// Whether the root has got as far as to be the program that was asked for.
    pub(super) fn root_executed(&self) -> bool {
        self.root_executed
    }

    /// The signal that holds the root in a group-stop.
    pub(super) fn root_stopped(&self) -> Option<i32> {
        self.root_stopped
    }

    /// Whether the root has just been given `signal` from process `sender`; each is told once.
    pub(super) fn root_has_seen(&mut self, signal: i32, sender: i32) -> bool {
        self.root_signals.retain(|seen| seen.at.elapsed() < Duration::from_secs(1));
        let found = self.root_signals.iter().position(|seen| (seen.signal, seen.sender) == (signal, sender));
        found.is_some_and(|index| self.root_signals.remove(index).is_some())
    }

    /// Sleeps until a tracee has stopped, one of `others` is ready, or `until` has come; then answers what has stopped.
    pub(super) fn step(&mut self, others: &mut Vec<libc::pollfd>, until: Option<Instant>) {
        let until = match self.more {
            true => Some(Instant::now()),
            false => {
                let living = self.living.values().map(Living::deadline);
                self.deaths.values().map(Dying::deadline).chain(living).chain(until).min()
            }
        };
        self.wakeup.sleep(others, until);
        self.more = self.drain();
        for pid in self.deaths.keys().copied().collect::<Vec<_>>() {
            self.pursue(pid, None);
        }
        for pid in self.living.keys().copied().collect::<Vec<_>>() {
            self.attend(pid, None);
        }
    }

    /// Whether process `pid` is dying of a crash.
    pub(super) fn is_dying(&self, pid: i32) -> bool {
        self.deaths.contains_key(&pid)
    }

    /// Answers what has stopped. Returns whether there may be more.
    fn drain(&mut self) -> bool {
        for _ in 0..BATCH {
            match wait::poll(-1) {
                Ok(Some((tid, Status::Stopped(stop)))) => self.stopped(tid, stop),
                Ok(Some((tid, Status::Gone(ending)))) => self.tracees.ended(tid, ending),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    pub(super) fn stopped(&mut self, tid: i32, stop: Stop) {
        tracing::trace!(tid, ?stop, "stopped");
        let root = self.tracees.root();
        let Some(thread) = self.tracees.learn(tid) else {
            // Whose it was can't be told any more: it is being killed.
            let _ = ptrace::resume(tid, 0);
            return;
        };
        let pid = thread.process;
        if thread.stage == Stage::New {
            thread.stage = Stage::Alive;
            if self.reset_options && root != Some(pid) {
                // Options are inherited; but only the root may be killed with us, never a daemon that it left behind.
                let _ = ptrace::set_options(tid, ptrace::FOLLOW);
            }
        }
        let by_us = stop == Stop::Trap && mem::take(&mut thread.interrupted);
        if by_us || matches!(stop, Stop::Signal(signal) if !STOPPING.contains(&signal)) {
            // A signal that the program ignores would not have woken it without us: the kernel shows a tracer even those.
            let _ = restart(tid);
        }
        match stop {
            Stop::Signal(signal) => {
                self.signalled(tid, signal);
                self.go_on(tid, signal);
            }
            Stop::Group(_) if self.departs(pid) => self.go_on(tid, 0),
            Stop::Group(signal) => {
                if root == Some(tid) {
                    self.root_stopped = Some(signal);
                }
                if !self.parks(tid, Parked::Listen) {
                    let _ = ptrace::listen(tid);
                }
            }
            Stop::Trap | Stop::Other(_) => {
                if root == Some(tid) {
                    self.root_stopped = None;
                }
                self.go_on(tid, 0);
            }
            Stop::NewTracee => {
                self.announced(tid, pid);
                self.go_on(tid, 0);
            }
            Stop::Exec => {
                // The other threads are gone, and if it was another than the leader it has the leader's id now; its
                // former one vanishes without a word (ptrace(2), "execve(2) under ptrace").
                self.forget_request(pid);
                self.tracees.remove_process(pid);
                self.tracees.insert(tid, tid, Stage::Alive);
                self.root_executed |= root == Some(tid);
                self.go_on(tid, 0);
            }
            Stop::Exit => self.exiting(tid, pid),
        }
    }

    /// Whether the tracees of process `pid` are let go for good when they stop.
    fn departs(&self, pid: i32) -> bool {
        self.leaving || self.releasing == Some(pid)
    }

    /// Tells a tracee that runs to stop.
    pub(super) fn interrupt(&mut self, tid: i32) {
        if ptrace::interrupt(tid).is_ok()
            && let Some(thread) = self.tracees.get_mut(tid)
        {
            thread.interrupted = true;
        }
    }

    /// Lets a tracee go on, or for good.
    pub(super) fn go_on(&mut self, tid: i32, signal: i32) {
        if self.parks(tid, Parked::Go(signal)) {
            return;
        }
        let departs = self.tracees.get(tid).is_some_and(|thread| self.departs(thread.process));
        if !departs || triage::is_crash(Some(signal)) {
            // It may have been killed in the meantime, and then its exit stop or end is what comes next.
            let _ = ptrace::resume(tid, signal);
            if departs {
                // It may be about to die of the signal: that much longer we stay. If not, it stops again at once.
                self.interrupt(tid);
            }
        } else if ptrace::detach(tid, signal).is_ok() {
            self.tracees.remove(tid);
        }
    }

    /// Notes a signal that is about to be delivered, if it may come to be the thread's death.
    fn signalled(&mut self, tid: i32, signal: i32) {
        let to_root = self.relays_signals && self.tracees.root() == self.tracees.get(tid).map(|thread| thread.process);
        if !triage::is_crash(Some(signal)) && !to_root {
            return;
        }
        let Ok(signal) = ptrace::signal(tid) else { return };
        if let (true, Some(sender)) = (to_root, signal.sender) {
            // More than these many signals within a second are no group's.
            self.root_signals.truncate(15);
            self.root_signals.push_front(Seen { signal: signal.signal, sender: sender.pid, at: Instant::now() });
        }
        let meaning = triage::meaning(&signal);
        if meaning != Meaning::Nothing {
            self.struck(tid, signal, meaning);
        }
    }

    fn struck(&mut self, tid: i32, signal: LinuxSignal, meaning: Meaning) {
        let point = Point::of(tid).ok();
        self.blows += 1;
        let Some(thread) = self.tracees.get_mut(tid) else { return };
        thread.blow = Some(Blow { signal, point, order: self.blows });
        if let (Meaning::FirstChance, Some(Point { pc, sp })) = (meaning, point) {
            thread.fault = Some(Fault { exception: Exception::Linux(signal), pc, sp, time: SystemTime::now() });
        }
    }

    /// A thread or child was made, which is a tracee. Its first stop may have come already.
    fn announced(&mut self, parent: i32, pid: i32) {
        let Ok(message) = ptrace::event_message(parent) else { return };
        let tid = message as i32;
        if self.tracees.get(tid).is_some() || (self.departs(pid) && !is_traced_here(tid)) {
            return;
        }
        // A thread, or a process of its own, as clone(2) was told. Or it has come and gone already, and nothing more will be
        // heard of it.
        if let Some(process) = [pid, tid].into_iter().find(|&process| ptrace::is_thread_of(tid, process)) {
            self.tracees.insert(tid, process, Stage::New);
        }
    }

    fn exiting(&mut self, tid: i32, pid: i32) {
        let Ok(message) = ptrace::event_message(tid) else { return };
        let Some(thread) = self.tracees.get_mut(tid) else { return };
        let ending = Ending::from_raw(message as i32);
        let crash = match ending {
            Ending::Killed(signal) if triage::is_crash(Some(signal)) => Some(signal),
            _ => None,
        };
        match (crash, self.deaths.get(&pid)) {
            (Some(_), Some(dying)) if dying.holds() => thread.stage = Stage::Held,
            (Some(signal), None) => {
                tracing::debug!(pid, signal, "dies of a crash");
                thread.stage = Stage::Held;
                self.forget_request(pid);
                self.deaths.insert(pid, Dying::new(pid, signal, &mut self.tracees));
                self.pursue(pid, Some(Instant::now() + ALONE));
            }
            _ => {
                thread.stage = Stage::Leaving;
                self.go_on(tid, 0);
            }
        }
    }

    /// Goes on with a death; until `alone`, with nothing else.
    fn pursue(&mut self, pid: i32, alone: Option<Instant>) {
        loop {
            let Some(dying) = self.deaths.get_mut(&pid) else { return };
            if dying.advance(&mut self.tracees, self.receiver) == Progress::Over {
                self.deaths.remove(&pid);
                return;
            }
            if alone.is_none_or(|alone| Instant::now() >= alone) {
                return;
            }
            self.wakeup.sleep(&mut Vec::new(), alone);
        }
    }

    /// Lets every tracee go that is left, but for those that are dying of a crash: they are reported first.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        for pid in self.living.keys().copied().collect::<Vec<_>>() {
            self.give_up(pid);
        }
        self.say_farewell(None);
    }

    /// Lets process `pid` go. What it has started stays traced.
    pub(super) fn release(&mut self, pid: i32) {
        self.releasing = Some(pid);
        self.give_up(pid);
        self.say_farewell(Some(pid));
        self.releasing = None;
    }

    /// Stops the tracees of process `only`, or all, so that they can be let go, and waits until they are.
    fn say_farewell(&mut self, only: Option<i32>) {
        let concerns = |pid: i32| only.is_none_or(|only| only == pid);
        let alive =
            |(tid, thread): (i32, &Thread)| (thread.stage == Stage::Alive && concerns(thread.process)).then_some(tid);
        for tid in self.tracees.all().filter_map(alive).collect::<Vec<_>>() {
            self.interrupt(tid);
        }
        let patience = Instant::now() + FAREWELL;
        loop {
            // A first thread that has ended before the others stays as long as they do.
            let stays = |(tid, thread): (i32, &Thread)| {
                concerns(thread.process) && (thread.stage != Stage::Leaving || tid != thread.process)
            };
            let left = self.tracees.all().any(stays) && Instant::now() < patience;
            if !left && !self.deaths.keys().any(|&pid| concerns(pid)) {
                return;
            }
            self.step(&mut Vec::new(), Some(patience));
        }
    }
}
