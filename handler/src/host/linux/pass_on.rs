//! Ending as another process ended, so that whoever started us sees what it would have seen.

use std::fmt;
use std::process::ExitCode;
use std::ptr;

use super::wait::Ending;

impl Ending {
    /// Ends this process by the signal that ended the program; for a program that exited, returns its exit code.
    ///
    /// Nothing is cleaned up when a signal ends it: finish everything first.
    pub fn pass_on(self) -> ExitCode {
        match self {
            Ending::Exited(status) => ExitCode::from((status & 0xff) as u8),
            Ending::Killed(signal) => {
                die_by(signal);
                // It could not be raised, or did not kill: what a shell would say.
                ExitCode::from((128 + signal) as u8)
            }
        }
    }
}

fn die_by(signal: i32) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls with valid pointers. The set is initialised by sigemptyset before it is read; the default
    // disposition runs no code of ours.
    unsafe {
        // The core that would be written now is ours, not the program's.
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::raise(signal);
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "it exited with {status}"),
            Ending::Killed(signal) => match aftermach_protocol::exception::linux::signal_name(*signal) {
                Some(name) => write!(f, "{name} killed it"),
                None => write!(f, "signal {signal} killed it"),
            },
        }
    }
}
