//! Registers of a held x86-64 thread.

use std::io;
use std::ops::Range;

use aftermach_protocol::platform::Cpu;
use bytes::Bytes;

use super::super::ptrace;
use crate::snapshot::{CpuId, Registers, X86_64Registers};

/// What a task here executes.
pub(super) const CPU: Cpu = Cpu::X86_64;

/// Pointers have no bits that aren't address.
pub(super) const POINTER_MASK: Option<u64> = None;

/// `struct user_regs_struct` of `arch/x86/include/asm/user_64.h`: 27 words.
const GENERAL: usize = 27 * 8;

/// The legacy area alone (x87 and SSE).
const FXSAVE: usize = 512;

/// Room for one thread's XSAVE area. With AMX it has 11 KiB; the kernel cuts what doesn't fit.
const AREA: usize = 16 << 10;

/// Reads the registers of the threads `tids`, which the calling thread holds in ptrace stops.
pub(super) fn read_all(tids: &[i32]) -> Vec<io::Result<Registers>> {
    let mut scratch = vec![0; AREA];
    // One piece of memory for all areas: there are two to three kilobytes a thread.
    let mut areas = Vec::new();
    let mut all = Vec::with_capacity(tids.len());
    for (index, tid) in tids.iter().enumerate() {
        let start = areas.len();
        let general = read_general(*tid);
        // A machine or a sandbox without XSAVE gives none; the general registers are worth keeping without.
        if general.is_ok()
            && let Ok(length) = ptrace::get_regset(*tid, ptrace::NT_X86_XSTATE, &mut scratch)
        {
            if areas.is_empty() {
                // All have as much, as a rule.
                areas.reserve(length.saturating_mul(tids.len() - index));
            }
            areas.extend_from_slice(&scratch[..length]);
        }
        all.push((general, start..areas.len()));
    }
    let areas = Bytes::from(areas);
    let with_area = |(general, area): (io::Result<_>, Range<usize>)| {
        let mut registers: Box<X86_64Registers> = general?;
        match area.len() {
            ..FXSAVE => {}
            FXSAVE => registers.fxsave = areas[area].first_chunk().map(|legacy| Box::new(*legacy)),
            _ => registers.xsave = Some(areas.slice(area)),
        }
        Ok(Registers::X86_64(registers))
    };
    all.into_iter().map(with_area).collect()
}

fn read_general(tid: i32) -> io::Result<Box<X86_64Registers>> {
    let mut general = [0_u8; GENERAL];
    if ptrace::get_regset(tid, ptrace::NT_PRSTATUS, &mut general)? < GENERAL {
        // A 32-bit program has 17 registers of 4 bytes.
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it runs 32-bit code"));
    }
    Ok(Box::new(decode(&general)))
}

fn decode(general: &[u8; GENERAL]) -> X86_64Registers {
    let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| general[index * 8 + byte]));
    // Selectors have 16 bits; the kernel widens them.
    let selector = |index: usize| word(index) as u16;
    X86_64Registers {
        r15: word(0),
        r14: word(1),
        r13: word(2),
        r12: word(3),
        rbp: word(4),
        rbx: word(5),
        r11: word(6),
        r10: word(7),
        r9: word(8),
        r8: word(9),
        rax: word(10),
        rcx: word(11),
        rdx: word(12),
        rsi: word(13),
        rdi: word(14),
        // 15 is the number of the system call that the thread is in.
        rip: word(16),
        cs: selector(17),
        rflags: word(18),
        rsp: word(19),
        ss: selector(20),
        fs_base: word(21),
        gs_base: word(22),
        ds: selector(23),
        es: selector(24),
        fs: selector(25),
        gs: selector(26),
        fxsave: None,
        xsave: None,
        fault: None,
    }
}

/// What CPUID says of this processor.
pub(super) fn cpuid() -> Option<CpuId> {
    let (vendor, version) = (std::arch::x86_64::__cpuid(0), std::arch::x86_64::__cpuid(1));
    let mut name = [0; 12];
    for (bytes, register) in name.chunks_exact_mut(4).zip([vendor.ebx, vendor.edx, vendor.ecx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    Some(CpuId { vendor: name, version: version.eax, features: version.edx })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_is_where_libc_has_it_in_user_regs_struct() {
        let words: [u64; 27] = std::array::from_fn(|index| 0x1000 + index as u64);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let ours = decode(bytes.first_chunk().unwrap());
        // SAFETY: both are 27 words of 8 bytes.
        let theirs: libc::user_regs_struct = unsafe { std::mem::transmute(words) };
        assert_eq!(
            [ours.rax, ours.rbx, ours.rcx, ours.rdx, ours.rsi, ours.rdi, ours.rbp, ours.rsp, ours.rip, ours.rflags],
            [
                theirs.rax,
                theirs.rbx,
                theirs.rcx,
                theirs.rdx,
                theirs.rsi,
                theirs.rdi,
                theirs.rbp,
                theirs.rsp,
                theirs.rip,
                theirs.eflags
            ]
        );
        assert_eq!(
            [ours.r8, ours.r9, ours.r10, ours.r11, ours.r12, ours.r13, ours.r14, ours.r15, ours.fs_base, ours.gs_base],
            [
                theirs.r8,
                theirs.r9,
                theirs.r10,
                theirs.r11,
                theirs.r12,
                theirs.r13,
                theirs.r14,
                theirs.r15,
                theirs.fs_base,
                theirs.gs_base
            ]
        );
        assert_eq!(
            [ours.cs, ours.ss, ours.ds, ours.es, ours.fs, ours.gs].map(u64::from),
            [theirs.cs, theirs.ss, theirs.ds, theirs.es, theirs.fs, theirs.gs]
        );
    }
}
