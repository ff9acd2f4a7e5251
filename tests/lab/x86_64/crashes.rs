//! Real deaths of real Mach-O programs, from the exception to the report and the minidump.
//!
//! What is expected follows from tests/lab/victims, from the images' own bytes, and from what XNU sends for each fault
//! (`osfmk/i386/trap.c`, `bsd/uxkern/ux_exception.c`).

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;

use aftermach_handler::host::linux::{self, Options, Program};
use aftermach_handler::host::{Receiver, Task};
use aftermach_handler::service::{Service, Settings};
use aftermach_handler::snapshot::{Death, Limits, Snapshot, capture};
use aftermach_handler::store::{MINIDUMP, Store};
use aftermach_handler::triage::Scope;
use aftermach_protocol::product::Product;
use aftermach_protocol::report::{ExceptionKind, Report, StopReason, Trust};
use minidump::system_info::{Cpu, Os};
use minidump::{
    CrashReason, Minidump, MinidumpException, MinidumpModuleList, MinidumpSystemInfo, MinidumpThreadList, Module,
};

use super::darwin::Darwin;
use super::support::{self, Folder, crashed, functions, ptrace_works};
use crate::dumps;
use crate::images::{CXX, ImageBytes, NAMES, SMALL, X86_64, folder};

/// Runs a build's `main` with `arguments` until it dies; its report and the report's folder.
fn crash(store: &Folder, build: &str, arguments: &[&str]) -> (PathBuf, Report) {
    let (sender, made) = mpsc::channel();
    let service = Service::start(Settings {
        store: Store::open(store.path()).unwrap(),
        product: Product::new("org.example", "lab", "stable").unwrap(),
        scope: Scope::Everything,
        upload_to: None,
        done: Box::new(move |outcome| sender.send(outcome).unwrap()),
    });
    let service = service.unwrap();
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    let program = Program::new(support::example("macho_loader")).args([folder("x86_64", build).join("main")]);
    let program = program.args(arguments).stdin(null()).stdout(null());
    linux::run(&program, &Options::default(), &mut Darwin(&service)).unwrap();
    service.finish();
    let made = made.try_recv().unwrap_or_else(|_| panic!("{build} {arguments:?} makes a report")).unwrap();
    (made.folder, made.report)
}

struct Expected {
    kind: &'static str,
    /// The exception that the minidump bears, as rust-minidump names it.
    reason: &'static str,
    signal: i32,
    what: ExceptionKind,
    address: Option<u64>,
    /// The innermost functions, before those that lead to them all.
    functions: &'static [&'static str],
    /// How the second frame is found, if that matters.
    trust: Option<Trust>,
}

fn table() -> Vec<Expected> {
    use ExceptionKind::*;
    let row = |kind, reason, signal, what, address, functions| Expected {
        kind,
        reason,
        signal,
        what,
        address,
        functions,
        trust: None,
    };
    let store = &["store", "die_writing"][..];
    let bad_call = |expected| Expected { trust: Some(Trust::BadCall), ..expected };
    vec![
        row("null", "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", 11, NullPointer, Some(0), store),
        // Darwin's SIGBUS, where Linux says SIGSEGV.
        row("read-only", "EXC_BAD_ACCESS / KERN_PROTECTION_FAILURE", 10, BadAccess, None, store),
        row("general-protection", "EXC_BAD_ACCESS / EXC_I386_GPFLT", 11, NonCanonicalAddress, None, store),
        bad_call(row("call", "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", 11, BadCall, Some(0), &["?", "through"])),
        bad_call(row("wild", "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", 11, BadCall, Some(0x5000), &["?", "through"])),
        bad_call(row("data", "EXC_BAD_ACCESS / KERN_PROTECTION_FAILURE", 10, BadCall, None, &["?", "through"])),
        row("abort", "", 6, Abort, None, &["sys_abort", "fatal", "checked"]),
        row("illegal", "EXC_BAD_INSTRUCTION / EXC_I386_INVOP", 4, IllegalInstruction, None, &[]),
        row("zero", "EXC_ARITHMETIC / EXC_I386_DIV", 8, Arithmetic, None, &["divide"]),
        row("breakpoint", "EXC_BREAKPOINT / EXC_I386_BPT", 5, Breakpoint, None, &[]),
    ]
}

