//! What a report says of each way to die. Signals and codes are those of sigaction(2).

use aftermach_protocol::exception::{LinuxSignal, MachException};
use aftermach_protocol::platform::{Cpu, Os};
use aftermach_protocol::report::{Access, ExceptionKind, Hex};

use super::victim::*;
use crate::snapshot::{Annotations, Exception, Fault, Registers};
use crate::unwind::{Fold, Trust};

/// mov (%rax),%rcx
const READ: &[u8] = &[0x48, 0x8b, 0x08];
/// mov %rcx,(%rax)
const WRITE: &[u8] = &[0x48, 0x89, 0x08];
/// An instruction that is not in the tables: vpgatherdd.
const STRANGE: &[u8] = &[0xc4, 0xe2, 0x71, 0x90, 0x04, 0x08];

const SUBJECT: &str = "Thread 1 \"io-worker\" of tunneld (pid 4242)";
const PLACE: &str = "in tunnel::Peer::send (peer.rs:88)";

fn access(code: &[u8], si_code: i32, address: u64) -> Victim {
    let mut victim = Victim::new(code).fault(11, si_code, Some(address));
    victim.registers().rax = address;
    victim
}

#[track_caller]
fn check(victim: &Victim, kind: ExceptionKind, expected: &str) {
    let report = victim.report();
    assert_eq!(report.exception.summary, expected);
    assert_eq!(report.exception.kind, kind);
}

#[test]
fn null_is_told_from_near_null_and_reading_from_writing() {
    use ExceptionKind::NullPointer;
    let expected = format!("{SUBJECT} died of SIGSEGV: read from a null pointer (address 0x0) {PLACE}");
    check(&access(READ, 1, 0), NullPointer, &expected);
    let expected = format!("{SUBJECT} died of SIGSEGV: wrote to unmapped address 0x10 (near null) {PLACE}");
    check(&access(WRITE, 1, 0x10), NullPointer, &expected);
    let expected = format!("{SUBJECT} died of SIGSEGV: accessed a null pointer (address 0x0) {PLACE}");
    check(&access(STRANGE, 1, 0), NullPointer, &expected);
}

#[test]
fn an_instruction_that_does_not_explain_the_address_is_not_believed() {
    let mut victim = access(READ, 1, 0x1337_0000);
    victim.registers().rax = 0x4000_0000;
    let expected = format!("{SUBJECT} died of SIGSEGV: accessed unmapped address 0x13370000 {PLACE}");
    check(&victim, ExceptionKind::BadAccess, &expected);
    assert_eq!(victim.report().exception.access, None);
}

#[test]
fn copying_reads_at_one_address_and_writes_at_the_other() {
    // rep movsb
    let copy = |si_code, address| {
        let mut victim = Victim::new(&[0xf3, 0xa4]).fault(11, si_code, Some(address));
        victim.registers().rsi = 0x1337_0000;
        victim.registers().rdi = 0x4242_0000;
        victim.report().exception.access
    };
    assert_eq!(copy(1, 0x1337_0000), Some(Access::Read));
    assert_eq!(copy(1, 0x4242_0000), Some(Access::Write));
    assert_eq!(copy(1, 0x5000_0000), None);
}

#[test]
fn writing_to_read_only_memory_needs_no_instruction() {
    for code in [WRITE, STRANGE] {
        let victim = access(code, 2, READ_ONLY + 8);
        let expected = format!(
            "{SUBJECT} died of SIGSEGV: wrote to read-only memory of /opt/tunnel/bin/tunneld at address 0x408008 {PLACE}"
        );
        check(&victim, ExceptionKind::BadAccess, &expected);
        assert_eq!(victim.report().exception.access, Some(Access::Write));
        assert_eq!(victim.report().exception.address, Some(Hex(READ_ONLY + 8)));
    }
}

#[test]
fn memory_that_allows_nothing_is_named_so() {
    let expected =
        format!("{SUBJECT} died of SIGSEGV: read from address 0x7f2000000800 in memory that allows no access {PLACE}");
    check(&access(READ, 2, GUARD + 0x800), ExceptionKind::BadAccess, &expected);
}

