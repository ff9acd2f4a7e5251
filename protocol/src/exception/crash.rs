//! What `EXC_CRASH` says of the end of a process (`proc_prepareexit` in `bsd/kern/kern_exit.c`).

use super::mach::{
    EXC_BAD_ACCESS, EXC_BAD_INSTRUCTION, EXC_BREAKPOINT, EXC_CRASH, EXC_GUARD, EXC_RESOURCE, EXC_SOFTWARE,
};
use super::{MachException, codes, darwin};
use crate::platform::Cpu;

/// An unpacked `EXC_CRASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The signal that ends the process, in macOS numbers. SIGKILL is a kill by the kernel with a reason: a kill by another
    /// process makes no `EXC_CRASH`.
    pub signal: i32,
    /// What led to it.
    pub cause: Cause,
}

/// What led to a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing but the signal: abort(3), kill(2).
    Signal,
    /// This exception, with only the low 20 bits of its first code. Of `EXC_GUARD` these are the target's low bits: type
    /// and flavour are lost, the guard's id is whole.
    Exception(MachException),
    /// The signal. The exception is one that the same thread met, and recovered from, earlier: the kernel never clears it.
    Stale(MachException),
}

/// The low bits of the first code that survive.
const CODE_BITS: u64 = 0xF_FFFF;

impl Crash {
    /// Unpacks an `EXC_CRASH`; `None` for other types.
    pub fn unpack(cpu: Cpu, exception: &MachException) -> Option<Crash> {
        if exception.kind != EXC_CRASH {
            return None;
        }
        let code = exception.code();
        let signal = ((code >> 24) & 0xFF) as i32;
        let kind = ((code >> 20) & 0xF) as u32;
        let inner = MachException::new(kind, code & CODE_BITS, exception.subcode());
        let cause = match kind {
            0 => Cause::Signal,
            _ if fits(cpu, signal, &inner) => Cause::Exception(inner),
            _ => Cause::Stale(inner),
        };
        Some(Crash { signal, cause })
    }

    /// Packs what the kernel would send when a process dies of `signal` after `exception`.
    pub fn pack(signal: i32, exception: Option<&MachException>) -> MachException {
        let signal = u64::from(signal as u8) << 24;
        let Some(inner) = exception else { return MachException::new(EXC_CRASH, signal, 0) };
        let kind = u64::from(inner.kind & 0xF) << 20;
        MachException::new(EXC_CRASH, signal | kind | (inner.code() & CODE_BITS), inner.subcode())
    }
}

/// Whether a process may die of `signal` for `inner`: the table of `ux_exception`, and the two ways around it.
fn fits(cpu: Cpu, signal: i32, inner: &MachException) -> bool {
    if signal == darwin::SIGKILL {
        return fits_kill(cpu, inner);
    }
    // A protection failure in the main stack's reservation is a stack overflow: SIGSEGV instead of SIGBUS.
    let stack_overflow = inner.kind == EXC_BAD_ACCESS && inner.code() == 2 && signal == darwin::SIGSEGV;
    stack_overflow || inner.signal(cpu) == Some(signal)
}

