//! Mach exceptions: types, and what the two codes of each say.

use std::fmt::Write as _;

use super::{Cause, Crash, Guard, MachException, Resource, codes, darwin};
use crate::platform::Cpu;

/// `EXC_BAD_ACCESS`: memory could not be accessed.
pub const EXC_BAD_ACCESS: u32 = 1;
/// `EXC_BAD_INSTRUCTION`: the instruction is undefined or privileged.
pub const EXC_BAD_INSTRUCTION: u32 = 2;
/// `EXC_ARITHMETIC`: division by zero, floating point.
pub const EXC_ARITHMETIC: u32 = 3;
/// `EXC_EMULATION`.
pub const EXC_EMULATION: u32 = 4;
/// `EXC_SOFTWARE`: raised by software, e.g. for a debugger.
pub const EXC_SOFTWARE: u32 = 5;
/// `EXC_BREAKPOINT`: breakpoint, watchpoint, single step.
pub const EXC_BREAKPOINT: u32 = 6;
/// `EXC_SYSCALL`: a bad Unix system call.
pub const EXC_SYSCALL: u32 = 7;
/// `EXC_MACH_SYSCALL`: a bad Mach trap.
pub const EXC_MACH_SYSCALL: u32 = 8;
/// `EXC_RPC_ALERT`.
pub const EXC_RPC_ALERT: u32 = 9;
/// `EXC_CRASH`: the process is ending abnormally, and nothing will run in it again.
pub const EXC_CRASH: u32 = 10;
/// `EXC_RESOURCE`: a limit was hit.
pub const EXC_RESOURCE: u32 = 11;
/// `EXC_GUARD`: a guarded object was misused.
pub const EXC_GUARD: u32 = 12;
/// `EXC_CORPSE_NOTIFY`: a corpse was made.
pub const EXC_CORPSE_NOTIFY: u32 = 13;

/// By value, from 1 (`osfmk/mach/exception_types.h`).
const NAMES: [&str; 13] = [
    "EXC_BAD_ACCESS",
    "EXC_BAD_INSTRUCTION",
    "EXC_ARITHMETIC",
    "EXC_EMULATION",
    "EXC_SOFTWARE",
    "EXC_BREAKPOINT",
    "EXC_SYSCALL",
    "EXC_MACH_SYSCALL",
    "EXC_RPC_ALERT",
    "EXC_CRASH",
    "EXC_RESOURCE",
    "EXC_GUARD",
    "EXC_CORPSE_NOTIFY",
];

/// The name of an exception type.
pub fn kind_name(kind: u32) -> Option<&'static str> {
    match kind {
        0 => None,
        kind => NAMES.get(kind as usize - 1).copied(),
    }
}

impl MachException {
    /// An exception of this type and codes.
    pub const fn new(kind: u32, code: u64, subcode: u64) -> MachException {
        MachException { kind, codes: [code, subcode] }
    }

    /// The first code.
    pub const fn code(&self) -> u64 {
        self.codes[0]
    }

    /// The second.
    pub const fn subcode(&self) -> u64 {
        self.codes[1]
    }

    /// The type's name; a number if it has none.
    pub fn name(&self) -> String {
        kind_name(self.kind).map_or_else(|| format!("EXC_{:#x}", self.kind), str::to_owned)
    }

