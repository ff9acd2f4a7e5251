//! Mach-O compact unwind information: `__unwind_info` (<mach-o/compact_unwind_encoding.h>; LLVM libunwind
//! `UnwindCursor.hpp` and `CompactUnwinder.hpp` for what the header leaves open).
//!
//! Parsed and run here, because the parser that framehop uses indexes out of bounds on a table that lies, and because the
//! callers' saved registers are wanted as well: x86-64's `_sigtramp` keeps the context's address in rbx.

use aftermach_protocol::platform::Cpu;

use super::cfi::Caller;
use super::code::CodeMap;
use super::plain::Plain;
use super::registers::Registers;
use super::stack::StackReader;
use super::step::Failure;

/// What the table says of the function at an address. Addresses are distances from the image's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First address.
    pub(crate) start: u32,
    /// The next entry's first address.
    pub(crate) end: u32,
    /// `compact_unwind_encoding_t`.
    encoding: u32,
}

/// What an encoding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The function has no unwind information: it is a leaf, or assembly.
    Unstated,
    /// The caller is found through the frame pointer.
    FramePointer,
    /// The frame has this size (x86-64: with the return address).
    StackSize { bytes: u64 },
    /// x86-64: the frame's size is in the operand of a `sub` instruction, this far into the function, plus `adjust` bytes.
    StackSizeInCode { offset: u32, adjust: u64 },
    /// The entry at this offset of `__eh_frame` says it.
    Dwarf { offset: u32 },
}

/// Bytes in `unwind_info_section_header_index_entry`.
const INDEX_ENTRY: usize = 12;

/// Finds the entry for `address`.
pub(crate) fn lookup(table: &[u8], address: u32) -> Option<Entry> {
    if word(table, 0)? != 1 {
        return None;
    }
    let (encodings, encoding_count) = (word(table, 4)? as usize, word(table, 8)? as usize);
    let (index, index_count) = (word(table, 20)? as usize, word(table, 24)? as usize);
    let index = table.get(index..)?;
    let pages = index_count.min(index.len() / INDEX_ENTRY);
    let first_address = |page: usize| word(index, page * INDEX_ENTRY);

    // The last entry only marks where the covered addresses end.
    let after = partition_point(pages, |page| first_address(page).is_some_and(|first| first <= address));
    let page = after.checked_sub(1)?;
    if page + 1 >= pages {
        return None;
    }
    let (page_first, page_end) = (first_address(page)?, first_address(page + 1)?);
    let page_table = table.get(word(index, page * INDEX_ENTRY + 4)? as usize..)?;
    let (entries, count) = (half(page_table, 4)? as usize, half(page_table, 6)? as usize);
    let rows = page_table.get(entries..)?;

    let (start, end, encoding) = match word(page_table, 0)? {
        // UNWIND_SECOND_LEVEL_REGULAR: pairs of address and encoding.
        2 => {
            let count = count.min(rows.len() / 8);
            let row = partition_point(count, |row| word(rows, row * 8).is_some_and(|first| first <= address))
                .checked_sub(1)?;
            let end = if row + 1 < count { word(rows, (row + 1) * 8)? } else { page_end };
            (word(rows, row * 8)?, end, word(rows, row * 8 + 4)?)
        }
        // UNWIND_SECOND_LEVEL_COMPRESSED: 8 bits of encoding index, 24 of distance from the page's first address.
        3 => {
            let count = count.min(rows.len() / 4);
            let first = |row: usize| page_first.checked_add(word(rows, row * 4)? & 0x00ff_ffff);
            let row = partition_point(count, |row| first(row).is_some_and(|first| first <= address)).checked_sub(1)?;
            let end = if row + 1 < count { first(row + 1)? } else { page_end };
            let which = (word(rows, row * 4)? >> 24) as usize;
            let encoding = match which.checked_sub(encoding_count) {
                None => word(table, encodings.checked_add(which * 4)?)?,
                Some(local) => {
                    let (local_table, local_count) = (half(page_table, 8)? as usize, half(page_table, 10)? as usize);
                    if local >= local_count {
                        return None;
                    }
                    word(page_table, local_table + local * 4)?
                }
            };
            (first(row)?, end, encoding)
        }
        _ => return None,
    };
    (start <= address && address < end).then_some(Entry { start, end, encoding })
}