#[test]
fn without_mappings_only_what_the_system_says_is_said() {
    let mut victim = access(STRANGE, 1, 0x1337_0000);
    victim.snapshot.regions.clear();
    let expected = format!("{SUBJECT} died of SIGSEGV: accessed unmapped address 0x13370000 {PLACE}");
    check(&victim, ExceptionKind::BadAccess, &expected);
    let mut victim = access(STRANGE, 2, 0x1337_0000);
    victim.snapshot.regions.clear();
    let expected = format!("{SUBJECT} died of SIGSEGV: accessed address 0x13370000 {PLACE}");
    check(&victim, ExceptionKind::BadAccess, &expected);
}

/// A thread whose pc is `pc`, where there is no code.
fn jump(pc: u64, si_code: i32, caller: Trust) -> Victim {
    let mut victim = Victim::new(&[]).fault(11, si_code, Some(pc)).stack(&[
        (pc, Trust::Context, "", None),
        (TEXT + 0x200, caller, "tunnel::dispatch", Some(("src/dispatch.rs", 7))),
    ]);
    victim.registers().rip = pc;
    victim
}

#[test]
fn a_call_through_null_is_told_from_a_jump() {
    use ExceptionKind::BadCall;
    let from = "from tunnel::dispatch (dispatch.rs:7)";
    let expected = format!("{SUBJECT} died of SIGSEGV: called a null pointer (address 0x0) {from}");
    check(&jump(0, 1, Trust::BadCall), BadCall, &expected);
    let expected = format!("{SUBJECT} died of SIGSEGV: jumped to a null pointer (address 0x0) {from}");
    check(&jump(0, 1, Trust::Scan), BadCall, &expected);
    let expected = format!("{SUBJECT} died of SIGSEGV: called unmapped address 0x1337deadb000 {from}");
    check(&jump(0x1337_dead_b000, 1, Trust::BadCall), BadCall, &expected);
    let expected = format!(
        "{SUBJECT} died of SIGSEGV: called address 0x40a000 in memory of /opt/tunnel/bin/tunneld that is not executable \
         {from}"
    );
    check(&jump(DATA, 2, Trust::BadCall), BadCall, &expected);
}

#[test]
fn writing_to_its_own_code_is_no_jump() {
    let mut victim = access(WRITE, 2, TEXT + 0x100);
    victim.registers().rax = TEXT + 0x100;
    assert!(victim.summary().contains("wrote to read-only memory"), "{}", victim.summary());
}

#[test]
fn a_non_canonical_address_is_worked_out_from_the_instruction() {
    let mut victim = Victim::new(READ).fault(11, 0x80, None);
    victim.registers().rax = 0x1234_5678_9abc_def0;
    let expected = format!(
        "{SUBJECT} died of SIGSEGV: read from non-canonical address 0x123456789abcdef0, which no program can have {PLACE}"
    );
    check(&victim, ExceptionKind::NonCanonicalAddress, &expected);
    let exception = victim.report().exception;
    assert_eq!((exception.address, exception.computed_address), (None, Some(Hex(0x1234_5678_9abc_def0))));
}

#[test]
fn a_general_protection_fault_that_nothing_explains_is_not_explained() {
    let victim = Victim::new(STRANGE).fault(11, 0x80, None);
    let expected = format!(
        "{SUBJECT} died of SIGSEGV: general protection fault: most often a non-canonical address, but the processor does not \
         say {PLACE}"
    );
    check(&victim, ExceptionKind::BadAccess, &expected);
}

#[test]
fn other_general_protection_faults_are_what_they_are() {
    // movaps (%rsp),%xmm0
    let mut victim = Victim::new(&[0x0f, 0x28, 0x04, 0x24]).fault(11, 0x80, None);
    victim.registers().rsp = SP + 8;
    assert!(victim.summary().contains("which is not aligned to 16 bytes"), "{}", victim.summary());
    // hlt
    let victim = Victim::new(&[0xf4]).fault(11, 0x80, None);
    assert!(victim.summary().contains("died of SIGSEGV: a privileged instruction in"), "{}", victim.summary());
    // ret, with a non-canonical address on the stack
    let mut victim = Victim::new(&[0xc3]).fault(11, 0x80, None);
    victim.snapshot.memory.insert(SP, 0xdead_beef_dead_beef_u64.to_le_bytes().to_vec());
    assert!(victim.summary().contains("returned to non-canonical address 0xdeadbeefdeadbeef"), "{}", victim.summary());
    // call *%rax
    let mut victim = Victim::new(&[0xff, 0xd0]).fault(11, 0x80, None);
    victim.registers().rax = 0x8000_0000_0000;
    assert!(victim.summary().contains("jumped to non-canonical address 0x800000000000"), "{}", victim.summary());
}

