//! x86-64 prefixes and memory operands (Intel SDM volume 2, chapter 2).

use crate::snapshot::X86_64Registers;

/// Reads an instruction's bytes one after the other.
pub(super) struct Bytes<'a> {
    bytes: &'a [u8],
    /// Bytes read so far.
    pub(super) at: usize,
}

impl<'a> Bytes<'a> {
    /// An instruction has 15 bytes at most (SDM 2.3.11).
    pub(super) fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { bytes: &bytes[..bytes.len().min(15)], at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn signed(&mut self, length: usize) -> Option<i64> {
        let bytes = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(match bytes {
            [byte] => i64::from(*byte as i8),
            [a, b, c, d] => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            _ => return None,
        })
    }
}

/// What prefixes say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Prefixes {
    /// 66: 16-bit operands, or another instruction.
    pub(super) operand: bool,
    /// 67: 32-bit addresses.
    pub(super) address: bool,
    /// The last of F2 and F3.
    pub(super) repeat: Option<u8>,
    /// 64 or 65: FS or GS.
    pub(super) segment: Option<u8>,
    /// REX.W: 64-bit operands.
    pub(super) wide: bool,
    /// REX.R, X and B, as bit 3 of the register that each extends.
    pub(super) r: u8,
    pub(super) x: u8,
    pub(super) b: u8,
    /// There is a REX prefix: byte registers 4 to 7 are then spl to dil.
    pub(super) rex: bool,
}

impl Prefixes {
    /// Legacy prefixes and REX.
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Option<Prefixes> {
        let mut prefixes = Prefixes::default();
        loop {
            match bytes.peek()? {
                0x66 => prefixes.operand = true,
                0x67 => prefixes.address = true,
                byte @ (0xf2 | 0xf3) => prefixes.repeat = Some(byte),
                byte @ (0x64 | 0x65) => prefixes.segment = Some(byte),
                0x2e | 0x36 | 0x3e | 0x26 | 0xf0 => {}
                byte @ 0x40..=0x4f => {
                    bytes.next();
                    prefixes.extend(byte);
                    // REX counts only right before the opcode.
                    return Some(prefixes);
                }
                _ => return Some(prefixes),
            }
            bytes.next();
        }
    }

    fn extend(&mut self, rex: u8) {
        self.rex = true;
        self.wide = rex & 8 != 0;
        self.r = (rex & 4) << 1;
        self.x = (rex & 2) << 2;
        self.b = (rex & 1) << 3;
    }

    /// Bytes of an operand that is not a byte.
    pub(super) fn operand_size(&self) -> usize {
        match (self.wide, self.operand) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 4,
        }
    }

    /// Bytes of an immediate that is not a byte.
    pub(super) fn immediate_size(&self) -> usize {
        self.operand_size().min(4)
    }
}

/// A general register by its number in instructions.
pub(super) fn register(registers: &X86_64Registers, number: u8) -> u64 {
    let r = registers;
    [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15]
        [usize::from(number & 15)]
}

/// A ModRM byte with what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModRm {
    /// The reg field, without REX.R: often a part of the opcode.
    pub(super) reg: u8,
    /// What the rest says.
    pub(super) rm: Rm,
}

/// A register, or a place in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rm {
    /// A register's number.
    Register(u8),
    /// Memory.
    Memory {
        base: Option<u8>,
        /// Register and scale.
        index: Option<(u8, u8)>,
        displacement: i64,
        /// Relative to the next instruction.
        relative: bool,
    },
}

impl ModRm {
    /// Reads ModRM, SIB and displacement; one byte of displacement counts `scale` times (1, but for EVEX).
    pub(super) fn read(bytes: &mut Bytes<'_>, prefixes: &Prefixes, scale: i64) -> Option<ModRm> {
        let byte = bytes.next()?;
        let (mode, reg, rm) = (byte >> 6, (byte >> 3) & 7, byte & 7);
        if mode == 3 {
            return Some(ModRm { reg, rm: Rm::Register(rm | prefixes.b) });
        }
        let (mut base, mut index, mut relative) = (Some(rm | prefixes.b), None, false);
        if rm == 4 {
            let sib = bytes.next()?;
            let number = ((sib >> 3) & 7) | prefixes.x;
            index = (number != 4).then_some((number, sib >> 6));
            base = (sib & 7 != 5 || mode != 0).then_some((sib & 7) | prefixes.b);
        } else if rm == 5 && mode == 0 {
            (base, relative) = (None, true);
        }
        let displacement = match mode {
            1 => bytes.signed(1)? * scale,
            2 => bytes.signed(4)?,
            _ if base.is_none() => bytes.signed(4)?,
            _ => 0,
        };
        Some(ModRm { reg, rm: Rm::Memory { base, index, displacement, relative } })
    }

    /// The address of a memory operand; `next` is that of the next instruction. `None` for a register.
    pub(super) fn address(&self, prefixes: &Prefixes, registers: &X86_64Registers, next: u64) -> Option<u64> {
        let Rm::Memory { base, index, displacement, relative } = self.rm else { return None };
        let mut address = displacement as u64;
        if relative {
            address = address.wrapping_add(next);
        }
        if let Some(base) = base {
            address = address.wrapping_add(register(registers, base));
        }
        if let Some((index, scale)) = index {
            address = address.wrapping_add(register(registers, index) << scale);
        }
        if prefixes.address {
            address &= 0xffff_ffff;
        }
        Some(address.wrapping_add(match prefixes.segment {
            Some(0x64) => registers.fs_base,
            Some(_) => registers.gs_base,
            None => 0,
        }))
    }
}
