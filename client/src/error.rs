//! Why something was not done. Every reason has a number, for C: see `aftermach.h`.

use core::fmt;

use crate::codes;

/// Why a request to the system or the service failed. The program can go on without; only its crashes stay unreported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The client is installed in this process already, by this image or another (1).
    AlreadyInstalled,
    /// The client is not installed (2).
    NotInstalled,
    /// Another thread is installing or uninstalling the client at this moment (3).
    InProgress,
    /// The product, version or service name is not acceptable (4): a NUL, or too long.
    Argument,
    /// The service is not there (5): not installed, switched off by the user, or not visible from here.
    NoService,
    /// The sandbox, or the service's file permissions, forbid talking to it (6).
    RefusedBySandbox,
    /// The system refused to let the service watch this process (7): ptrace on Linux.
    RefusedBySystem,
    /// This process is hardened and may not set its exception ports this way (8).
    Hardened,
    /// The system does not take the service's port as an exception port (9).
    PortRefused,
    /// The system said yes and did otherwise (10).
    NotHonoured,
    /// A debugger or another service traces this process (11).
    AlreadyTraced,
    /// The service has as many clients as it takes (12).
    ServiceBusy,
    /// The service does not serve this user (13).
    NotPermitted,
    /// Client and service have no protocol in common (14).
    Incompatible,
    /// Who answers on the service's socket is neither this user nor root (15).
    Impostor,
    /// The service did not answer in time (16).
    Timeout,
    /// Anything else, with the system's own number (17): errno on Linux, kern_return_t on macOS.
    System(i32),
}

impl Error {
    /// The reason's number in `aftermach.h`.
    pub const fn code(self) -> i32 {
        match self {
            Error::AlreadyInstalled => codes::AFTERMACH_ALREADY_INSTALLED,
            Error::NotInstalled => codes::AFTERMACH_NOT_INSTALLED,
            Error::InProgress => codes::AFTERMACH_IN_PROGRESS,
            Error::Argument => codes::AFTERMACH_ARGUMENT,
            Error::NoService => codes::AFTERMACH_NO_SERVICE,
            Error::RefusedBySandbox => codes::AFTERMACH_REFUSED_BY_SANDBOX,
            Error::RefusedBySystem => codes::AFTERMACH_REFUSED_BY_SYSTEM,
            Error::Hardened => codes::AFTERMACH_HARDENED,
            Error::PortRefused => codes::AFTERMACH_PORT_REFUSED,
            Error::NotHonoured => codes::AFTERMACH_NOT_HONOURED,
            Error::AlreadyTraced => codes::AFTERMACH_ALREADY_TRACED,
            Error::ServiceBusy => codes::AFTERMACH_SERVICE_BUSY,
            Error::NotPermitted => codes::AFTERMACH_NOT_PERMITTED,
            Error::Incompatible => codes::AFTERMACH_INCOMPATIBLE,
            Error::Impostor => codes::AFTERMACH_IMPOSTOR,
            Error::Timeout => codes::AFTERMACH_TIMEOUT,
            Error::System(_) => codes::AFTERMACH_SYSTEM,
        }
    }
}

/// What a code from `aftermach.h` means.
pub(crate) const fn message(code: i32) -> &'static core::ffi::CStr {
    match code {
        codes::AFTERMACH_OK => c"done",
        codes::AFTERMACH_ALREADY_INSTALLED => c"the client is installed in this process already",
        codes::AFTERMACH_NOT_INSTALLED => c"the client is not installed",
        codes::AFTERMACH_IN_PROGRESS => c"another thread is installing or uninstalling the client",
        codes::AFTERMACH_ARGUMENT => c"a product, version or service name is not acceptable",
        codes::AFTERMACH_NO_SERVICE => c"the crash reporting service is not there",
        codes::AFTERMACH_REFUSED_BY_SANDBOX => {
            c"the sandbox or file permissions forbid talking to the crash reporting service"
        }
        codes::AFTERMACH_REFUSED_BY_SYSTEM => {
            c"the system does not let the service watch this process (ptrace is refused)"
        }
        codes::AFTERMACH_HARDENED => c"this process is hardened and may not set its exception ports this way",
        codes::AFTERMACH_PORT_REFUSED => c"the system does not take the service's port as an exception port",
        codes::AFTERMACH_NOT_HONOURED => c"the system accepted the exception ports but did not set them",
        codes::AFTERMACH_ALREADY_TRACED => c"a debugger or another service traces this process",
        codes::AFTERMACH_SERVICE_BUSY => c"the service has as many clients as it takes",
        codes::AFTERMACH_NOT_PERMITTED => c"the service does not serve this user",
        codes::AFTERMACH_INCOMPATIBLE => c"client and service have no protocol in common",
        codes::AFTERMACH_IMPOSTOR => c"another user's process answers in place of the service",
        codes::AFTERMACH_TIMEOUT => c"the service did not answer in time",
        codes::AFTERMACH_SYSTEM => c"an unexpected error of the system",
        codes::AFTERMACH_KEY => c"a key is empty or longer than 64 bytes",
        codes::AFTERMACH_FULL => c"all annotation slots are taken",
        codes::AFTERMACH_BUSY => c"the same annotation is being written at this moment",
        _ => c"unknown",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(message(self.code()).to_str().unwrap_or_default())?;
        match self {
            Error::System(number) => write!(f, ": {number}"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Error {}

/// Why an annotation was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The key is empty or longer than 64 bytes (32).
    Key,
    /// All 64 slots are taken (33).
    Full,
    /// The same key is being written at this moment, by another thread or by what this signal handler interrupted (34).
    Busy,
}

impl Dropped {
    /// The reason's number in `aftermach.h`.
    pub const fn code(self) -> i32 {
        match self {
            Dropped::Key => codes::AFTERMACH_KEY,
            Dropped::Full => codes::AFTERMACH_FULL,
            Dropped::Busy => codes::AFTERMACH_BUSY,
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(message(self.code()).to_str().unwrap_or_default())
    }
}

impl core::error::Error for Dropped {}