#[test]
fn a_used_up_stack_is_named_so() {
    // call: writes below the stack pointer, which is the stack's first byte.
    let mut victim = Victim::new(&[0xe8, 0, 0, 0, 0]).fault(11, 2, Some(STACK - 8));
    victim.registers().rsp = STACK;
    let expected = format!(
        "{SUBJECT} died of SIGSEGV: stack overflow: wrote to address 0x7f2000000ff8, past the stack's end {PLACE}"
    );
    check(&victim, ExceptionKind::StackOverflow, &expected);
    // A main thread has no guard page, only a gap; and the stack pointer has left the stack.
    let mut victim = Victim::new(WRITE).fault(11, 1, Some(MAIN_STACK - 0x100));
    victim.registers().rsp = MAIN_STACK - 0x200;
    victim.registers().rax = MAIN_STACK - 0x100;
    assert_eq!(victim.report().exception.kind, ExceptionKind::StackOverflow);
}

#[test]
fn a_wild_pointer_into_a_guard_page_is_no_stack_overflow() {
    assert_eq!(access(WRITE, 2, GUARD + 0xff8).report().exception.kind, ExceptionKind::BadAccess);
}

#[test]
fn a_bus_error_names_the_file() {
    let mut victim = Victim::new(READ).fault(7, 2, Some(CUT_FILE + 0x1000));
    victim.registers().rax = CUT_FILE + 0x1000;
    let expected = format!(
        "{SUBJECT} died of SIGBUS: read from address 0x7f1000001000 in the mapping of /tmp/routes.db: past the end of the \
         file, or the file could not be read {PLACE}"
    );
    check(&victim, ExceptionKind::BusError, &expected);
}

#[test]
fn instructions_that_end_a_program_are_told_apart() {
    use ExceptionKind::{Arithmetic, Breakpoint, IllegalInstruction};
    let ud2 = Victim::new(&[0x0f, 0x0b]).fault(4, 2, Some(TEXT + 0x100));
    let expected =
        format!("{SUBJECT} died of SIGILL: illegal instruction: ud2, which compilers place as a trap {PLACE}");
    check(&ud2, IllegalInstruction, &expected);
    let other = Victim::new(&[0x06]).fault(4, 2, Some(TEXT + 0x100));
    check(&other, IllegalInstruction, &format!("{SUBJECT} died of SIGILL: illegal instruction {PLACE}"));
    let int3 = Victim::new(&[]).fault(5, 0x80, None);
    check(&int3, Breakpoint, &format!("{SUBJECT} died of SIGTRAP: breakpoint {PLACE}"));
    // idiv %ecx
    let by_zero = Victim::new(&[0xf7, 0xf9]).fault(8, 1, Some(TEXT + 0x100));
    check(&by_zero, Arithmetic, &format!("{SUBJECT} died of SIGFPE: division by zero {PLACE}"));
    let mut too_large = Victim::new(&[0xf7, 0xf9]).fault(8, 1, Some(TEXT + 0x100));
    too_large.registers().rcx = u64::MAX;
    check(&too_large, Arithmetic, &format!("{SUBJECT} died of SIGFPE: division whose result does not fit {PLACE}"));
    let unknown = Victim::new(STRANGE).fault(8, 1, Some(TEXT + 0x100));
    let expected = format!("{SUBJECT} died of SIGFPE: division by zero, or whose result does not fit {PLACE}");
    check(&unknown, Arithmetic, &expected);
}

const ABORT: [Called<'static>; 3] = [
    (LIBC + 0x10, Trust::Context, "__pthread_kill_implementation", None),
    (LIBC + 0x20, Trust::UnwindInfo, "raise", None),
    (LIBC + 0x30, Trust::UnwindInfo, "abort", None),
];

