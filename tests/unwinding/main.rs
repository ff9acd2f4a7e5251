//! Stacks of real victims, compared with what their source says.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by unwrapping it"
)]

mod harness;
mod torture;

use std::path::Path;

use aftermach_handler::snapshot::{ImageFile, Memory, Snapshot};
use aftermach_handler::symbols::{self, Symbol, Symbolizer};
use aftermach_handler::unwind::{Limits, Sections, Stop, Trace, Trust, unwind};
use harness::{build, crash, crash_deleted, whole};

/// One thread's stack with names.
struct Stack {
    trace: Trace,
    names: Vec<Vec<Symbol>>,
}

impl Stack {
    /// The name of each frame's function, the one that others were inlined into.
    fn functions(&self) -> Vec<&str> {
        self.names.iter().map(|symbols| function(symbols).unwrap_or("?")).collect()
    }

    fn trusts(&self) -> Vec<Trust> {
        self.trace.frames.iter().map(|frame| frame.trust).collect()
    }

    /// That the functions of `expected` stand on the stack in this order, right after each other, and that the walk
    /// reached the stack's end.
    #[track_caller]
    fn assert_chain(&self, expected: &[&str]) {
        let functions = self.functions();
        let stands = functions.windows(expected.len()).any(|window| window == expected);
        assert!(stands, "{expected:?} is not in {functions:?}, {:?}, {:?}", self.trusts(), self.trace.stop);
        assert_eq!(self.trace.stop, Stop::Root, "{functions:?}");
    }
}

/// The name of the function that is not inlined; GCC calls the part of it that it moved out of the way "name.cold".
fn function(symbols: &[Symbol]) -> Option<&str> {
    symbols.last()?.function.as_deref()?.split('.').next()
}

fn stacks(snapshot: &Snapshot) -> Vec<Stack> {
    let sections = Sections::new(snapshot);
    let traces = unwind(snapshot, &sections, &Limits::default());
    // The system's own debug information, where there is any, is large and says nothing that is asked here.
    let limits = symbols::Limits { debug_information: 64 << 10, ..symbols::Limits::default() };
    let names = Symbolizer::new(snapshot, &sections, limits).names(&traces);
    let stack = |trace: Trace| {
        let names = trace.frames.iter().map(|frame| names.of(frame).to_vec()).collect();
        Stack { trace, names }
    };
    traces.into_iter().map(stack).collect()
}

/// The main thread's stack of the victim after `way`.
fn stack(program: &Path, way: &str) -> Option<Stack> {
    Some(stacks(&crash(program, way, whole())?).remove(0))
}

const CHAIN: [&str; 4] = ["inner", "middle", "outer", "main"];

