//! Why something was not done. Every reason has a number, for C: see `aftermach.h`.

use core::fmt;

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
            Error::AlreadyInstalled => 1,
            Error::NotInstalled => 2,
            Error::InProgress => 3,
            Error::Argument => 4,
            Error::NoService => 5,
            Error::RefusedBySandbox => 6,
            Error::RefusedBySystem => 7,
            Error::Hardened => 8,
            Error::PortRefused => 9,
            Error::NotHonoured => 10,
            Error::AlreadyTraced => 11,
            Error::ServiceBusy => 12,
            Error::NotPermitted => 13,
            Error::Incompatible => 14,
            Error::Impostor => 15,
            Error::Timeout => 16,
            Error::System(_) => 17,
        }
    }
}

/// What a code from `aftermach.h` means.
pub(crate) const fn message(code: i32) -> &'static core::ffi::CStr {
    match code {
        0 => c"done",
        1 => c"the client is installed in this process already",
        2 => c"the client is not installed",
        3 => c"another thread is installing or uninstalling the client",
        4 => c"a product, version or service name is not acceptable",
        5 => c"the crash reporting service is not there",
        6 => c"the sandbox or file permissions forbid talking to the crash reporting service",
        7 => c"the system does not let the service watch this process (ptrace is refused)",
        8 => c"this process is hardened and may not set its exception ports this way",
        9 => c"the system does not take the service's port as an exception port",
        10 => c"the system accepted the exception ports but did not set them",
        11 => c"a debugger or another service traces this process",
        12 => c"the service has as many clients as it takes",
        13 => c"the service does not serve this user",
        14 => c"client and service have no protocol in common",
        15 => c"another user's process answers in place of the service",
        16 => c"the service did not answer in time",
        17 => c"an unexpected error of the system",
        32 => c"a key is empty or longer than 64 bytes",
        33 => c"all annotation slots are taken",
        34 => c"the same annotation is being written at this moment",
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
            Dropped::Key => 32,
            Dropped::Full => 33,
            Dropped::Busy => 34,
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(message(self.code()).to_str().unwrap_or_default())
    }
}

impl core::error::Error for Dropped {}