/// Every entry's first address; used where an image has no list of function starts.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
}

impl Entry {
    /// A function of this encoding, anywhere.
    #[cfg(test)]
    pub(crate) fn of_encoding(encoding: u32) -> Entry {
        Entry { start: 0, end: 1, encoding }
    }

    /// Whether the function has landing pads (`UNWIND_HAS_LSDA`). DWARF says it itself.
    pub(crate) fn has_lsda(&self) -> bool {
        self.encoding & 0x4000_0000 != 0
    }

    /// What the encoding means; `None` for one that this CPU does not have.
    pub(crate) fn rule(&self, cpu: Cpu) -> Option<Rule> {
        let encoding = self.encoding;
        let dwarf = Rule::Dwarf { offset: encoding & 0x00ff_ffff };
        Some(match (cpu, encoding >> 24 & 0xf) {
            (_, 0) => Rule::Unstated,
            (Cpu::X86_64, 1) | (Cpu::Arm64, 4) => Rule::FramePointer,
            (Cpu::X86_64, 2) => Rule::StackSize { bytes: u64::from(encoding >> 16 & 0xff) * 8 },
            (Cpu::X86_64, 3) => {
                Rule::StackSizeInCode { offset: encoding >> 16 & 0xff, adjust: u64::from(encoding >> 13 & 7) * 8 }
            }
            (Cpu::Arm64, 2) => Rule::StackSize { bytes: u64::from(encoding >> 12 & 0xfff) * 16 },
            (Cpu::X86_64, 4) | (Cpu::Arm64, 3) => dwarf,
            _ => return None,
        })
    }

    /// What a rule says of a frame that has called another one, as a plain rule, if it is one.
    pub(crate) fn plain(&self, rule: Rule, cpu: Cpu) -> Option<Plain> {
        match (rule, cpu) {
            (Rule::FramePointer, Cpu::X86_64) => {
                let below = -16 - i64::from(self.encoding >> 16 & 0xff) * 8;
                let saved = (0..5).filter_map(|slot| Some((x86_64_register(self.encoding >> (3 * slot) & 7)?, slot)));
                let plain = Plain::new(6, 16, -8);
                let plain = saved
                    .fold(plain, |plain, (register, slot)| plain?.saves(cpu, register, below + 8 * i64::from(slot)));
                plain?.saves(cpu, 6, -16)
            }
            (Rule::FramePointer, Cpu::Arm64) => {
                let pairs = (0..5u16).filter(|pair| self.encoding & (1 << pair) != 0);
                let registers = pairs.flat_map(|pair| [19 + 2 * pair, 20 + 2 * pair]).zip(1i64..);
                let plain = registers.fold(Plain::new(29, 16, -8), |plain, (register, place)| {
                    plain?.saves(cpu, register, -16 - 8 * place)
                });
                plain?.saves(cpu, 29, -16)
            }
            (Rule::StackSize { bytes }, Cpu::X86_64) => {
                let saved = x86_64_saved_registers(self.encoding);
                let below = -8 - 8 * saved.len() as i64;
                let plain = Plain::new(7, i64::try_from(bytes).ok()?, -8);
                saved
                    .into_iter()
                    .zip(0i64..)
                    .fold(plain, |plain, (register, slot)| plain?.saves(cpu, register, below + 8 * slot))
            }
            _ => None,
        }
    }

