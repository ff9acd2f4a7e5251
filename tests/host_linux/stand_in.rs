//! A process that stands between a program and whoever started it: statuses, signals, and the terminal.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::{can_trace, victim};

/// A stand-in for the victim with these arguments.
fn stand_in(what: &str, number: i32) -> Command {
    let mut command = Command::new(victim());
    command.args(["stand-in", &number.to_string()]).env("STAND_IN_FOR", what).stderr(Stdio::null());
    command
}

fn send(pid: i32, signal: i32) {
    // SAFETY: to children of this test that have not been waited for, or their groups.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// The lines that a child prints.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).lines().map(|line| line.expect("text"))
}

#[test]
fn it_ends_as_the_program_did() {
    if !can_trace() {
        return;
    }
    for (what, number) in [("exit", 0), ("exit", 3), ("exit", 255)] {
        assert_eq!(stand_in(what, number).status().expect("it starts").code(), Some(number));
    }
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGHUP, libc::SIGPIPE, libc::SIGSEGV, libc::SIGABRT] {
        let status = stand_in("raise", signal).status().expect("it starts");
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal), false));
    }
}

#[test]
fn a_signal_that_a_process_sends_it_goes_to_the_program_once() {
    if !can_trace() {
        return;
    }
    for to_group in [false, true] {
        let mut child =
            stand_in("count-signals", 3).process_group(0).stdout(Stdio::piped()).spawn().expect("it starts");
        let pid = child.id() as i32;
        let mut lines = lines(&mut child);
        assert_ne!(lines.next(), Some(pid.to_string()), "the program is another process");
        for number in 1..=3 {
            send(if to_group { -pid } else { pid }, libc::SIGUSR1);
            assert_eq!(lines.next(), Some(format!("got {number}")));
        }
        assert_eq!(lines.next(), Some("3 in all".to_owned()), "to the group: {to_group}");
        assert!(child.wait().expect("it ends").success());
    }
}

#[test]
fn a_program_that_handles_the_request_to_end_decides_how() {
    if !can_trace() {
        return;
    }
    let mut child = stand_in("term-handler", 0).stdout(Stdio::piped()).spawn().expect("it starts");
    lines(&mut child).next().expect("it prints its number");
    send(child.id() as i32, libc::SIGTERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(50 + libc::SIGTERM));
}

#[test]
fn if_it_is_killed_the_program_is_killed_too() {
    if !can_trace() {
        return;
    }
    let mut child = stand_in("sleep", 0).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = child.stdout.take().expect("it is piped");
    output.read_exact(&mut [0]).expect("it prints its number");
    send(child.id() as i32, libc::SIGKILL);
    // The program holds the other end as well, and would sleep for an hour.
    output.read_to_end(&mut Vec::new()).expect("both ends are closed");
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGKILL));
}

#[test]
fn if_it_is_killed_what_the_program_left_behind_lives_on() {
    if !can_trace() {
        return;
    }
    let mut child = stand_in("leave-daemon", 0).stdout(Stdio::piped()).spawn().expect("it starts");
    let daemon: i32 = lines(&mut child).next().and_then(|line| line.parse().ok()).expect("it prints a number");
    send(child.id() as i32, libc::SIGKILL);
    child.wait().expect("it ends");
    let status = fs::read_to_string(format!("/proc/{daemon}/status")).expect("it lives");
    assert!(status.contains("TracerPid:\t0\n") && !status.contains("State:\tZ"), "{status}");
    send(daemon, libc::SIGKILL);
}

/// A terminal, seen from its outer end.
struct Terminal {
    outer: File,
    inner: OwnedFd,
}

impl Terminal {
    fn open() -> Terminal {
        // Close-on-exec from the start: a program that another test starts just now must not hold it open.
        let mut both = File::options();
        both.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let outer = both.open("/dev/ptmx").expect("a terminal");
        let mut name = [0; 64];
        // SAFETY: the descriptor is a terminal's outer end, and the name has the length that is given.
        let results = unsafe {
            let outer = outer.as_raw_fd();
            [libc::grantpt(outer), libc::unlockpt(outer), libc::ptsname_r(outer, name.as_mut_ptr().cast(), name.len())]
        };
        assert_eq!(results, [0, 0, 0]);
        let name = CStr::from_bytes_until_nul(&name).expect("a name").to_str().expect("ASCII");
        Terminal { outer, inner: both.open(name).expect("the terminal's inner end").into() }
    }

    /// Runs a command with this as its terminal, as leader of a session of its own, and returns it.
    fn run(&self, command: &mut Command) -> Child {
        let stream = || Stdio::from(self.inner.try_clone().expect("a descriptor"));
        let terminal = self.inner.as_raw_fd();
        let lead = move || {
            // SAFETY: async-signal-safe calls in the child, on a descriptor that it has.
            unsafe {
                libc::setsid();
                libc::ioctl(terminal, libc::TIOCSCTTY, 0);
            }
            Ok(())
        };
        // SAFETY: the closure makes only async-signal-safe calls.
        unsafe { command.pre_exec(lead) };
        command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("it starts")
    }

    fn press(&mut self, keys: &[u8]) {
        self.outer.write_all(keys).expect("the terminal takes it");
    }

    /// Reads until `text` has come, and returns all that did.
    fn expect(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut bytes = [0; 256];
            let count = self.outer.read(&mut bytes).expect("more comes");
            seen.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// `sh` with job control, which runs the stand-in in the foreground of the terminal.
fn shell_for(what: &str, number: i32) -> Command {
    let mut shell = Command::new("/bin/sh");
    let script = "set -m; \"$0\" stand-in \"$1\"; echo \"first $?\"; fg >/dev/null; echo \"then $?\"";
    shell.args(["-c", script]).arg(victim()).arg(number.to_string()).env("STAND_IN_FOR", what);
    shell
}

#[test]
fn a_stop_from_the_terminal_gives_it_back_to_the_shell_and_fg_goes_on() {
    if !can_trace() {
        return;
    }
    let mut terminal = Terminal::open();
    let mut shell = terminal.run(&mut shell_for("echo", 0));
    terminal.expect("ready");
    terminal.press(b"one\n");
    terminal.expect("<one>");
    // Ctrl-Z, and the shell says what it saw.
    terminal.press(&[26]);
    terminal.expect(&format!("first {}", 128 + libc::SIGTSTP));
    terminal.press(b"two\n");
    terminal.expect("<two>");
    // Ctrl-D: end of file.
    terminal.press(&[4]);
    terminal.expect("then 0");
    assert!(shell.wait().expect("it ends").success());
}

#[test]
fn an_interrupt_from_the_terminal_is_for_the_program_to_decide() {
    if !can_trace() {
        return;
    }
    let mut terminal = Terminal::open();
    let mut child = terminal.run(&mut stand_in("echo", 0));
    terminal.expect("ready");
    // Ctrl-C.
    terminal.press(&[3]);
    let status: ExitStatus = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGINT));
}

#[test]
fn a_terminal_that_hangs_up_ends_the_program() {
    if !can_trace() {
        return;
    }
    let mut terminal = Terminal::open();
    // It must not read from the terminal: it would find its input ended, and race to end by itself.
    let mut child = terminal.run(&mut stand_in("sleep", 0));
    terminal.expect("\n");
    drop(terminal);
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGHUP));
}
