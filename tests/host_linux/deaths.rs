//! What is told of deaths.

use std::collections::HashSet;
use std::time::Duration;

use aftermach_handler::host::linux::{self, Ending, Options, Program};
use aftermach_handler::host::{Receiver, Task};
use aftermach_handler::snapshot::{Death, Snapshot};
use aftermach_protocol::exception::{Exception, LinuxSignal};

use crate::support::{Recorder, can_trace, traced, traced_with, untraced, victim};

fn signal_of(death: &Death) -> LinuxSignal {
    match death.exception {
        Exception::Linux(signal) => signal,
        other => panic!("{other:?} on Linux"),
    }
}

#[test]
fn a_null_read_is_told_with_its_address_and_thread() {
    if !can_trace() {
        return;
    }
    let (outcome, recorder) = traced(&["null"]);
    assert_eq!(outcome, untraced(&["null"]));
    let [told] = &recorder.told[..] else { panic!("{recorder:?}") };
    let expected = LinuxSignal { signal: libc::SIGSEGV, code: 1, address: Some(8), sender: None };
    assert_eq!((signal_of(&told.death), told.death.signal), (expected, libc::SIGSEGV));
    assert_eq!(told.death.thread, Some(told.death.pid as u64), "the first thread has the process's id");
    let [thread] = &told.threads[..] else { panic!("{told:?}") };
    let fault = thread.first_chance.as_ref().expect("the fault is the first chance as well");
    let registers = thread.registers.as_ref().expect("registers can be read");
    assert_eq!((fault.pc, fault.sp), (registers.pc(), registers.sp()));
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
}

#[test]
fn an_abort_in_a_fault_handler_tells_the_fault_as_well() {
    if !can_trace() {
        return;
    }
    let (outcome, recorder) = traced(&["handler-aborts"]);
    assert_eq!(outcome.ending, Ending::Killed(libc::SIGABRT));
    let [told] = &recorder.told[..] else { panic!("{recorder:?}") };
    assert_eq!(told.death.signal, libc::SIGABRT);
    let Some(Exception::Linux(fault)) = told.threads[0].first_chance.as_ref().map(|fault| fault.exception) else {
        panic!("{told:?}")
    };
    assert_eq!((fault.signal, fault.address), (libc::SIGSEGV, Some(8)));
}

#[test]
fn every_thread_of_five_hundred_is_held() {
    if !can_trace() {
        return;
    }
    let (outcome, recorder) = traced(&["crash-among", "500"]);
    assert_eq!(outcome.ending, Ending::Killed(libc::SIGSEGV));
    let [told] = &recorder.told[..] else { panic!("{} deaths", recorder.told.len()) };
    assert_eq!(told.threads.len(), 501);
    assert!(told.threads.iter().all(|thread| thread.registers.is_some()));
    assert_eq!(told.death.thread, Some(told.death.pid as u64));
    assert!(told.gaps.is_empty(), "{:?}", told.gaps);
}

#[test]
fn a_crash_after_main_has_ended_tells_the_threads_that_are_left() {
    if !can_trace() {
        return;
    }
    let (outcome, recorder) = traced(&["crash-without-leader"]);
    assert_eq!(outcome, untraced(&["crash-without-leader"]));
    let [told] = &recorder.told[..] else { panic!("{recorder:?}") };
    let [thread] = &told.threads[..] else { panic!("{told:?}") };
    assert_eq!(told.death.thread, Some(thread.id));
    assert_ne!(thread.id, told.death.pid as u64);
}

#[test]
fn a_hundred_processes_that_crash_at_once_are_all_told() {
    if !can_trace() {
        return;
    }
    let (outcome, recorder) = traced(&["crash-together", "100"]);
    assert_eq!(outcome.output, "100 died of it\n");
    let pids: HashSet<i32> = recorder.told.iter().map(|told| told.death.pid).collect();
    assert_eq!((pids.len(), recorder.told.len()), (100, 100));
    assert!(recorder.told.iter().all(|told| told.threads.len() == 4 && told.gaps.is_empty()));
}

