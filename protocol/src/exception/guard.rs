//! What `EXC_GUARD` says (`osfmk/kern/exc_guard.h`; reasons in `osfmk/mach/port.h`, `bsd/sys/guarded.h`,
//! `osfmk/mach/vm_statistics.h`).

use super::MachException;
use super::mach::EXC_GUARD;

/// A decoded `EXC_GUARD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// What kind of object was guarded: bits 63 to 61 of the first code.
    pub kind: GuardKind,
    /// What was done to it: bits 60 to 32.
    pub flavor: u32,
    /// Which object: bits 31 to 0. A port's name, a file descriptor, the process that touched the file.
    pub target: u32,
    /// The guard's id, or what the flavour adds.
    pub payload: u64,
}

/// What kind of object was guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardKind {
    /// `GUARD_TYPE_MACH_PORT`.
    MachPort,
    /// `GUARD_TYPE_FD`.
    FileDescriptor,
    /// `GUARD_TYPE_USER`: `os_fault_with_payload`.
    User,
    /// `GUARD_TYPE_VN`: a file.
    Vnode,
    /// `GUARD_TYPE_VIRT_MEMORY`.
    VirtualMemory,
    /// `GUARD_TYPE_REJECTED_SC`.
    RejectedSystemCall,
    /// Another. 0 where the exception came inside `EXC_CRASH`, which loses the type and the flavour.
    Other(u8),
}

impl GuardKind {
    fn from_bits(bits: u8) -> GuardKind {
        match bits {
            1 => GuardKind::MachPort,
            2 => GuardKind::FileDescriptor,
            3 => GuardKind::User,
            4 => GuardKind::Vnode,
            5 => GuardKind::VirtualMemory,
            6 => GuardKind::RejectedSystemCall,
            other => GuardKind::Other(other),
        }
    }

    /// The constant's name.
    pub const fn name(self) -> &'static str {
        match self {
            GuardKind::MachPort => "GUARD_TYPE_MACH_PORT",
            GuardKind::FileDescriptor => "GUARD_TYPE_FD",
            GuardKind::User => "GUARD_TYPE_USER",
            GuardKind::Vnode => "GUARD_TYPE_VN",
            GuardKind::VirtualMemory => "GUARD_TYPE_VIRT_MEMORY",
            GuardKind::RejectedSystemCall => "GUARD_TYPE_REJECTED_SC",
            GuardKind::Other(0) => "GUARD_TYPE_NONE",
            GuardKind::Other(_) => "GUARD_TYPE_UNKNOWN",
        }
    }
}

impl Guard {
    /// Decodes an `EXC_GUARD`; `None` for other types.
    pub fn of(exception: &MachException) -> Option<Guard> {
        if exception.kind != EXC_GUARD {
            return None;
        }
        let code = exception.code();
        Some(Guard {
            kind: GuardKind::from_bits((code >> 61) as u8),
            flavor: ((code >> 32) & 0x1FFF_FFFF) as u32,
            target: code as u32,
            payload: exception.subcode(),
        })
    }

    /// The name of what was done; `None` if it is not known.
    pub fn flavor_name(&self) -> Option<&'static str> {
        let table: &[(u32, &'static str)] = match self.kind {
            GuardKind::MachPort => &MACH_PORT,
            GuardKind::FileDescriptor => &FILE_DESCRIPTOR,
            GuardKind::Vnode => &VNODE,
            GuardKind::VirtualMemory => &VIRTUAL_MEMORY,
            GuardKind::User | GuardKind::RejectedSystemCall | GuardKind::Other(_) => &[],
        };
        table.iter().find(|(value, _)| *value == self.flavor).map(|(_, name)| *name)
    }

    /// For people: "GUARD_TYPE_FD: CLOSE, file descriptor 3, guard 0x08fd4dbfade2dead".
    pub fn describe(&self) -> String {
        let Guard { kind, flavor, target, payload } = self;
        let what = match self.flavor_name() {
            Some(name) => name.to_owned(),
            None => format!("flavor {flavor:#x}"),
        };
        match kind {
            GuardKind::MachPort => format!("{}: {what}, port {target:#x}, payload {payload:#x}", kind.name()),
            GuardKind::FileDescriptor => {
                format!("{}: {what}, file descriptor {}, guard {payload:#018x}", kind.name(), *target as i32)
            }
            GuardKind::User => format!("{}: namespace {target}, code {payload:#x}", kind.name()),
            GuardKind::Vnode => format!("{}: {what}, process {}, guard {payload:#018x}", kind.name(), *target as i32),
            GuardKind::VirtualMemory => format!("{}: {what}, offset {payload:#x}", kind.name()),
            GuardKind::RejectedSystemCall if *target == 0 => format!("{}: system call {payload}", kind.name()),
            GuardKind::RejectedSystemCall => format!("{}: Mach trap {payload}", kind.name()),
            GuardKind::Other(0) => format!("target {target:#x} (low 20 bits), guard {payload:#018x}"),
            GuardKind::Other(bits) => format!("type {bits}: {what}, target {target:#x}, payload {payload:#x}"),
        }
    }
}

const FILE_DESCRIPTOR: [(u32, &str); 7] = [
    (1 << 0, "CLOSE"),
    (1 << 1, "DUP"),
    (1 << 2, "NOCLOEXEC"),
    (1 << 3, "SOCKET_IPC"),
    (1 << 4, "FILEPORT"),
    (1 << 5, "MISMATCH"),
    (1 << 6, "WRITE"),
];