#[test]
fn an_abort_is_placed_where_it_was_asked_for() {
    let own = (TEXT + 0x200, Trust::UnwindInfo, "tunnel::check", Some(("src/check.rs", 5)));
    let victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&ABORT[..], &[own]].concat());
    check(&victim, ExceptionKind::Abort, &format!("{SUBJECT} aborted (SIGABRT) in tunnel::check (check.rs:5)"));
}

#[test]
fn an_abort_in_a_fault_handler_tells_both() {
    let handler = (TEXT + 0x200, Trust::UnwindInfo, "tunnel::on_fault", Some(("src/fault.rs", 5)));
    let trampoline = (LIBC + 0x40, Trust::UnwindInfo, "__restore_rt", None);
    let faulted = (TEXT + 0x100, Trust::SignalContext, "tunnel::Peer::send", Some(("src/peer.rs", 88)));
    let stack = [&ABORT[..], &[handler, trampoline, faulted]].concat();
    let mut victim = Victim::new(WRITE).sent(6, -6, 4242).stack(&stack);
    victim.registers().rip = LIBC + 0x10;
    victim.snapshot.threads[1].state.first_chance = Some(Fault {
        exception: Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0x10), sender: None }),
        pc: TEXT + 0x100,
        sp: SP + 0x800,
        time: victim.snapshot.death.time,
    });
    check(
        &victim,
        ExceptionKind::Abort,
        &format!(
            "{SUBJECT} aborted (SIGABRT) in tunnel::on_fault (fault.rs:5) while handling SIGSEGV: wrote to unmapped address \
             0x10 (near null) {PLACE}"
        ),
    );
    let report = victim.report();
    let first_chance = report.first_chance.unwrap();
    assert_eq!((first_chance.frame, first_chance.exception.address), (Some(5), Some(Hex(0x10))));
    assert_eq!(first_chance.exception.kind, ExceptionKind::NullPointer);
    assert_eq!(report.signature.unwrap().text, "tunnel::Peer::send");
}

#[test]
fn a_fault_that_was_handled_long_ago_is_not_joined() {
    let own = (TEXT + 0x200, Trust::UnwindInfo, "tunnel::check", Some(("src/check.rs", 5)));
    let mut victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&ABORT[..], &[own]].concat());
    victim.snapshot.threads[1].state.first_chance = Some(Fault {
        exception: Exception::Linux(LinuxSignal { signal: 11, code: 1, address: Some(0x10), sender: None }),
        // On the stack as an ordinary caller: the function went on after the fault.
        pc: TEXT + 0x200,
        sp: SP + 0x800,
        time: victim.snapshot.death.time,
    });
    assert_eq!(victim.report().first_chance, None);
    assert_eq!(victim.summary(), format!("{SUBJECT} aborted (SIGABRT) in tunnel::check (check.rs:5)"));
}

#[test]
fn a_first_chance_that_is_the_death_itself_says_more_of_it() {
    // The kernel could not run the handler on a stack that is used up, and killed it without saying where.
    let mut victim = Victim::new(&[0xe8, 0, 0, 0, 0]).fault(11, 0x80, None);
    victim.registers().rsp = STACK;
    victim.snapshot.threads[1].state.first_chance = Some(Fault {
        exception: Exception::Linux(LinuxSignal { signal: 11, code: 2, address: Some(STACK - 8), sender: None }),
        pc: TEXT + 0x100,
        sp: STACK,
        time: victim.snapshot.death.time,
    });
    let report = victim.report();
    assert_eq!((report.exception.kind, report.first_chance), (ExceptionKind::StackOverflow, None));
    assert_eq!(report.exception.address, Some(Hex(STACK - 8)));
}

#[test]
fn another_threads_handler_is_noted() {
    let mut victim = Victim::new(&[]).sent(6, -6, 4242).stack(&ABORT);
    victim.traces[0].frames[1].trust = Trust::SignalContext;
    victim.snapshot.threads[0].state.first_chance = Some(Fault {
        exception: Exception::Linux(LinuxSignal { signal: 7, code: 2, address: Some(CUT_FILE), sender: None }),
        pc: TEXT + 0x900,
        sp: MAIN_STACK,
        time: victim.snapshot.death.time,
    });
    let notes = victim.report().notes;
    assert_eq!(notes[0].text, "thread 0 was in a handler for its own SIGBUS at 0x402900");
}

