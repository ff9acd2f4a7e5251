//! Where paths meet, what both know is known, and nothing else.

use super::flow::{Flow, Instructions, State, Value};
use super::{NoResult, arm64, x86_64};

fn states<C: Instructions>(code: &C, at: &[u64]) -> Vec<State> {
    let mut flow = Flow::new(code, 0);
    flow.has_landing_pads = true;
    flow.follow().unwrap();
    at.iter().map(|address| flow.known_at(*address).unwrap()).collect()
}

/// The jump is reached after the run that it jumps into.
const X86_64: [u8; 16] = [
    0x85, 0xff, //                      0: test edi, edi
    0x74, 0x03, //                      2: je 7
    0x50, //                            4: push rax
    0xeb, 0x06, //                      5: jmp d
    0x53, //                            7: push rbx
    0xbb, 0x01, 0x00, 0x00, 0x00, //    8: mov ebx, 1
    0x90, //                            d: nop
    0x0f, 0x0b, //                      e: ud2
];

const ARM64: [u32; 7] = [
    0x3400_0060, //  0: cbz w0, c
    0xf81f_0ff4, //  4: str x20, [sp, #-16]!
    0x1400_0003, //  8: b 14
    0xf81f_0ff3, //  c: str x19, [sp, #-16]!
    0xd280_0033, // 10: mov x19, #1
    0xd503_201f, // 14: nop
    0xd420_0000, // 18: brk #0
];

#[test]
fn a_jump_into_a_straight_run_knows_only_what_the_run_knows_too_on_x86_64() {
    const RBX: u16 = 3;
    let states = states(&x86_64::Code::new(&X86_64, 0), &[0x8, 0xd, 0xe, 0x5]);
    let saved = |state: &State| state.slot(Value::Cfa(-16));
    assert_eq!((saved(&states[0]), states[0].get(RBX)), (Value::Entry(3), Value::Entry(3)));
    for state in &states[1..3] {
        assert_eq!((state.get(7), state.get(RBX), saved(state)), (Value::Cfa(-16), Value::Unknown, Value::Unknown));
        assert_eq!(state.get(12), Value::Entry(12));
    }
    assert_eq!((saved(&states[3]), states[3].get(RBX)), (Value::Entry(0), Value::Entry(3)));
}

#[test]
fn a_jump_into_a_straight_run_knows_only_what_the_run_knows_too_on_arm64() {
    let bytes: Vec<u8> = ARM64.iter().flat_map(|word| word.to_le_bytes()).collect();
    let states = states(&arm64::Code::new(&bytes, 0), &[0x10, 0x14, 0x18, 0x8]);
    let saved = |state: &State| state.slot(Value::Cfa(-16));
    assert_eq!((saved(&states[0]), states[0].get(19)), (Value::Entry(19), Value::Entry(19)));
    for state in &states[1..3] {
        assert_eq!((state.get(31), state.get(19), saved(state)), (Value::Cfa(-16), Value::Unknown, Value::Unknown));
        assert_eq!(state.get(21), Value::Entry(21));
    }
    assert_eq!((saved(&states[3]), states[3].get(19)), (Value::Entry(20), Value::Entry(19)));
}

#[test]
fn paths_that_meet_with_unlike_stacks_have_no_stack_pointer() {
    let mut code = X86_64;
    // pop rbx in the place of push rbx.
    code[7] = 0x5b;
    let states = states(&x86_64::Code::new(&code, 0), &[0x8, 0xd]);
    assert_eq!(states.iter().map(|state| state.get(7)).collect::<Vec<_>>(), [Value::Cfa(0), Value::Unknown]);
}

#[test]
fn jumps_that_split_a_long_run_over_and_over_are_given_up() {
    const RUN: usize = 100_000;
    // Nops, and conditional jumps among them, the last ones first: each has to look at nearly all of the run again.
    let mut code = vec![0x90; RUN];
    for index in 1..1000 {
        code.extend([0x0f, 0x84]);
        let (next, target) = (code.len() as i32 + 4, RUN as i32 - 5 * index);
        code.extend((target - next).to_le_bytes());
    }
    let code = x86_64::Code::new(&code, 0);
    assert!(matches!(Flow::new(&code, 0).follow(), Err(NoResult::TooLarge)));
}

/// A function with a landing pad of its own, as clang lays it out: what catches ends in a tail call.
const LANDING_PAD: [u8; 31] = [
    0x55, //                          0: push rbp
    0x48, 0x89, 0xe5, //              1: mov rbp, rsp
    0x53, //                          4: push rbx
    0x50, //                          5: push rax
    0xe8, 0x55, 0x00, 0x00, 0x00, //  6: call 60
    0x48, 0x83, 0xc4, 0x08, //        b: add rsp, 8
    0x5b, //                          f: pop rbx
    0x5d, //                         10: pop rbp
    0xc3, //                         11: ret
    0x48, 0x89, 0xc7, //             12: mov rdi, rax
    0x48, 0x83, 0xc4, 0x08, //       15: add rsp, 8
    0x5b, //                         19: pop rbx
    0x5d, //                         1a: pop rbp
    0xeb, 0x30, //                   1b: jmp 4d
    0x0f, 0x0b, //                   1d: ud2
];

#[test]
fn a_landing_pad_starts_with_the_frame_of_the_calls_that_it_is_for() {
    let states = states(&x86_64::Code::new(&LANDING_PAD, 0), &[0x12, 0x1a, 0x1b]);
    assert_eq!((states[0].get(7), states[0].get(6)), (Value::Cfa(-32), Value::Cfa(-16)));
    assert_eq!((states[1].get(7), states[1].get(3)), (Value::Cfa(-16), Value::Entry(3)));
    assert_eq!((states[2].get(7), states[2].get(6)), (Value::Cfa(-8), Value::Entry(6)));
}
