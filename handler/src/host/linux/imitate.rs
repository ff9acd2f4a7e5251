//! Ending as another process did.

use super::program::{limit_core_to_one, plain_action};
use super::wait::Ending;
use super::wakeup;

/// Ends this process as `ending` says, so that whoever started it sees what the program did: the same exit status, or death
/// by the same signal, without a core file and without the system's own crash reporter. Nothing is flushed or dropped.
pub fn end_like(ending: Ending) -> ! {
    let status = match ending {
        Ending::Exited(status) => status,
        Ending::Killed(signal) => {
            die_of(signal);
            // Still here: as init of a pid namespace, which default actions do not kill. A shell's way to say it.
            128 + signal
        }
    };
    // SAFETY: ends the process without running anything.
    unsafe { libc::_exit(status) }
}

fn die_of(signal: i32) {
    limit_core_to_one(0);
    // SAFETY: a plain attribute of this process: not dumpable, do_coredump (fs/coredump.c) neither writes nor pipes.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    // Fails for SIGKILL, which needs no preparation.
    let _ = wakeup::set_action(signal, &plain_action(libc::SIG_DFL));
    wakeup::change_mask(libc::SIG_UNBLOCK, &wakeup::set_of(&[signal]));
    // SAFETY: sends this thread a signal; it is delivered before the call returns, since the thread does not block it.
    unsafe { libc::raise(signal) };
}
