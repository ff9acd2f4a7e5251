//! x86-64 instructions that access memory (Intel SDM volume 2, appendix A: the opcode maps).

use aftermach_protocol::report::Access;

use super::operand::{Bytes, ModRm, Prefixes, Rm, register};
use super::{Divisor, Effect};
use crate::snapshot::X86_64Registers;

/// What an instruction does with its ModRM operand when that is memory, and how many bytes of immediate follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read(usize),
    Write(usize),
    /// Reads it, then writes it.
    Both(usize),
    /// Divides by it; bytes.
    Divide(usize),
    /// Goes to the address in it.
    Jump,
}

/// What the instruction in `bytes`, which stands at `registers.rip`, was about to do. Without registers the addresses are
/// unknown, but the rest is said.
pub(in crate::report) fn decode(bytes: &[u8], registers: Option<&X86_64Registers>) -> Effect {
    decode_checked(bytes, registers).unwrap_or(Effect::Unknown)
}

/// `None` for what ends too early or is not in the tables.
fn decode_checked(bytes: &[u8], registers: Option<&X86_64Registers>) -> Option<Effect> {
    let mut bytes = Bytes::new(bytes);
    let mut prefixes = Prefixes::read(&mut bytes)?;
    let opcode = bytes.next()?;
    let (map, opcode, scale) = match opcode {
        0x0f => match bytes.next()? {
            0x38 => (2, bytes.next()?, 1),
            0x3a => (3, bytes.next()?, 1),
            opcode => (1, opcode, 1),
        },
        0xc4 | 0xc5 => {
            let map = vex(&mut bytes, &mut prefixes, opcode == 0xc4)?;
            (map, bytes.next()?, 1)
        }
        0x62 => evex(&mut bytes, &mut prefixes)?,
        opcode => (0, opcode, 1),
    };
    if map == 0
        && let Some(effect) = without_operand(opcode, &prefixes, registers)
    {
        return Some(effect);
    }
    if map == 1 && matches!(opcode, 0x0b | 0xb9 | 0xff) {
        return Some(Effect::Trap);
    }
    let operand = ModRm::read(&mut bytes, &prefixes, scale)?;
    let does = match map {
        0 => one_byte(opcode, operand.reg, &prefixes),
        1 => two_byte(opcode, &prefixes),
        2 => map_0f38(opcode),
        _ => map_0f3a(opcode),
    }?;
    let immediate = match does {
        Use::Read(length) | Use::Write(length) | Use::Both(length) => length,
        Use::Divide(_) | Use::Jump => 0,
    };
    let length = (bytes.at + immediate) as u64;
    let address = registers.and_then(|known| operand.address(&prefixes, known, known.rip.wrapping_add(length)));
    Some(match (does, operand.rm) {
        (Use::Jump, Rm::Register(number)) => {
            Effect::Jump { target: registers.map(|registers| register(registers, number)) }
        }
        (Use::Divide(size), rm) => Effect::Divide { divisor: divisor(rm, size, &prefixes, registers, address) },
        // Registers alone: nothing here can fault.
        (_, Rm::Register(_)) => Effect::Unknown,
        (does, Rm::Memory { .. }) => Effect::Access {
            access: match does {
                Use::Read(_) | Use::Jump | Use::Divide(_) => Some(Access::Read),
                Use::Write(_) => Some(Access::Write),
                Use::Both(_) => None,
            },
            address,
            alignment: (map == 1 && needs_alignment(opcode, &prefixes)).then_some(16),
        },
    })
}

fn divisor(
    rm: Rm,
    size: usize,
    prefixes: &Prefixes,
    registers: Option<&X86_64Registers>,
    address: Option<u64>,
) -> Divisor {
    match (rm, registers, address) {
        (Rm::Memory { .. }, _, Some(address)) => Divisor::Memory { address, size },
        (Rm::Register(number), Some(registers), _) => {
            // Without REX, byte registers 4 to 7 are ah to bh.
            let high = size == 1 && !prefixes.rex && number >= 4;
            let value = if high { register(registers, number - 4) >> 8 } else { register(registers, number) };
            Divisor::Value(value & (u64::MAX >> (64 - 8 * size)))
        }
        _ => Divisor::Unknown,
    }
}

