//! The caller of the frame that was stopped, exact at any instruction.
//!
//! Compact unwind information describes a function's body only: in a prologue, in an epilogue, on a path that needs no frame
//! (shrink wrapping) it is wrong, and code without tables has nothing at all. So the function is run abstractly from its first
//! instruction to the one that was stopped at: along every path, which registers and stack slots still hold what the caller
//! had, and which are counted from the stack pointer at the call (the CFA). Where paths that meet disagree, the value is
//! unknown; what is then not known at the stopped instruction is left to the next best way.

#[cfg(test)]
mod against_tables;
mod arm64;
mod flow;
#[cfg(test)]
mod meeting;
mod x86_64;

use aftermach_protocol::platform::Cpu;

use super::code::CodeMap;
use super::registers::{ARM64_LR, Registers};
use super::stack::StackReader;
use flow::{Instructions as _, State, Value};

/// Why the pass gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// No path that is understood leads to the instruction.
    NotReached,
    /// Paths lead there that disagree on where the caller's frame is.
    Unknown,
    /// The function takes too long to decode.
    TooLarge,
    /// The stack could not be read here.
    Unreadable(u64),
}

/// What is known at one instruction of a function.
#[derive(Debug, Clone)]
pub(crate) struct Known(State);

/// Runs the function whose code `bytes` is, starting at `start`, up to `pc`: the instruction that was to run next, or the
/// return address of a call that the function has made. `has_landing_pads` says whether its tables name any.
pub(crate) fn known_at(
    cpu: Cpu,
    bytes: &[u8],
    start: u64,
    pc: u64,
    called: bool,
    has_landing_pads: bool,
) -> Result<Known, NoResult> {
    let state = match cpu {
        Cpu::X86_64 => flow::state_at(&x86_64::Code::new(bytes, start), start, pc, called, has_landing_pads)?,
        Cpu::Arm64 => flow::state_at(&arm64::Code::new(bytes, start), start, pc, called, has_landing_pads)?,
    };
    Ok(Known(state))
}

/// What is known at a function's first instruction.
pub(crate) fn at_entry(cpu: Cpu) -> Known {
    Known(match cpu {
        Cpu::X86_64 => x86_64::Code::new(&[], 0).entry(),
        Cpu::Arm64 => arm64::Code::new(&[], 0).entry(),
    })
}

/// What is known in a Mach-O image's stub helpers, whose code `bytes` is, starting at `start`: each pushes its number (x86-64) or
/// loads it, and goes to what stands in front of them all, which pushes more and goes to dyld_stub_binder.
pub(crate) fn in_stub_helper(cpu: Cpu, bytes: &[u8], start: u64, pc: u64) -> Option<Known> {
    match cpu {
        Cpu::X86_64 => x86_64::in_stub_helper(bytes, start, pc),
        Cpu::Arm64 => arm64::in_stub_helper(bytes, start, pc),
    }
    .map(Known)
}

impl Known {
    /// The caller's registers, and its pc as it stood on the stack.
    pub(crate) fn caller(
        &self,
        registers: &Registers,
        stack: &mut StackReader<'_>,
        code: &CodeMap,
    ) -> Result<(Registers, u64), NoResult> {
        apply(&self.0, registers, stack, code)
    }

    /// Pc and stack pointer of the caller of a snapshot's first thread.
    #[cfg(test)]
    pub(crate) fn caller_of(&self, snapshot: &crate::snapshot::Snapshot) -> Option<(u64, u64)> {
        let registers = Registers::of_thread(snapshot.threads[0].state.registers.as_ref()?);
        let mut stack = StackReader::new(&snapshot.memory);
        let (caller, _) = self.caller(&registers, &mut stack, &CodeMap::new(snapshot)).ok()?;
        Some((caller.pc, caller.sp()?))
    }
}

/// The caller's registers, by what `state` knows of them.
fn apply(
    state: &State,
    registers: &Registers,
    stack: &mut StackReader<'_>,
    code: &CodeMap,
) -> Result<(Registers, u64), NoResult> {
    let sp = registers.sp_number();
    let frame = Frame::of(state, registers, stack)?;
    let mut caller = registers.preserved();
    for number in 0..32 {
        if registers.preserved().get(number).is_none() {
            continue;
        }
        match frame.held(number, stack) {
            Ok(value) => caller.set(number, value),
            Err(_) => caller.forget(number),
        }
    }
    let raw = match registers.cpu {
        Cpu::X86_64 => {
            let at = frame.cfa.wrapping_sub(8);
            stack.word(at).ok_or(NoResult::Unreadable(at))?
        }
        Cpu::Arm64 => frame.held(ARM64_LR, stack)?,
    };
    caller.set(sp, frame.cfa);
    caller.pc = code.strip(raw);
    Ok((caller, raw))
}

/// A frame whose places on the stack are known.
struct Frame<'a> {
    state: &'a State,
    registers: &'a Registers,
    cfa: u64,
    /// Where the stack pointer stood after it was aligned, if it was.
    aligned: Option<u64>,
}

impl<'a> Frame<'a> {
    fn of(state: &'a State, registers: &'a Registers, stack: &mut StackReader<'_>) -> Result<Frame<'a>, NoResult> {
        // The stack pointer first: it is right even where another register's value is only believed to be a frame's.
        let order = || [registers.sp_number(), registers.fp_number()].into_iter().chain(0..32);
        let aligned = order().find_map(|number| match state.get(number) {
            Value::Aligned(offset) => Some(registers.get(number)?.wrapping_add_signed(offset.wrapping_neg())),
            _ => None,
        });
        let cfa = order().find_map(|number| match state.get(number) {
            Value::Cfa(offset) => Some(registers.get(number)?.wrapping_add_signed(offset.wrapping_neg())),
            _ => None,
        });
        // A stack that was aligned has the CFA saved in it.
        let saved = || {
            state.slots().find_map(|(place, value)| match (place, value) {
                (Value::Aligned(at), Value::Cfa(offset)) => {
                    let saved = stack.word(aligned?.wrapping_add_signed(at))?;
                    Some(saved.wrapping_add_signed(offset.wrapping_neg()))
                }
                _ => None,
            })
        };
        let cfa = cfa.or_else(saved).ok_or(NoResult::Unknown)?;
        Ok(Frame { state, registers, cfa, aligned })
    }

    /// What register `number` held when the function was called.
    fn held(&self, number: u16, stack: &mut StackReader<'_>) -> Result<u64, NoResult> {
        let entry = Value::Entry(number as u8);
        let in_register = self.state.get(number) == entry;
        for (place, value) in self.state.slots() {
            let at = match place {
                _ if value != entry => continue,
                Value::Cfa(offset) => Some(self.cfa.wrapping_add_signed(offset)),
                Value::Aligned(offset) => self.aligned.map(|aligned| aligned.wrapping_add_signed(offset)),
                _ => None,
            };
            match at {
                // The register may have been used for something else on a way here that was believed less, as after a call;
                // what was saved has not, unless its place has been given back.
                Some(at) if in_register => {
                    let live = self.registers.sp().is_some_and(|sp| at >= sp);
                    if let Some(value) = stack.word(at).filter(|_| live) {
                        return Ok(value);
                    }
                }
                Some(at) => return stack.word(at).ok_or(NoResult::Unreadable(at)),
                None => {}
            }
        }
        if in_register {
            return self.registers.get(number).ok_or(NoResult::Unknown);
        }
        let copy = (0..32).find(|other| self.state.get(*other) == entry).and_then(|other| self.registers.get(other));
        copy.ok_or(NoResult::Unknown)
    }
}