const PANIC: [Called<'static>; 5] = [
    (LIBC + 0x30, Trust::Context, "abort", None),
    (TEXT + 0x10, Trust::UnwindInfo, "tunneld::main::{{closure}}", Some(("src/main.rs", 9))),
    (TEXT + 0x20, Trust::UnwindInfo, "std::panicking::rust_panic_with_hook", None),
    (TEXT + 0x30, Trust::UnwindInfo, "__rustc::rust_begin_unwind", None),
    (TEXT + 0x40, Trust::UnwindInfo, "core::panicking::panic_bounds_check", None),
];
const PANICKED: Called<'static> = (TEXT + 0x50, Trust::UnwindInfo, "tunnel::route", Some(("src/route.rs", 40)));

#[test]
fn a_panic_is_placed_where_it_panicked_and_not_in_its_hook() {
    let mut victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&PANIC[..], &[PANICKED]].concat());
    check(&victim, ExceptionKind::Panic, &format!("{SUBJECT} panicked in tunnel::route (route.rs:40) (SIGABRT)"));
    assert_eq!(victim.report().signature.unwrap().text, "panic | tunnel::route");
    let message = "index out of bounds: the len is 0 but the index is 7\nsecond line";
    victim.snapshot.annotations =
        Annotations { values: vec![("panic".to_owned(), message.to_owned())], ..Annotations::default() };
    let expected = format!(
        "{SUBJECT} panicked in tunnel::route (route.rs:40): \"index out of bounds: the len is 0 but the index is 7\" (SIGABRT)"
    );
    check(&victim, ExceptionKind::Panic, &expected);
}

#[test]
fn a_panic_in_a_panic_is_named_so() {
    let dropped = (TEXT + 0x60, Trust::UnwindInfo, "<tunnel::Guard as core::ops::drop::Drop>::drop", None);
    let again: Vec<_> =
        PANIC[3..].iter().map(|(address, trust, name, _)| (address + 0x100, *trust, *name, None)).collect();
    let victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&PANIC[..], &[dropped], &again, &[PANICKED]].concat());
    let expected = format!(
        "{SUBJECT} panicked while it was panicking in <tunnel::Guard as core::ops::drop::Drop>::drop (SIGABRT)"
    );
    check(&victim, ExceptionKind::Panic, &expected);
}

#[test]
fn a_panic_that_leaves_a_destructor_while_another_unwinds_is_named_so() {
    // The second panic's own frames are gone: it was unwound as far as the destructor.
    let cleanup = (TEXT + 0x45, Trust::UnwindInfo, "core::panicking::panic_in_cleanup", None);
    let victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&PANIC[..4], &[cleanup, PANICKED]].concat());
    let expected =
        format!("{SUBJECT} panicked in a destructor while it was panicking in tunnel::route (route.rs:40) (SIGABRT)");
    check(&victim, ExceptionKind::Panic, &expected);
}

#[test]
fn a_thread_that_catches_panics_has_not_panicked() {
    let caught = (TEXT + 0x70, Trust::UnwindInfo, "std::panicking::catch_unwind::do_call", None);
    let own = (TEXT + 0x200, Trust::UnwindInfo, "tunnel::check", None);
    let victim = Victim::new(&[]).sent(6, -6, 4242).stack(&[&ABORT[..], &[own, caught]].concat());
    check(&victim, ExceptionKind::Abort, &format!("{SUBJECT} aborted (SIGABRT) in tunnel::check"));
}

#[test]
fn a_kill_names_who_sent_it() {
    use ExceptionKind::{Killed, ResourceLimit};
    let quit = Victim::new(&[]).sent(3, 0, 77);
    check(&quit, Killed, "tunneld (pid 4242) was killed by SIGQUIT, sent by pid 77 (uid 1000)");
    let abort = Victim::new(&[]).sent(6, 0, 77);
    check(&abort, Killed, "tunneld (pid 4242) was killed by SIGABRT, sent by pid 77 (uid 1000)");
    let itself = Victim::new(&[]).sent(11, -6, 4242);
    check(&itself, Killed, &format!("{SUBJECT} raised SIGSEGV itself"));
    let terminal = Victim::new(&[]).fault(3, 0x80, None);
    check(&terminal, Killed, "tunneld (pid 4242) was killed by SIGQUIT");
    let limit = Victim::new(&[]).fault(24, 0x80, None);
    check(&limit, ResourceLimit, &format!("{SUBJECT} died of SIGXCPU: a resource limit was reached {PLACE}"));
    let call = Victim::new(&[]).fault(31, 1, None);
    let expected = format!("{SUBJECT} died of SIGSYS: a system call that it may not make {PLACE}");
    check(&call, ExceptionKind::BadSystemCall, &expected);
}

