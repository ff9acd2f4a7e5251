//! Why the system ended a process (`bsd/sys/reason.h`).

use std::fmt;

use super::MachException;
use super::mach::EXC_CORPSE_NOTIFY;

/// An exit reason: who ended the process, and that one's own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitReason {
    /// Who: `OS_REASON_*`.
    pub namespace: u32,
    /// Its code. From a corpse notification only the low 32 bits.
    pub code: u64,
}

/// By value, from 1. 37 is not named in the public header.
const NAMESPACES: [&str; 43] = [
    "JETSAM",
    "SIGNAL",
    "CODESIGNING",
    "HANGTRACER",
    "TEST",
    "DYLD",
    "LIBXPC",
    "OBJC",
    "EXEC",
    "SPRINGBOARD",
    "TCC",
    "REPORTCRASH",
    "COREANIMATION",
    "AGGREGATED",
    "RUNNINGBOARD",
    "SKYWALK",
    "SETTINGS",
    "LIBSYSTEM",
    "FOUNDATION",
    "WATCHDOG",
    "METAL",
    "WATCHKIT",
    "GUARD",
    "ANALYTICS",
    "SANDBOX",
    "SECURITY",
    "ENDPOINTSECURITY",
    "PAC_EXCEPTION",
    "BLUETOOTH_CHIP",
    "PORT_SPACE",
    "WEBKIT",
    "BACKLIGHTSERVICES",
    "MEDIA",
    "ROSETTA",
    "LIBIGNITION",
    "BOOTMOUNT",
    "",
    "REALITYKIT",
    "AUDIO",
    "WAKEBOARD",
    "CORERC",
    "SELF_RESTRICT",
    "ARKIT",
];

impl ExitReason {
    /// What an `EXC_CORPSE_NOTIFY` says of a process that ended; `None` for a corpse that was forked off a living one, and
    /// for other types.
    pub fn of_corpse(exception: &MachException) -> Option<ExitReason> {
        let subcode = exception.subcode();
        let reason = ExitReason { namespace: (subcode >> 32) as u32, code: subcode & 0xFFFF_FFFF };
        (exception.kind == EXC_CORPSE_NOTIFY && reason.namespace != 0).then_some(reason)
    }

    /// The namespace's name; `None` if it is not known. New ones come with every release.
    pub fn namespace_name(&self) -> Option<&'static str> {
        let index = (self.namespace as usize).checked_sub(1)?;
        NAMESPACES.get(index).copied().filter(|name| !name.is_empty())
    }

    /// The code's name, in the namespaces of the kernel itself.
    pub fn code_name(&self) -> Option<&'static str> {
        Some(match (self.namespace_name()?, self.code) {
            ("CODESIGNING", 1) => "TASKGATED_INVALID_SIG",
            ("CODESIGNING", 2) => "INVALID_PAGE",
            ("CODESIGNING", 3) => "TASK_ACCESS_PORT",
            ("CODESIGNING", 4) => "LAUNCH_CONSTRAINT_VIOLATION",
            ("GUARD", 1) => "VNODE",
            ("GUARD", 2) => "VIRT_MEMORY",
            ("GUARD", 3) => "MACH_PORT",
            ("SIGNAL", code) => super::darwin::signal_name(i32::try_from(code).ok()?)?,
            _ => return None,
        })
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace_name() {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "namespace {}", self.namespace)?,
        }
        match self.code_name() {
            Some(name) => write!(f, ", {name}"),
            None => write!(f, ", code {:#x}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_the_numbers_of_reason_h() {
        let expected = [
            (1, Some("JETSAM")),
            (2, Some("SIGNAL")),
            (3, Some("CODESIGNING")),
            (6, Some("DYLD")),
            (18, Some("LIBSYSTEM")),
            (19, Some("FOUNDATION")),
            (23, Some("GUARD")),
            (28, Some("PAC_EXCEPTION")),
            (34, Some("ROSETTA")),
            (36, Some("BOOTMOUNT")),
            (37, None),
            (38, Some("REALITYKIT")),
            (42, Some("SELF_RESTRICT")),
            (43, Some("ARKIT")),
            (44, None),
            (0, None),
            (u32::MAX, None),
        ];
        for (namespace, name) in expected {
            assert_eq!(ExitReason { namespace, code: 0 }.namespace_name(), name);
        }
    }

    #[test]
    fn a_corpse_notification_gives_namespace_and_code() {
        let reason = ExitReason::of_corpse(&MachException::new(EXC_CORPSE_NOTIFY, 10, 3 << 32 | 2)).unwrap();
        assert_eq!(reason, ExitReason { namespace: 3, code: 2 });
        assert_eq!(reason.to_string(), "CODESIGNING, INVALID_PAGE");
        assert_eq!(ExitReason { namespace: 2, code: 6 }.to_string(), "SIGNAL, SIGABRT");
        assert_eq!(ExitReason { namespace: 99, code: 16 }.to_string(), "namespace 99, code 0x10");
        assert_eq!(ExitReason::of_corpse(&MachException::new(EXC_CORPSE_NOTIFY, 12, 0)), None);
        assert_eq!(ExitReason::of_corpse(&MachException::new(1, 1, 3 << 32)), None);
    }
}