/// Instructions of the first map that have no ModRM byte.
fn without_operand(opcode: u8, prefixes: &Prefixes, registers: Option<&X86_64Registers>) -> Option<Effect> {
    let at = |access, address: Option<u64>| Some(Effect::Access { access: Some(access), address, alignment: None });
    match opcode {
        // push, call: the new top of the stack.
        0x50..=0x57 | 0x68 | 0x6a | 0x9c | 0xe8 => {
            at(Access::Write, registers.map(|registers| registers.rsp.wrapping_sub(8)))
        }
        // pop; leave, whose stack pointer is the frame pointer.
        0x58..=0x5f | 0x9d => at(Access::Read, registers.map(|registers| registers.rsp)),
        0xc9 => at(Access::Read, registers.map(|registers| registers.rbp)),
        0xc2 | 0xc3 => Some(Effect::Return),
        // stos writes at rdi, scas and lods read at rdi and rsi, movs copies from rsi to rdi. Repeated, they stop at an element.
        0xa4 | 0xa5 if prefixes.segment.is_none() => Some(Effect::Copy {
            from: registers.map(|registers| registers.rsi),
            to: registers.map(|registers| registers.rdi),
        }),
        0xaa | 0xab => at(Access::Write, registers.map(|registers| registers.rdi)),
        0xae | 0xaf => at(Access::Read, registers.map(|registers| registers.rdi)),
        0xac | 0xad if prefixes.segment.is_none() => at(Access::Read, registers.map(|registers| registers.rsi)),
        // in, out, ins, outs, hlt, cli, sti.
        0xe4..=0xe7 | 0xec..=0xef | 0x6c..=0x6f | 0xf4 | 0xfa | 0xfb => Some(Effect::Privileged),
        _ => None,
    }
}

fn one_byte(opcode: u8, reg: u8, prefixes: &Prefixes) -> Option<Use> {
    let wide = prefixes.immediate_size();
    Some(match opcode {
        // add, or, adc, sbb, and, sub, xor, cmp: into memory, and out of it. cmp only looks.
        0x38 | 0x39 => Use::Read(0),
        0x00..=0x3f if opcode & 7 < 2 => Use::Both(0),
        0x00..=0x3f if opcode & 7 < 4 => Use::Read(0),
        0x63 => Use::Read(0),
        0x69 => Use::Read(wide),
        0x6b => Use::Read(1),
        0x80 | 0x83 if reg == 7 => Use::Read(1),
        0x80 | 0x83 => Use::Both(1),
        0x81 if reg == 7 => Use::Read(wide),
        0x81 => Use::Both(wide),
        0x84 | 0x85 | 0x8a | 0x8b => Use::Read(0),
        0x86 | 0x87 => Use::Both(0),
        0x88 | 0x89 => Use::Write(0),
        0xc0 | 0xc1 => Use::Both(1),
        0xd0..=0xd3 => Use::Both(0),
        0xc6 if reg == 0 => Use::Write(1),
        0xc7 if reg == 0 => Use::Write(wide),
        0xf6 if reg < 2 => Use::Read(1),
        0xf7 if reg < 2 => Use::Read(wide),
        0xf6 | 0xf7 if reg < 4 => Use::Both(0),
        0xf6 | 0xf7 if reg < 6 => Use::Read(0),
        0xf6 => Use::Divide(1),
        0xf7 => Use::Divide(prefixes.operand_size()),
        0xfe | 0xff if reg < 2 => Use::Both(0),
        0xff if reg == 2 || reg == 4 => Use::Jump,
        _ => return None,
    })
}

fn two_byte(opcode: u8, prefixes: &Prefixes) -> Option<Use> {
    Some(match opcode {
        // movups, movlps, movhps, movaps, movnt*, movd/q, movdqa/u, setcc: into memory.
        0x11 | 0x13 | 0x17 | 0x29 | 0x2b | 0x7f | 0x90..=0x9f | 0xc3 | 0xd6 | 0xe7 => Use::Write(0),
        0x7e if prefixes.repeat == Some(0xf3) => Use::Read(0),
        0x7e => Use::Write(0),
        // SSE moves, conversions, comparisons and arithmetic; cmov; movzx and movsx; imul.
        0x10 | 0x12 | 0x14..=0x16 | 0x28 | 0x2a | 0x2c..=0x2f | 0x40..=0x4f | 0x51..=0x6f => Use::Read(0),
        0x74..=0x76 | 0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf | 0xd0..=0xf6 | 0xf8..=0xfe => Use::Read(0),
        0x70 | 0xc2 | 0xc6 => Use::Read(1),
        // cmpxchg, xadd.
        0xb0 | 0xb1 | 0xc0 | 0xc1 => Use::Both(0),
        _ => return None,
    })
}

