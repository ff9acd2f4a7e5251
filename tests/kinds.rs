//! Each way to die, and what its report must say. The expectations come from signal(7), sigaction(2) and the source of
//! `aftermach crash`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

#[path = "support/reader.rs"]
mod reader;
mod support;

use std::os::unix::process::ExitStatusExt;

use aftermach_protocol::report::{ExceptionKind, Report};
use reader::assert_dump_agrees;
use support::{Folder, assert_functions, crashed, functions, ptrace_works, run_under};

/// The whole way of a plain crash in the main thread, below the function that died.
const CALLERS: [&str; 4] = ["kinds::die", "crash::second_step", "crash::first_step", "main"];

struct Expected {
    kind: &'static str,
    signal: (&'static str, i32),
    code: Option<&'static str>,
    /// The faulting address, where there is one and it is known beforehand.
    address: Option<u64>,
    what: ExceptionKind,
    /// The thread that dies.
    thread: &'static str,
    /// The innermost functions, before `CALLERS`.
    functions: &'static [&'static str],
    /// What the sentence for people must contain.
    sentence: &'static [&'static str],
}

const SEGV: (&str, i32) = ("SIGSEGV", 11);
const ABRT: (&str, i32) = ("SIGABRT", 6);

const fn plain(kind: &'static str, signal: (&'static str, i32), what: ExceptionKind) -> Expected {
    Expected { kind, signal, code: None, address: None, what, thread: "aftermach", functions: &[], sentence: &[] }
}

fn table() -> Vec<Expected> {
    use ExceptionKind::*;
    vec![
        Expected {
            code: Some("SEGV_MAPERR"),
            address: Some(0),
            functions: &["kinds::read", "kinds::null_read"],
            sentence: &["SIGSEGV", "null"],
            ..plain("null-read", SEGV, NullPointer)
        },
        Expected {
            code: Some("SEGV_MAPERR"),
            address: Some(0x10),
            functions: &["kinds::null_write"],
            sentence: &["SIGSEGV", "0x10"],
            ..plain("null-write", SEGV, NullPointer)
        },
        Expected {
            code: Some("SEGV_ACCERR"),
            functions: &["kinds::readonly_write"],
            sentence: &["SIGSEGV"],
            ..plain("readonly-write", SEGV, BadAccess)
        },
        Expected {
            code: Some("SEGV_MAPERR"),
            address: Some(0),
            functions: &["kinds::call"],
            sentence: &["SIGSEGV", "call"],
            ..plain("null-call", SEGV, BadCall)
        },
        Expected {
            code: Some("SEGV_MAPERR"),
            address: Some(0x1337_dead_b000),
            functions: &["kinds::call"],
            sentence: &["SIGSEGV", "0x1337deadb000"],
            ..plain("wild-jump", SEGV, BadCall)
        },
        Expected {
            code: Some("SI_KERNEL"),
            functions: &["kinds::read"],
            sentence: &["SIGSEGV", "non-canonical"],
            ..plain("non-canonical", SEGV, NonCanonicalAddress)
        },
        Expected {
            code: Some("SI_TKILL"),
            functions: &["abort", "kinds::abort_deliberately"],
            sentence: &["SIGABRT"],
            ..plain("abort", ABRT, Abort)
        },
        Expected {
            functions: &["abort", "panic", "kinds::panic_and_abort"],
            sentence: &["SIGABRT", "panic"],
            ..plain("panic", ABRT, Panic)
        },
        Expected {
            functions: &["abort", "panic_in_cleanup", "kinds::panic_twice"],
            sentence: &["SIGABRT", "panic"],
            ..plain("double-panic", ABRT, Panic)
        },
        Expected {
            functions: &["kinds::recurse_forever"],
            sentence: &["SIGSEGV", "stack overflow"],
            ..plain("stack-overflow", SEGV, StackOverflow)
        },
        Expected {
            functions: &["abort", "kinds::recurse_forever"],
            sentence: &["SIGABRT", "stack overflow"],
            ..plain("guarded-stack-overflow", ABRT, Abort)
        },
        Expected {
            address: Some(0),
            functions: &["kinds::null_read", "kinds::recurse_then_fault"],
            sentence: &["SIGSEGV"],
            ..plain("deep-recursion", SEGV, NullPointer)
        },
        Expected {
            code: Some("ILL_ILLOPN"),
            functions: &["kinds::illegal_instruction"],
            sentence: &["SIGILL"],
            ..plain("illegal-instruction", ("SIGILL", 4), IllegalInstruction)
        },
        Expected {
            code: Some("SI_KERNEL"),
            functions: &["kinds::breakpoint"],
            sentence: &["SIGTRAP"],
            ..plain("breakpoint", ("SIGTRAP", 5), Breakpoint)
        },
        Expected {
            code: Some("FPE_INTDIV"),
            functions: &["kinds::divide_by_zero"],
            sentence: &["SIGFPE"],
            ..plain("divide-by-zero", ("SIGFPE", 8), Arithmetic)
        },
        Expected {
            code: Some("BUS_ADRERR"),
            functions: &["kinds::read", "kinds::bus_error"],
            sentence: &["SIGBUS"],
            ..plain("bus-error", ("SIGBUS", 7), BusError)
        },
        Expected {
            code: Some("SEGV_MAPERR"),
            address: Some(0),
            functions: &["kinds::null_read", "signals::faulting_handler", "raise", "signals::fault_in_handler"],
            sentence: &["SIGSEGV"],
            ..plain("fault-in-handler", SEGV, NullPointer)
        },
        Expected {
            functions: &["abort", "signals::aborting_handler", "kinds::null_write", "signals::abort_in_handler"],
            sentence: &["SIGABRT", "SIGSEGV", "0x10"],
            ..plain("abort-in-handler", ABRT, Abort)
        },
    ]
}

