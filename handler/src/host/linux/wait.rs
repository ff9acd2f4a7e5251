//! wait(2) for tracees: what a status word means.

use super::errno::Errno;
pub use crate::host::ending::Ending;

/// What became of a tracee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is stopped and waits for an answer.
    Stopped(Stop),
    /// The thread (for a leader: the process) is gone and has been reaped.
    Gone(Ending),
}

/// Why a seized tracee is stopped (ptrace(2), "Stopped states").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Signal-delivery-stop: this signal is about to be delivered.
    Signal(i32),
    /// Group-stop: this signal stopped the whole process.
    Group(i32),
    /// `PTRACE_EVENT_STOP` for another reason: a new tracee's first stop, an interrupt, the end of a group-stop.
    Trap,
    /// It made a thread or a child, which is a tracee as well.
    NewTracee,
    /// It has executed another program. Its other threads are gone, and it bears the process's id from now on.
    Exec,
    /// It is about to die: its last stop.
    Exit,
    /// An event that was not asked for.
    Other(i32),
}

impl Status {
    /// What a status word of wait(2) says about a seized tracee.
    pub fn from_raw(status: i32) -> Status {
        if status & 0xff != 0x7f {
            return Status::Gone(Ending::from_raw(status));
        }
        let signal = (status >> 8) & 0xff;
        Status::Stopped(match status >> 16 {
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Trap,
            libc::PTRACE_EVENT_STOP => Stop::Group(signal),
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => Stop::NewTracee,
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_EXIT => Stop::Exit,
            event => Stop::Other(event),
        })
    }
}

/// News of the tracee or child `which` (-1: of any) of the calling thread, if there is some.
///
/// `__WNOTHREAD` keeps to the calling thread's own: other threads of this process may trace, and start children, as well.
///
/// # Errors
/// `ECHILD`: there is no such tracee or child.
pub fn poll(which: i32) -> Result<Option<(i32, Status)>, Errno> {
    wait(which, libc::WNOHANG)
}

/// As [`poll`], but waits for news.
///
/// # Errors
/// As [`poll`]; `EINTR` never.
pub fn block(which: i32) -> Result<(i32, Status), Errno> {
    loop {
        match wait(which, 0) {
            Ok(Some(news)) => return Ok(news),
            Ok(None) | Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn wait(which: i32, flags: i32) -> Result<Option<(i32, Status)>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is a live i32, and the only memory that the kernel writes to.
    let tid = unsafe { libc::waitpid(which, &mut status, libc::__WALL | libc::__WNOTHREAD | flags) };
    match Errno::check(tid.into())? {
        0 => Ok(None),
        _ => Ok(Some((tid, Status::from_raw(status)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ptrace(2) and wait(2), in the words of the manual pages.
    #[test]
    fn a_status_word_means_what_the_manual_says() {
        let event = |event: i32, signal: i32| (event << 16) | (signal << 8) | 0x7f;
        for (raw, status) in [
            (0, Status::Gone(Ending::Exited(0))),
            (0x700, Status::Gone(Ending::Exited(7))),
            (0x0b, Status::Gone(Ending::Killed(libc::SIGSEGV))),
            (0x8b, Status::Gone(Ending::Killed(libc::SIGSEGV))),
            (0x137f, Status::Stopped(Stop::Signal(libc::SIGSTOP))),
            (0x057f, Status::Stopped(Stop::Signal(libc::SIGTRAP))),
            (event(128, libc::SIGSTOP), Status::Stopped(Stop::Group(libc::SIGSTOP))),
            (event(128, libc::SIGTSTP), Status::Stopped(Stop::Group(libc::SIGTSTP))),
            (event(128, libc::SIGTRAP), Status::Stopped(Stop::Trap)),
            (event(1, libc::SIGTRAP), Status::Stopped(Stop::NewTracee)),
            (event(2, libc::SIGTRAP), Status::Stopped(Stop::NewTracee)),
            (event(3, libc::SIGTRAP), Status::Stopped(Stop::NewTracee)),
            (event(4, libc::SIGTRAP), Status::Stopped(Stop::Exec)),
            (event(6, libc::SIGTRAP), Status::Stopped(Stop::Exit)),
            (event(5, libc::SIGTRAP), Status::Stopped(Stop::Other(5))),
        ] {
            assert_eq!(Status::from_raw(raw), status, "{raw:#x}");
        }
    }
}