fn map_0f38(opcode: u8) -> Option<Use> {
    Some(match opcode {
        // pshufb and its like, vbroadcast, pabs, pmovsx, vptestm, movntdqa, pmovzx, pmin, pmax, pmulld, vpbroadcast.
        0x00..=0x0b | 0x18..=0x1a | 0x1c..=0x1e | 0x20..=0x2b | 0x30..=0x41 | 0x58..=0x5a | 0x78 | 0x79 => Use::Read(0),
        // movbe loads with f0 and stores with f1 (with F2 both are crc32, which reads).
        0xf0 => Use::Read(0),
        _ => return None,
    })
}

fn map_0f3a(opcode: u8) -> Option<Use> {
    Some(match opcode {
        // pextr*, vextractf128, vextracti128.
        0x14..=0x17 | 0x19 | 0x39 => Use::Write(1),
        // round*, blend*, palignr, pinsr*, vinsertf128, vinserti128, vperm2i128, pclmulqdq, pcmpistri.
        0x08..=0x0f | 0x18 | 0x1e..=0x22 | 0x25 | 0x38 | 0x3e | 0x3f | 0x44 | 0x46 | 0x60..=0x63 => Use::Read(1),
        _ => return None,
    })
}

/// movaps, movntps, movdqa, movntdq: a general protection fault when misaligned. Their VEX forms with 32-byte operands ask for
/// more, which is not said here.
fn needs_alignment(opcode: u8, prefixes: &Prefixes) -> bool {
    match opcode {
        0x28 | 0x29 | 0x2b => true,
        0x6f | 0x7f | 0xe7 => prefixes.operand && prefixes.repeat.is_none(),
        _ => false,
    }
}

/// Reads a VEX prefix after its first byte (SDM 2.3.5). Returns the map.
fn vex(bytes: &mut Bytes<'_>, prefixes: &mut Prefixes, long: bool) -> Option<u8> {
    let first = bytes.next()?;
    // R, X and B are stored inverted.
    prefixes.r = if first & 0x80 == 0 { 8 } else { 0 };
    let (map, last) = if long {
        prefixes.x = if first & 0x40 == 0 { 8 } else { 0 };
        prefixes.b = if first & 0x20 == 0 { 8 } else { 0 };
        (first & 0x1f, bytes.next()?)
    } else {
        (1, first)
    };
    prefixes.wide = long && last & 0x80 != 0;
    implied(prefixes, last & 3);
    (1..=3).contains(&map).then_some(map)
}

/// Reads an EVEX prefix after its first byte (SDM 2.7.1). Returns map, opcode and what a displacement byte counts: of the
/// instructions on a whole vector of memory, which are those that copy, scan and compare it.
fn evex(bytes: &mut Bytes<'_>, prefixes: &mut Prefixes) -> Option<(u8, u8, i64)> {
    let (first, second, third) = (bytes.next()?, bytes.next()?, bytes.next()?);
    prefixes.x = if first & 0x40 == 0 { 8 } else { 0 };
    prefixes.b = if first & 0x20 == 0 { 8 } else { 0 };
    implied(prefixes, second & 3);
    let opcode = bytes.next()?;
    let map = first & 7;
    let whole = match (map, opcode) {
        (1, 0x10 | 0x11) => prefixes.repeat.is_none(),
        // vmov*; vpcmp*, vpmin, vpmax, vpand, vpor, vpxor.
        (1, 0x28 | 0x29 | 0x6f | 0x7f | 0xe7 | 0x64..=0x66 | 0x74..=0x76 | 0xda | 0xdb | 0xde | 0xdf | 0xeb | 0xef) => {
            true
        }
        // vptestm and vptestnm, vpmin, vpmax; vpternlog, vpcmpu, vpcmp.
        (2, 0x26 | 0x27 | 0x38..=0x3f) | (3, 0x1e | 0x1f | 0x25 | 0x3e | 0x3f) => true,
        _ => false,
    };
    let length = (third >> 5) & 3;
    // Not one element for all.
    let broadcast = third & 0x10 != 0;
    (whole && !broadcast && length < 3).then_some((map, opcode, 16 << length))
}

/// VEX and EVEX hold the prefixes 66, F3 and F2 as two bits.
fn implied(prefixes: &mut Prefixes, bits: u8) {
    prefixes.operand = bits == 1;
    prefixes.repeat = [None, None, Some(0xf3), Some(0xf2)][usize::from(bits)];
}

#[cfg(test)]
mod tests;
