//! Taking on a process that runs already.

use aftermach_protocol::session::Status;

use super::errno::Errno;
use super::program::{limit_core_to_one, set_core_limit};
use super::ptrace;
use super::tracees::{Client, Stage, is_traced_here, list_threads, status_field, tracer_of};
use super::tracer::Tracer;

/// Listings of a process's threads until one is whole and shows none that was not seized. Threads that a seized one makes are seized by
/// the kernel, so that only those need another look that others have made in between.
const PASSES: usize = 100;

impl Tracer<'_> {
    /// Watches process `pid`, which is to be `uid`'s, at its own request. It is not stopped for it. If this process ends, it
    /// goes on.
    pub(super) fn attach(&mut self, pid: i32, uid: u32) -> Status {
        // The asking process may be gone and its number another's. That one would be traced for nothing, and a service that
        // runs as root must not be made to do that to anybody.
        if effective_uid(pid) != Some(uid) {
            return Status::NotPermitted;
        }
        if self.tracees().is_client(pid) {
            return Status::AlreadyAttached;
        }
        // A descendant of another client is traced already; but then not all of its threads need be.
        if let Err(refusal) = self.seize_all(pid) {
            tracing::debug!(pid, ?refusal, "can't be attached");
            if self.tracees().has_process(pid) {
                self.release(pid);
            }
            return refusal;
        }
        tracing::debug!(pid, threads = self.tracees().threads_of(pid).count(), "attached");
        let core_limit = limit_core_to_one(pid);
        self.tracees().insert_client(pid, Client { core_limit });
        Status::Ok
    }

    fn seize_all(&mut self, pid: i32) -> Result<(), Status> {
        for _ in 0..PASSES {
            let listed = list_threads(pid);
            // A listing passes over threads where others end while it is read: the kernel counts anew from its start then
            // (`first_tid` of fs/proc/base.c).
            let mut complete = thread_count(pid).is_none_or(|count| listed.len() >= count);
            for tid in listed {
                if self.tracees().get(tid).is_some() {
                    continue;
                }
                match ptrace::seize(tid, ptrace::FOLLOW) {
                    Ok(()) => {
                        complete = false;
                        self.tracees().insert(tid, pid, Stage::Alive);
                    }
                    Err(Errno(libc::ESRCH)) => {}
                    Err(_) => self.not_seized(tid, pid)?,
                }
            }
            if complete {
                break;
            }
        }
        // One that is gone was never there.
        if self.tracees().has_process(pid) { Ok(()) } else { Err(Status::RefusedBySystem) }
    }

    /// Why a thread was refused: it may have been seized by the kernel as the child of a tracee, or be dead.
    fn not_seized(&mut self, tid: i32, pid: i32) -> Result<(), Status> {
        match tracer_of(tid) {
            None => Ok(()),
            Some(_) if is_traced_here(tid) => {
                self.tracees().insert(tid, pid, Stage::New);
                Ok(())
            }
            // A zombie: the first thread of a process whose `main` is over.
            Some(0) if status_field(tid, "State:").is_none_or(|state| state.starts_with(['Z', 'X'])) => Ok(()),
            Some(0) => Err(Status::RefusedBySystem),
            Some(_) => Err(Status::AlreadyTraced),
        }
    }

    /// Watches process `pid` no longer, at its own request.
    pub(super) fn detach_client(&mut self, pid: i32) -> Status {
        if let Some(client) = self.tracees().remove_client(pid) {
            if let Some(limit) = client.core_limit {
                set_core_limit(pid, limit);
            }
            self.release(pid);
        }
        Status::Ok
    }
}

fn thread_count(pid: i32) -> Option<usize> {
    status_field(pid, "Threads:")?.parse().ok()
}

fn effective_uid(pid: i32) -> Option<u32> {
    status_field(pid, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}
