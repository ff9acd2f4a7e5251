//! Thread contexts: `CONTEXT_AMD64` (winnt.h, 1232 bytes) and `CONTEXT_ARM64` (winnt.h, 912 bytes).
//!
//! The flags say which registers are there. LLDB reads x86-64 registers only where the control, integer and segment bits are
//! set, whatever the architecture bit alone means elsewhere. Debug registers are never claimed: no host reads them.
//!
//! Readers ignore what is past the 512 bytes of `FXSAVE` (rust-minidump warns of it), so AVX registers are in a stream of our
//! own. LLDB 19 reads `CONTEXT_ARM64` in the layout that Breakpad had before: general registers agree, vector ones it shows
//! 12 bytes off. Crashpad and Windows write this one, and it is the one that is documented.

use std::io::{Seek, Write};

use minidump_writer::minidump_format::MDLocationDescriptor;
use minidump_writer::minidump_format::format::{CONTEXT_AMD64, CONTEXT_ARM64, ContextFlagsAmd64, ContextFlagsArm64};

use super::Error;
use super::file::DumpFile;
use crate::snapshot::{Arm64Registers, Registers, Snapshot, X86_64Registers};

/// Writes the context of each thread, and returns where they are; nowhere (0, 0) for one without registers.
pub(super) fn write_all<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
) -> Result<Vec<MDLocationDescriptor>, Error> {
    let mask = snapshot.system.pointer_mask.unwrap_or(u64::MAX);
    let write_one = |registers: Option<&Registers>| {
        let Some(registers) = registers else { return Ok(MDLocationDescriptor::default()) };
        file.align(16)?;
        file.piece(|file| match registers {
            Registers::X86_64(registers) => file.put(x86_64(registers)),
            Registers::Arm64(registers) => file.put(arm64(registers, mask)),
        })
    };
    snapshot.threads.iter().map(|thread| thread.state.registers.as_ref()).map(write_one).collect()
}

fn x86_64(r: &X86_64Registers) -> CONTEXT_AMD64 {
    let mut flags = ContextFlagsAmd64::CONTEXT_AMD64_CONTROL
        | ContextFlagsAmd64::CONTEXT_AMD64_INTEGER
        | ContextFlagsAmd64::CONTEXT_AMD64_SEGMENTS;
    let mut context = CONTEXT_AMD64 {
        cs: r.cs,
        ds: r.ds,
        es: r.es,
        fs: r.fs,
        gs: r.gs,
        ss: r.ss,
        // The upper half of rflags is reserved and zero (Intel SDM 1, 3.4.3).
        eflags: r.rflags as u32,
        rax: r.rax,
        rcx: r.rcx,
        rdx: r.rdx,
        rbx: r.rbx,
        rsp: r.rsp,
        rbp: r.rbp,
        rsi: r.rsi,
        rdi: r.rdi,
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        rip: r.rip,
        ..CONTEXT_AMD64::default()
    };
    if let Some(fxsave) = r.legacy() {
        flags |= ContextFlagsAmd64::CONTEXT_AMD64_FLOATING_POINT;
        context.float_save = *fxsave;
        // MXCSR is at 24 in the FXSAVE area (Intel SDM 1, table 10-2), and in the context once more.
        context.mx_csr = u32::from_le_bytes([fxsave[24], fxsave[25], fxsave[26], fxsave[27]]);
    }
    context.context_flags = flags.bits();
    context
}

fn arm64(r: &Arm64Registers, mask: u64) -> CONTEXT_ARM64 {
    let mut flags = ContextFlagsArm64::CONTEXT_ARM64_CONTROL | ContextFlagsArm64::CONTEXT_ARM64_INTEGER;
    let mut iregs = [0; 31];
    iregs[..29].copy_from_slice(&r.x);
    iregs[29] = r.fp;
    iregs[30] = r.lr;
    // lr stays as it was: readers take its authentication off, and a bad one is a finding. No reader does that for pc.
    let mut context = CONTEXT_ARM64 { cpsr: r.cpsr, iregs, sp: r.sp, pc: r.pc & mask, ..CONTEXT_ARM64::default() };
    if let Some(float) = &r.float {
        let (vectors, fpsr, fpcr) = float.as_ref();
        flags |= ContextFlagsArm64::CONTEXT_ARM64_FLOATING_POINT;
        context.float_regs = *vectors;
        context.fpsr = *fpsr;
        context.fpcr = *fpcr;
    }
    context.context_flags = flags.bits();
    context
}
