//! What a victim or a file may put before the unwinder: tables that lie, stacks that lead nowhere.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aftermach_protocol::exception::LinuxSignal;
use aftermach_protocol::platform::{Cpu, Os};

use super::{Limits, Sections, Stop, Trace, Trust, unwind};
use crate::snapshot::{
    Annotations, Arm64Registers, Death, Exception, Image, ImageFile, ImageId, ImageKind, Memory, Process, Protection,
    Region, Registers, Section, Snapshot, System, Thread, ThreadState, Times, X86_64Registers,
};

pub(super) const CODE: u64 = 0x40_0000;
pub(super) const EH_FRAME: u64 = 0x40_8000;
pub(super) const STACK: u64 = 0x7fff_0000;

/// A process of one thread and one image, in memory only: code at [`CODE`], `.eh_frame` at [`EH_FRAME`], stack at [`STACK`].
pub(super) fn snapshot(registers: Registers, eh_frame: &[u8], stack: &[u64]) -> Snapshot {
    let mut memory = Memory::default();
    // A call before every address that is a multiple of 16: e8 rel32 on x86-64.
    let code: Vec<u8> = (0..0x1000).map(|at| if at % 16 == 11 { 0xe8 } else { 0x90 }).collect();
    memory.insert(CODE, code);
    memory.insert(EH_FRAME, eh_frame.to_vec());
    memory.insert(STACK, stack.iter().flat_map(|word| word.to_le_bytes()).collect());
    let region = |start: u64, size: u64, execute: bool| Region {
        start,
        end: start + size,
        protection: Protection { read: true, write: !execute, execute },
        shared: false,
        tag: 0,
        offset: 0,
        path: None,
    };
    let cpu = match registers {
        Registers::X86_64(_) => Cpu::X86_64,
        Registers::Arm64(_) => Cpu::Arm64,
    };
    let signal = LinuxSignal { signal: 11, code: 1, address: Some(0), sender: None };
    let state = ThreadState {
        id: 1,
        name: String::new(),
        registers: Some(registers),
        priority: None,
        queue: None,
        first_chance: None,
    };
    let image = Image {
        path: PathBuf::from("/nonexistent/image"),
        kind: ImageKind::Executable,
        base: CODE,
        size: 0x1_0000,
        bias: 0,
        id: ImageId::None,
        version: None,
        file: ImageFile::Unreachable,
        sections: vec![Section { name: ".eh_frame".into(), address: EH_FRAME, size: eh_frame.len() as u64 }],
    };
    Snapshot {
        os: Os::Linux,
        cpu,
        system: System::default(),
        process: Process::default(),
        death: Death {
            pid: 1,
            thread: Some(1),
            exception: Exception::Linux(signal),
            signal: 11,
            time: SystemTime::UNIX_EPOCH,
            gathering: Duration::ZERO,
        },
        threads: vec![Thread { state, stack: None }],
        images: vec![image],
        shared_cache: None,
        regions: vec![region(CODE, 0x1_0000, true), region(STACK, 0x10_0000, false)],
        memory,
        annotations: Annotations::default(),
        gaps: Vec::new(),
        times: Times {
            died: SystemTime::UNIX_EPOCH,
            gathering: Duration::ZERO,
            copying: Duration::ZERO,
            held: Duration::ZERO,
        },
    }
}

fn x86_64(rip: u64, rsp: u64, rbp: u64) -> Registers {
    Registers::X86_64(Box::new(X86_64Registers { rip, rsp, rbp, ..X86_64Registers::default() }))
}

pub(super) fn walk(snapshot: &Snapshot) -> Trace {
    unwind(snapshot, &Sections::new(snapshot), &Limits::default()).remove(0)
}

/// `.eh_frame` with one CIE ("zR", absolute addresses, CFA = rsp + 8, return address at CFA - 8) and one FDE over all of
/// [`CODE`] with these instructions (LSB Core 5.0, 10.6.1).
fn eh_frame(instructions: &[u8]) -> Vec<u8> {
    // id 0, version 1, "zR", code 1, data -8, column 16, one augmentation byte: DW_EH_PE_absptr; def_cfa rsp+8; offset 16, 1.
    let mut cie = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0, 0x0c, 7, 8, 0x90, 1];
    cie.resize(20, 0);
    let mut section = (cie.len() as u32).to_le_bytes().to_vec();
    section.extend(&cie);
    let mut fde = ((section.len() + 4) as u32).to_le_bytes().to_vec();
    fde.extend(CODE.to_le_bytes());
    fde.extend(0x1000u64.to_le_bytes());
    fde.push(0);
    fde.extend(instructions);
    section.extend((fde.len() as u32).to_le_bytes());
    section.extend(&fde);
    section.extend([0; 4]);
    section
}