#[test]
fn a_library_function_is_named_with_the_programs_own_caller() {
    let victim = access(STRANGE, 1, 0x1337_0000).stack(&[
        (LIBC + 0x99, Trust::Context, "__memmove_avx_unaligned_erms", None),
        (TEXT + 0x98, Trust::UnwindInfo, "<u8 as alloc::slice::hack::ConvertVec>::to_vec", None),
        (TEXT + 0x100, Trust::UnwindInfo, "tunnel::Peer::send", Some(("src/peer.rs", 88))),
    ]);
    let summary = victim.summary();
    assert!(
        summary
            .ends_with("in __memmove_avx_unaligned_erms, called from <u8 as alloc::slice::hack::ConvertVec>::to_vec")
    );
    let mut victim = victim.stack(&[
        (LIBC + 0x99, Trust::Context, "", None),
        (TEXT + 0x100, Trust::UnwindInfo, "tunnel::Peer::send", Some(("src/peer.rs", 88))),
    ]);
    let summary = victim.summary();
    assert!(summary.ends_with("in libc.so.6+0x99, called from tunnel::Peer::send (peer.rs:88)"), "{summary}");
    // What was inlined into the program's own function is no place of its own.
    victim = access(STRANGE, 1, 0x1337_0000);
    let inlined = crate::symbols::Symbol { inlined: true, ..symbol("core::ptr::read_volatile::<u64>", 0, None) };
    victim.names[3].1.insert(0, inlined);
    assert!(victim.summary().ends_with(&format!("0x13370000 {PLACE}")), "{}", victim.summary());
}

#[test]
fn a_death_without_a_known_thread_is_the_processes() {
    let mut victim = access(READ, 1, 0);
    victim.snapshot.death.thread = Some(99);
    let report = victim.report();
    assert_eq!(report.exception.summary, "tunneld (pid 4242) died of SIGSEGV: accessed a null pointer (address 0x0)");
    assert_eq!(report.notes[0].text, "thread 99, which died of it, is not among the threads");
    assert!(report.threads.iter().all(|thread| !thread.crashed));
}

#[test]
fn a_mach_exception_is_told_in_its_own_words() {
    let mut victim = access(WRITE, 1, 0x10);
    victim.snapshot.os = Os::MacOs;
    let bad_access = MachException::new(1, 1, 0x10);
    victim.snapshot.death.exception =
        Exception::Mach(aftermach_protocol::exception::Crash::pack(11, Some(&bad_access)));
    let expected =
        format!("{SUBJECT} died of EXC_BAD_ACCESS (SIGSEGV): wrote to unmapped address 0x10 (near null) {PLACE}");
    check(&victim, ExceptionKind::NullPointer, &expected);
    let exception = victim.report().exception;
    assert_eq!(exception.code.unwrap().name.as_deref(), Some("KERN_INVALID_ADDRESS"));
    assert_eq!(exception.codes, [Hex(0x0b10_0001), Hex(0x10)]);

    victim.snapshot.death.exception = Exception::Mach(MachException::new(10, 0x0600_0000, 0));
    victim.snapshot.death.signal = 6;
    check(&victim, ExceptionKind::Abort, &format!("{SUBJECT} aborted (SIGABRT) {PLACE}"));

    // EXC_I386_GPFLT
    victim.snapshot.death.exception = Exception::Mach(MachException::new(1, 13, 0));
    victim.snapshot.death.signal = 11;
    victim.registers().rax = 0xdead_beef_0000_0000;
    let summary = victim.summary();
    assert!(
        summary.contains("EXC_BAD_ACCESS (SIGSEGV): wrote to non-canonical address 0xdeadbeef00000000"),
        "{summary}"
    );
}

