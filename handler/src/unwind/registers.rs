//! The registers that a walk carries from frame to frame.

use aftermach_protocol::platform::Cpu;

use crate::snapshot;

/// Registers of one frame, by DWARF number (System V psABI x86-64 figure 3.36; DWARF for the Arm 64-bit Architecture, 4.1).
/// Those that a caller's frame has lost are unknown, so that no rule is ever fed a stale value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) cpu: Cpu,
    pub(crate) pc: u64,
    values: [u64; 32],
    known: u32,
}

/// DWARF number of x86-64's return address column.
pub(crate) const X86_64_RA: u16 = 16;
/// DWARF number of arm64's link register.
pub(crate) const ARM64_LR: u16 = 30;

/// DWARF number of the stack pointer.
#[inline]
pub(crate) fn sp_number(cpu: Cpu) -> u16 {
    match cpu {
        Cpu::X86_64 => 7,
        Cpu::Arm64 => 31,
    }
}

impl Registers {
    /// Nothing known but the pc.
    pub(crate) fn unknown(cpu: Cpu, pc: u64) -> Registers {
        Registers { cpu, pc, values: [0; 32], known: 0 }
    }

    /// A thread's registers, all known.
    pub(crate) fn of_thread(registers: &snapshot::Registers) -> Registers {
        match registers {
            snapshot::Registers::X86_64(r) => {
                let mut values = [0; 32];
                let named = [
                    r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
                    r.r14, r.r15,
                ];
                values[..16].copy_from_slice(&named);
                Registers { cpu: Cpu::X86_64, pc: r.rip, values, known: 0xffff }
            }
            snapshot::Registers::Arm64(r) => {
                let mut values = [0; 32];
                values[..29].copy_from_slice(&r.x);
                values[29..].copy_from_slice(&[r.fp, r.lr, r.sp]);
                Registers { cpu: Cpu::Arm64, pc: r.pc, values, known: u32::MAX }
            }
        }
    }

    /// DWARF number of the stack pointer.
    #[inline]
    pub(crate) fn sp_number(&self) -> u16 {
        sp_number(self.cpu)
    }

    /// DWARF number of the frame pointer.
    pub(crate) fn fp_number(&self) -> u16 {
        match self.cpu {
            Cpu::X86_64 => 6,
            Cpu::Arm64 => 29,
        }
    }

    /// The register of this DWARF number, if it is known.
    #[inline]
    pub(crate) fn get(&self, number: u16) -> Option<u64> {
        match number {
            X86_64_RA if self.cpu == Cpu::X86_64 => Some(self.pc),
            0..32 if self.known & (1 << number) != 0 => self.values.get(usize::from(number)).copied(),
            _ => None,
        }
    }

    /// Makes a register known.
    #[inline]
    pub(crate) fn set(&mut self, number: u16, value: u64) {
        match number {
            X86_64_RA if self.cpu == Cpu::X86_64 => self.pc = value,
            0..32 => {
                self.values[usize::from(number)] = value;
                self.known |= 1 << number;
            }
            _ => {}
        }
    }

    /// Makes a register unknown.
    pub(crate) fn forget(&mut self, number: u16) {
        if number < 32 {
            self.known &= !(1 << number);
        }
    }

    /// The stack pointer.
    #[inline]
    pub(crate) fn sp(&self) -> Option<u64> {
        self.get(self.sp_number())
    }

    /// The frame pointer.
    pub(crate) fn fp(&self) -> Option<u64> {
        self.get(self.fp_number())
    }

    /// The link register; arm64 only.
    pub(crate) fn lr(&self) -> Option<u64> {
        match self.cpu {
            Cpu::X86_64 => None,
            Cpu::Arm64 => self.get(ARM64_LR),
        }
    }

    /// What the caller still has: registers that a call preserves (psABI x86-64 3.2.1; AAPCS64 6.1.1). The link register and
    /// the stack pointer are the rules' business.
    #[inline]
    pub(crate) fn preserved(&self) -> Registers {
        let mut caller = *self;
        caller.forget_what_calls_change();
        caller
    }

    /// Leaves known what a call preserves.
    #[inline]
    pub(crate) fn forget_what_calls_change(&mut self) {
        self.known &= match self.cpu {
            // rbx, rbp, r12-r15.
            Cpu::X86_64 => 1 << 3 | 1 << 6 | 0xf << 12,
            // x19 to x29.
            Cpu::Arm64 => 0x7ff << 19,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_the_registers_that_the_abi_preserves() {
        let registers =
            snapshot::X86_64Registers { rbx: 3, rbp: 6, r12: 12, rax: 1, r11: 11, rip: 99, ..Default::default() };
        let caller = Registers::of_thread(&snapshot::Registers::X86_64(Box::new(registers))).preserved();
        assert_eq!([3, 6, 12].map(|number| caller.get(number)), [Some(3), Some(6), Some(12)]);
        assert_eq!([0, 11, 7].map(|number| caller.get(number)), [None; 3]);
    }

    #[test]
    fn an_unknown_or_absent_number_has_no_value() {
        let mut registers = Registers::unknown(Cpu::Arm64, 4);
        registers.set(200, 1);
        assert_eq!([0, 16, 31, 32, 200, u16::MAX].map(|number| registers.get(number)), [None; 6]);
    }
}
