//! Dying of a signal as another process did.

use std::ffi::c_int;
use std::ptr;

/// Sends this process a signal that ends it by default, and sees that it does, without a core file.
pub(in crate::host) fn die_of(signal: c_int) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls with valid pointers. The set is initialised by sigemptyset before it is read; the default
    // disposition runs no code of ours.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::raise(signal);
    }
}