/// Asserts that `thread` stands in exactly `expected`, but for a system call's frame on top.
fn assert_stack(what: &str, thread: &aftermach_protocol::report::Thread, expected: &[&str]) {
    let names = functions(thread);
    assert!(names.ends_with(expected), "{what}: {names:?} do not end in {expected:?}");
    assert!(names.len() <= expected.len() + 1, "{what}: {names:?}");
    assert_eq!(thread.stop.as_ref().unwrap().reason, StopReason::Root, "{what}: {names:?}");
}

fn check(build: &str, way: &str, expected: &Expected) {
    let what = format!("{build} {way} {}", expected.kind);
    let store = Folder::new(&format!("lab-{}", what.replace(' ', "-")));
    let (folder, report) = crash(&store, build, &[way, expected.kind]);

    // The report.
    println!("{what}: {}", report.exception.summary);
    assert_eq!((&*report.system.os, &*report.system.version), ("macos", "13.0"), "{what}");
    assert_eq!(report.exception.signal.as_ref().unwrap().number, expected.signal, "{what}: {:?}", report.exception);
    assert_eq!(report.exception.kind, expected.what, "{what}: {:?}", report.exception);
    if let Some(address) = expected.address {
        assert_eq!(report.exception.address.unwrap().0, address, "{what}: {:?}", report.exception);
    }
    let main = way == "die";
    let callers =
        if main { &["work_die", "die", "main", "_start_main"][..] } else { &["work_die", "victim", "_thread_entry"] };
    // Where it knows what `die` returns, the compiler makes its call of `work_die` a jump.
    let thread = crashed(&report);
    assert_eq!(thread.name, if main { "main" } else { "victim" }, "{what}");
    let stack = [expected.functions, callers].concat();
    let stack: Vec<&str> =
        stack.into_iter().filter(|name| *name != "die" || functions(thread).contains(&"die")).collect();
    assert_stack(&what, thread, &stack);
    if let Some(trust) = &expected.trust {
        assert_eq!(thread.frames[1].trust, *trust, "{what}");
    }
    let sleepers = report.threads.iter().filter(|thread| thread.name == "sleeper");
    assert_eq!(sleepers.clone().count(), 2, "{what}");
    // They may not have come to wait yet.
    for thread in sleepers {
        let names = functions(thread);
        assert!(names.iter().any(|name| ["sys_wait", "sys_wake"].contains(name)), "{what}: {names:?}");
        assert!(names.ends_with(&["sleeper", "_thread_entry"]), "{what}: {names:?}");
        assert_eq!(thread.stop.as_ref().unwrap().reason, StopReason::Root, "{what}: {names:?}");
    }

    // Images, against the files' own UUIDs.
    let images: Vec<(&str, Option<String>)> =
        report.images.iter().map(|image| (image.path.rsplit('/').next().unwrap(), image.id.clone())).collect();
    let uuids: Vec<[u8; 16]> =
        NAMES.iter().map(|name| ImageBytes::read(&crate::images::folder("x86_64", build).join(name)).uuid()).collect();
    let hex = |uuid: &[u8; 16]| uuid.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (name, uuid) in NAMES.iter().zip(&uuids) {
        let image =
            images.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("{what}: {name} in {images:?}"));
        assert_eq!(image.1.as_deref().map(|id| id.replace('-', "").to_lowercase()), Some(hex(uuid)), "{what}: {name}");
    }
    assert_eq!(images.len(), 3, "{what}: {images:?}");
    if expected.kind == "abort" {
        assert_eq!(report.messages.len(), 1, "{what}");
        assert_eq!(report.messages[0].text, "checked: b is 0", "{what}");
    }

    // The minidump, read by rust-minidump.
    let bytes = std::fs::read(folder.join(MINIDUMP)).unwrap();
    let dump = Minidump::read(&*bytes).unwrap();
    let system: MinidumpSystemInfo = dump.get_stream().unwrap();
    assert_eq!((system.os, system.cpu), (Os::MacOs, Cpu::X86_64), "{what}");
    let exception: MinidumpException<'_> = dump.get_stream().unwrap();
    let reason: CrashReason = exception.get_crash_reason(system.os, system.cpu);
    if !expected.reason.is_empty() {
        assert_eq!(reason.to_string(), expected.reason, "{what}");
    }
    let threads: MinidumpThreadList<'_> = dump.get_stream().unwrap();
    assert_eq!(threads.threads.len(), report.threads.len(), "{what}");
    let modules: MinidumpModuleList = dump.get_stream().unwrap();
    for (name, uuid) in NAMES.iter().zip(&uuids) {
        let module = modules.iter().find(|module| module.code_file().ends_with(name)).unwrap();
        let id = module.debug_identifier().unwrap().breakpad().to_string().to_lowercase();
        assert_eq!(id, format!("{}0", hex(uuid)), "{what}: {name}");
    }
}

