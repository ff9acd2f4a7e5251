//! How a program ended, and ending in the same way, so that whoever started us sees what it would have seen.

use std::fmt;
use std::process::ExitCode;
use std::ptr;

#[cfg(target_os = "macos")]
use aftermach_protocol::exception::darwin::signal_name;
#[cfg(target_os = "linux")]
use aftermach_protocol::exception::linux::signal_name;

/// How a process ended, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ending {
    /// What the low 16 bits of a wait status say; on Linux, also the message of an exit stop.
    pub fn from_raw(status: i32) -> Ending {
        // The kernel adds 0x80 if a core was written: that is no part of the signal.
        match status & 0x7f {
            0 => Ending::Exited((status >> 8) & 0xff),
            signal => Ending::Killed(signal),
        }
    }

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
            Ending::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "{name} killed it"),
                None => write!(f, "signal {signal} killed it"),
            },
        }
    }
}