const VNODE: [(u32, &str); 7] = [
    (1 << 0, "RENAME_TO"),
    (1 << 1, "RENAME_FROM"),
    (1 << 2, "UNLINK"),
    (1 << 3, "WRITE_OTHER"),
    (1 << 4, "TRUNC_OTHER"),
    (1 << 5, "LINK"),
    (1 << 6, "EXCHDATA"),
];

const VIRTUAL_MEMORY: [(u32, &str); 15] = [
    (1, "DEALLOC_GAP"),
    (2, "RECLAIM_COPYIO_FAILURE"),
    (4, "RECLAIM_INDEX_FAILURE"),
    (8, "RECLAIM_DEALLOCATE_FAILURE"),
    (9, "RECLAIM_ACCOUNTING_FAILURE"),
    (10, "SEC_IOPL_ON_EXEC_PAGE"),
    (11, "SEC_EXEC_ON_IOPL_PAGE"),
    (12, "SEC_UPL_WRITE_ON_EXEC_REGION"),
    (98, "SEC_ACCESS_FAULT"),
    (99, "SEC_ASYNC_ACCESS_FAULT"),
    (100, "SEC_COPY_DENIED"),
    (101, "SEC_SHARING_DENIED"),
    (200, "MTE_SYNC_FAULT"),
    (201, "MTE_ASYNC_USER_FAULT"),
    (202, "MTE_ASYNC_KERN_FAULT"),
];

/// Fatal ones below 0x100, then those that a task may have switched to non-fatal, then those that never kill.
const MACH_PORT: [(u32, &str); 34] = [
    (1, "DESTROY"),
    (2, "MOD_REFS"),
    (3, "INVALID_OPTIONS"),
    (4, "SET_CONTEXT"),
    (5, "THREAD_SET_STATE"),
    (6, "EXCEPTION_BEHAVIOR_ENFORCE"),
    (7, "SERVICE_PORT_VIOLATION_FATAL"),
    (8, "UNGUARDED"),
    (9, "KOBJECT_REPLY_PORT_SEMANTICS"),
    (10, "REQUIRE_REPLY_PORT_SEMANTICS"),
    (16, "INCORRECT_GUARD"),
    (32, "IMMOVABLE"),
    (64, "STRICT_REPLY"),
    (65, "INVALID_NOTIFICATION_REQ"),
    (66, "INVALID_MPO_ENTITLEMENT"),
    (67, "DESCRIPTOR_VIOLATION"),
    (128, "MSG_FILTERED"),
    (0x100, "INVALID_RIGHT"),
    (0x200, "INVALID_NAME"),
    (0x400, "INVALID_VALUE"),
    (0x800, "INVALID_ARGUMENT"),
    (0x1000, "RIGHT_EXISTS"),
    (0x2000, "KERN_NO_SPACE"),
    (0x4000, "KERN_FAILURE"),
    (0x8000, "KERN_RESOURCE"),
    (1 << 16, "SEND_INVALID_REPLY"),
    (1 << 17, "SEND_INVALID_VOUCHER"),
    (1 << 18, "SEND_INVALID_RIGHT"),
    (1 << 19, "RCV_INVALID_NAME"),
    (1 << 20, "RCV_GUARDED_DESC"),
    ((1 << 20) + 2, "PROVISIONAL_REPLY_PORT"),
    (1 << 21, "MOD_REFS_NON_FATAL"),
    (1 << 22, "IMMOVABLE_NON_FATAL"),
    (1 << 23, "REQUIRE_REPLY_PORT_SEMANTICS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(code: u64, subcode: u64) -> Guard {
        Guard::of(&MachException::new(EXC_GUARD, code, subcode)).unwrap()
    }

    #[test]
    fn a_closed_guarded_descriptor_is_decoded() {
        let guard = guard(0x4000_0001_0000_0003, 0x08FD_4DBF_ADE2_DEAD);
        assert_eq!((guard.kind, guard.flavor, guard.target), (GuardKind::FileDescriptor, 1, 3));
        assert_eq!(guard.describe(), "GUARD_TYPE_FD: CLOSE, file descriptor 3, guard 0x08fd4dbfade2dead");
    }

    #[test]
    fn the_three_fields_have_the_widths_of_exc_guard_h() {
        let guard = guard(u64::MAX, 0);
        assert_eq!((guard.kind, guard.flavor, guard.target), (GuardKind::Other(7), 0x1FFF_FFFF, u32::MAX));
        assert_eq!(guard.flavor_name(), None);
    }

    #[test]
    fn port_violations_have_names() {
        let named = |flavor: u64| guard(1 << 61 | flavor << 32 | 0x1503, 0).flavor_name();
        assert_eq!(named(1), Some("DESTROY"));
        assert_eq!(named(6), Some("EXCEPTION_BEHAVIOR_ENFORCE"));
        assert_eq!(named(32), Some("IMMOVABLE"));
        assert_eq!(named(0x100), Some("INVALID_RIGHT"));
        assert_eq!(named(1 << 23), Some("REQUIRE_REPLY_PORT_SEMANTICS"));
        assert_eq!(named(11), None);
    }

    #[test]
    fn each_value_of_a_table_stands_there_once() {
        for table in [&FILE_DESCRIPTOR[..], &VNODE, &VIRTUAL_MEMORY, &MACH_PORT] {
            let mut values: Vec<u32> = table.iter().map(|(value, _)| *value).collect();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), table.len());
        }
    }

    #[test]
    fn other_exceptions_are_no_guards() {
        assert_eq!(Guard::of(&MachException::new(1, 1, 0)), None);
    }
}
