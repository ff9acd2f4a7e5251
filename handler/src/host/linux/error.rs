//! What can go wrong before anything runs.

use super::errno::Errno;
use super::probe::Refused;

/// Why a program could not be run, or the service not be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The program could not be executed.
    #[error("{program}: {errno}")]
    Exec {
        /// Its name, as it was given.
        program: String,
        /// Why.
        errno: Errno,
    },
    /// This system lets us trace nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A system call failed that should not.
    #[error("{what}: {errno}")]
    Call {
        /// Which.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The tracing thread panicked: a defect. Programs that it traced run on.
    #[error("internal error in the tracing thread")]
    Panicked,
}

impl HostError {
    /// The exit status that tells it: a shell's 127 and 126 for a program that was not found or can't be executed, 77
    /// (`EX_NOPERM` of sysexits.h) where tracing is refused, 125 (as `env` and `timeout` have it) for anything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            HostError::Exec { errno, .. } => exec_status(*errno),
            HostError::Refused(_) => 77,
            HostError::Call { .. } | HostError::Panicked => 125,
        }
    }
}

/// The status with which a shell tells that exec failed (POSIX, Shell Command Language 2.8.2).
pub(super) fn exec_status(errno: Errno) -> u8 {
    match errno.0 {
        libc::ENOENT | libc::ENOTDIR => 127,
        _ => 126,
    }
}