#[test]
fn every_death_of_a_mach_o_program_is_told_as_macos_would_tell_it() {
    if !ptrace_works("every_death_of_a_mach_o_program_is_told_as_macos_would_tell_it") {
        return;
    }
    for expected in table() {
        check("O2", "die", &expected);
        check("O2", "thread-die", &expected);
    }
    for build in X86_64.into_iter().filter(|build| *build != "O2") {
        for expected in table().into_iter().filter(|expected| ["null", "call", "abort"].contains(&expected.kind)) {
            check(build, "thread-die", &expected);
        }
    }
}

#[test]
fn an_overflowed_stack_of_a_mach_o_program_is_walked_to_its_start() {
    if !ptrace_works("an_overflowed_stack_of_a_mach_o_program_is_walked_to_its_start") {
        return;
    }
    let store = Folder::new("lab-overflow");
    let (_, report) = crash(&store, "O2", &["die", "stack"]);
    assert_eq!(report.exception.kind, ExceptionKind::StackOverflow);
    assert_eq!(report.exception.signal.as_ref().unwrap().name, "SIGSEGV");
    let thread = crashed(&report);
    let names = functions(thread);
    assert!(
        names.ends_with(&["endless", "work_die", "main", "_start_main"])
            || names.ends_with(&["endless", "work_die", "die", "main", "_start_main"]),
        "{names:?}"
    );
    // 8 MiB in frames of at least 144 bytes and at most 256.
    let omitted: u64 = thread.folds.iter().map(|fold| fold.omitted).sum();
    assert!((8 << 20 >> 8..8 << 20 >> 7).contains(&omitted), "{omitted}");
}

#[test]
fn another_threads_overflowed_stack_is_a_bus_error_as_on_macos() {
    if !ptrace_works("another_threads_overflowed_stack_is_a_bus_error_as_on_macos") {
        return;
    }
    let store = Folder::new("lab-thread-overflow");
    let (_, report) = crash(&store, "O2", &["thread-die", "stack"]);
    assert_eq!(report.exception.kind, ExceptionKind::StackOverflow);
    assert_eq!(report.exception.signal.as_ref().unwrap().name, "SIGBUS");
}

