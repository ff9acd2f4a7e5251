//! One process's death: gathering its threads in their exit stops, telling the receiver, letting them go.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::exception::linux::SI_KERNEL;
use aftermach_protocol::exception::{Exception, LinuxSignal};

use super::incomplete::Incomplete;
use super::point::Point;
use super::ptrace;
use super::task::LinuxTask;
use super::tracees::{Blow, Stage, Thread, Tracees};
use super::wait::{self, Status, Stop};
use crate::host::Receiver;
use crate::snapshot::{Death, Snapshot};

/// How long threads are waited for that do not come to their exit stop: they are in an uninterruptible sleep, of a disk or
/// a network file system usually.
const GATHERING: Duration = Duration::from_secs(5);

/// A process that dies of a crash.
pub(super) struct Dying {
    pub(super) pid: i32,
    signal: i32,
    /// When the death became known.
    known: Instant,
    time: SystemTime,
    phase: Phase,
    /// Threads still to be seen in this phase; the next one last.
    missing: Vec<i32>,
}

enum Phase {
    /// Threads come to their exit stops and are held.
    Gathering,
    /// All were let go; they are gone one by one.
    Leaving { snapshot: Option<Box<Snapshot>>, held: Duration },
}

/// Whether a death needs more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Some threads have not come yet.
    Waiting,
    /// The process is gone, the receiver knows.
    Over,
}

impl Dying {
    /// The death by `signal` of the process `pid`, as its first thread has come to its exit stop.
    pub(super) fn new(pid: i32, signal: i32, tracees: &mut Tracees) -> Dying {
        let (known, time) = (Instant::now(), SystemTime::now());
        tracees.complete(pid);
        let missing = |(tid, thread): (i32, &Thread)| matches!(thread.stage, Stage::New | Stage::Alive).then_some(tid);
        let missing = tracees.threads_of(pid).filter_map(missing).collect();
        Dying { pid, signal, known, time, phase: Phase::Gathering, missing }
    }

    /// Whether threads that come to their exit stop are to be held.
    pub(super) fn holds(&self) -> bool {
        matches!(self.phase, Phase::Gathering)
    }

    /// When it must go on with what there is.
    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Gathering => self.known + GATHERING,
            Phase::Leaving { held, .. } => self.known + held + GATHERING,
        }
    }

    /// Goes as far as it can without waiting. Threads are asked one by one: waiting for any would have the kernel look at
    /// all of them for each that comes (`kernel/exit.c`, `ptrace_do_wait`).
    pub(super) fn advance(&mut self, tracees: &mut Tracees, receiver: &mut dyn Receiver) -> Progress {
        loop {
            self.see_missing(tracees);
            let late = Instant::now() >= self.deadline();
            if !self.missing.is_empty() && !late {
                return Progress::Waiting;
            }
            match &mut self.phase {
                Phase::Gathering => self.report(tracees, receiver),
                Phase::Leaving { snapshot, held } => {
                    if let Some(snapshot) = snapshot.take() {
                        receiver.released(snapshot, *held);
                    }
                    return Progress::Over;
                }
            }
        }
    }

    fn see_missing(&mut self, tracees: &mut Tracees) {
        let holds = self.holds();
        while let Some(&tid) = self.missing.last() {
            let still_missing = match tracees.get(tid).map(|thread| thread.stage) {
                None => false,
                Some(stage) if holds => matches!(stage, Stage::New | Stage::Alive),
                Some(_) => true,
            };
            if still_missing {
                match wait::poll(tid) {
                    Ok(None) => return,
                    Ok(Some((_, Status::Stopped(Stop::Exit)))) if holds => {
                        if let Some(thread) = tracees.get_mut(tid) {
                            thread.stage = Stage::Held;
                        }
                    }
                    Ok(Some((_, Status::Stopped(_)))) => {
                        // It was in this stop as the process was killed, or it came late; it must not be held.
                        let _ = ptrace::resume(tid, 0);
                        continue;
                    }
                    Ok(Some((_, Status::Gone(ending)))) => tracees.ended(tid, ending),
                    // Never ours, or no more.
                    Err(_) => drop(tracees.remove(tid)),
                }
            }
            self.missing.pop();
        }
    }

    /// Hands the held process to the receiver, and lets it go.
    fn report(&mut self, tracees: &mut Tracees, receiver: &mut dyn Receiver) {
        let gathering = self.known.elapsed();
        let held: Vec<_> = tracees.threads_of(self.pid).filter(|(_, thread)| thread.stage == Stage::Held).collect();
        let (thread, signal) = match blame(&held, self.signal) {
            Some((tid, blow)) => (Some(tid as u64), blow.signal),
            // Killed without a delivery that a tracer sees: a seccomp filter, a signal frame that found no stack.
            None => (None, LinuxSignal { signal: self.signal, code: SI_KERNEL, address: None, sender: None }),
        };
        let death = Death {
            pid: self.pid,
            thread,
            exception: Exception::Linux(signal),
            signal: self.signal,
            time: self.time,
            gathering,
        };
        let first_chances: HashMap<_, _> =
            held.iter().filter_map(|(tid, thread)| Some((*tid, thread.fault.clone()?))).collect();
        let mut tids: Vec<i32> = held.iter().map(|(tid, _)| *tid).collect();
        // The order in which they were made, as far as the system's numbers have not gone round.
        tids.sort_unstable();
        let task = LinuxTask::new(self.pid, tids.clone(), first_chances);
        let task = task.with_client(tracees.known_client(self.pid)).naming_later();
        tracing::debug!(pid = self.pid, threads = tids.len(), missing = self.missing.len(), ?gathering, "held");
        let mut snapshot = if self.missing.is_empty() {
            receiver.death(death, &task)
        } else {
            receiver.death(death, &Incomplete::new(&task, self.missing.len(), GATHERING))
        };
        for &tid in &tids {
            let _ = ptrace::resume(tid, 0);
            if let Some(thread) = tracees.get_mut(tid) {
                thread.stage = Stage::Leaving;
            }
        }
        let held = self.known.elapsed();
        // They are on their way to their ends, where they stay until they are waited for.
        if let Some(snapshot) = &mut snapshot {
            task.name_threads(snapshot);
        }
        self.phase = Phase::Leaving { snapshot, held };
        // The leader comes last: its end is told when all others have been seen.
        self.missing = tids;
        self.missing.retain(|&tid| tid != self.pid);
        self.missing.insert(0, self.pid);
    }
}

/// The thread that died of `signal`. All threads' exit stops bear the same message, so it is the one that got the signal;
/// and where several did, one that has not moved since, since the others had a handler that dealt with it.
fn blame(held: &[(i32, &Thread)], signal: i32) -> Option<(i32, Blow)> {
    let struck: Vec<(i32, Blow)> = held
        .iter()
        .filter_map(|(tid, thread)| Some((*tid, thread.blow.filter(|blow| blow.signal.signal == signal)?)))
        .collect();
    if let [only] = struck[..] {
        return Some(only);
    }
    let unmoved = |(tid, blow): &(i32, Blow)| blow.point.is_some() && Point::of(*tid).ok() == blow.point;
    struck.into_iter().max_by_key(|candidate| (unmoved(candidate), candidate.1.order))
}