/// The kernel kills without a signal of the exception's own for guards and limits, for pages whose signature is broken, and
/// on arm64 for failed pointer authentication in tasks marked so and for pages that the code-signing monitor refuses, which
/// keep the code of the fault. `terminate_with_reason` kills with whatever is left from before.
fn fits_kill(cpu: Cpu, inner: &MachException) -> bool {
    const KERN_CODESIGN_ERROR: u64 = 50;
    match inner.kind {
        EXC_GUARD | EXC_RESOURCE => true,
        EXC_BAD_ACCESS => inner.code() == KERN_CODESIGN_ERROR || cpu == Cpu::Arm64,
        EXC_BAD_INSTRUCTION | EXC_BREAKPOINT => cpu == Cpu::Arm64,
        EXC_SOFTWARE => inner.code() == codes::SOFT_SIGNAL,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cpu::{Arm64, X86_64};

    fn unpack(cpu: Cpu, code: u64, subcode: u64) -> (i32, Cause) {
        let crash = Crash::unpack(cpu, &MachException::new(EXC_CRASH, code, subcode)).unwrap();
        (crash.signal, crash.cause)
    }

    fn exception(kind: u32, code: u64, subcode: u64) -> Cause {
        Cause::Exception(MachException::new(kind, code, subcode))
    }

    #[test]
    fn what_the_kernel_packs_is_unpacked() {
        let address = 0x7000_0000_1234;
        assert_eq!(unpack(Arm64, 0x0600_0000, 0), (6, Cause::Signal));
        assert_eq!(unpack(X86_64, 0x0B10_0001, address), (11, exception(1, 1, address)));
        assert_eq!(unpack(X86_64, 0x0A10_0002, address), (10, exception(1, 2, address)));
        assert_eq!(unpack(X86_64, 0x0B10_000D, 0), (11, exception(1, 13, 0)));
        assert_eq!(unpack(Arm64, 0x0420_0001, 0xE7F0_00F0), (4, exception(2, 1, 0xE7F0_00F0)));
        assert_eq!(unpack(Arm64, 0x0560_0001, address), (5, exception(6, 1, address)));
        assert_eq!(unpack(X86_64, 0x0560_0002, 0), (5, exception(6, 2, 0)));
        assert_eq!(unpack(X86_64, 0x0830_0001, 0), (8, exception(3, 1, 0)));
        assert_eq!(unpack(X86_64, 0x0910_0032, address), (9, exception(1, 50, address)));
        assert_eq!(unpack(Arm64, 0x09C0_0003, 0x55), (9, exception(12, 3, 0x55)));
        assert_eq!(unpack(X86_64, 0x0B00_0000, 0), (11, Cause::Signal));
        assert_eq!(unpack(X86_64, 0x0900_0000, 0), (9, Cause::Signal));
        // A stack overflow: a protection failure that became SIGSEGV.
        assert_eq!(unpack(X86_64, 0x0B10_0002, address), (11, exception(1, 2, address)));
        assert_eq!(unpack(Arm64, 0x0A10_0101, address), (10, exception(1, 0x101, address)));
    }

    #[test]
    fn an_exception_that_does_not_fit_the_signal_is_an_older_one() {
        let old = |kind, code, subcode| Cause::Stale(MachException::new(kind, code, subcode));
        // abort() in a thread that once recovered from a fault.
        assert_eq!(unpack(X86_64, 0x0610_0001, 0x10), (6, old(1, 1, 0x10)));
        assert_eq!(unpack(Arm64, 0x0620_0001, 0), (6, old(2, 1, 0)));
        // A write fault became SIGBUS once; the SIGSEGV came from elsewhere.
        assert_eq!(unpack(X86_64, 0x0A10_0001, 0x10), (10, old(1, 1, 0x10)));
        assert_eq!(unpack(X86_64, 0x0910_0001, 0x10), (9, old(1, 1, 0x10)));
        assert_eq!(unpack(X86_64, 0x0830_0001, 0).1, exception(3, 1, 0));
        assert_eq!(unpack(X86_64, 0x0430_0001, 0), (4, old(3, 1, 0)));
    }

    #[test]
    fn packing_gives_the_codes_that_the_kernel_documents() {
        let fault = MachException::new(1, 1, 0x10);
        assert_eq!(Crash::pack(11, Some(&fault)), MachException::new(10, 0x0B10_0001, 0x10));
        assert_eq!(Crash::pack(6, None), MachException::new(10, 0x0600_0000, 0));
        let guard = MachException::new(12, 0x4000_0001_0000_0003, 0x55);
        assert_eq!(Crash::pack(9, Some(&guard)), MachException::new(10, 0x09C0_0003, 0x55));
    }

    #[test]
    fn other_types_hold_no_crash_and_any_code_unpacks() {
        assert_eq!(Crash::unpack(Arm64, &MachException::new(1, 1, 0)), None);
        for code in [u64::MAX, 0, 0xFFF0_0000, 1 << 63] {
            for cpu in [Arm64, X86_64] {
                assert!(Crash::unpack(cpu, &MachException::new(EXC_CRASH, code, u64::MAX)).is_some());
            }
        }
    }
}
