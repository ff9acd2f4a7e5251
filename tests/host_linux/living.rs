//! Programs that ask for a report of themselves and go on as if nothing had been.

use aftermach_handler::snapshot::Exception;

use crate::service::Service;
use crate::support::{Outcome, Recorder, Told, can_trace, ended};

/// Runs a client that asks, to its end.
fn client(arguments: &[&str]) -> Option<(Outcome, Recorder)> {
    if !can_trace() {
        return None;
    }
    let service = Service::start();
    let outcome = ended(service.client(arguments).env("SERVICE", &service.path));
    Some((outcome, service.stop()))
}

fn is_simulated(told: &&Told) -> bool {
    told.death.exception == Exception::Simulated
}

#[test]
fn every_thread_is_read_where_it_stands_and_no_blocked_call_notices() {
    let Some((outcome, recorder)) = client(&["living-blocked", "3"]) else { return };
    let mut lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines.pop(), Some("status 0"));
    if cfg!(target_arch = "aarch64") {
        // What can't be restarted there: see host/linux/restart_aarch64.rs.
        lines.retain(|line| !line.ends_with("Interrupted system call (os error 4)"));
    }
    assert_eq!(lines, ["Ok"; 3]);
    assert_eq!(recorder.told.len(), 3);
    for told in &recorder.told {
        assert!(is_simulated(&told), "{told:?}");
        assert_eq!((told.death.signal, told.gaps.len()), (0, 0), "{told:?}");
        let asker = told.threads.iter().find(|thread| Some(thread.id) == told.death.thread).expect("the asking thread");
        assert_eq!(asker.id, told.death.pid as u64, "the main thread asks");
        let names = told.threads.iter().map(|thread| thread.name.as_str());
        let blocked: Vec<&str> = names.filter(|name| *name != "unwatched").collect();
        assert_eq!(blocked.len(), 17, "{blocked:?}");
        assert!(told.threads.iter().all(|thread| thread.registers.is_some()));
    }
}

#[test]
fn a_signal_that_is_ignored_interrupts_no_call() {
    let Some((outcome, recorder)) = client(&["living-ignored-signals", "20"]) else { return };
    if cfg!(target_arch = "x86_64") {
        assert_eq!(outcome.output, "Ok(())\nstatus 0\n");
    }
    assert!(recorder.told.is_empty());
}

#[test]
fn a_signal_that_is_handled_interrupts_a_call_as_ever() {
    let Some((outcome, recorder)) = client(&["living-handler", "50"]) else { return };
    assert_eq!(outcome.output, "50\nstatus 0\n");
    assert!(recorder.told.iter().all(|told| is_simulated(&told)));
}

#[test]
fn threads_children_and_signals_that_come_meanwhile_are_not_lost() {
    let Some((outcome, recorder)) = client(&["living-busy", "300"]) else { return };
    assert_eq!(outcome.output, "300\nstatus 0\n");
    assert_eq!(recorder.told.len(), 300);
    for told in &recorder.told {
        assert!(told.gaps.is_empty() && told.threads.len() >= 2, "{told:?}");
    }
}

#[test]
fn threads_that_ask_at_once_get_a_report_or_are_told_that_there_is_none() {
    let Some((outcome, recorder)) = client(&["living-at-once", "100"]) else { return };
    assert_eq!(outcome.output, format!("{}\nstatus 0\n", recorder.told.len()));
    assert!(!recorder.told.is_empty());
}

#[test]
fn a_crash_meanwhile_is_still_reported() {
    for _ in 0..20 {
        let Some((outcome, recorder)) = client(&["living-crashes"]) else { return };
        assert_eq!(outcome.output, "status 139\n");
        let (asked, died): (Vec<&Told>, Vec<&Told>) = recorder.told.iter().partition(is_simulated);
        assert!(asked.len() >= 3);
        let [died] = died.as_slice() else { panic!("one death: {recorder:?}") };
        assert_eq!((died.death.signal, died.threads.len()), (libc::SIGSEGV, 2), "{died:?}");
    }
}

#[test]
fn a_program_that_executes_another_meanwhile_does() {
    for _ in 0..20 {
        let Some((outcome, recorder)) = client(&["living-executes", "5"]) else { return };
        assert_eq!(outcome.output, "status 5\n");
        assert!(recorder.told.iter().all(|told| is_simulated(&told)), "{recorder:?}");
    }
}

#[test]
fn a_program_may_be_released_meanwhile() {
    let Some((outcome, _)) = client(&["living-released", "100"]) else { return };
    assert_eq!(outcome.output, "Ok\nstatus 0\n");
}

#[test]
fn a_program_that_is_stopped_stays_stopped() {
    for _ in 0..10 {
        let Some((outcome, recorder)) = client(&["living-stopped"]) else { return };
        assert_eq!(outcome.output, "0\nstatus 0\n");
        let [told] = recorder.told.as_slice() else { panic!("one report: {recorder:?}") };
        assert!(told.gaps.is_empty() && told.threads.len() == 2, "{told:?}");
    }
}

#[test]
fn a_forked_child_is_no_client_and_gets_none() {
    let Some((outcome, recorder)) = client(&["living-child"]) else { return };
    assert_eq!(outcome.output, "0 Ok\nstatus 0\n");
    assert_eq!(recorder.told.len(), 1);
}
