//! Registers of a held AArch64 thread.

use std::io;

use aftermach_protocol::platform::Cpu;

use super::super::ptrace;
use crate::snapshot::{Arm64Registers, CpuId, Registers};

/// What a task here executes.
pub(super) const CPU: Cpu = Cpu::Arm64;

/// `struct user_pt_regs` of `arch/arm64/include/uapi/asm/ptrace.h`: x0 to x30, sp, pc, pstate.
const GENERAL_SIZE: usize = 34 * 8;
/// `struct user_fpsimd_state`, same file: 32 vectors of 16 bytes, fpsr, fpcr, padding.
const FLOAT_SIZE: usize = 528;

/// Reads the registers of the threads `tids`, which the calling thread holds in ptrace stops.
pub(super) fn read_all(tids: &[i32]) -> Vec<io::Result<Registers>> {
    tids.iter().map(|tid| read(*tid)).collect()
}

fn read(tid: i32) -> io::Result<Registers> {
    let mut general = [0_u8; GENERAL_SIZE];
    if ptrace::get_regset(tid, ptrace::NT_PRSTATUS, &mut general)? < GENERAL_SIZE {
        // A 32-bit program has 18 registers of 4 bytes.
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it runs 32-bit code"));
    }
    let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| general[index * 8 + byte]));
    let mut float = [0_u8; FLOAT_SIZE];
    let float = ptrace::get_regset(tid, ptrace::NT_PRFPREG, &mut float).is_ok_and(|length| length >= 520).then(|| {
        let vector = |index: usize| u128::from_le_bytes(std::array::from_fn(|byte| float[index * 16 + byte]));
        let status = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| float[at + byte]));
        Box::new((std::array::from_fn(vector), status(512), status(516)))
    });
    Ok(Registers::Arm64(Box::new(Arm64Registers {
        x: std::array::from_fn(word),
        fp: word(29),
        lr: word(30),
        sp: word(31),
        pc: word(32),
        // The upper half of pstate is not used.
        cpsr: word(33) as u32,
        float,
        fault: None,
    })))
}

/// User addresses have 48 bits (`VA_BITS`) on the kernels of today's distributions; pointer authentication and tags use those
/// above, and bit 55 is 0 in them.
pub(super) const POINTER_MASK: Option<u64> = Some((1 << 48) - 1);

/// Only x86 has it.
pub(super) fn cpuid() -> Option<CpuId> {
    None
}
