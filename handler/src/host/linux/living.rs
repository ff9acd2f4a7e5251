//! A process that asks for a report of itself and goes on living: its threads are stopped where they are, read as a dead
//! process's would be, and let go as if nothing had been.

use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::exception::Exception;
use aftermach_protocol::session::Status;

use super::incomplete::Incomplete;
use super::ptrace;
use super::task::LinuxTask;
use super::tracees::{Parked, Thread, Tracees, status_field};
use super::tracer::{ALONE, Tracer};
use super::wait;
use crate::snapshot::Death;
use crate::triage;

/// How long threads are waited for that do not stop, while those that have are kept: they are in an uninterruptible sleep, or in
/// a vfork whose child has not executed yet.
const GATHERING: Duration = Duration::from_secs(2);

/// A process whose threads are being stopped, at its own request.
pub(super) struct Living {
    /// Who is to be told.
    connection: u64,
    /// The thread that asks, if it is one of the process.
    thread: Option<i32>,
    known: Instant,
    time: SystemTime,
    /// Threads that were to be waited for when last looked at; the next one last.
    missing: Vec<i32>,
}

impl Living {
    /// When it must go on with what there is.
    pub(super) fn deadline(&self) -> Instant {
        self.known + GATHERING
    }
}

impl Tracer<'_> {
    /// Begins to stop process `pid`, whose thread `thread` (as the process itself numbers it) asks for a report.
    /// [`Tracer::answers`] will have the answer for `connection`.
    ///
    /// # Errors
    /// The answer, if there will be no report.
    pub(super) fn begin_snapshot(&mut self, pid: i32, thread: u64, connection: u64) -> Result<(), Status> {
        if !self.tracees.is_client(pid) {
            return Err(Status::NotAttached);
        }
        // One at a time; and who is dying has no use for another one.
        if self.living.contains_key(&pid) || self.is_dying(pid) || !self.receiver.may_ask(pid) {
            return Err(Status::Busy);
        }
        let thread = thread_of(&self.tracees, pid, thread);
        let (known, time) = (Instant::now(), SystemTime::now());
        let missing = loose_threads(&self.tracees, pid);
        for &tid in &missing {
            // One that has not stopped for the first time yet is about to. One that has ended meanwhile will say so.
            self.interrupt(tid);
        }
        tracing::debug!(pid, threads = missing.len(), "asks for a report of itself");
        self.living.insert(pid, Living { connection, thread, known, time, missing });
        self.attend(pid, Some(known + ALONE));
        // What rang for others was slept through.
        self.more = true;
        Ok(())
    }

    /// Whether thread `tid`, which has stopped, is kept there, to leave as `parked` says.
    pub(super) fn parks(&mut self, tid: i32, parked: Parked) -> bool {
        let Some(thread) = self.tracees.get_mut(tid) else { return false };
        let kept = thread.is_loose() && self.living.contains_key(&thread.process);
        if kept {
            thread.parked = Some(parked);
        }
        kept
    }

    /// Goes on with process `pid`'s report; until `alone`, with nothing else.
    pub(super) fn attend(&mut self, pid: i32, alone: Option<Instant>) {
        while let Some(living) = self.living.get_mut(&pid) {
            let late = Instant::now() >= living.deadline();
            let next = match living.missing.last() {
                Some(&tid) => Some(tid),
                None => {
                    // Those that were made meanwhile.
                    living.missing = loose_threads(&self.tracees, pid);
                    living.missing.last().copied()
                }
            };
            match next {
                Some(tid) if !self.tracees.get(tid).is_some_and(|thread| thread.is_loose()) => _ = living.missing.pop(),
                Some(tid) if !late => match wait::poll(tid) {
                    Ok(Some((tid, wait::Status::Stopped(stop)))) => self.stopped(tid, stop),
                    Ok(Some((tid, wait::Status::Gone(ending)))) => self.tracees.ended(tid, ending),
                    // Never ours, or no more.
                    Err(_) => drop(self.tracees.remove(tid)),
                    Ok(None) if alone.is_some_and(|alone| Instant::now() < alone) => {
                        self.wakeup.sleep(&mut Vec::new(), alone);
                    }
                    Ok(None) => return,
                },
                _ => return self.read(pid),
            }
        }
    }

    /// Hands the stopped process to the receiver, and lets it go.
    fn read(&mut self, pid: i32) {
        let Some(living) = self.living.get(&pid) else { return };
        let (thread, time, known, connection) = (living.thread, living.time, living.known, living.connection);
        let gathering = known.elapsed();
        let parked: Vec<_> = self.tracees.threads_of(pid).filter(|(_, thread)| thread.parked.is_some()).collect();
        let mut tids: Vec<i32> = parked.iter().map(|(tid, _)| *tid).collect();
        if tids.is_empty() {
            // It has ended meanwhile.
            return self.forget_request(pid);
        }
        // The order in which they were made, as far as the system's numbers have not gone round.
        tids.sort_unstable();
        let first_chances = parked.iter().filter_map(|(tid, thread)| Some((*tid, thread.fault.clone()?))).collect();
        let missing = loose_threads(&self.tracees, pid).len();
        let death = Death {
            pid,
            thread: thread.map(|tid| tid as u64),
            exception: Exception::Simulated,
            signal: 0,
            time,
            gathering,
        };
        let task = LinuxTask::new(pid, tids, first_chances).with_client(Some(true));
        let snapshot = match missing {
            0 => self.receiver.death(death, &task),
            _ => self.receiver.death(death, &Incomplete::new(&task, missing, GATHERING)),
        };
        drop(task);
        self.let_go(pid);
        let held = known.elapsed();
        tracing::debug!(pid, missing, ?gathering, ?held, "let go after its report");
        let status = match snapshot {
            Some(snapshot) => {
                self.receiver.released(snapshot, held);
                Status::Ok
            }
            // It says of itself that it is another product's.
            None => Status::NotAttached,
        };
        self.answers.push((connection, status));
    }

    /// Lets process `pid` go without a report, if it has asked for one.
    pub(super) fn give_up(&mut self, pid: i32) {
        if let Some(living) = self.living.get(&pid) {
            self.answers.push((living.connection, Status::Busy));
            self.let_go(pid);
        }
    }

    /// As [`Tracer::give_up`] for a process whose threads have been killed: they have left the stops that they were kept in
    /// already, and may stand in their exit stops, which nothing must let them pass.
    pub(super) fn forget_request(&mut self, pid: i32) {
        if let Some(living) = self.living.remove(&pid) {
            self.answers.push((living.connection, Status::Busy));
            self.unpark(pid);
        }
    }

    /// Lets every thread of process `pid` leave its stop as it would have.
    fn let_go(&mut self, pid: i32) {
        self.living.remove(&pid);
        let deadly = |parked: &Parked| matches!(parked, Parked::Go(signal) if triage::is_crash(Some(*signal)));
        let (last, first): (Vec<_>, Vec<_>) = self.unpark(pid).into_iter().partition(|(_, parked)| deadly(parked));
        for (tid, parked) in first {
            match parked {
                Parked::Go(signal) => self.go_on(tid, signal),
                Parked::Listen => drop(ptrace::listen(tid)),
            }
        }
        // What may kill the process comes last, so that nobody is let go from an exit stop in place of the one it was in.
        for (tid, parked) in last {
            match (wait::poll(tid), parked) {
                (Ok(Some((tid, wait::Status::Stopped(stop)))), _) => self.stopped(tid, stop),
                (Ok(Some((tid, wait::Status::Gone(ending)))), _) => self.tracees.ended(tid, ending),
                (_, Parked::Go(signal)) => self.go_on(tid, signal),
                (_, Parked::Listen) => {}
            }
        }
    }

    /// The threads of process `pid` that are kept in a stop, which are that no more, and how each is to leave it.
    fn unpark(&mut self, pid: i32) -> Vec<(i32, Parked)> {
        let parked = |(tid, thread): (i32, &Thread)| Some((tid, thread.parked?));
        let all: Vec<_> = self.tracees.threads_of(pid).filter_map(parked).collect();
        for (tid, _) in &all {
            if let Some(thread) = self.tracees.get_mut(*tid) {
                thread.parked = None;
            }
        }
        all
    }
}

fn loose_threads(tracees: &Tracees, pid: i32) -> Vec<i32> {
    tracees.threads_of(pid).filter(|(_, thread)| thread.is_loose()).map(|(tid, _)| tid).collect()
}

/// The thread that process `pid` itself numbers `own`: another number than ours where it lives in a pid namespace of its own.
fn thread_of(tracees: &Tracees, pid: i32, own: u64) -> Option<i32> {
    let numbers = |tid: i32| status_field(tid, "NSpid:");
    let is_it =
        |numbers: &str| numbers.split_ascii_whitespace().next_back().and_then(|last| last.parse().ok()) == Some(own);
    let direct = i32::try_from(own).ok().filter(|tid| tracees.threads_of(pid).any(|(known, _)| known == *tid));
    if let Some(tid) = direct
        && numbers(tid).is_some_and(|numbers| is_it(&numbers))
    {
        return Some(tid);
    }
    let has_namespace = numbers(pid).is_some_and(|numbers| numbers.split_ascii_whitespace().count() > 1);
    let mut threads = tracees.threads_of(pid).map(|(tid, _)| tid).filter(|_| has_namespace);
    threads.find(|tid| numbers(*tid).is_some_and(|numbers| is_it(&numbers)))
}