#[test]
fn a_death_on_an_exceptions_way_shows_who_threw_and_who_was_to_catch() {
    if !ptrace_works("a_death_on_an_exceptions_way_shows_who_threw_and_who_was_to_catch") {
        return;
    }
    // The innermost functions, those of the search for handlers left out. What was called below a landing pad is gone.
    let cases: [(&str, i32, &[&str]); 4] = [
        (
            "destructor",
            11,
            &["CrashingGuard::~CrashingGuard()", "crashes_while_unwinding(long)", "dies_in_destructor(long)"],
        ),
        ("handler", 11, &["dies_in_handler(long)"]),
        ("uncaught", 6, &["__cxa_throw", "throws(long)", "cleans(long)", "passes(long)"]),
        ("noexcept", 6, &["__clang_call_terminate", "quiet(long)"]),
    ];
    for build in CXX {
        for (kind, signal, expected) in cases {
            let what = format!("{build} {kind}");
            let store = Folder::new(&format!("lab-{build}-{kind}"));
            let (_, report) = crash(&store, build, &["die", kind]);
            assert_eq!(report.exception.signal.as_ref().unwrap().number, signal, "{what}");
            let thread = crashed(&report);
            let inside =
                ["sys_abort", "call", "terminating", "std::terminate()", "go_on", "cxx_throw", "__cxa_begin_catch"];
            let names = functions(thread);
            let mut own: Vec<&str> = names.iter().copied().skip_while(|name| inside.contains(name)).collect();
            // A complete object's destructor that calls the base object's has the same name.
            own.dedup();
            let ends = ["die(char const*)", "main", "_start_main"];
            // Where nothing is left to be done in it, `die` or `main` has made its call a jump.
            let ends = ends.iter().filter(|end| own.contains(end)).copied();
            let whole: Vec<&str> = expected.iter().copied().chain(ends).collect();
            assert_eq!(own, whole, "{what}: {names:?}");
            assert_eq!(thread.stop.as_ref().unwrap().reason, StopReason::Root, "{what}");
        }
    }
}

/// Keeps the snapshot of a death.
#[derive(Default)]
struct Keeper(Option<Box<Snapshot>>);

impl Receiver for Keeper {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        Some(Box::new(capture(task, death, &Limits::default())))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, _: std::time::Duration) {
        self.0 = Some(snapshot);
    }
}

#[test]
#[ignore = "leaves dumps for other readers; tests/readers/lab_unwinders"]
fn dumps_of_every_death_are_left() {
    let Some(into) = dumps::folder() else { return };
    if !ptrace_works("dumps_of_every_death_are_left") {
        return;
    }
    let deaths: Vec<&str> = table().iter().map(|expected| expected.kind).collect();
    let c = X86_64.into_iter().flat_map(|build| deaths.iter().map(move |kind| (build, *kind)).collect::<Vec<_>>());
    let cxx =
        CXX.into_iter().flat_map(|build| ["destructor", "handler", "uncaught", "noexcept"].map(|kind| (build, kind)));
    for (build, kind) in c.chain(cxx) {
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let way = if CXX.contains(&build) { "die" } else { "thread-die" };
        let program = Program::new(support::example("macho_loader"));
        let program =
            program.args([folder("x86_64", build).join("main")]).args([way, kind]).stdin(null()).stdout(null());
        let mut keeper = Darwin(Keeper::default());
        linux::run(&program, &Options::default(), &mut keeper).unwrap();
        dumps::leave(&into, build, kind, &keeper.0.0.unwrap_or_else(|| panic!("{build} {kind} dies")), None);
    }
}

#[test]
fn a_mach_o_program_that_ends_well_makes_no_report() {
    if !ptrace_works("a_mach_o_program_that_ends_well_makes_no_report") {
        return;
    }
    struct Nobody;
    impl Receiver for Nobody {
        fn death(&mut self, death: Death, _task: &dyn Task) -> Option<Box<Snapshot>> {
            panic!("{death:?}");
        }

        fn released(&mut self, _: Box<Snapshot>, _: std::time::Duration) {}
    }
    for build in X86_64.into_iter().chain(CXX).chain(SMALL) {
        let program = Program::new(support::example("macho_loader")).args([folder("x86_64", build).join("main")]);
        let ending = linux::run(&program.args(["tour"]), &Options::default(), &mut Darwin(Nobody)).unwrap();
        assert_eq!(ending, linux::Ending::Exited(0), "{build}");
    }
}