#[test]
fn an_expression_that_jumps_to_itself_ends() {
    // DW_CFA_def_cfa_expression { DW_OP_skip -3 }.
    let table = eh_frame(&[0x0f, 3, 0x2f, 0xfd, 0xff]);
    let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, 0), &table, &[0; 64]));
    assert_eq!(trace.frames.len(), 1);
    assert_ne!(trace.stop, Stop::Root);
}

#[test]
fn an_expression_reads_memory_and_registers() {
    // CFA = *(rbp - 8): DW_CFA_def_cfa_expression { DW_OP_breg6 -8; DW_OP_deref }, as GCC writes it for an aligned stack.
    let table = eh_frame(&[0x0f, 3, 0x76, 0x78, 0x06]);
    let stack = [STACK + 0x40, 0, 0, 0, 0, 0, 0, CODE + 0x100, 0, 0];
    let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, STACK + 8), &table, &stack));
    assert_eq!(trace.frames[1].address, CODE + 0x100);
    assert_eq!((trace.frames[1].sp, trace.frames[1].trust), (STACK + 0x40, Trust::UnwindInfo));
}

#[test]
fn a_table_that_refers_to_itself_ends() {
    let mut table = eh_frame(&[]);
    // The FDE's pointer to its CIE leads to the FDE itself.
    table[28..32].copy_from_slice(&4u32.to_le_bytes());
    let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, 0), &table, &[0; 64]));
    assert_eq!(trace.frames.len(), 1);
}

#[test]
fn no_change_of_a_byte_makes_the_walk_panic_or_hang() {
    // remember, offset rbp, advance, def_cfa rbp, expression, restore: each kind of instruction once.
    let table = eh_frame(&[0x0a, 0x86, 2, 0x41, 0x0d, 6, 0x10, 3, 2, 0x70, 8, 0x0b, 0x0e, 16]);
    let stack: Vec<u64> =
        (0..64).map(|index| if index % 3 == 1 { CODE + 0x20 * index } else { STACK + 8 * index }).collect();
    for position in 0..table.len() {
        for value in [0, 1, 0x0f, 0x10, 0x16, 0x7f, 0x80, 0xc0, 0xff] {
            let mut table = table.clone();
            table[position] = value;
            let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, STACK + 0x10), &table, &stack));
            assert!(!trace.frames.is_empty() && trace.frames.len() <= 64);
        }
    }
    for length in 0..table.len() {
        walk(&snapshot(x86_64(CODE + 0x20, STACK, STACK + 0x10), &table[..length], &stack));
    }
}

#[test]
fn a_frame_pointer_that_points_to_itself_ends() {
    let stack = [STACK, CODE + 0x20, STACK, CODE + 0x20];
    let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, STACK), &[], &stack));
    assert!(trace.frames.len() < 8, "{trace:?}");
    assert_ne!(trace.stop, Stop::Root);
}

#[test]
fn a_stack_pointer_at_either_end_of_the_address_space_ends() {
    for sp in [0, 1, 7, 8, u64::MAX, u64::MAX - 7, u64::MAX - 8, 1 << 63] {
        for fp in [0, sp, u64::MAX] {
            let trace = walk(&snapshot(x86_64(CODE + 0x20, sp, fp), &eh_frame(&[]), &[0; 8]));
            assert_eq!(trace.frames.len(), 1);
        }
    }
}

#[test]
fn a_hundred_thousand_frames_are_walked_and_folded() {
    let stack = vec![CODE + 0x20; 100_000];
    let trace = walk(&snapshot(x86_64(CODE + 0x20, STACK, 0), &eh_frame(&[]), &stack));
    assert_eq!(trace.stop, Stop::StackUnreadable(STACK + 800_000));
    assert_eq!((trace.frames.len(), trace.folds.len()), (2, 1));
    assert_eq!(trace.folds[0].omitted, 99_999);
}