    /// The caller of a frame of this function, at an instruction of its body, through the frame pointer.
    pub(crate) fn run_frame_pointer(
        &self,
        registers: &Registers,
        stack: &mut StackReader<'_>,
        code: &CodeMap,
    ) -> Result<Caller, Failure> {
        let fp = registers.fp().ok_or(Failure::NoRule)?;
        let mut caller = registers.preserved();
        let word = |stack: &mut StackReader<'_>, address: u64| stack.word(address).ok_or(Failure::Unreadable(address));
        match registers.cpu {
            Cpu::X86_64 => {
                // Five registers of three bits each, from the lowest address up.
                let saved = fp.wrapping_sub(u64::from(self.encoding >> 16 & 0xff) * 8);
                for slot in 0..5u64 {
                    if let Some(register) = x86_64_register(self.encoding >> (3 * slot) & 7) {
                        restore(&mut caller, register, stack.word(saved.wrapping_add(slot * 8)));
                    }
                }
            }
            Cpu::Arm64 => {
                // x19/x20, x21/x22, ... x27/x28 in this order below the frame record, one bit a pair.
                let mut at = fp;
                for (pair, first) in (19..=27u16).step_by(2).enumerate() {
                    if self.encoding & (1 << pair) != 0 {
                        for register in [first, first + 1] {
                            at = at.wrapping_sub(8);
                            restore(&mut caller, register, stack.word(at));
                        }
                    }
                }
            }
        }
        let raw = word(stack, fp.wrapping_add(8))?;
        let saved_fp = word(stack, fp)?;
        caller.set(caller.fp_number(), saved_fp);
        caller.set(caller.sp_number(), fp.wrapping_add(16));
        caller.pc = code.strip(raw);
        Ok(Caller::Frame { registers: caller, raw, by_stack_pointer: false })
    }

    /// The caller of a frame of this function whose stack pointer stands `size` bytes below the caller's.
    pub(crate) fn run_stack_size(
        &self,
        size: u64,
        registers: &Registers,
        stack: &mut StackReader<'_>,
        code: &CodeMap,
        first: bool,
    ) -> Result<Caller, Failure> {
        let sp = registers.sp().ok_or(Failure::NoRule)?;
        let mut caller = registers.preserved();
        let cfa = sp.wrapping_add(size);
        caller.set(caller.sp_number(), cfa);
        let raw = match registers.cpu {
            Cpu::X86_64 => {
                let saved = x86_64_saved_registers(self.encoding);
                // Pushed right below the return address, the first of the list at the lowest address.
                let bottom = cfa.wrapping_sub(8 + 8 * saved.len() as u64);
                for (slot, register) in saved.into_iter().enumerate() {
                    restore(&mut caller, register, stack.word(bottom.wrapping_add(8 * slot as u64)));
                }
                let at = cfa.wrapping_sub(8);
                stack.word(at).ok_or(Failure::Unreadable(at))?
            }
            // Only a leaf has no frame record: its return address is in the link register still.
            Cpu::Arm64 if first => registers.lr().ok_or(Failure::NoRule)?,
            Cpu::Arm64 => return Err(Failure::NoRule),
        };
        caller.pc = code.strip(raw);
        Ok(Caller::Frame { registers: caller, raw, by_stack_pointer: true })
    }
}

fn restore(caller: &mut Registers, register: u16, value: Option<u64>) {
    match value {
        Some(value) => caller.set(register, value),
        None => caller.forget(register),
    }
}

/// DWARF number of `UNWIND_X86_64_REG_*`.
fn x86_64_register(register: u32) -> Option<u16> {
    match register {
        1 => Some(3),
        2 => Some(12),
        3 => Some(13),
        4 => Some(14),
        5 => Some(15),
        6 => Some(6),
        _ => None,
    }
}

