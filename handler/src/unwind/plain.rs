//! Steps by rules that only add and load, as nearly all are: worked out once, then run without a look at the table again.

use aftermach_protocol::platform::Cpu;

use super::code::CodeMap;
use super::registers::Registers;
use super::stack::StackReader;

/// Registers that one rule restores: arm64 has 11 that a call preserves, and the link register.
const SAVED: usize = 12;

/// A rule by which the CFA is a register plus a distance, and all that is restored lies at a distance from the CFA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    cfa_register: u16,
    cfa_offset: i64,
    /// Where the return address is, from the CFA.
    return_address: i64,
    /// DWARF numbers; of those that come twice, the later counts.
    registers: [u8; SAVED],
    /// Where they are, from the CFA.
    offsets: [i32; SAVED],
    count: usize,
}

impl Plain {
    /// A rule that restores nothing but the return address. `None` for a CFA that is counted from anything but a register.
    pub(crate) fn new(cfa_register: u16, cfa_offset: i64, return_address: i64) -> Option<Plain> {
        (cfa_register < 32).then_some(Plain {
            cfa_register,
            cfa_offset,
            return_address,
            registers: [0; SAVED],
            offsets: [0; SAVED],
            count: 0,
        })
    }

    /// The same, and a register at a distance from the CFA. `None` if that makes the rule one that is not plain.
    pub(crate) fn saves(mut self, cpu: Cpu, register: u16, offset: i64) -> Option<Plain> {
        let (Ok(number), Ok(offset)) = (u8::try_from(register), i32::try_from(offset)) else { return None };
        if number >= 32 || register == super::registers::sp_number(cpu) || self.count == SAVED {
            return None;
        }
        self.registers[self.count] = number;
        self.offsets[self.count] = offset;
        self.count += 1;
        Some(self)
    }

