//! Facts about the machine. The same for every death, so they are read once, when no task is held.

use aftermach_protocol::platform::Cpu;

use super::dispatch::QueueLayout;
use super::kernel::Kernel;
use super::registers::ARM64_POINTER_MASK;
use super::words::c_string;
use crate::snapshot::{CpuId, System};

/// What is known of the machine.
#[derive(Debug, Clone)]
pub struct Facts {
    /// For the snapshot.
    pub system: System,
    pub(super) queues: Option<QueueLayout>,
    pub(super) shared_cache: Option<[u8; 16]>,
}

impl Facts {
    /// Asks the kernel. What it does not say stays empty.
    pub fn read(kernel: &dyn Kernel, cpuid: Option<CpuId>) -> Facts {
        let text = |name: &str| kernel.sysctl(name).map(|bytes| c_string(&bytes)).unwrap_or_default();
        let machine = text("hw.model");
        let system = System {
            version: text("kern.osproductversion"),
            build: text("kern.osversion"),
            name: "macOS".to_owned(),
            cpu_model: text("machdep.cpu.brand_string"),
            cpuid,
            cpu_count: kernel.sysctl("hw.activecpu").and_then(|bytes| number(&bytes)).unwrap_or(0),
            machine: (!machine.is_empty()).then_some(machine),
            page_size: kernel.page_size(),
            pointer_mask: match kernel.cpu() {
                Cpu::X86_64 => None,
                Cpu::Arm64 => Some(ARM64_POINTER_MASK),
            },
        };
        let queues = kernel.dispatch_queue_offsets().and_then(|table| QueueLayout::decode(&table));
        Facts { system, queues, shared_cache: kernel.own_shared_cache() }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}
