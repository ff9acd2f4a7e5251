//! Processors that have no CPUID.

use aftermach_protocol::platform::Cpu;

use crate::snapshot::CpuId;

pub(super) const CPU: Cpu = Cpu::Arm64;

pub(super) fn cpuid() -> Option<CpuId> {
    None
}
