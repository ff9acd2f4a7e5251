//! How a program ended, and ending in the same way.

use std::fmt;

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

    /// Ends this process as the program ended, so that whoever started it sees what the program did: the same exit status, or
    /// death by the same signal, without a core file of ours. Finish everything first: where a signal ends it, nothing is
    /// flushed or dropped.
    pub fn pass_on(self) -> ! {
        std::process::exit(match self {
            Ending::Exited(status) => status,
            Ending::Killed(signal) => {
                super::die_of(signal);
                // Still here, as init of a pid namespace may be: what a shell would say.
                128 + signal
            }
        })
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