#[test]
fn on_arm64_the_syndrome_tells_reading_from_writing() {
    for (syndrome, expected) in [
        (0x9200_0046, Some(Access::Write)),
        (0x9200_0006, Some(Access::Read)),
        (0x8200_0006, Some(Access::Execute)),
        // Cache maintenance.
        (0x9200_0146, None),
    ] {
        let mut victim = access(&[], 1, 0x1337_0000);
        victim.snapshot.cpu = Cpu::Arm64;
        let registers = crate::snapshot::Arm64Registers {
            pc: TEXT + 0x100,
            sp: SP,
            fault: Some((0x1337_0000, syndrome)),
            ..Default::default()
        };
        victim.snapshot.threads[1].state.registers = Some(Registers::Arm64(Box::new(registers)));
        assert_eq!(victim.report().exception.access, expected, "{syndrome:#x}");
    }
}

#[test]
fn recursion_that_is_left_out_keeps_its_place_among_inlined_frames() {
    let mut victim = access(READ, 1, 0).stack(&[
        (TEXT + 0x100, Trust::Context, "tunnel::leaf", None),
        (TEXT + 0x110, Trust::UnwindInfo, "tunnel::walk", None),
        (TEXT + 0x120, Trust::UnwindInfo, "main", None),
    ]);
    victim.traces[1].folds = vec![Fold { first: 1, length: 1, omitted: 9998 }];
    victim.names[0].1.insert(0, crate::symbols::Symbol { inlined: true, ..symbol("tunnel::inner", 0, None) });
    victim.names[1].1.insert(0, crate::symbols::Symbol { inlined: true, ..symbol("tunnel::step", 0, None) });
    let thread = &victim.report().threads[1];
    assert_eq!(thread.frames.len(), 5);
    assert_eq!((thread.folds[0].first, thread.folds[0].length, thread.folds[0].omitted), (2, 2, 9998));
    assert_eq!(thread.frames[2].function.as_deref(), Some("tunnel::step"));
}

#[test]
fn a_report_that_was_asked_for_names_who_asked_and_no_death() {
    let mut victim = Victim::new(READ).stack(&[
        (LIBC + 0x1_0000, Trust::Context, "__poll", None),
        (TEXT + 0x300, Trust::UnwindInfo, "aftermach_client::linux::socket::Connection::ask", None),
        (
            TEXT + 0x310,
            Trust::UnwindInfo,
            "<aftermach_client::linux::Linux as aftermach_client::install::Platform>::dump",
            None,
        ),
        (TEXT + 0x320, Trust::UnwindInfo, "aftermach_client::install::dump_without_crashing", None),
        (TEXT + 0x100, Trust::UnwindInfo, "tunnel::Peer::check", Some(("src/peer.rs", 90))),
    ]);
    victim.snapshot.death.exception = Exception::Simulated;
    victim.snapshot.death.signal = 0;
    let report = victim.report();
    let place = "in tunnel::Peer::check (peer.rs:90)";
    let expected = format!("The program asked for this report and went on: {SUBJECT} {place}");
    check(&victim, ExceptionKind::Simulated, &expected);
    assert_eq!((report.exception.name.as_str(), &report.exception.signal), ("SIMULATED", &None));
    assert_eq!(report.exception.thread, Some(1));
    assert_eq!(report.signature.as_ref().unwrap().text, "simulated | tunnel::Peer::check");
    let text = crate::report::text::render(&report, &Default::default());
    assert!(text.contains("Thread 1 \"io-worker\" (id 4243) asked for this report\n"), "{text}");
    assert!(!text.contains("crashed"), "{text}");
}

#[test]
fn a_report_that_a_c_program_asked_for_names_the_caller_of_the_c_function() {
    let mut victim = Victim::new(READ).stack(&[
        (TEXT + 0x300, Trust::Context, "aftermach_dump_without_crashing", None),
        (TEXT + 0x100, Trust::UnwindInfo, "check", Some(("check.c", 9))),
    ]);
    victim.snapshot.death.exception = Exception::Simulated;
    assert_eq!(
        victim.summary(),
        format!("The program asked for this report and went on: {SUBJECT} in check (check.c:9)")
    );
}
