//! Names of the first code of each exception type (`osfmk/mach/{i386,arm}/exception.h`, `osfmk/mach/exception_types.h`).

use super::KernReturn;
use super::mach::{EXC_ARITHMETIC, EXC_BAD_ACCESS, EXC_BAD_INSTRUCTION, EXC_BREAKPOINT, EXC_SOFTWARE};
use crate::platform::Cpu;

/// `EXC_I386_GPFLT`, of `EXC_BAD_ACCESS`: no address is known.
pub(super) const GENERAL_PROTECTION: u64 = 13;
/// `EXC_BAD_ACCESS` for "no floating point unit" on x86-64: `VM_PROT_READ|VM_PROT_EXECUTE`, not a `kern_return_t`
/// (`osfmk/i386/trap.c`).
pub(super) const NO_FLOATING_POINT_UNIT: u64 = 5;
/// `EXC_I386_BOUND`, of `EXC_SOFTWARE`.
pub(super) const BOUND: u64 = 7;
/// `EXC_ARM_DA_DEBUG`: a watchpoint.
pub(super) const ARM_DEBUG: u64 = 0x102;
/// `EXC_ARM_PAC_FAIL`.
pub(super) const ARM_PAC_FAIL: u64 = 0x105;
/// `EXC_UNIX_BAD_SYSCALL`.
pub(super) const UNIX_BAD_SYSCALL: u64 = 0x10000;
/// `EXC_UNIX_BAD_PIPE`.
pub(super) const UNIX_BAD_PIPE: u64 = 0x10001;
/// `EXC_UNIX_ABORT`.
pub(super) const UNIX_ABORT: u64 = 0x10002;
/// `EXC_SOFT_SIGNAL`.
pub(super) const SOFT_SIGNAL: u64 = 0x10003;

/// The name of `code` in an exception of type `kind`.
pub(super) fn name(cpu: Cpu, kind: u32, code: u64) -> Option<&'static str> {
    let own = match cpu {
        Cpu::X86_64 => x86_64(kind, code),
        Cpu::Arm64 => arm64(kind, code),
    };
    own.or_else(|| common(cpu, kind, code))
}

fn common(cpu: Cpu, kind: u32, code: u64) -> Option<&'static str> {
    match (kind, code) {
        (EXC_BAD_ACCESS, NO_FLOATING_POINT_UNIT) if cpu == Cpu::X86_64 => None,
        (EXC_BAD_ACCESS, code) => KernReturn(i32::try_from(code).ok().filter(|code| *code > 0)?).name(),
        (EXC_SOFTWARE, UNIX_BAD_SYSCALL) => Some("EXC_UNIX_BAD_SYSCALL"),
        (EXC_SOFTWARE, UNIX_BAD_PIPE) => Some("EXC_UNIX_BAD_PIPE"),
        (EXC_SOFTWARE, UNIX_ABORT) => Some("EXC_UNIX_ABORT"),
        (EXC_SOFTWARE, SOFT_SIGNAL) => Some("EXC_SOFT_SIGNAL"),
        _ => None,
    }
}

fn x86_64(kind: u32, code: u64) -> Option<&'static str> {
    Some(match (kind, code) {
        (EXC_BAD_ACCESS, GENERAL_PROTECTION) => "EXC_I386_GPFLT",
        (EXC_BAD_INSTRUCTION, 1) => "EXC_I386_INVOP",
        (EXC_BAD_INSTRUCTION, 10) => "EXC_I386_INVTSSFLT",
        (EXC_BAD_INSTRUCTION, 11) => "EXC_I386_SEGNPFLT",
        (EXC_BAD_INSTRUCTION, 12) => "EXC_I386_STKFLT",
        (EXC_ARITHMETIC, 1) => "EXC_I386_DIV",
        (EXC_ARITHMETIC, 2) => "EXC_I386_INTO",
        (EXC_ARITHMETIC, 3) => "EXC_I386_NOEXT",
        (EXC_ARITHMETIC, 4) => "EXC_I386_EXTOVR",
        (EXC_ARITHMETIC, 5) => "EXC_I386_EXTERR",
        (EXC_ARITHMETIC, 6) => "EXC_I386_EMERR",
        (EXC_ARITHMETIC, 7) => "EXC_I386_BOUND",
        (EXC_ARITHMETIC, 8) => "EXC_I386_SSEEXTERR",
        (EXC_SOFTWARE, BOUND) => "EXC_I386_BOUND",
        (EXC_BREAKPOINT, 1) => "EXC_I386_SGL",
        (EXC_BREAKPOINT, 2) => "EXC_I386_BPT",
        _ => return None,
    })
}

