//! The numbers of `include/aftermach.h`: results, of which others may come with later versions, and flags.

use core::ffi::c_int;

/// Done.
pub const AFTERMACH_OK: c_int = 0;
/// By this image or another one of the process.
pub const AFTERMACH_ALREADY_INSTALLED: c_int = 1;
/// The client is not installed.
pub const AFTERMACH_NOT_INSTALLED: c_int = 2;
/// Another thread is installing or uninstalling.
pub const AFTERMACH_IN_PROGRESS: c_int = 3;
/// A name, version or option is not acceptable.
pub const AFTERMACH_ARGUMENT: c_int = 4;
/// Not installed, switched off, or not visible from here.
pub const AFTERMACH_NO_SERVICE: c_int = 5;
/// The sandbox, or the service's file permissions, forbid it.
pub const AFTERMACH_REFUSED_BY_SANDBOX: c_int = 6;
/// Linux: ptrace is not permitted.
pub const AFTERMACH_REFUSED_BY_SYSTEM: c_int = 7;
/// macOS: may not set exception ports this way.
pub const AFTERMACH_HARDENED: c_int = 8;
/// macOS: the service's port is not taken as an exception port.
pub const AFTERMACH_PORT_REFUSED: c_int = 9;
/// macOS: accepted, but not set.
pub const AFTERMACH_NOT_HONOURED: c_int = 10;
/// By a debugger or another service.
pub const AFTERMACH_ALREADY_TRACED: c_int = 11;
/// The service has as many clients as it takes.
pub const AFTERMACH_SERVICE_BUSY: c_int = 12;
/// The service does not serve this user.
pub const AFTERMACH_NOT_PERMITTED: c_int = 13;
/// No common protocol, or the system is too old for what was asked.
pub const AFTERMACH_INCOMPATIBLE: c_int = 14;
/// Another user's process answers in place of the service.
pub const AFTERMACH_IMPOSTOR: c_int = 15;
/// The service did not answer in time.
pub const AFTERMACH_TIMEOUT: c_int = 16;
/// Anything else.
pub const AFTERMACH_SYSTEM: c_int = 17;
/// A key is empty or longer than 64 bytes.
pub const AFTERMACH_KEY: c_int = 32;
/// All 64 annotations are taken.
pub const AFTERMACH_FULL: c_int = 33;
/// The same key is being written at this moment; that value stays.
pub const AFTERMACH_BUSY: c_int = 34;

/// Flag, macOS: deaths only, no first-chance hardware exceptions; for JITs.
pub const AFTERMACH_CRASH_ONLY: u32 = 1;
/// Flag, macOS: name the process by identity token, whatever the system.
pub const AFTERMACH_PROTECTED: u32 = 2;
/// Flag, macOS: name it by task port; fatal in hardened processes.
pub const AFTERMACH_CLASSIC: u32 = 4;
/// Flag, macOS: register launchd's port for the service, or none.
pub const AFTERMACH_SERVICE_PORT: u32 = 8;
/// Flag, macOS: register a port that the service makes for this process.
pub const AFTERMACH_OWN_PORT: u32 = 16;
