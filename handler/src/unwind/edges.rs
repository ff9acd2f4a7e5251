//! Frames at the edges of what calls and returns make: a function's first instruction, signal trampolines, stub helpers.

use std::path::PathBuf;

use aftermach_protocol::platform::{Cpu, Os};

use super::first_frame::in_stub_helper;
use super::hostile::{CODE, EH_FRAME, STACK, snapshot, walk};
use super::{Stop, Trust};
use crate::snapshot::{Arm64Registers, Registers, Section, X86_64Registers};

/// An entry as long as its first word says (LSB Core 5.0, 10.6.1).
fn entry(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// `.eh_frame` of one CIE ("zR", absolute addresses) with these last fields: return address column, augmentation, instructions;
/// and one FDE over all of [`CODE`] with `instructions`.
fn eh_frame(cie: &[u8], instructions: &[u8]) -> Vec<u8> {
    marked_eh_frame(b"zR", cie, instructions)
}

/// The same with another augmentation.
fn marked_eh_frame(marks: &[u8], cie: &[u8], instructions: &[u8]) -> Vec<u8> {
    let cie = entry(&[&[0, 0, 0, 0, 1], marks, &[0, 1, 0x78], cie].concat());
    let back = (cie.len() as u32 + 4).to_le_bytes();
    let fde = entry(&[&back[..], &CODE.to_le_bytes(), &0x1000u64.to_le_bytes(), &[0], instructions].concat());
    [cie, fde].concat()
}

#[test]
fn a_first_instruction_whose_return_address_it_is_has_a_caller() {
    // The function before ends in a call that never returns.
    let pc = CODE + 0x20;
    let registers = Arm64Registers { pc, lr: pc, sp: STACK, ..Arm64Registers::default() };
    // Column 30; def_cfa sp+0.
    let tables = eh_frame(&[30, 1, 0, 0x0c, 31, 0], &[]);
    let trace = walk(&snapshot(Registers::Arm64(Box::new(registers)), &tables, &[0, 0]));
    let found: Vec<(u64, Trust)> = trace.frames.iter().map(|frame| (frame.address, frame.trust)).collect();
    let called = [(pc, Trust::Context), (pc, Trust::UnwindInfo)];
    assert_eq!((&found[..], trace.stop), (&called[..], Stop::Root));
}

#[test]
fn a_function_that_signs_with_the_second_key_is_walked_by_its_tables() {
    let pc = CODE + 0x24;
    let signed = 0x0035_0000_0000_0000 | (CODE + 0x40);
    let registers = Arm64Registers { pc, sp: STACK, fp: 0x1234, ..Arm64Registers::default() };
    for marks in [&b"zRB"[..], b"zRGB"] {
        // Column 30; def_cfa sp+0. Then def_cfa_offset 16; x30 at CFA - 8; x29 at CFA - 16; DW_CFA_AARCH64_negate_ra_state.
        let tables = marked_eh_frame(marks, &[30, 1, 0, 0x0c, 31, 0], &[0x0e, 16, 0x9e, 1, 0x9d, 2, 0x2d]);
        let trace = walk(&snapshot(Registers::Arm64(Box::new(registers.clone())), &tables, &[0, signed]));
        assert_eq!((trace.frames[1].address, trace.frames[1].trust), (CODE + 0x40, Trust::UnwindInfo));
    }
}

/// A trampoline whose tables say where the context is, but neither that it is a signal's frame nor that the register is set
/// only by its fourth instruction.
#[test]
fn darwins_trampoline_leads_to_what_was_interrupted_before_its_register_is_set() {
    // DW_CFA_def_cfa_expression and DW_CFA_expression 16: DW_OP_breg3 48, DW_OP_deref, DW_OP_plus_uconst, as _sigtramp's.
    let instructions = [0x0f, 6, 0x73, 48, 0x06, 0x23, 72, 0x06, 0x10, 16, 6, 0x73, 48, 0x06, 0x23, 0x90, 0x01];
    let tables = eh_frame(&[16, 1, 0, 0x0c, 7, 8, 0x90, 1], &instructions);
    let mut stack = vec![0; 150];
    // A return address left by an earlier call, where a function would have its own.
    stack[0] = CODE + 0x50;
    // siginfo_t, 104 bytes; struct ucontext64: uc_mcsize at 40, uc_mcontext64 at 48; then the machine context, whose thread
    // state begins after 16 bytes.
    let (context, machine) = (1 + 13, 1 + 13 + 7);
    stack[context + 5] = 708;
    stack[context + 6] = STACK + machine as u64 * 8;
    let state = machine + 2;
    stack[state + 6] = STACK + 8 * 140;
    stack[state + 7] = STACK + 8 * 130;
    stack[state + 16] = CODE + 0x100;
    stack[140] = 0;
    stack[141] = 0;

    let registers = X86_64Registers { rip: CODE + 0x20, rsp: STACK, rbx: 0x1234, ..X86_64Registers::default() };
    let mut snapshot = snapshot(Registers::X86_64(Box::new(registers)), &tables, &stack);
    snapshot.os = Os::MacOs;
    snapshot.images[0].path = PathBuf::from("/usr/lib/system/libsystem_platform.dylib");
    snapshot.images[0].sections =
        vec![Section { name: "__TEXT,__eh_frame".into(), address: EH_FRAME, size: tables.len() as u64 }];
    let trace = walk(&snapshot);
    let interrupted = trace.frames[1];
    assert_eq!((interrupted.address, interrupted.trust), (CODE + 0x100, Trust::SignalContext));
    assert_eq!((interrupted.sp, interrupted.is_return_address), (STACK + 8 * 130, false));
}

#[test]
fn a_stub_helper_knows_its_caller_at_each_of_its_instructions() {
    let registers = |sp: u64| X86_64Registers { rsp: sp, ..X86_64Registers::default() };
    // As ld64 and LLD make them: lea r11; push r11; jmp; nop, and one helper: push 0x10; jmp 0.
    let code = [
        0x4c, 0x8d, 0x1d, 0x6d, 0x28, 0, 0, 0x41, 0x53, 0xff, 0x25, 0x3d, 0x18, 0, 0, 0x90, 0x68, 0x10, 0, 0, 0, 0xe9,
        0xe6, 0xff, 0xff, 0xff,
    ];
    let stack = [0, 0, CODE + 0x40, 0];
    for (at, pushed) in [(16, 0), (21, 8), (0, 8), (7, 8), (9, 16)] {
        let known = in_stub_helper(Cpu::X86_64, &code, CODE, CODE + at).unwrap();
        let registers = Registers::X86_64(Box::new(registers(STACK + 16 - pushed)));
        assert_eq!(known.caller_of(&snapshot(registers, &[], &stack)), Some((CODE + 0x40, STACK + 24)), "{at}");
    }
    // adrp x17; add x17; stp x16, x17, [sp, #-16]!; adrp x16; ldr x16; br x16, and one helper: ldr w16, l; b 0; l: 0x10.
    let code = [
        0x9000_0051u32,
        0x9100_a231,
        0xa9bf_47f0,
        0x9000_0030,
        0xf940_0210,
        0xd61f_0200,
        0x1800_0050,
        0x17ff_fff9,
        0x10,
    ];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (at, pushed) in [(24, 0), (28, 0), (0, 0), (4, 0), (8, 0), (12, 16), (16, 16), (20, 16)] {
        let known = in_stub_helper(Cpu::Arm64, &code, CODE, CODE + at).unwrap();
        let registers = Arm64Registers { sp: STACK + 16 - pushed, lr: CODE + 0x40, ..Arm64Registers::default() };
        let registers = Registers::Arm64(Box::new(registers));
        assert_eq!(known.caller_of(&snapshot(registers, &[], &stack)), Some((CODE + 0x40, STACK + 16)), "{at}");
    }
}
