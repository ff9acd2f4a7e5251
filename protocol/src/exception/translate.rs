//! What XNU would have sent for a signal that Linux raised: for real Mach-O programs that run under the lab's loader.

use std::ops::Range;

use super::mach::{EXC_ARITHMETIC, EXC_BAD_ACCESS, EXC_BAD_INSTRUCTION, EXC_BREAKPOINT};
use super::{Crash, LinuxSignal, MachException, codes, darwin, linux::SI_KERNEL};
use crate::platform::Cpu;

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

impl LinuxSignal {
    /// The first-chance exception; `None` if no instruction of the thread raised the signal. What Linux does not tell
    /// (MXCSR, the instruction word, the pc of a breakpoint) is 0.
    pub fn to_mach(&self, cpu: Cpu) -> Option<MachException> {
        if !self.is_hardware_fault() {
            return None;
        }
        let address = self.address.unwrap_or(0);
        let (kind, code, subcode) = match self.signal {
            SIGSEGV => bad_access(cpu, self.code, address),
            SIGBUS => bus_error(cpu, self.code, address),
            SIGILL => (EXC_BAD_INSTRUCTION, 1, 0),
            SIGFPE => (EXC_ARITHMETIC, arithmetic(cpu, self.code), 0),
            SIGTRAP => breakpoint(cpu, self.code, address),
            _ => return None,
        };
        Some(MachException::new(kind, code, subcode))
    }

    /// The `EXC_CRASH` of a process that dies of this signal, and the signal in macOS numbers; `None` for signals that are
    /// no crash there. A write fault that Linux calls SIGSEGV is SIGBUS, unless it hit `main_stack`, what is set aside for the
    /// main thread's stack with its guard: an overflow of that stack alone is told apart (`ux_exception`,
    /// bsd/uxkern/ux_exception.c).
    pub fn to_mach_crash(&self, cpu: Cpu, main_stack: Option<&Range<u64>>) -> Option<(MachException, i32)> {
        let fault = self.to_mach(cpu);
        let signal = match &fault {
            Some(exception) if overflows(exception, main_stack) => darwin::SIGSEGV,
            Some(exception) => exception.signal(cpu)?,
            None => darwin::from_linux(self.signal)?,
        };
        darwin::is_core_signal(signal).then(|| (Crash::pack(signal, fault.as_ref()), signal))
    }
}

/// Whether the fault hit a protected page of the main thread's stack.
fn overflows(fault: &MachException, main_stack: Option<&Range<u64>>) -> bool {
    let protected = fault.kind == EXC_BAD_ACCESS && fault.code() == KERN_PROTECTION_FAILURE;
    protected && main_stack.is_some_and(|stack| stack.contains(&fault.subcode()))
}

const KERN_INVALID_ADDRESS: u64 = 1;
const KERN_PROTECTION_FAILURE: u64 = 2;
const KERN_MEMORY_ERROR: u64 = 10;

fn bad_access(cpu: Cpu, code: i32, address: u64) -> (u32, u64, u64) {
    const SEGV_MAPERR: i32 = 1;
    match (cpu, code) {
        (_, SEGV_MAPERR) => (EXC_BAD_ACCESS, KERN_INVALID_ADDRESS, address),
        // A general protection fault: the processor gives no address, and neither does Linux.
        (Cpu::X86_64, SI_KERNEL) => (EXC_BAD_ACCESS, codes::GENERAL_PROTECTION, 0),
        (Cpu::Arm64, SI_KERNEL) => (EXC_BAD_ACCESS, KERN_INVALID_ADDRESS, address),
        // Protections and protection keys.
        _ => (EXC_BAD_ACCESS, KERN_PROTECTION_FAILURE, address),
    }
}

fn bus_error(cpu: Cpu, code: i32, address: u64) -> (u32, u64, u64) {
    const BUS_ADRALN: i32 = 1;
    const ARM_ALIGN: u64 = 0x101;
    const STACK_FAULT: u64 = 12;
    match (cpu, code) {
        (Cpu::Arm64, BUS_ADRALN) => (EXC_BAD_ACCESS, ARM_ALIGN, address),
        (Cpu::X86_64, SI_KERNEL) => (EXC_BAD_INSTRUCTION, STACK_FAULT, 0),
        // The mapped file was cut short.
        _ => (EXC_BAD_ACCESS, KERN_MEMORY_ERROR, address),
    }
}

fn arithmetic(cpu: Cpu, code: i32) -> u64 {
    const DIVIDE: u64 = 1;
    const OVERFLOW: u64 = 2;
    const SSE: u64 = 8;
    match (cpu, code) {
        (Cpu::X86_64, 1) => DIVIDE,
        (Cpu::X86_64, 2) => OVERFLOW,
        // x87 is told apart by no code; compilers for x86-64 emit SSE.
        (Cpu::X86_64, _) => SSE,
        (Cpu::Arm64, 3) => 2,
        (Cpu::Arm64, 4) => 3,
        (Cpu::Arm64, 5) => 4,
        (Cpu::Arm64, 6) => 5,
        (Cpu::Arm64, 7) => 1,
        (Cpu::Arm64, _) => 0,
    }
}