fn check(expected: &Expected, report: &Report) {
    let exception = &report.exception;
    let signal = exception.signal.as_ref().unwrap();
    assert_eq!((signal.name.as_str(), signal.number), expected.signal);
    if let Some(code) = expected.code {
        assert_eq!(exception.code.as_ref().unwrap().name.as_deref(), Some(code));
    }
    if let Some(address) = expected.address {
        assert_eq!(exception.address.map(|address| address.0), Some(address));
    }
    assert_eq!(exception.kind, expected.what);
    for part in expected.sentence {
        assert!(exception.summary.contains(part), "{part:?} is missing in {:?}", exception.summary);
    }
    let thread = crashed(report);
    assert_eq!(thread.name, expected.thread);
    assert_eq!(exception.thread, Some(thread.index));
}

#[test]
fn every_kind_of_crash_is_told_for_what_it_is() {
    if !ptrace_works("every_kind_of_crash_is_told_for_what_it_is") {
        return;
    }
    let failed: Vec<_> = table()
        .iter()
        .filter(|expected| std::panic::catch_unwind(|| try_kind(expected)).is_err())
        .map(|expected| expected.kind)
        .collect();
    assert!(failed.is_empty(), "these are told wrongly: {failed:?}");
}

fn try_kind(expected: &Expected) {
    println!("==== {}", expected.kind);
    let store = Folder::new(&format!("kind-{}", expected.kind));
    let program = support::tool().get_program().to_owned();
    let output =
        run_under(store.path(), program.as_ref(), &["crash", expected.kind, "--threads", "3", "--after", "50"]);
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(expected.signal.1), "the program's own end is passed on");
    let (folder, report) = store.only_report();
    check(expected, &report);
    assert_dump_agrees(&folder, &report);
    let thread = crashed(&report);
    assert_functions(thread, expected.functions);
    assert_functions(thread, &CALLERS);
    // The other three are named, and known down to where they started.
    let idle: Vec<_> = report.threads.iter().filter(|thread| thread.name.starts_with("idle-")).collect();
    assert_eq!(idle.len(), 3);
    for thread in idle {
        assert_functions(thread, &["nanosleep", "sleep", "crash::idle", "spawn_idle_threads"]);
        assert!(thread.frames.iter().all(|frame| frame.image.is_some()), "{:#?}", functions(thread));
    }
    assert_eq!(report.threads.len(), 4);
}

#[test]
fn a_fault_on_a_named_thread_is_told_for_that_thread() {
    if !ptrace_works("a_fault_on_a_named_thread_is_told_for_that_thread") {
        return;
    }
    let store = Folder::new("kind-named-thread");
    run_under(store.path(), support::tool().get_program().as_ref(), &["crash", "named-thread"]);
    let (_, report) = store.only_report();
    let thread = crashed(&report);
    assert_eq!(thread.name, "crasher");
    assert_functions(thread, &["kinds::null_write", "kinds::die", "crash::second_step", "crash::first_step"]);
    assert!(report.exception.summary.contains("crasher"), "{:?}", report.exception.summary);
    assert_eq!(report.threads.len(), 9, "main, seven that wait, and the crasher");
}

#[test]
fn a_fault_in_a_recursion_shows_both_ends_and_counts_the_rest() {
    if !ptrace_works("a_fault_in_a_recursion_shows_both_ends_and_counts_the_rest") {
        return;
    }
    let store = Folder::new("kind-deep-recursion");
    run_under(store.path(), support::tool().get_program().as_ref(), &["crash", "deep-recursion"]);
    let (_, report) = store.only_report();
    let thread = crashed(&report);
    let shown = functions(thread).iter().filter(|name| name.contains("recurse_then_fault")).count() as u64;
    let omitted: u64 = thread.folds.iter().map(|fold| fold.omitted * fold.length as u64).sum();
    assert_eq!(shown + omitted, 10_001, "one call for each depth from 10,000 to 0");
    assert!(thread.frames.len() < 200, "{} frames are shown", thread.frames.len());
}

#[test]
fn what_is_no_crash_makes_no_report() {
    if !ptrace_works("what_is_no_crash_makes_no_report") {
        return;
    }
    let program = support::tool().get_program().to_owned();
    let store = Folder::new("kind-no-crash");
    let exit = run_under(store.path(), program.as_ref(), &["crash", "exit", "--code", "7"]);
    assert_eq!(exit.status.code(), Some(7));
    let kill = run_under(store.path(), program.as_ref(), &["crash", "kill"]);
    assert_eq!(kill.status.signal(), Some(9));
    assert!(store.reports().is_empty());
}
