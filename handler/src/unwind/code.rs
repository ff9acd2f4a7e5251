//! Where code may run, and which image an address lies in.

use aftermach_protocol::platform::Cpu;

use crate::snapshot::Snapshot;

/// The executable ranges and the images of a snapshot, sorted for lookup.
#[derive(Debug)]
pub(crate) struct CodeMap {
    /// Executable ranges by ascending address; those that touch are one.
    executable: Vec<(u64, u64)>,
    /// (first address, end, index in `Snapshot::images`) by ascending first address. Where images overlap, the one that
    /// begins last wins.
    images: Vec<(u64, u64, usize)>,
    /// Bits of a code pointer that are address.
    pub(crate) pointer_mask: u64,
    pub(crate) cpu: Cpu,
}

/// arm64 user addresses have at most 48 bits (47 on macOS); the bits above carry pointer authentication or a tag. Used where
/// the system did not say how many.
const ARM64_ADDRESS_BITS: u64 = (1 << 48) - 1;

impl CodeMap {
    /// The code of a snapshot. Without a list of mappings every image counts as executable.
    pub(crate) fn new(snapshot: &Snapshot) -> CodeMap {
        let mut images: Vec<(u64, u64, usize)> = (snapshot.images.iter().enumerate())
            .map(|(index, image)| (image.base, image.base.saturating_add(image.size), index))
            .filter(|(start, end, _)| start < end)
            .collect();
        images.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = match snapshot.regions.is_empty() {
            true => images.iter().map(|(start, end, _)| (*start, *end)).collect(),
            false => {
                let executable = snapshot.regions.iter().filter(|region| region.protection.execute);
                executable.map(|region| (region.start, region.end)).filter(|(start, end)| start < end).collect()
            }
        };
        ranges.sort_unstable();
        let mut executable: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match executable.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => executable.push((start, end)),
            }
        }
        let pointer_mask = match snapshot.cpu {
            Cpu::X86_64 => u64::MAX,
            Cpu::Arm64 => snapshot.system.pointer_mask.unwrap_or(ARM64_ADDRESS_BITS),
        };
        CodeMap { executable, images, pointer_mask, cpu: snapshot.cpu }
    }

    /// Whether `address` lies in executable memory.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        let after = self.executable.partition_point(|(start, _)| *start <= address);
        after.checked_sub(1).is_some_and(|index| address < self.executable[index].1)
    }

    /// Whether `address` may be a return address: the call before it lies in executable memory.
    pub(crate) fn may_return_to(&self, address: u64) -> bool {
        self.is_code(address.wrapping_sub(1)) && (self.cpu == Cpu::X86_64 || address.is_multiple_of(4))
    }

    /// The index in `Snapshot::images` of the image that `address` lies in.
    pub(crate) fn image(&self, address: u64) -> Option<usize> {
        let after = self.images.partition_point(|(start, _, _)| *start <= address);
        // Images that overlap are rare and few: look back over those that begin before.
        let candidates = self.images[..after].iter().rev().take(4);
        candidates.into_iter().find(|(_, end, _)| address < *end).map(|(_, _, index)| *index)
    }

    /// A code pointer without pointer authentication.
    pub(crate) fn strip(&self, pointer: u64) -> u64 {
        pointer & self.pointer_mask
    }
}

/// Whether the bytes before a return address end in a call instruction. `before` are up to 8 bytes that end there.
pub(crate) fn ends_in_call(cpu: Cpu, before: &[u8]) -> bool {
    match cpu {
        Cpu::X86_64 => x86_64_ends_in_call(before),
        Cpu::Arm64 => arm64_ends_in_call(before),
    }
}

/// Intel SDM 2, CALL: E8 rel32, or FF /2 with any ModRM form (2 to 7 bytes, one more with a REX prefix, which needs no look).
fn x86_64_ends_in_call(before: &[u8]) -> bool {
    let from_end = |back: usize| before.len().checked_sub(back).map(|index| before[index]);
    if from_end(5) == Some(0xe8) {
        return true;
    }
    (2..=7).any(|length| {
        if from_end(length) != Some(0xff) {
            return false;
        }
        let Some(modrm) = from_end(length - 1) else { return false };
        if modrm >> 3 & 7 != 2 {
            return false;
        }
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let sib = match (mode != 3 && rm == 4, length) {
            (true, 2) => return false,
            (true, _) => from_end(length - 2),
            (false, _) => None,
        };
        let displacement = match mode {
            0 if rm == 5 => 4,
            0 if sib.is_some_and(|sib| sib & 7 == 5) => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        length == 2 + usize::from(sib.is_some()) + displacement
    })
}

/// Arm ARM C6.2: BL, BLR, and BLRAA, BLRAAZ, BLRAB, BLRABZ.
fn arm64_ends_in_call(before: &[u8]) -> bool {
    let Some((_, word)) = before.split_last_chunk::<4>() else { return false };
    let word = u32::from_le_bytes(*word);
    word & 0xfc00_0000 == 0x9400_0000 || word & 0xffff_fc1f == 0xd63f_0000 || word & 0xfeff_f800 == 0xd63f_0800
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_64_calls_are_recognised_in_every_form() {
        // Assembled by GNU as 2.40.
        let calls: [&[u8]; 9] = [
            &[0xe8, 1, 2, 3, 4],                // call rel32
            &[0xff, 0xd0],                      // call *%rax
            &[0x41, 0xff, 0xd3],                // call *%r11
            &[0xff, 0x10],                      // call *(%rax)
            &[0xff, 0x50, 0x18],                // call *24(%rax)
            &[0xff, 0x90, 0, 1, 0, 0],          // call *256(%rax)
            &[0xff, 0x15, 1, 2, 3, 4],          // call *rel(%rip)
            &[0xff, 0x14, 0xc5, 0, 0, 0, 0x10], // call *0x10000000(,%rax,8)
            &[0xff, 0x54, 0x24, 0x08],          // call *8(%rsp)
        ];
        for call in calls {
            assert!(ends_in_call(Cpu::X86_64, &[&[0x90; 8], call].concat()), "{call:x?}");
        }
        assert!(ends_in_call(Cpu::X86_64, &[0xff, 0xd0]));
    }

    #[test]
    fn x86_64_bytes_that_are_no_call_are_refused() {
        for bytes in [&[][..], &[0xff], &[0x90; 8], &[0xff, 0xe0], &[0xff, 0x25, 1, 2, 3, 4], &[0x10, 0xff, 0x14]] {
            assert!(!ends_in_call(Cpu::X86_64, bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn arm64_calls_are_recognised_and_jumps_are_not() {
        // bl, blr x8, blraa x8, x9, blraaz x8, blrab x8, x9, blrabz x8 (LLVM 19, armv8.3a).
        for word in [0x9400_0001u32, 0x97ff_ffff, 0xd63f_0100, 0xd73f_0909, 0xd63f_091f, 0xd73f_0d09, 0xd63f_0d1f] {
            assert!(ends_in_call(Cpu::Arm64, &word.to_le_bytes()), "{word:x}");
        }
        // b, br x8, ret, retab.
        for word in [0x1400_0001u32, 0xd61f_0100, 0xd65f_03c0, 0xd65f_0fff] {
            assert!(!ends_in_call(Cpu::Arm64, &word.to_le_bytes()), "{word:x}");
        }
        assert!(!ends_in_call(Cpu::Arm64, &[0, 0, 0]));
    }
}
