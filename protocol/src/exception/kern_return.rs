//! Results of kernel calls and of MIG servers.

use std::fmt;

/// `kern_return_t`, or a code of the Mach message and MIG subsystems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernReturn(pub i32);

impl KernReturn {
    /// `KERN_SUCCESS`.
    pub const SUCCESS: KernReturn = KernReturn(0);
    /// `KERN_FAILURE`: to an exception, "ask the next handler".
    pub const FAILURE: KernReturn = KernReturn(5);
    /// `KERN_RESOURCE_SHORTAGE`: not now.
    pub const RESOURCE_SHORTAGE: KernReturn = KernReturn(6);
    /// `KERN_DENIED`.
    pub const DENIED: KernReturn = KernReturn(53);
    /// `MACH_RCV_PORT_DIED`: to an exception, "ask nobody else, but it is not handled" (`osfmk/kern/exception.c`).
    pub const RCV_PORT_DIED: KernReturn = KernReturn(0x1000_4009);
    /// `MIG_TYPE_ERROR`: the message is not what its id says.
    pub const MIG_TYPE_ERROR: KernReturn = KernReturn(-300);
    /// `MIG_BAD_ID`: nobody here knows the message.
    pub const MIG_BAD_ID: KernReturn = KernReturn(-303);

    /// The constant's name (`osfmk/mach/kern_return.h`, `mig_errors.h`), if it is known.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            0x1000_4009 => Some("MACH_RCV_PORT_DIED"),
            -309..=-300 => MIG_NAMES.get(usize::try_from(-300 - self.0).ok()?).copied(),
            code => KERN_NAMES.get(usize::try_from(code).ok()?).copied(),
        }
    }
}

impl fmt::Display for KernReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

const MIG_NAMES: [&str; 10] = [
    "MIG_TYPE_ERROR",
    "MIG_REPLY_MISMATCH",
    "MIG_REMOTE_ERROR",
    "MIG_BAD_ID",
    "MIG_BAD_ARGUMENTS",
    "MIG_NO_REPLY",
    "MIG_EXCEPTION",
    "MIG_ARRAY_TOO_LARGE",
    "MIG_SERVER_DIED",
    "MIG_TRAILER_ERROR",
];

/// By value, from 0.
const KERN_NAMES: [&str; 58] = [
    "KERN_SUCCESS",
    "KERN_INVALID_ADDRESS",
    "KERN_PROTECTION_FAILURE",
    "KERN_NO_SPACE",
    "KERN_INVALID_ARGUMENT",
    "KERN_FAILURE",
    "KERN_RESOURCE_SHORTAGE",
    "KERN_NOT_RECEIVER",
    "KERN_NO_ACCESS",
    "KERN_MEMORY_FAILURE",
    "KERN_MEMORY_ERROR",
    "KERN_ALREADY_IN_SET",
    "KERN_NOT_IN_SET",
    "KERN_NAME_EXISTS",
    "KERN_ABORTED",
    "KERN_INVALID_NAME",
    "KERN_INVALID_TASK",
    "KERN_INVALID_RIGHT",
    "KERN_INVALID_VALUE",
    "KERN_UREFS_OVERFLOW",
    "KERN_INVALID_CAPABILITY",
    "KERN_RIGHT_EXISTS",
    "KERN_INVALID_HOST",
    "KERN_MEMORY_PRESENT",
    "KERN_MEMORY_DATA_MOVED",
    "KERN_MEMORY_RESTART_COPY",
    "KERN_INVALID_PROCESSOR_SET",
    "KERN_POLICY_LIMIT",
    "KERN_INVALID_POLICY",
    "KERN_INVALID_OBJECT",
    "KERN_ALREADY_WAITING",
    "KERN_DEFAULT_SET",
    "KERN_EXCEPTION_PROTECTED",
    "KERN_INVALID_LEDGER",
    "KERN_INVALID_MEMORY_CONTROL",
    "KERN_INVALID_SECURITY",
    "KERN_NOT_DEPRESSED",
    "KERN_TERMINATED",
    "KERN_LOCK_SET_DESTROYED",
    "KERN_LOCK_UNSTABLE",
    "KERN_LOCK_OWNED",
    "KERN_LOCK_OWNED_SELF",
    "KERN_SEMAPHORE_DESTROYED",
    "KERN_RPC_SERVER_TERMINATED",
    "KERN_RPC_TERMINATE_ORPHAN",
    "KERN_RPC_CONTINUE_ORPHAN",
    "KERN_NOT_SUPPORTED",
    "KERN_NODE_DOWN",
    "KERN_NOT_WAITING",
    "KERN_OPERATION_TIMED_OUT",
    "KERN_CODESIGN_ERROR",
    "KERN_POLICY_STATIC",
    "KERN_INSUFFICIENT_BUFFER_SIZE",
    "KERN_DENIED",
    "KERN_MISSING_KC",
    "KERN_INVALID_KC",
    "KERN_NOT_FOUND",
    "KERN_INVALID_GUARD_OBJECT_SLOT",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_headers() {
        let expected = [
            (0, "KERN_SUCCESS"),
            (1, "KERN_INVALID_ADDRESS"),
            (2, "KERN_PROTECTION_FAILURE"),
            (10, "KERN_MEMORY_ERROR"),
            (37, "KERN_TERMINATED"),
            (50, "KERN_CODESIGN_ERROR"),
            (53, "KERN_DENIED"),
            (56, "KERN_NOT_FOUND"),
            (0x1000_4009, "MACH_RCV_PORT_DIED"),
            (-300, "MIG_TYPE_ERROR"),
            (-303, "MIG_BAD_ID"),
            (-308, "MIG_SERVER_DIED"),
            (-309, "MIG_TRAILER_ERROR"),
        ];
        for (code, name) in expected {
            assert_eq!(KernReturn(code).name(), Some(name));
        }
        for code in [-310, -299, -1, 58, 0x100, i32::MIN, i32::MAX] {
            assert_eq!(KernReturn(code).name(), None);
        }
    }
}
