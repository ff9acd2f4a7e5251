//! Registers from the flavours of `thread_get_state` (`osfmk/mach/i386/_structs.h`, `osfmk/mach/arm/_structs.h`).

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::State;
use aftermach_protocol::platform::Cpu;

use super::words::Words;
use crate::snapshot::{Arm64Registers, Registers, X86_64Registers};

/// A flavour of thread state: its number and how many words it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor {
    /// `thread_state_flavor_t`.
    pub number: u32,
    /// Words of 32 bits.
    pub words: usize,
}

/// `x86_THREAD_STATE64`.
pub const X86_THREAD: Flavor = Flavor { number: 4, words: 42 };
/// `x86_FLOAT_STATE64`.
pub const X86_FLOAT: Flavor = Flavor { number: 5, words: 131 };
/// `x86_EXCEPTION_STATE64`.
pub const X86_EXCEPTION: Flavor = Flavor { number: 6, words: 4 };
/// `ARM_THREAD_STATE64`.
pub const ARM_THREAD: Flavor = Flavor { number: 6, words: 68 };
/// `ARM_EXCEPTION_STATE64`.
pub const ARM_EXCEPTION: Flavor = Flavor { number: 7, words: 4 };
/// `ARM_NEON_STATE64`.
pub const ARM_NEON: Flavor = Flavor { number: 17, words: 132 };

/// Bits of a user address on arm64 macOS: `MACH_VM_MAX_ADDRESS` is 0x7FFFFE000000, so 47 bits are address and those above
/// may bear a pointer authentication code (`osfmk/mach/arm/vm_param.h`).
pub const ARM64_POINTER_MASK: u64 = (1 << 47) - 1;