fn arm64(kind: u32, code: u64) -> Option<&'static str> {
    Some(match (kind, code) {
        (EXC_BAD_ACCESS, 0x101) => "EXC_ARM_DA_ALIGN",
        (EXC_BAD_ACCESS | EXC_BREAKPOINT, ARM_DEBUG) => "EXC_ARM_DA_DEBUG",
        (EXC_BAD_ACCESS, 0x103) => "EXC_ARM_SP_ALIGN",
        (EXC_BAD_ACCESS, 0x104) => "EXC_ARM_SWP",
        (EXC_BAD_ACCESS, ARM_PAC_FAIL) => "EXC_ARM_PAC_FAIL",
        (EXC_BAD_ACCESS, 0x106) => "EXC_ARM_MTE_TAGCHECK_FAIL",
        (EXC_BAD_ACCESS, 0x107) => "EXC_ARM_MTE_CANONICAL_FAIL",
        (EXC_BAD_INSTRUCTION, 1) => "EXC_ARM_UNDEFINED",
        (EXC_BAD_INSTRUCTION, 2) => "EXC_ARM_SME_DISALLOWED",
        (EXC_ARITHMETIC, 0) => "EXC_ARM_FP_UNDEFINED",
        (EXC_ARITHMETIC, 1) => "EXC_ARM_FP_IO",
        (EXC_ARITHMETIC, 2) => "EXC_ARM_FP_DZ",
        (EXC_ARITHMETIC, 3) => "EXC_ARM_FP_OF",
        (EXC_ARITHMETIC, 4) => "EXC_ARM_FP_UF",
        (EXC_ARITHMETIC, 5) => "EXC_ARM_FP_IX",
        (EXC_ARITHMETIC, 6) => "EXC_ARM_FP_ID",
        (EXC_BREAKPOINT, 1) => "EXC_ARM_BREAKPOINT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_processors_headers() {
        let (x86_64, arm64) = (Cpu::X86_64, Cpu::Arm64);
        let expected = [
            (x86_64, EXC_BAD_ACCESS, 1, Some("KERN_INVALID_ADDRESS")),
            (x86_64, EXC_BAD_ACCESS, 13, Some("EXC_I386_GPFLT")),
            (arm64, EXC_BAD_ACCESS, 13, Some("KERN_NAME_EXISTS")),
            (arm64, EXC_BAD_ACCESS, 50, Some("KERN_CODESIGN_ERROR")),
            (arm64, EXC_BAD_ACCESS, 0x101, Some("EXC_ARM_DA_ALIGN")),
            (arm64, EXC_BAD_ACCESS, 0x103, Some("EXC_ARM_SP_ALIGN")),
            (arm64, EXC_BAD_ACCESS, 0x105, Some("EXC_ARM_PAC_FAIL")),
            (x86_64, EXC_BAD_ACCESS, 0x101, None),
            (x86_64, EXC_BAD_INSTRUCTION, 1, Some("EXC_I386_INVOP")),
            (arm64, EXC_BAD_INSTRUCTION, 1, Some("EXC_ARM_UNDEFINED")),
            (arm64, EXC_BAD_INSTRUCTION, 2, Some("EXC_ARM_SME_DISALLOWED")),
            (x86_64, EXC_ARITHMETIC, 1, Some("EXC_I386_DIV")),
            (x86_64, EXC_ARITHMETIC, 8, Some("EXC_I386_SSEEXTERR")),
            (arm64, EXC_ARITHMETIC, 0, Some("EXC_ARM_FP_UNDEFINED")),
            (arm64, EXC_ARITHMETIC, 2, Some("EXC_ARM_FP_DZ")),
            (x86_64, EXC_BREAKPOINT, 2, Some("EXC_I386_BPT")),
            (arm64, EXC_BREAKPOINT, 1, Some("EXC_ARM_BREAKPOINT")),
            (arm64, EXC_SOFTWARE, 0x10003, Some("EXC_SOFT_SIGNAL")),
            (arm64, EXC_BAD_ACCESS, u64::MAX, None),
            (arm64, EXC_BAD_ACCESS, 0, None),
        ];
        for (cpu, kind, code, wanted) in expected {
            assert_eq!(name(cpu, kind, code), wanted, "{cpu:?} {kind} {code:#x}");
        }
    }
}
