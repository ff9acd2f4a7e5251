//! Dying of a signal as another process did.

use std::ffi::c_int;
use std::ptr;

use aftermach_protocol::exception::darwin::is_core_signal;

/// Sends this process a signal that ends it by default, and sees that it does, without a core file. Not one that stands for a
/// crash: the system would report this process as crashed as well, and show its user so. No handler can keep it from that but
/// one in another process.
pub(in crate::host) fn die_of(signal: c_int) {
    if is_core_signal(signal) {
        return;
    }
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
