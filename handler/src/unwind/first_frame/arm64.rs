//! What A64 instructions do to registers and stack (Arm ARM, C4.1 and C6.2).

use super::flow::{Instructions, Next, State, Value, straight};

const FP: u16 = 29;
const LR: u16 = 30;
const SP: u16 = 31;

/// A function's bytes.
pub(super) struct Code<'a> {
    bytes: &'a [u8],
    start: u64,
}

impl<'a> Code<'a> {
    pub(super) fn new(bytes: &'a [u8], start: u64) -> Code<'a> {
        Code { bytes, start }
    }

    fn word(&self, address: u64) -> Option<u32> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        Some(u32::from_le_bytes(self.bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
    }
}

/// What is known in stub helpers: `ldr w16, NUMBER; b START` each, and `adrp x17, ...; add x17, ...; stp x16, x17, [sp, #-16]!;
/// adrp x16, ...; ldr x16, [...]; br x16` at the start.
pub(super) fn in_stub_helper(bytes: &[u8], start: u64, pc: u64) -> Option<State> {
    let code = Code::new(bytes, start);
    let word = code.word(pc)?;
    match word & 0xff00_001f == 0x1800_0010 || word >> 26 == 0x05 {
        true => Some(code.entry()),
        false => straight(&code, start, pc, code.entry()),
    }
}

impl Instructions for Code<'_> {
    fn entry(&self) -> State {
        State::at_entry(SP, 0)
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    fn run(&self, address: u64, state: &mut State) -> Option<(u64, Next)> {
        let word = self.word(address)?;
        // udf
        if word >> 16 == 0 {
            return Some((address + 4, Next::End));
        }
        Some((address.checked_add(4)?, step(word, address, state)))
    }

    /// `cmp sp, Xn; b.ne`.
    fn not_taken(&self, address: u64, state: &mut State) {
        let words = [address.wrapping_sub(4), address].map(|address| self.word(address).unwrap_or(0));
        if words[0] & 0xffe0_ffff == 0xeb20_63ff && words[1] & 0xff00_001f == 0x5400_0001 {
            state.stack_pointer_equals((words[0] >> 16 & 31) as u16);
        }
    }
}

fn step(word: u32, address: u64, state: &mut State) -> Next {
    let target = |offset: i64| address.wrapping_add_signed(offset * 4);
    // Branches, exceptions and system instructions: bits 28-26 are 101.
    if word >> 26 & 7 == 5 {
        return match word >> 24 {
            // b, bl
            0x14..=0x17 => Next::Jump(target(signed(word, 0, 26))),
            0x94..=0x97 => {
                after_call(state);
                Next::Call
            }
            // b.cond, bc.cond
            0x54 => Next::Branch(target(signed(word, 5, 19))),
            // cbz, cbnz
            0x34 | 0x35 | 0xb4 | 0xb5 => Next::Branch(target(signed(word, 5, 19))),
            // tbz, tbnz
            0x36 | 0x37 | 0xb6 | 0xb7 => Next::Branch(target(signed(word, 5, 14))),
            // br, blr, ret, and their authenticated forms: bits 22-21 say which.
            0xd6 | 0xd7 => match word >> 21 & 3 {
                0 => Next::Elsewhere,
                1 => {
                    after_call(state);
                    Next::Call
                }
                // `ret` through another register than the link register may be any jump.
                2 if word == 0xd65f_03c0 || word & 0xffff_fbff == 0xd65f_0bff => Next::Return,
                _ => Next::End,
            },
            // svc, hvc, brk, ...: brk ends a path that must not be taken; a system call changes x0 alone.
            0xd4 if word >> 21 & 7 == 1 => Next::End,
            0xd4 => {
                state.set(0, Value::Unknown);
                Next::On
            }
            // Hints (nop, paciasp, autiasp, bti), barriers, mrs. Signing leaves a return address what it is.
            _ => {
                if word & 0xfff0_0000 == 0xd530_0000 {
                    write(state, word & 31, Value::Unknown);
                }
                Next::On
            }
        };
    }
    // Loads and stores: bit 27 set, bit 25 clear.
    if word >> 25 & 5 == 4 {
        load_or_store(word, state);
    } else {
        compute(word, state);
    }
    Next::On
}

/// AAPCS64 6.1.1: x0 to x18 and the link register are lost.
fn after_call(state: &mut State) {
    for number in 0..=18 {
        state.set(number, Value::Unknown);
    }
    state.set(LR, Value::Unknown);
}

/// A register is written where 31 means the zero register.
fn write(state: &mut State, number: u32, value: Value) {
    if number != 31 {
        state.set(number as u16, value);
    }
}

fn read(state: &State, number: u32) -> Value {
    match number {
        31 => Value::Constant(0),
        number => state.get(number as u16),
    }
}

/// `count` bits from `from` on, as a signed number.
fn signed(word: u32, from: u32, count: u32) -> i64 {
    let value = i64::from(word >> from) & ((1 << count) - 1);
    value << (64 - count) >> (64 - count)
}

fn compute(word: u32, state: &mut State) {
    let (destination, first) = (word & 31, word >> 5 & 31);
    match word >> 23 & 0x3f {
        // add, sub (immediate), 64-bit: here 31 is the stack pointer, but for the forms that set flags (bit 29).
        0x22 if word >> 31 == 1 => {
            let shift = if word >> 22 & 1 == 1 { 12 } else { 0 };
            let amount = i64::from(word >> 10 & 0xfff) << shift;
            let amount = if word >> 30 & 1 == 1 { -amount } else { amount };
            let value = state.get(first as u16).plus(amount);
            match word >> 29 & 1 {
                0 => state.set(destination as u16, value),
                _ => write(state, destination, value),
            }
        }
        // Logical (immediate): `and sp, x9, #...` aligns the stack. 31 is the stack pointer, but for ands.
        0x24 => match word >> 29 & 3 {
            3 => write(state, destination, Value::Unknown),
            0 if destination == 31 => state.align(SP),
            // orr from the zero register: a constant, which no stack size is made of.
            _ => state.set(destination as u16, Value::Unknown),
        },
        // movn, movz, movk
        0x25 => {
            let shift = (word >> 21 & 3) * 16;
            let part = u64::from(word >> 5 & 0xffff) << shift;
            let value = match (word >> 29 & 3, read(state, destination)) {
                (2, _) => Value::Constant(part),
                (3, Value::Constant(value)) => Value::Constant(value & !(0xffff << shift) | part),
                _ => Value::Unknown,
            };
            write(state, destination, value);
        }
        _ if word & 0xffe0_ffe0 == 0xaa00_03e0 => {
            // mov Xd, Xm: orr with the zero register.
            let value = read(state, word >> 16 & 31);
            write(state, destination, value);
        }
        // add, sub (extended register), 64-bit, no flags: 31 is the stack pointer in the first two places.
        _ if word & 0xbfe0_0000 == 0x8b20_0000 => {
            let shift = word >> 10 & 7;
            let value = match read(state, word >> 16 & 31) {
                Value::Constant(amount) => {
                    let amount = (amount << shift) as i64;
                    let amount = if word >> 30 & 1 == 1 { amount.wrapping_neg() } else { amount };
                    state.get(first as u16).plus(amount)
                }
                _ => Value::Unknown,
            };
            state.set(destination as u16, value);
        }
        // Floating point and vectors (bits 28-25 are x111) write general registers in a few forms only, of which none is used
        // to save one: fmov, umov, fcvtzs. They are not told apart: the number that would be written is forgotten, but for
        // the frame pointer and the link register.
        _ if word >> 25 & 7 == 7 => {
            if destination != u32::from(FP) && destination != u32::from(LR) {
                write(state, destination, Value::Unknown);
            }
        }
        _ => write(state, destination, Value::Unknown),
    }
}

fn load_or_store(word: u32, state: &mut State) {
    let (register, base) = (word & 31, word >> 5 & 31);
    let vector = word >> 26 & 1 == 1;
    match word >> 27 & 7 {
        // Pairs: stp, ldp, stnp, ldnp, ldpsw.
        5 => {
            let size: i64 = match (vector, word >> 30) {
                (true, size) => 4 << size,
                (false, 2) => 8,
                (false, _) => 4,
            };
            let offset = signed(word, 15, 7) * size;
            let second = word >> 10 & 31;
            let load = word >> 22 & 1 == 1;
            // Post-indexed 1, offset 2, pre-indexed 3, no-allocate 0.
            let mode = word >> 23 & 3;
            let at = place(state, base, if mode == 1 { 0 } else { offset });
            if !(load && vector) {
                for (index, register) in [register, second].into_iter().enumerate() {
                    access(state, at.plus(index as i64 * size), register, size, load, vector);
                }
            }
            if mode & 1 == 1 {
                move_base(state, base, offset);
            }
        }
        // Single registers.
        7 => {
            let size = 1i64 << (word >> 30);
            // 128-bit vectors: size 0 with the upper bit of opc.
            let size = if vector && word >> 23 & 1 == 1 { 16 } else { size };
            let load = if vector { word >> 22 & 1 == 1 } else { word >> 22 & 3 != 0 };
            // Scaled, unsigned offset.
            if word >> 24 & 1 == 1 {
                let offset = i64::from(word >> 10 & 0xfff) * size;
                let at = place(state, base, offset);
                return access(state, at, register, size, load, vector);
            }
            // Register offset and atomics.
            if word >> 21 & 1 == 1 {
                // Atomics load into Rt as well.
                let load = load || word >> 10 & 3 == 0;
                return access(state, Value::Unknown, register, size, load, vector);
            }
            let offset = signed(word, 12, 9);
            // Unscaled 0, post-indexed 1, unprivileged 2, pre-indexed 3.
            let mode = word >> 10 & 3;
            let at = place(state, base, if mode == 1 { 0 } else { offset });
            access(state, at, register, size, load, vector);
            if mode & 1 == 1 {
                move_base(state, base, offset);
            }
        }
        // ldr (literal), adr-like.
        3 => {
            if !vector {
                write(state, register, Value::Unknown);
            }
        }
        // Exclusives, ordered, vector structures (which write back their base).
        _ => {
            if vector {
                if word >> 23 & 1 == 1 {
                    state.set(base as u16, Value::Unknown);
                }
                return;
            }
            for register in [register, word >> 10 & 31, word >> 16 & 31] {
                write(state, register, Value::Unknown);
            }
        }
    }
}

/// What an address is that is counted from a register.
fn place(state: &State, base: u32, offset: i64) -> Value {
    match state.get(base as u16) {
        base @ (Value::Cfa(_) | Value::Aligned(_)) => base.plus(offset),
        _ => Value::Unknown,
    }
}

fn move_base(state: &mut State, base: u32, offset: i64) {
    let value = place(state, base, offset);
    state.set(base as u16, value);
}

fn access(state: &mut State, at: Value, register: u32, size: i64, load: bool, vector: bool) {
    match load {
        true if vector => {}
        true if size == 8 => {
            let value = state.slot(at);
            write(state, register, value);
        }
        true => write(state, register, Value::Unknown),
        false => {
            let value = if vector || size != 8 { Value::Unknown } else { read(state, register) };
            let value = if matches!(value, Value::Constant(_)) { Value::Unknown } else { value };
            state.store(at, size, value);
        }
    }
}