/// The ways a compiler may lay out frames.
const BUILDS: [(&str, &[&str]); 6] = [
    ("O0", &["-O0"]),
    ("O2", &["-O2"]),
    ("O2-fp", &["-O2", "-fno-omit-frame-pointer"]),
    ("static", &["-O1", "-static"]),
    ("static-pie", &["-O2", "-static-pie"]),
    ("fp-only", &["-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]),
];

#[test]
fn every_death_shows_the_chain_of_its_callers_in_every_build() {
    for (name, flags) in BUILDS {
        let Some(program) = build(name, "victim.c", flags) else { continue };
        for way in
            ["null-write", "call-null", "call-data", "call-noncanonical", "wild-jump", "abort", "callback", "aligned"]
        {
            let Some(stack) = stack(&program, way) else { return };
            println!("{name} {way}: {:?} {:?}", stack.functions(), stack.trusts());
            match (way, name) {
                ("null-write", _) => stack.assert_chain(&["die_reading", "inner", "middle", "outer", "main"]),
                // No call: nothing on the stack tells that a jump was made.
                ("wild-jump", "fp-only" | "O2-fp" | "O0") => stack.assert_chain(&CHAIN[1..]),
                ("wild-jump", _) => {}
                ("aligned", _) => stack.assert_chain(&["die_reading", "aligned", "inner", "middle", "outer", "main"]),
                _ => stack.assert_chain(&CHAIN),
            }
            // A call to a non-canonical address faults at the call itself (Intel SDM 2, CALL).
            let call = matches!(way, "call-null" | "call-data");
            assert_eq!(call, stack.trusts().get(1) == Some(&Trust::BadCall), "{name} {way}: {:?}", stack.trusts());
        }
        std::fs::remove_file(program).unwrap();
    }
}

#[test]
fn a_stack_with_signal_handlers_shows_handler_trampoline_and_what_was_interrupted() {
    for (name, flags) in [("signals-O2", &["-O2"][..]), ("signals-static", &["-O1", "-static"])] {
        let Some(program) = build(name, "victim.c", flags) else { return };
        let Some(fault) = stack(&program, "handler-fault") else { return };
        println!("{:?}", fault.functions());
        // The handler faults in itself over and over, since it asked for that, until the stack overflows: each time takes
        // three frames and some 1,000 bytes of the 8 MiB.
        let fold = fault.trace.folds[0];
        assert!(fold.length == 3 && fold.omitted > 1000, "{fold:?} {:?}", fault.trusts());
        fault.assert_chain(&["die_reading", "inner", "middle", "outer", "main"]);

        for way in ["handler-abort", "altstack"] {
            let Some(stack) = stack(&program, way) else { return };
            let functions = stack.functions();
            let handler = functions.iter().position(|name| *name == "on_fault_abort").unwrap();
            assert_eq!(stack.trusts()[handler + 2], Trust::SignalContext, "{functions:?} {:?}", stack.trusts());
            assert!(!stack.trace.frames[handler + 2].is_return_address);
            stack.assert_chain(&["die_reading", "inner", "middle", "outer", "main"]);
        }

        let Some(nested) = stack(&program, "nested") else { return };
        let functions = nested.functions();
        let position =
            |name: &str| functions.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{functions:?}"));
        assert!(position("on_second") < position("on_first") && position("on_first") < position("inner"));
        nested.assert_chain(&CHAIN);

        let Some(null) = stack(&program, "altstack-null") else { return };
        let after: Vec<Trust> = null.trusts().into_iter().skip_while(|trust| *trust != Trust::SignalContext).collect();
        assert_eq!(after[..2], [Trust::SignalContext, Trust::BadCall], "{:?}", null.functions());
        null.assert_chain(&CHAIN);
        std::fs::remove_file(program).unwrap();
    }
}

#[test]
fn recursion_is_folded_and_its_beginning_and_end_are_kept() {
    let Some(program) = build("recursion", "victim.c", &["-O1"]) else { return };
    let Some(overflow) = stack(&program, "overflow") else { return };
    let fold = overflow.trace.folds[0];
    assert_eq!(fold.length, 1);
    // 8 MiB of stack in frames of at most 112 bytes.
    assert!(fold.omitted > 8 << 20 >> 7, "{fold:?}");
    assert!(overflow.trace.frames.len() < 20, "{:?}", overflow.functions());
    overflow.assert_chain(&["recurse", "inner", "middle", "outer", "main"]);

    let Some(cycle) = stack(&program, "ping-pong") else { return };
    let fold = cycle.trace.folds[0];
    assert_eq!((fold.length, fold.omitted), (2, 998), "{:?}", cycle.functions());
    cycle.assert_chain(&["ping", "pong", "ping", "inner", "middle", "outer", "main"]);
    std::fs::remove_file(program).unwrap();
}

#[test]
fn waiting_threads_show_what_they_wait_for() {
    let Some(program) = build("threads", "victim.c", &["-O2"]) else { return };
    let Some(snapshot) = crash(&program, "threads", whole()) else { return };
    let stacks = stacks(&snapshot);
    stacks[0].assert_chain(&["die_reading", "inner", "middle", "outer", "main"]);
    for (stack, waits) in stacks[1..].iter().zip(["wait_futex", "wait_read", "wait_sleep", "wait_spin"]) {
        println!("{:?}", stack.functions());
        stack.assert_chain(&[waits, "thread"]);
    }
    assert_eq!(stacks.len(), 5);
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_thread_in_the_vdso_is_walked_by_the_tables_in_memory() {
    let Some(program) = build("vdso", "victim.c", &["-O2"]) else { return };
    // The alarm may strike outside of the vDSO: a few tries are enough where most of the time is spent in it.
    for _ in 0..8 {
        let Some(snapshot) = crash(&program, "vdso", whole()) else { return };
        let stack = stacks(&snapshot).remove(0);
        stack.assert_chain(&CHAIN);
        let interrupted = stack.trace.frames.iter().find(|frame| frame.trust == Trust::SignalContext).unwrap();
        if snapshot.images[interrupted.image.unwrap()].path.as_os_str() == "[vdso]" {
            std::fs::remove_file(program).unwrap();
            return;
        }
    }
    panic!("never in the vDSO");
}

#[test]
fn images_whose_files_are_gone_are_walked_from_the_copied_tables() {
    let Some(program) = build("gone", "victim.c", &["-O2"]) else { return };
    let walk = |snapshot: &Snapshot| unwind(snapshot, &Sections::new(snapshot), &Limits::default()).remove(0);
    let Some(here) = crash(&program, "abort", whole()) else { return };
    let here = walk(&here);
    let Some(gone) = crash_deleted(&program, "abort") else { return };
    assert_eq!(gone.images[0].file, ImageFile::Replaced);
    let gone_trace = walk(&gone);
    assert_eq!(gone_trace.stop, Stop::Root);
    assert_eq!(here.frames.len(), gone_trace.frames.len(), "{gone_trace:#x?}");
    assert!(gone_trace.frames[1..].iter().all(|frame| frame.trust == Trust::UnwindInfo));
}

#[test]
fn a_stripped_program_is_walked_as_far_as_one_with_symbols() {
    let (Some(program), Some(stripped)) =
        (build("with-symbols", "victim.c", &["-O2"]), build("stripped", "victim.c", &["-O2", "-s"]))
    else {
        return;
    };
    for way in ["null-write", "abort", "handler-abort", "call-null"] {
        let (Some(with), Some(without)) = (stack(&program, way), stack(&stripped, way)) else { return };
        assert_eq!(with.trusts(), without.trusts(), "{way}");
        assert_eq!(without.trace.stop, Stop::Root, "{way}");
    }
    std::fs::remove_file(program).unwrap();
    std::fs::remove_file(stripped).unwrap();
}

#[test]
fn broken_stacks_end_with_their_reason_and_keep_the_frames_that_can_be_had() {
    let Some(program) = build("broken", "victim.c", &["-O2", "-fno-stack-protector"]) else { return };
    let Some(smashed) = stack(&program, "smash") else { return };
    assert_eq!(smashed.functions()[..2], ["die_reading", "smash"]);
    println!("smash: {:?} {:?} {:?}", smashed.functions(), smashed.trusts(), smashed.trace.stop);
    assert!(matches!(smashed.trace.stop, Stop::BadReturnAddress(0x4141_4141_4141_4141) | Stop::Root));
    // What follows the overwritten frames is a guess, and says so.
    assert!(smashed.trusts()[2..].iter().take(1).all(|trust| *trust == Trust::Scan), "{:?}", smashed.trusts());

    for way in ["sp-odd", "sp-wild", "fp-loop"] {
        let Some(stack) = stack(&program, way) else { return };
        println!("{way}: {:?} {:?} {:?}", stack.functions(), stack.trusts(), stack.trace.stop);
        assert!(!stack.trace.frames.is_empty() && stack.trace.frames.len() < 100);
    }
    let Some(wild) = stack(&program, "sp-wild") else { return };
    assert!(matches!(wild.trace.stop, Stop::StackUnreadable(_)), "{:?}", wild.trace.stop);

    let Some(mut snapshot) = crash(&program, "callback", whole()) else { return };
    let sp = snapshot.threads[0].state.registers.as_ref().unwrap().sp();
    let mut memory = Memory::default();
    memory.insert(sp, snapshot.memory.slice(sp, 64).unwrap().to_vec());
    snapshot.memory = memory;
    let cut = stacks(&snapshot).remove(0);
    println!("cut: {:?} {:?}", cut.functions(), cut.trace.stop);
    assert_eq!(cut.functions()[..2], ["die_reading", "compare"]);
    assert!(matches!(cut.trace.stop, Stop::StackUnreadable(_)), "{:?}", cut.trace.stop);
    std::fs::remove_file(program).unwrap();
}