/// The flavours that could not be read, and why.
pub(super) type Missing = Vec<(&'static str, KernReturn)>;

/// Reads all flavours of a thread by `get`, which fills in a flavour's words. The general registers are needed: without
/// them it fails. One of the others that fails is only missing, and named in the second part of the answer.
pub(super) fn read(
    cpu: Cpu,
    mut get: impl FnMut(Flavor) -> Result<Vec<u32>, KernReturn>,
) -> Result<(Registers, Missing), KernReturn> {
    let mut missing = Vec::new();
    let registers = match cpu {
        Cpu::X86_64 => {
            let mut registers = x86_64(&get(X86_THREAD)?).ok_or(TOO_SHORT)?;
            registers.fxsave = part(&mut missing, "float state", get(X86_FLOAT), fxsave);
            registers.fault = part(&mut missing, "exception state", get(X86_EXCEPTION), x86_64_fault);
            Registers::X86_64(Box::new(registers))
        }
        Cpu::Arm64 => {
            let mut registers = arm64(&get(ARM_THREAD)?).ok_or(TOO_SHORT)?;
            registers.float = part(&mut missing, "vector state", get(ARM_NEON), neon);
            registers.fault = part(&mut missing, "exception state", get(ARM_EXCEPTION), arm64_fault);
            Registers::Arm64(Box::new(registers))
        }
    };
    Ok((registers, missing))
}

/// Only the general registers, for a first chance: the thread waits for us.
pub(super) fn read_general(
    cpu: Cpu,
    get: impl FnOnce(Flavor) -> Result<Vec<u32>, KernReturn>,
) -> Result<Registers, KernReturn> {
    match cpu {
        Cpu::X86_64 => x86_64(&get(X86_THREAD)?).map(|registers| Registers::X86_64(Box::new(registers))),
        Cpu::Arm64 => arm64(&get(ARM_THREAD)?).map(|registers| Registers::Arm64(Box::new(registers))),
    }
    .ok_or(TOO_SHORT)
}

/// The general registers in an exception message: the flavour itself, or the unified one, which puts flavour and count
/// before it (`x86_THREAD_STATE` 7, `ARM_THREAD_STATE` 1).
pub(super) fn of_message(cpu: Cpu, state: &State) -> Option<Registers> {
    let (plain, unified) = match cpu {
        Cpu::X86_64 => (X86_THREAD, 7),
        Cpu::Arm64 => (ARM_THREAD, 1),
    };
    let words = match (u32::try_from(state.flavor).ok()?, &state.words[..]) {
        (flavor, words) if flavor == plain.number => words,
        (flavor, [inner, _count, words @ ..]) if flavor == unified && *inner == plain.number => words,
        _ => return None,
    };
    read_general(cpu, |_| Ok(words.to_vec())).ok()
}

/// The kernel gave fewer words than the flavour has: MIG would call it that.
const TOO_SHORT: KernReturn = KernReturn::MIG_TYPE_ERROR;

fn part<T>(
    missing: &mut Missing,
    name: &'static str,
    words: Result<Vec<u32>, KernReturn>,
    decode: impl FnOnce(&[u32]) -> Option<T>,
) -> Option<T> {
    match words.and_then(|words| decode(&words).ok_or(TOO_SHORT)) {
        Ok(value) => Some(value),
        Err(code) => {
            missing.push((name, code));
            None
        }
    }
}

fn x86_64(words: &[u32]) -> Option<X86_64Registers> {
    let words = Words(words);
    Some(X86_64Registers {
        rax: words.u64(0)?,
        rbx: words.u64(8)?,
        rcx: words.u64(16)?,
        rdx: words.u64(24)?,
        rdi: words.u64(32)?,
        rsi: words.u64(40)?,
        rbp: words.u64(48)?,
        rsp: words.u64(56)?,
        r8: words.u64(64)?,
        r9: words.u64(72)?,
        r10: words.u64(80)?,
        r11: words.u64(88)?,
        r12: words.u64(96)?,
        r13: words.u64(104)?,
        r14: words.u64(112)?,
        r15: words.u64(120)?,
        rip: words.u64(128)?,
        rflags: words.u64(136)?,
        cs: words.u64(144)? as u16,
        fs: words.u64(152)? as u16,
        gs: words.u64(160)? as u16,
        ..X86_64Registers::default()
    })
}

/// The first eight bytes are reserved; what follows is the processor's FXSAVE image.
fn fxsave(words: &[u32]) -> Option<Box<[u8; 512]>> {
    Words(words).bytes(8, 8 + 512).into_boxed_slice().try_into().ok()
}

fn x86_64_fault(words: &[u32]) -> Option<(u16, u32, u64)> {
    let words = Words(words);
    Some((words.u16(0)?, words.u32(4)?, words.u64(8)?))
}

fn arm64(words: &[u32]) -> Option<Arm64Registers> {
    let words = Words(words);
    let mut registers = Arm64Registers::default();
    for (index, register) in registers.x.iter_mut().enumerate() {
        *register = words.u64(8 * index)?;
    }
    registers.fp = words.u64(232)?;
    registers.lr = words.u64(240)?;
    registers.sp = words.u64(248)?;
    registers.pc = words.u64(256)?;
    registers.cpsr = words.u32(264)?;
    Some(registers)
}

fn neon(words: &[u32]) -> Option<Box<([u128; 32], u32, u32)>> {
    let words = Words(words);
    let mut vectors = [0; 32];
    for (index, vector) in vectors.iter_mut().enumerate() {
        *vector = u128::from(words.u64(16 * index)?) | u128::from(words.u64(16 * index + 8)?) << 64;
    }
    Some(Box::new((vectors, words.u32(512)?, words.u32(516)?)))
}

fn arm64_fault(words: &[u32]) -> Option<(u64, u32)> {
    let words = Words(words);
    Some((words.u64(0)?, words.u32(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word holds its own byte offset, so a field shows where it was read.
    fn ruler(words: usize) -> Vec<u32> {
        (0..words as u32).map(|index| index * 4).collect()
    }

    fn at(offset: u64) -> u64 {
        (offset + 4) << 32 | offset
    }

    #[test]
    fn x86_64_registers_are_where_structs_h_puts_them() {
        let (registers, missing) = read(Cpu::X86_64, |flavor| Ok(ruler(flavor.words))).unwrap();
        assert!(missing.is_empty());
        let Registers::X86_64(registers) = registers else { panic!("{registers:?}") };
        assert_eq!((registers.rax, registers.rdx), (at(0), at(24)));
        // Not in the order of their numbers.
        assert_eq!((registers.rdi, registers.rsi, registers.rbp, registers.rsp), (at(32), at(40), at(48), at(56)));
        assert_eq!((registers.r15, registers.rip, registers.rflags), (at(120), at(128), at(136)));
        assert_eq!((registers.cs, registers.fs, registers.gs), (144, 152, 160));
        let fxsave = registers.fxsave.unwrap();
        assert_eq!(fxsave[..4], [8, 0, 0, 0]);
        // MXCSR: byte 32 of the state, byte 24 of the image.
        assert_eq!(fxsave[24..28], [32, 0, 0, 0]);
        assert_eq!(registers.fault, Some((0, 4, at(8))));
    }

    #[test]
    fn arm64_registers_are_where_structs_h_puts_them() {
        let (registers, missing) = read(Cpu::Arm64, |flavor| Ok(ruler(flavor.words))).unwrap();
        assert!(missing.is_empty());
        let Registers::Arm64(registers) = registers else { panic!("{registers:?}") };
        assert_eq!((registers.x[0], registers.x[28]), (at(0), at(224)));
        assert_eq!((registers.fp, registers.lr, registers.sp), (at(232), at(240), at(248)));
        assert_eq!((registers.pc, registers.cpsr), (at(256), 264));
        let (vectors, fpsr, fpcr) = *registers.float.unwrap();
        assert_eq!(vectors[31], u128::from(at(496)) | u128::from(at(504)) << 64);
        assert_eq!((fpsr, fpcr), (512, 516));
        assert_eq!(registers.fault, Some((at(0), 8)));
    }

    #[test]
    fn a_message_gives_registers_in_the_plain_and_the_unified_flavour() {
        let state = |flavor, words| State { flavor, words };
        let unified = |inner, words| [vec![inner, 68], ruler(words)].concat();
        let pc = |cpu, state: &State| of_message(cpu, state).map(|registers| registers.pc());
        assert_eq!(pc(Cpu::Arm64, &state(6, ruler(68))), Some(at(256)));
        assert_eq!(pc(Cpu::Arm64, &state(1, unified(6, 68))), Some(at(256)));
        assert_eq!(pc(Cpu::X86_64, &state(4, ruler(42))), Some(at(128)));
        assert_eq!(pc(Cpu::X86_64, &state(7, unified(4, 42))), Some(at(128)));
        for wrong in [state(17, ruler(132)), state(6, ruler(10)), state(1, unified(5, 68)), state(-1, ruler(68))] {
            assert_eq!(pc(Cpu::Arm64, &wrong), None);
        }
    }

    #[test]
    fn a_flavour_that_fails_costs_only_itself() {
        let get = |flavor: Flavor| match flavor {
            ARM_NEON => Err(KernReturn(4)),
            ARM_EXCEPTION => Ok(vec![1]),
            flavor => Ok(ruler(flavor.words)),
        };
        let (registers, missing) = read(Cpu::Arm64, get).unwrap();
        assert_eq!(registers.pc(), at(256));
        assert_eq!(missing, [("vector state", KernReturn(4)), ("exception state", KernReturn(-300))]);
    }

    #[test]
    fn without_general_registers_there_are_none() {
        for cpu in [Cpu::X86_64, Cpu::Arm64] {
            assert_eq!(read(cpu, |_| Err(KernReturn(37))).unwrap_err(), KernReturn(37));
            assert_eq!(read(cpu, |_| Ok(ruler(20))).unwrap_err(), KernReturn(-300));
            assert_eq!(read_general(cpu, |_| Ok(Vec::new())).unwrap_err(), KernReturn(-300));
        }
    }
}