#[test]
fn the_limit_on_frames_bounds_a_stack_that_never_repeats() {
    let stack: Vec<u64> = (0..10_000u64).map(|index| CODE + 16 * (index * index % 251)).collect();
    let limits = Limits { frames: 100, ..Limits::default() };
    let snapshot = snapshot(x86_64(CODE + 0x20, STACK, 0), &eh_frame(&[]), &stack);
    let trace = unwind(&snapshot, &Sections::new(&snapshot), &limits).remove(0);
    assert_eq!((trace.frames.len(), trace.stop), (100, Stop::FrameLimit));
}

#[test]
fn images_that_overlap_are_both_found() {
    let mut snapshot = snapshot(x86_64(CODE + 0x20, STACK, 0), &eh_frame(&[]), &[CODE + 0x100, 0]);
    let inner = Image { base: CODE + 0x80, size: 0x100, ..snapshot.images[0].clone() };
    snapshot.images.push(inner);
    let trace = walk(&snapshot);
    assert_eq!(trace.frames[..2].iter().map(|frame| frame.image).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

fn arm64(pc: u64, lr: u64, sp: u64, fp: u64) -> Registers {
    Registers::Arm64(Box::new(Arm64Registers { pc, lr, sp, fp, ..Arm64Registers::default() }))
}

#[test]
fn an_arm64_frame_whose_saved_frame_pointer_is_null_is_there_still() {
    // The chain: frame record at STACK + 16 leads to one whose saved pointer is 0 and whose return address is not.
    let stack = [0, 0, STACK + 32, CODE + 0x100, 0, CODE + 0x200, 0, 0];
    let mut snapshot = snapshot(arm64(CODE + 0x20, CODE + 0x300, STACK, STACK + 16), &[], &stack);
    // bl, all over.
    snapshot.memory = Memory::default();
    snapshot.memory.insert(CODE, [0, 0, 0, 0x94].repeat(0x400));
    snapshot.memory.insert(STACK, stack.iter().flat_map(|word| word.to_le_bytes()).collect());
    let trace = walk(&snapshot);
    let addresses: Vec<u64> = trace.frames.iter().map(|frame| frame.address).collect();
    assert_eq!(addresses, [CODE + 0x20, CODE + 0x100, CODE + 0x200]);
    assert_eq!(trace.stop, Stop::Root);
}

#[test]
fn an_arm64_call_through_a_bad_pointer_shows_its_caller_without_pointer_authentication() {
    let mut snapshot = snapshot(arm64(0x1234, (CODE + 0x104) | (0x55 << 56), STACK, 0), &[], &[0; 4]);
    snapshot.system.pointer_mask = Some((1 << 47) - 1);
    snapshot.memory = Memory::default();
    // blr x8.
    snapshot.memory.insert(CODE, 0xd63f_0100u32.to_le_bytes().repeat(0x400));
    let trace = walk(&snapshot);
    assert_eq!((trace.frames[1].address, trace.frames[1].trust), (CODE + 0x104, Trust::BadCall));
    assert_eq!(trace.frames[1].raw, (CODE + 0x104) | (0x55 << 56));
}

#[test]
fn an_arm64_signal_trampoline_leads_to_what_was_interrupted() {
    // struct rt_sigframe at STACK: siginfo (128), ucontext whose mcontext is 176 bytes in (kernel's asm/ucontext.h).
    let mut stack = vec![0u64; 128];
    let context = (128 + 176) / 8;
    stack[context + 1 + 29] = STACK + 0x300;
    stack[context + 1 + 30] = CODE + 0x104;
    stack[context + 1 + 31] = STACK + 0x380;
    stack[context + 1 + 32] = CODE + 0x40;
    let mut snapshot = snapshot(arm64(CODE + 0x800, 0, STACK, 0), &[], &stack);
    snapshot.memory = Memory::default();
    // mov x8, #139; svc #0.
    snapshot.memory.insert(CODE + 0x800, vec![0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0]);
    snapshot.memory.insert(STACK, stack.iter().flat_map(|word| word.to_le_bytes()).collect());
    let trace = walk(&snapshot);
    assert!(!trace.frames[0].is_return_address);
    let interrupted = trace.frames[1];
    assert_eq!(
        (interrupted.address, interrupted.sp, interrupted.trust),
        (CODE + 0x40, STACK + 0x380, Trust::SignalContext)
    );
}