/// The registers that a frameless x86-64 function saves, from the lowest address up: a permutation in ten bits (the header's
/// text on `UNWIND_X86_64_FRAMELESS_STACK_REG_PERMUTATION`).
fn x86_64_saved_registers(encoding: u32) -> Vec<u16> {
    let count = (encoding >> 10 & 7).min(6) as usize;
    let mut permutation = encoding & 0x3ff;
    let mut digits = [0u32; 6];
    // The digit at position i counts among 6 - i remaining registers, so its weight is the product of the later choices.
    for (index, digit) in digits.iter_mut().enumerate().take(count) {
        let weight: u32 = (index + 1..count).map(|later| 6 - later as u32).product();
        *digit = permutation / weight;
        permutation %= weight;
    }
    let mut free: Vec<u32> = (1..=6).collect();
    let mut registers = Vec::with_capacity(count);
    for digit in &digits[..count] {
        let index = *digit as usize;
        if index >= free.len() {
            return Vec::new();
        }
        registers.extend(x86_64_register(free.remove(index)));
    }
    registers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// One regular page with two functions at 0x1000 and 0x1040, end at 0x1100.
    fn regular() -> Vec<u8> {
        let header = [1, 28, 0, 28, 0, 28, 2];
        let index = [0x1000, 52, 0, 0x1100, 0, 0];
        let page = [2, 8 | 2 << 16, 0x1000, 0x0100_0000, 0x1040, 0x0202_0000];
        table(&[&header[..], &index, &page].concat())
    }

    #[test]
    fn an_address_is_found_in_a_regular_page() {
        let entry = lookup(&regular(), 0x103f).unwrap();
        assert_eq!((entry.start, entry.end, entry.rule(Cpu::X86_64)), (0x1000, 0x1040, Some(Rule::FramePointer)));
        let entry = lookup(&regular(), 0x1040).unwrap();
        assert_eq!((entry.end, entry.rule(Cpu::X86_64)), (0x1100, Some(Rule::StackSize { bytes: 16 })));
        assert_eq!([0xfff, 0x1100, u32::MAX].map(|address| lookup(&regular(), address)), [None; 3]);
    }

    #[test]
    fn an_address_is_found_in_a_compressed_page_with_global_and_local_encodings() {
        let header = [1, 28, 1, 32, 0, 32, 2, 0x0400_0001];
        let index = [0x4000, 56, 0, 0x5000, 0, 0];
        let page = [3, 12 | 2 << 16, 20 | 1 << 16, 0, 0x0100_0080, 0x0200_3000];
        let table = table(&[&header[..], &index, &page].concat());
        assert_eq!(lookup(&table, 0x407c).unwrap().rule(Cpu::Arm64), Some(Rule::FramePointer));
        let leaf = lookup(&table, 0x4080).unwrap();
        assert_eq!(
            (leaf.start, leaf.end, leaf.rule(Cpu::Arm64)),
            (0x4080, 0x5000, Some(Rule::StackSize { bytes: 48 }))
        );
    }

    #[test]
    fn a_table_that_lies_gives_nothing_and_ends() {
        let whole = regular();
        for length in 0..whole.len() {
            for address in [0, 0x1000, 0x1041] {
                let _ = lookup(&whole[..length], address);
            }
        }
        for position in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] = value;
                for address in [0, 0x1000, 0x1041, u32::MAX] {
                    if let Some(entry) = lookup(&bytes, address) {
                        assert!(entry.start <= address && address < entry.end);
                    }
                }
            }
        }
    }

    #[test]
    fn frameless_register_permutations_are_decoded_as_the_header_describes() {
        // UNWIND_X86_64 0x02: count 2, permutation 0: rbx, r12. Count 6, permutation 719: the list reversed.
        assert_eq!(x86_64_saved_registers(2 << 10), [3, 12]);
        assert_eq!(x86_64_saved_registers(6 << 10 | 719), [6, 15, 14, 13, 12, 3]);
        // LLVM writes rbx, r14 pushed as r14 then rbx (rbx lower): digits 0 and 2 of 5 = 2.
        assert_eq!(x86_64_saved_registers(2 << 10 | 2), [3, 14]);
        assert!(x86_64_saved_registers(1 << 10 | 0x3ff).is_empty());
    }
}