    /// Makes `registers` the caller's and returns the pc as it stood on the stack. `caller` is a return address that is known
    /// to lie in code, which it changes to the one found.
    ///
    /// `None`, with nothing changed, wherever there is more to be said: something can't be read or is not known, the CFA is not
    /// further up the stack, the return address is 0 or no code.
    #[inline]
    pub(crate) fn apply(
        &self,
        registers: &mut Registers,
        stack: &mut StackReader<'_>,
        code: &CodeMap,
        caller: &mut u64,
    ) -> Option<u64> {
        let cfa = registers.get(self.cfa_register)?.wrapping_add_signed(self.cfa_offset);
        if cfa <= registers.sp()? {
            return None;
        }
        let raw = stack.word(cfa.wrapping_add_signed(self.return_address))?;
        let pc = code.strip(raw);
        if pc != *caller {
            if pc == 0 || !code.may_return_to(pc) {
                return None;
            }
            *caller = pc;
        }
        let saved = self.registers.iter().zip(&self.offsets).take(self.count);
        let mut values = [0; SAVED];
        for (value, (_, offset)) in values.iter_mut().zip(saved.clone()) {
            *value = stack.word(cfa.wrapping_add_signed(i64::from(*offset)))?;
        }
        registers.forget_what_calls_change();
        for (value, (register, _)) in values.into_iter().zip(saved) {
            registers.set((*register).into(), value);
        }
        registers.set(registers.sp_number(), cfa);
        registers.pc = pc;
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cfi::{Bases, Caller, Cfi};
    use super::super::code::CodeMap;
    use super::super::compact::{Entry, Rule};
    use super::super::file::ObjectFile;
    use super::super::registers::sp_number;
    use super::*;
    use crate::snapshot::test_task::TestTask;
    use crate::snapshot::{Limits, Snapshot};
    use addr2line::gimli::UnwindContext;

    const CODE: u64 = 0x40_0000;
    const STACK: u64 = 0x7f00_0000_0000;

    /// A stack of return addresses, all different.
    fn snapshot() -> Snapshot {
        let mut task = TestTask::default();
        task.map(CODE, vec![0x90; 0x20_0000], "r-x", None, 0);
        task.map(
            STACK,
            (0..0x4000).flat_map(|word: u64| (CODE + 0x10_0000 + word * 4).to_le_bytes()).collect(),
            "rw-",
            None,
            0,
        );
        task.thread(1, CODE, STACK);
        task.capture(&Limits::default())
    }

    /// A frame in the middle of the stack, whose registers all differ.
    fn frame(cpu: Cpu) -> Registers {
        let mut registers = Registers::unknown(cpu, CODE + 64);
        (0..32).for_each(|number| registers.set(number, STACK + 0x10000 + u64::from(number) * 64));
        registers.set(sp_number(cpu), STACK + 0x8000);
        registers.pc = CODE + 64;
        registers
    }

    /// Compares a rule with what its table gives.
    fn same(plain: Plain, table: Caller, cpu: Cpu, snapshot: &Snapshot) {
        let code = CodeMap::new(snapshot);
        let Caller::Frame { registers: expected, raw, .. } = table else {
            panic!("a plain rule for the outermost frame")
        };
        let mut registers = frame(cpu);
        let mut stack = StackReader::new(&snapshot.memory);
        match plain.apply(&mut registers, &mut stack, &code, &mut 0) {
            Some(found) => assert_eq!((registers, found), (expected, raw), "{plain:?}"),
            None => {
                assert_eq!(registers, frame(cpu));
                let up = expected.sp() > registers.sp();
                assert!(!up || !code.may_return_to(expected.pc), "{plain:?}");
            }
        }
    }

    #[test]
    fn a_plain_rule_gives_what_the_row_gives_that_it_was_made_of() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let Some(libc) = maps.split_whitespace().find(|word| word.contains("libc.so") || word.contains("libc-")) else {
            println!("SKIP: no libc is mapped");
            return;
        };
        let cpu = if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 };
        let file = ObjectFile::open(std::path::Path::new(libc), cpu).unwrap();
        let section = file.section(".eh_frame").unwrap();
        let bytes = file.read(section.offset, section.size, 64 << 20).unwrap();
        let cfi = Cfi::eh_frame(cpu, bytes, Bases { eh_frame: section.address, ..Bases::default() }, None);
        let snapshot = snapshot();
        let code = CodeMap::new(&snapshot);
        let mut context = UnwindContext::new();
        let (mut plain, mut all) = (0, 0);
        for (start, end) in cfi.functions() {
            for address in (start..end).step_by(7) {
                let Some(row) = cfi.row(address, &mut context) else { continue };
                all += 1;
                let Some(rule) = row.plain(cpu) else { continue };
                plain += 1;
                let mut stack = StackReader::new(&snapshot.memory);
                if let Ok(caller) = cfi.run(&row, &frame(cpu), &mut stack, &code, false) {
                    same(rule, caller, cpu, &snapshot);
                }
            }
        }
        println!("{plain} of {all} rows are plain");
        assert!(plain > 10_000 && plain * 100 > all * 95);
    }

    #[test]
    fn a_plain_rule_gives_what_the_compact_encoding_gives_that_it_was_made_of() {
        let snapshot = snapshot();
        let code = CodeMap::new(&snapshot);
        let mut compared = [0, 0];
        for cpu in [Cpu::X86_64, Cpu::Arm64] {
            // Every mode, with low bits of all kinds (a linear congruential generator, Knuth, MMIX).
            let mut state = 1u64;
            for index in 0..40_000u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let encoding = (index & 0xf) << 24 | (state >> 40) as u32;
                let entry = Entry::of_encoding(encoding);
                let Some(rule) = entry.rule(cpu) else { continue };
                let Some(plain) = entry.plain(rule, cpu) else { continue };
                let mut stack = StackReader::new(&snapshot.memory);
                let table = match rule {
                    Rule::FramePointer => entry.run_frame_pointer(&frame(cpu), &mut stack, &code),
                    Rule::StackSize { bytes } => entry.run_stack_size(bytes, &frame(cpu), &mut stack, &code, false),
                    other => panic!("{other:?} is not plain"),
                };
                if let Ok(caller) = table {
                    same(plain, caller, cpu, &snapshot);
                    compared[usize::from(matches!(rule, Rule::FramePointer))] += 1;
                }
            }
        }
        assert!(compared.iter().all(|count| *count > 1000), "{compared:?}");
    }

    #[test]
    fn where_there_is_more_to_be_said_nothing_is_changed() {
        let snapshot = snapshot();
        let code = CodeMap::new(&snapshot);
        let apply = |plain: Option<Plain>, registers: &mut Registers| {
            plain.unwrap().apply(registers, &mut StackReader::new(&snapshot.memory), &code, &mut 0)
        };
        let rule = |offset| Plain::new(7, offset, -8);
        let mut registers = frame(Cpu::X86_64);
        let below = rule(16).unwrap().saves(Cpu::X86_64, 3, -0x10_0000);
        // Down, nowhere, beyond the stack, with a register that can't be read.
        for plain in [rule(-8), rule(0), rule(0x10_0000), below] {
            assert_eq!(apply(plain, &mut registers), None);
            assert_eq!(registers, frame(Cpu::X86_64));
        }
        registers.forget(7);
        assert_eq!(apply(rule(16), &mut registers), None);
        let mut registers = frame(Cpu::X86_64);
        assert_eq!(apply(rule(16), &mut registers), Some(CODE + 0x10_0000 + 0x8008 / 8 * 4));
        assert_eq!(Plain::new(32, 0, 0).map(|_| ()), None);
        assert!(rule(0).unwrap().saves(Cpu::X86_64, 7, 0).is_none());
        assert!(rule(0).unwrap().saves(Cpu::X86_64, 3, i64::MAX).is_none());
    }
}
