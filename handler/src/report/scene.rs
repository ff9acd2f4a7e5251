//! Where a fault happened: the thread at that moment, and what is known of the memory around it.

use std::path::Path;

use aftermach_protocol::platform::Cpu;
use aftermach_protocol::report::Access;

use super::instruction::{Effect, decode_x86_64};
use crate::snapshot::{Region, Registers, Snapshot};

/// A thread at the moment of a fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The dead process.
    pub(super) snapshot: &'a Snapshot,
    /// The registers of that moment. Of a fault that a handler was dealing with, they are gone.
    pub(super) registers: Option<&'a Registers>,
    /// The pc of that moment, if it is known.
    pub(super) pc: Option<u64>,
    /// The stack pointer of that moment, if it is known.
    pub(super) sp: Option<u64>,
    /// The next frame was found as the caller of a call to a bad address.
    pub(super) called: bool,
}

/// How far a faulting access may be from the stack pointer to be the stack's: a frame's locals, or the step of a stack probe.
const NEAR_STACK: u64 = 64 << 10;
/// How far below a stack's first accessible byte the access that overflowed it may be.
const MAX_GUARD: u64 = 16 << 20;
/// Most bytes that one instruction accesses in one place: a vector register.
const MAX_ACCESS: u64 = 64;
/// Longest x86-64 instruction, in bytes.
const MAX_INSTRUCTION: usize = 15;

impl<'a> Scene<'a> {
    /// The bits of an address that count.
    fn plain(&self, address: u64) -> u64 {
        // Only user space addresses are signed; what is not one stays as it is.
        match self.snapshot.system.pointer_mask {
            Some(mask) if address & (1 << 63) == 0 => address & mask,
            _ => address,
        }
    }

    /// Whether the process' mappings are known at all.
    pub(super) fn knows_regions(&self) -> bool {
        !self.snapshot.regions.is_empty()
    }

    /// The mapping that an address lies in.
    pub(super) fn region(&self, address: u64) -> Option<&'a Region> {
        let address = self.plain(address);
        let after = self.snapshot.regions.partition_point(|region| region.start <= address);
        let region = self.snapshot.regions.get(after.checked_sub(1)?)?;
        (address < region.end).then_some(region)
    }

    /// Bytes in a page; 4096 if the system did not say.
    pub(super) fn page_size(&self) -> u64 {
        self.snapshot.system.page_size.max(4096)
    }

    /// What the instruction at the pc was about to do.
    pub(super) fn effect(&self) -> Effect {
        let Some(text) = self.pc.and_then(|pc| self.snapshot.memory.slice_from(pc)) else { return Effect::Unknown };
        let text = &text[..text.len().min(MAX_INSTRUCTION)];
        match (self.snapshot.cpu, self.registers) {
            (Cpu::X86_64, Some(Registers::X86_64(registers))) => decode_x86_64(text, Some(registers)),
            (Cpu::X86_64, _) => decode_x86_64(text, None),
            // The processor's own syndrome says it all, where the system hands it on.
            (Cpu::Arm64, _) => Effect::Unknown,
        }
    }

    /// The word on top of the stack.
    pub(super) fn top_of_stack(&self) -> Option<u64> {
        self.snapshot.memory.word(self.sp?)
    }

    /// A little-endian value in copied memory.
    pub(super) fn value(&self, address: u64, size: usize) -> Option<u64> {
        let bytes = self.snapshot.memory.slice(address, size)?;
        Some(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    /// How `address`, whose access failed, was accessed. `None` unless that is certain.
    pub(super) fn access(&self, address: u64) -> Option<Access> {
        self.access_by_processor(address)
            .or_else(|| self.is_jump(address).then_some(Access::Execute))
            .or_else(|| self.access_by_instruction(address))
            .or_else(|| {
                // What may be read was not read in vain.
                let region = self.region(address)?;
                (region.protection.read && !region.protection.write).then_some(Access::Write)
            })
    }

    /// By the page fault's error code (Intel SDM volume 3, 4.7) or the exception syndrome (Arm ARM, ESR_EL1).
    fn access_by_processor(&self, address: u64) -> Option<Access> {
        const PAGE_FAULT: u16 = 14;
        match self.registers? {
            Registers::X86_64(registers) => match registers.fault {
                Some((PAGE_FAULT, error, fault)) if fault == address => Some(match error {
                    error if error & 16 != 0 => Access::Execute,
                    error if error & 2 != 0 => Access::Write,
                    _ => Access::Read,
                }),
                _ => None,
            },
            Registers::Arm64(registers) => {
                let (fault, syndrome) = registers.fault?;
                match syndrome >> 26 {
                    _ if fault != address => None,
                    0x20 | 0x21 => Some(Access::Execute),
                    // CM: cache maintenance is reported as a write, but is none.
                    0x24 | 0x25 if syndrome & (1 << 8) != 0 => None,
                    0x24 | 0x25 if syndrome & (1 << 6) != 0 => Some(Access::Write),
                    0x24 | 0x25 => Some(Access::Read),
                    _ => None,
                }
            }
        }
    }

    /// The processor was to run what is at `address`, and that is no code.
    fn is_jump(&self, address: u64) -> bool {
        let Some(pc) = self.pc else { return false };
        let code = self.region(pc).is_some_and(|region| region.protection.execute);
        self.plain(address) == self.plain(pc) && self.knows_regions() && !code
    }

    fn access_by_instruction(&self, address: u64) -> Option<Access> {
        // An instruction that goes over into a page that is no code fails there, before it does anything.
        let pc = self.pc?;
        let fetch = pc..pc.saturating_add(MAX_INSTRUCTION as u64);
        if fetch.contains(&address) {
            return None;
        }
        match self.effect() {
            Effect::Access { access, address: Some(operand), .. } => {
                (address.wrapping_sub(operand) < MAX_ACCESS).then_some(access).flatten()
            }
            Effect::Access { access, address: None, .. } => access,
            Effect::Copy { from: Some(from), to: Some(to) } => {
                let touches = |operand| address.wrapping_sub(operand) < MAX_ACCESS;
                match (touches(from), touches(to)) {
                    (true, false) => Some(Access::Read),
                    (false, true) => Some(Access::Write),
                    _ => None,
                }
            }
            Effect::Return => (address.wrapping_sub(self.sp?) < 8).then_some(Access::Read),
            _ => None,
        }
    }

    /// Whether the access to `address` shows that the stack is used up: it was near the stack pointer, in memory that can't be
    /// accessed, right below the memory that the stack pointer comes from.
    pub(super) fn is_stack_overflow(&self, address: u64) -> bool {
        let Some(sp) = self.sp else { return false };
        let accessible = |region: &Region| region.protection.read || region.protection.write;
        let sp_is_out = !self.region(sp).is_some_and(accessible);
        let is_near = address.abs_diff(sp) <= NEAR_STACK || (sp_is_out && address >= sp);
        if !self.knows_regions() || self.region(address).is_some_and(accessible) || !is_near {
            return false;
        }
        let after = self.snapshot.regions.partition_point(|region| region.end <= address);
        let above = self.snapshot.regions[after..].iter().find(|region| accessible(region));
        above.is_some_and(|stack| {
            let lowest = address.min(sp);
            stack.protection.write && stack.start - lowest.min(stack.start) <= MAX_GUARD && stack.end > sp
        })
    }
}

/// A mapping's file or name.
pub(super) fn mapping_name(region: &Region) -> Option<String> {
    region.path.as_deref().map(Path::display).map(|path| path.to_string())
}