fn breakpoint(cpu: Cpu, code: i32, address: u64) -> (u32, u64, u64) {
    const TRAP_BRKPT: i32 = 1;
    match (cpu, code) {
        (Cpu::X86_64, SI_KERNEL | TRAP_BRKPT) => (EXC_BREAKPOINT, 2, 0),
        (Cpu::X86_64, _) => (EXC_BREAKPOINT, 1, 0),
        (Cpu::Arm64, TRAP_BRKPT) => (EXC_BREAKPOINT, 1, address),
        (Cpu::Arm64, _) => (EXC_BREAKPOINT, 1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exception::linux::Sender;

    fn signal(signal: i32, code: i32, address: Option<u64>) -> LinuxSignal {
        LinuxSignal { signal, code, address, sender: None }
    }

    #[test]
    fn x86_64_stops_become_what_xnu_would_send_and_the_signal_it_would_end_with() {
        let at = Some(0x1000);
        let table = [
            (signal(11, 1, at), (1, 1, 0x1000), 11),
            (signal(11, 2, at), (1, 2, 0x1000), 10),
            (signal(11, 4, at), (1, 2, 0x1000), 10),
            (signal(11, 0x80, None), (1, 13, 0), 11),
            (signal(7, 2, at), (1, 10, 0x1000), 10),
            (signal(7, 0x80, None), (2, 12, 0), 4),
            (signal(4, 2, at), (2, 1, 0), 4),
            (signal(8, 1, at), (3, 1, 0), 8),
            (signal(8, 3, at), (3, 8, 0), 8),
            (signal(5, 0x80, None), (6, 2, 0), 5),
            (signal(5, 1, at), (6, 2, 0), 5),
            (signal(5, 2, at), (6, 1, 0), 5),
        ];
        for (linux, (kind, code, subcode), darwin) in table {
            let mach = MachException::new(kind, code, subcode);
            assert_eq!(linux.to_mach(Cpu::X86_64), Some(mach), "{linux:?}");
            let crash = linux.to_mach_crash(Cpu::X86_64, None).unwrap();
            assert_eq!(crash, (Crash::pack(darwin, Some(&mach)), darwin));
            assert_eq!(crash.0.unwrapped(Cpu::X86_64), mach);
        }
    }

    #[test]
    fn a_signal_that_somebody_sent_is_no_first_chance() {
        let sender = Some(Sender { pid: 1, uid: 0 });
        let sent = LinuxSignal { signal: 11, code: 0, address: None, sender };
        assert_eq!(sent.to_mach(Cpu::X86_64), None);
        assert_eq!(sent.to_mach_crash(Cpu::X86_64, None).unwrap().0.code(), 0x0B00_0000);
        let abort = LinuxSignal { signal: 6, code: -6, address: None, sender };
        assert_eq!(abort.to_mach_crash(Cpu::Arm64, None).unwrap(), (MachException::new(10, 0x0600_0000, 0), 6));
        let bus = LinuxSignal { signal: 7, code: 0, address: None, sender };
        assert_eq!(bus.to_mach_crash(Cpu::Arm64, None).unwrap().1, 10);
    }

    #[test]
    fn a_protected_page_of_the_main_stack_is_sigsegv_and_any_other_is_sigbus() {
        let stack = 0x7000..0x9000;
        let signal_of = |code, address| {
            let crash = signal(11, code, Some(address)).to_mach_crash(Cpu::X86_64, Some(&stack)).unwrap();
            let fault = MachException::new(1, code as u64, address);
            assert_eq!(crash.0, Crash::pack(crash.1, Some(&fault)));
            crash.1
        };
        assert_eq!([0x6fff, 0x7000, 0x8fff, 0x9000].map(|address| signal_of(2, address)), [10, 11, 11, 10]);
        assert_eq!(signal_of(1, 0x9000), 11);
    }

    #[test]
    fn kill_and_terminate_are_no_crash() {
        for number in [9, 15, 2, 14, 16, 30, 24] {
            assert_eq!(signal(number, 0, None).to_mach_crash(Cpu::X86_64, None), None);
        }
    }

    #[test]
    fn arm64_stops_name_their_own_codes() {
        assert_eq!(signal(7, 1, Some(3)).to_mach(Cpu::Arm64), Some(MachException::new(1, 0x101, 3)));
        assert_eq!(signal(5, 1, Some(0x40)).to_mach(Cpu::Arm64), Some(MachException::new(6, 1, 0x40)));
        assert_eq!(signal(8, 3, None).to_mach(Cpu::Arm64), Some(MachException::new(3, 2, 0)));
    }
}
