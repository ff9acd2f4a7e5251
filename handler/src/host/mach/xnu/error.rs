//! What can go wrong before anything runs.

use aftermach_protocol::exception::KernReturn;

use super::CheckInError;
use crate::host::errno::Errno;

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
    /// The program was started, but its exceptions would not come to us; it was ended before it ran.
    #[error("{program}: the system did not give it our exception port, so its crashes could not be seen")]
    NotHonoured {
        /// Its name, as it was given.
        program: String,
    },
    /// There is no port to receive on.
    #[error(transparent)]
    CheckIn(#[from] CheckInError),
    /// A system call failed that should not.
    #[error("{what}: {errno}")]
    Call {
        /// Which.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// A call of Mach's failed that should not.
    #[error("{what}: {code}")]
    Mach {
        /// Which.
        what: &'static str,
        /// Why.
        code: KernReturn,
    },
}

impl HostError {
    /// The exit status that tells it: a shell's 127 and 126 for a program that was not found or can't be executed, 77
    /// (`EX_NOPERM` of sysexits.h) where the system refuses us the exceptions or the service, 125 (as `env` and `timeout` have
    /// it) for anything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            HostError::Exec { errno: Errno(libc::ENOENT | libc::ENOTDIR), .. } => 127,
            HostError::Exec { .. } => 126,
            HostError::NotHonoured { .. } | HostError::CheckIn(_) => 77,
            HostError::Call { .. } | HostError::Mach { .. } => 125,
        }
    }
}