    /// The name of the first code, where it is an enumeration. For `EXC_CRASH`, of the exception inside.
    pub fn code_name(&self, cpu: Cpu) -> Option<&'static str> {
        let inner = self.unwrapped(cpu);
        codes::name(cpu, inner.kind, inner.code())
    }

    /// What `EXC_CRASH` holds; `None` for other types.
    pub fn crash(&self, cpu: Cpu) -> Option<Crash> {
        Crash::unpack(cpu, self)
    }

    /// The exception that led to an `EXC_CRASH`, where there was one and it can be believed; otherwise the exception itself.
    /// Of the first code only the low 20 bits are left.
    pub fn unwrapped(&self, cpu: Cpu) -> MachException {
        match self.crash(cpu) {
            Some(Crash { cause: Cause::Exception(inner), .. }) => inner,
            _ => *self,
        }
    }

    /// The signal that the process dies of, if nothing handles the exception; `None` if that would not end it
    /// (`bsd/uxkern/ux_exception.c`). A write into the main stack's reservation is SIGSEGV instead of SIGBUS, which the
    /// codes don't tell.
    pub fn signal(&self, cpu: Cpu) -> Option<i32> {
        let crash = || self.crash(cpu).map(|crash| crash.signal);
        match self.kind {
            EXC_BAD_ACCESS => match (cpu, self.code()) {
                (_, 1) | (Cpu::X86_64, codes::GENERAL_PROTECTION) => Some(darwin::SIGSEGV),
                _ => Some(darwin::SIGBUS),
            },
            EXC_BAD_INSTRUCTION => Some(darwin::SIGILL),
            EXC_ARITHMETIC => Some(darwin::SIGFPE),
            EXC_EMULATION => Some(darwin::SIGEMT),
            EXC_SOFTWARE => match (cpu, self.code()) {
                (Cpu::X86_64, codes::BOUND) => Some(darwin::SIGTRAP),
                (_, codes::UNIX_BAD_SYSCALL) => Some(darwin::SIGSYS),
                (_, codes::UNIX_BAD_PIPE) => Some(darwin::SIGPIPE),
                (_, codes::UNIX_ABORT) => Some(darwin::SIGABRT),
                (_, codes::SOFT_SIGNAL) => Some(darwin::SIGKILL),
                _ => None,
            },
            EXC_BREAKPOINT => Some(darwin::SIGTRAP),
            EXC_SYSCALL => Some(darwin::SIGSYS),
            EXC_CRASH => crash(),
            _ => None,
        }
    }

    /// The address whose access failed: the second code of `EXC_BAD_ACCESS` (also inside `EXC_CRASH`) and of a watchpoint.
    /// `None` where that code is something else: the error code of a general protection fault, the instruction word of a
    /// failed pointer authentication. It may bear a pointer authentication code or a memory tag.
    pub fn fault_address(&self, cpu: Cpu) -> Option<u64> {
        let inner = self.unwrapped(cpu);
        let is_address = match (inner.kind, cpu) {
            (EXC_BAD_ACCESS, Cpu::X86_64) => {
                !matches!(inner.code(), codes::GENERAL_PROTECTION | codes::NO_FLOATING_POINT_UNIT)
            }
            (EXC_BAD_ACCESS, Cpu::Arm64) => inner.code() != codes::ARM_PAC_FAIL,
            (EXC_BREAKPOINT, Cpu::Arm64) => inner.code() == codes::ARM_DEBUG,
            _ => false,
        };
        is_address.then_some(inner.subcode())
    }

    /// One line for people: "EXC_BAD_ACCESS (SIGSEGV): KERN_INVALID_ADDRESS at 0x0000000000000010", "EXC_CRASH (SIGABRT)".
    pub fn describe(&self, cpu: Cpu) -> String {
        let inner = self.unwrapped(cpu);
        let mut text = inner.name();
        if let Some(signal) = self.signal(cpu) {
            match darwin::signal_name(signal) {
                Some(name) => text += &format!(" ({name})"),
                None => text += &format!(" (signal {signal})"),
            }
        }
        let detail = self.detail(cpu);
        if !detail.is_empty() {
            text += ": ";
            text += &detail;
        }
        text
    }

    /// What the codes say, for people: "KERN_INVALID_ADDRESS at 0x0000000000000010", "guarded file descriptor 3: close".
    /// Empty where the type says it all.
    pub fn detail(&self, cpu: Cpu) -> String {
        let inner = self.unwrapped(cpu);
        match inner.kind {
            EXC_CRASH => return String::new(),
            EXC_GUARD => return Guard::of(&inner).map(|guard| guard.describe()).unwrap_or_default(),
            EXC_RESOURCE => return Resource::of(&inner).map(|resource| resource.describe()).unwrap_or_default(),
            _ => {}
        }
        let mut text = match codes::name(cpu, inner.kind, inner.code()) {
            Some(name) => name.to_owned(),
            None => format!("code {:#x}", inner.code()),
        };
        // Writing to a string does not fail.
        let _ = match inner.fault_address(cpu) {
            Some(address) => write!(text, " at {address:#018x}"),
            None if inner.subcode() != 0 => write!(text, ", {:#x}", inner.subcode()),
            None => Ok(()),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cpu::{Arm64, X86_64};

    #[test]
    fn types_have_the_names_and_numbers_of_exception_types_h() {
        let expected = [
            (1, "EXC_BAD_ACCESS"),
            (2, "EXC_BAD_INSTRUCTION"),
            (3, "EXC_ARITHMETIC"),
            (4, "EXC_EMULATION"),
            (5, "EXC_SOFTWARE"),
            (6, "EXC_BREAKPOINT"),
            (7, "EXC_SYSCALL"),
            (8, "EXC_MACH_SYSCALL"),
            (9, "EXC_RPC_ALERT"),
            (10, "EXC_CRASH"),
            (11, "EXC_RESOURCE"),
            (12, "EXC_GUARD"),
            (13, "EXC_CORPSE_NOTIFY"),
        ];
        for (kind, name) in expected {
            assert_eq!(kind_name(kind), Some(name));
        }
        assert_eq!((kind_name(0), kind_name(14), kind_name(u32::MAX)), (None, None, None));
    }

    #[test]
    fn unhandled_exceptions_become_the_signals_of_ux_exception() {
        let table = [
            (EXC_BAD_ACCESS, 1, Some(11), Some(11)),
            (EXC_BAD_ACCESS, 2, Some(10), Some(10)),
            (EXC_BAD_ACCESS, 10, Some(10), Some(10)),
            (EXC_BAD_ACCESS, 13, Some(11), Some(10)),
            (EXC_BAD_ACCESS, 50, Some(10), Some(10)),
            (EXC_BAD_ACCESS, 0x101, Some(10), Some(10)),
            (EXC_BAD_INSTRUCTION, 1, Some(4), Some(4)),
            (EXC_ARITHMETIC, 1, Some(8), Some(8)),
            (EXC_EMULATION, 1, Some(7), Some(7)),
            (EXC_SOFTWARE, 7, Some(5), None),
            (EXC_SOFTWARE, 0x10000, Some(12), Some(12)),
            (EXC_SOFTWARE, 0x10001, Some(13), Some(13)),
            (EXC_SOFTWARE, 0x10002, Some(6), Some(6)),
            (EXC_SOFTWARE, 0x10003, Some(9), Some(9)),
            (EXC_BREAKPOINT, 1, Some(5), Some(5)),
            (EXC_SYSCALL, 1, Some(12), Some(12)),
            (EXC_RESOURCE, 1, None, None),
            (EXC_GUARD, 1, None, None),
            (EXC_CRASH, 0x0600_0000, Some(6), Some(6)),
        ];
        for (kind, code, x86_64, arm64) in table {
            let exception = MachException::new(kind, code, 0);
            assert_eq!((exception.signal(X86_64), exception.signal(Arm64)), (x86_64, arm64), "{kind} {code:#x}");
        }
    }

    #[test]
    fn the_second_code_is_an_address_only_where_it_is_one() {
        let address = |kind, code, cpu| MachException::new(kind, code, 0x10).fault_address(cpu);
        assert_eq!(address(EXC_BAD_ACCESS, 1, X86_64), Some(0x10));
        assert_eq!(address(EXC_BAD_ACCESS, 13, X86_64), None);
        assert_eq!(address(EXC_BAD_ACCESS, 0x101, Arm64), Some(0x10));
        assert_eq!(address(EXC_BAD_ACCESS, 0x105, Arm64), None);
        assert_eq!(address(EXC_BREAKPOINT, 1, Arm64), None);
        assert_eq!(address(EXC_BREAKPOINT, 0x102, Arm64), Some(0x10));
        assert_eq!(address(EXC_BAD_INSTRUCTION, 1, Arm64), None);
        assert_eq!(address(EXC_CRASH, 0x0B10_0001, Arm64), Some(0x10));
        assert_eq!(address(EXC_CRASH, 0x0B10_000D, X86_64), None);
        // The signal and the exception contradict each other: the address is of an older fault.
        assert_eq!(address(EXC_CRASH, 0x0610_0001, Arm64), None);
    }

    #[test]
    fn descriptions_read_like_apples() {
        let describe = |kind, code, subcode, cpu| MachException::new(kind, code, subcode).describe(cpu);
        let null = "EXC_BAD_ACCESS (SIGSEGV): KERN_INVALID_ADDRESS at 0x0000000000000010";
        assert_eq!(describe(EXC_BAD_ACCESS, 1, 0x10, Arm64), null);
        assert_eq!(describe(EXC_CRASH, 0x0B10_0001, 0x10, Arm64), null);
        assert_eq!(describe(EXC_CRASH, 0x0600_0000, 0, Arm64), "EXC_CRASH (SIGABRT)");
        assert_eq!(describe(EXC_BAD_ACCESS, 13, 0, X86_64), "EXC_BAD_ACCESS (SIGSEGV): EXC_I386_GPFLT");
        let brk = "EXC_BREAKPOINT (SIGTRAP): EXC_ARM_BREAKPOINT, 0x100003f50";
        assert_eq!(describe(EXC_BREAKPOINT, 1, 0x1_0000_3F50, Arm64), brk);
        let code_sign = "EXC_BAD_ACCESS (SIGKILL): KERN_CODESIGN_ERROR at 0x0000000104f00000";
        assert_eq!(describe(EXC_CRASH, 0x0910_0032, 0x1_04F0_0000, Arm64), code_sign);
        assert_eq!(describe(77, 3, 4, Arm64), "EXC_0x4d: code 0x3, 0x4");
    }
}
