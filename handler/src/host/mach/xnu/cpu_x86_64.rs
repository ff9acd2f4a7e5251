//! x86-64: the processor as CPUID names it (Intel SDM 2A, CPUID), and the layout of its thread states.

use std::arch::x86_64::__cpuid;
use std::mem::{offset_of, size_of};

use aftermach_protocol::platform::Cpu;
use libc::{__darwin_x86_exception_state64 as Exception, __darwin_x86_float_state64 as Float};
use mach2::structs::x86_thread_state64_t as Thread;

use super::super::registers::{X86_EXCEPTION, X86_FLOAT, X86_THREAD};
use crate::snapshot::CpuId;

pub(super) const CPU: Cpu = Cpu::X86_64;

pub(super) fn cpuid() -> Option<CpuId> {
    let (vendor, version) = (__cpuid(0), __cpuid(1));
    let mut name = [0; 12];
    for (bytes, register) in name.chunks_exact_mut(4).zip([vendor.ebx, vendor.edx, vendor.ecx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    Some(CpuId { vendor: name, version: version.eax, features: version.edx })
}

const _: () = {
    assert!(size_of::<Thread>() == 4 * X86_THREAD.words);
    assert!(offset_of!(Thread, __rdi) == 32);
    assert!(offset_of!(Thread, __rsi) == 40);
    assert!(offset_of!(Thread, __rbp) == 48);
    assert!(offset_of!(Thread, __rsp) == 56);
    assert!(offset_of!(Thread, __rip) == 128);
    assert!(offset_of!(Thread, __rflags) == 136);
    assert!(offset_of!(Thread, __cs) == 144);
    assert!(offset_of!(Thread, __gs) == 160);
    assert!(size_of::<Float>() == 4 * X86_FLOAT.words);
    // The FXSAVE image starts at byte 8: fcw is private there, ftw is its fifth byte.
    assert!(offset_of!(Float, __fpu_ftw) == 8 + 4);
    assert!(offset_of!(Float, __fpu_mxcsr) == 8 + 24);
    assert!(offset_of!(Float, __fpu_xmm0) == 8 + 160);
    assert!(size_of::<Exception>() == 4 * X86_EXCEPTION.words);
    assert!(offset_of!(Exception, __err) == 4);
    assert!(offset_of!(Exception, __faultvaddr) == 8);
};
