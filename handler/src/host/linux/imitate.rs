//! Dying of a signal as another process did.

use super::program::{limit_core_to_one, plain_action};
use super::wakeup;

/// Sends this process a signal that ends it by default, and sees that it does: without a core file, and without the system's
/// own crash reporter.
pub(in crate::host) fn die_of(signal: i32) {
    limit_core_to_one(0);
    // SAFETY: a plain attribute of this process: not dumpable, do_coredump (fs/coredump.c) neither writes nor pipes.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    // Fails for SIGKILL, which needs no preparation.
    let _ = wakeup::set_action(signal, &plain_action(libc::SIG_DFL));
    wakeup::change_mask(libc::SIG_UNBLOCK, &wakeup::set_of(&[signal]));
    // SAFETY: sends this thread a signal; it is delivered before the call returns, since the thread does not block it.
    unsafe { libc::raise(signal) };
}
