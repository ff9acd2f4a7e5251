//! Programs end, and see the world, as they do without a tracer.

use aftermach_handler::host::linux::{Ending, HostError, Program};

use crate::support::{can_trace, trace, traced, untraced};

/// Asserts that a run is the same traced and not, and returns how many deaths were told.
#[track_caller]
fn same(arguments: &[&str]) -> usize {
    if !can_trace() {
        return 0;
    }
    let expected = untraced(arguments);
    let (outcome, recorder) = traced(arguments);
    assert_eq!(outcome, expected, "{arguments:?}");
    recorder.told.len()
}

#[test]
fn exit_codes_pass_through() {
    for code in ["0", "1", "7", "127", "255"] {
        assert_eq!(same(&["exit", code]), 0);
    }
}

#[test]
fn fatal_signals_that_are_no_crash_pass_through_and_make_no_report() {
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGPIPE, libc::SIGALRM, libc::SIGTERM, libc::SIGUSR1]
    {
        assert_eq!(same(&["raise", &signal.to_string()]), 0);
    }
}

#[test]
fn a_hundred_thousand_handled_signals_end_as_ever() {
    assert_eq!(same(&["handled-usr1", "100000"]), 0);
}

#[test]
fn a_hundred_thousand_handled_faults_end_as_ever_and_make_no_report() {
    assert_eq!(same(&["handled-segv", "100000"]), 0);
}

#[test]
fn ten_thousand_threads_come_and_go_as_ever() {
    assert_eq!(same(&["threads", "10000"]), 0);
}

#[test]
fn a_tree_of_forks_vforks_and_execs_ends_as_ever() {
    assert_eq!(same(&["tree", "240"]), 0);
}

#[test]
fn a_program_executed_by_a_thread_other_than_the_first_is_the_same_process() {
    for _ in 0..20 {
        assert_eq!(same(&["exec-from-thread", "5"]), 0);
    }
}

#[test]
fn threads_that_end_while_another_executes_a_program_disturb_nothing() {
    assert_eq!(same(&["exec-among-dying", "40"]), 0);
}

#[test]
fn busy_processes_can_be_killed_at_any_moment() {
    assert_eq!(same(&["kill-busy", "60"]), 0);
}

#[test]
fn a_parent_sees_its_child_stopped_and_continued() {
    assert_eq!(same(&["stop-child"]), 0);
}

#[test]
fn a_stopped_process_stays_stopped_until_it_is_continued() {
    assert_eq!(same(&["stop-self"]), 0);
}

#[test]
fn a_daemon_outlives_its_parents() {
    assert_eq!(same(&["daemon"]), 0);
}

#[test]
fn a_vfork_child_that_can_not_execute_lets_its_parent_go_on() {
    assert_eq!(same(&["vfork-waits"]), 0);
}

#[test]
fn signals_are_blocked_and_ignored_as_without_a_tracer() {
    assert_eq!(same(&["signals"]), 0);
}

#[test]
fn a_shell_sees_the_signal_that_its_child_died_of() {
    assert_eq!(same(&["die-below", &libc::SIGTERM.to_string()]), 0);
    assert_eq!(same(&["die-below", &libc::SIGABRT.to_string()]), usize::from(can_trace()));
}

#[test]
fn a_program_that_is_not_there_is_an_error_as_in_a_shell() {
    if !can_trace() {
        return;
    }
    for (program, errno, status) in [
        ("/nowhere/nothing", libc::ENOENT, 127),
        ("no-such-program-in-any-folder", libc::ENOENT, 127),
        ("/etc/passwd", libc::EACCES, 126),
        ("/", libc::EACCES, 126),
    ] {
        let (result, _, recorder) = trace(Program::new(program), Default::default());
        let error = result.expect_err("it can't be executed");
        let HostError::Exec { program: named, errno: found } = &error else { panic!("{error}") };
        assert_eq!((named.as_str(), found.0, error.exit_status()), (program, errno, status));
        assert!(recorder.told.is_empty());
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    if !can_trace() {
        return;
    }
    let (result, _, _) = trace(Program::new("/bin/true").directory("/nowhere"), Default::default());
    assert!(matches!(result, Err(HostError::Exec { .. })), "{result:?}");
}

#[test]
fn arguments_and_variables_arrive() {
    if !can_trace() {
        return;
    }
    let program =
        Program::new("sh").args(["-c", "echo \"$0 $COLOUR $PWD\"", "a b"]).env("COLOUR", "blue").directory("/");
    let (result, output, _) = trace(program, Default::default());
    assert_eq!((result, output.as_str()), (Ok(Ending::Exited(0)), "a b blue /\n"));
}