#[test]
fn a_crash_signal_from_outside_names_its_sender() {
    if !can_trace() {
        return;
    }
    for signal in [libc::SIGSEGV, libc::SIGQUIT, libc::SIGABRT] {
        let (outcome, recorder) = traced(&["killed-from-outside", &signal.to_string()]);
        let [told] = &recorder.told[..] else { panic!("{recorder:?}") };
        assert_eq!(outcome.output, format!("{} {signal}\n", told.death.pid));
        let found = signal_of(&told.death);
        assert_eq!((found.signal, found.code, found.address), (signal, libc::SI_USER, None));
        let sender = found.sender.expect("kill(2) says who");
        assert_ne!(sender.pid, told.death.pid);
        // SAFETY: no memory is involved.
        assert_eq!(sender.uid, unsafe { libc::getuid() });
    }
    let (outcome, recorder) = traced(&["killed-from-outside", &libc::SIGKILL.to_string()]);
    assert!(outcome.output.ends_with(" 9\n"), "{outcome:?}");
    assert!(recorder.told.is_empty());
}

#[test]
fn every_process_of_a_pipeline_is_watched() {
    if !can_trace() {
        return;
    }
    let script = format!("echo one | cat | {} abort; echo $?", victim().display());
    let program = Program::new("sh").args(["-c".to_owned(), script]);
    let (ending, output, recorder) = crate::support::trace(program, Options::default());
    assert_eq!((ending, output.as_str()), (Ok(Ending::Exited(0)), "134\n"));
    let [told] = &recorder.told[..] else { panic!("{recorder:?}") };
    assert_eq!(told.death.signal, libc::SIGABRT);
}

#[test]
fn an_orphan_is_watched_only_if_one_waits_for_descendants() {
    if !can_trace() {
        return;
    }
    let (_, recorder) = traced_with(&["orphan-crashes"], Options { wait_for_descendants: true, ..Options::default() });
    assert_eq!(recorder.told.len(), 1);
    let (outcome, _) = traced(&["orphan-crashes"]);
    assert_eq!(outcome.ending, Ending::Exited(0));
}

#[test]
fn a_filter_that_forbids_ptrace_is_named_and_nothing_runs() {
    let outcome = untraced(&["filtered"]);
    assert_eq!(outcome.ending, Ending::Exited(77), "{outcome:?}");
    assert_eq!(outcome.output.matches("SYS_PTRACE").count(), 2, "{outcome:?}");
}

/// Kills each process while it is held, and only then reads it.
struct Killer(Recorder);

impl Receiver for Killer {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        // SAFETY: the process is held, so the number is its.
        assert_eq!(unsafe { libc::kill(death.pid, libc::SIGKILL) }, 0);
        self.0.death(death, task)
    }

    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration) {
        self.0.released(snapshot, held);
    }
}

#[test]
fn a_held_process_can_be_killed_and_is_read_all_the_same() {
    if !can_trace() {
        return;
    }
    let mut killer = Killer(Recorder::default());
    let program = Program::new(victim()).args(["crash-among", "50"]);
    let ending = linux::run(&program, &Options::default(), &mut killer);
    assert_eq!(ending, Ok(Ending::Killed(libc::SIGSEGV)));
    let [told] = &killer.0.told[..] else { panic!("{:?}", killer.0) };
    assert_eq!(told.threads.iter().filter(|thread| thread.registers.is_some()).count(), 51);
}

#[test]
fn a_receiver_that_wants_no_report_is_not_told_of_the_release() {
    struct Indifferent(u32);
    impl Receiver for Indifferent {
        fn death(&mut self, _: Death, _: &dyn Task) -> Option<Box<Snapshot>> {
            self.0 += 1;
            None
        }

        fn released(&mut self, _: Box<Snapshot>, _: Duration) {
            panic!("nothing was asked for");
        }
    }
    if !can_trace() {
        return;
    }
    let mut receiver = Indifferent(0);
    let ending = linux::run(&Program::new(victim()).args(["abort"]), &Options::default(), &mut receiver);
    assert_eq!((ending, receiver.0), (Ok(Ending::Killed(libc::SIGABRT)), 1));
}
