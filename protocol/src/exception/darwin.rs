//! Signals as macOS numbers them (`bsd/sys/signal.h`), which is not as Linux does.

/// Illegal instruction.
pub const SIGILL: i32 = 4;
/// Breakpoint.
pub const SIGTRAP: i32 = 5;
/// abort(3).
pub const SIGABRT: i32 = 6;
/// Emulator trap.
pub const SIGEMT: i32 = 7;
/// Arithmetic.
pub const SIGFPE: i32 = 8;
/// Killed.
pub const SIGKILL: i32 = 9;
/// Memory that is there but may not be accessed so.
pub const SIGBUS: i32 = 10;
/// Memory that is not there.
pub const SIGSEGV: i32 = 11;
/// Bad system call.
pub const SIGSYS: i32 = 12;
/// Write to a pipe without reader.
pub const SIGPIPE: i32 = 13;

/// By number, from 1.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGEMT",
    "SIGFPE",
    "SIGKILL",
    "SIGBUS",
    "SIGSEGV",
    "SIGSYS",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGURG",
    "SIGSTOP",
    "SIGTSTP",
    "SIGCONT",
    "SIGCHLD",
    "SIGTTIN",
    "SIGTTOU",
    "SIGIO",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGINFO",
    "SIGUSR1",
    "SIGUSR2",
];

/// A signal's name.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}

/// What psignal(3) calls the signals that crashes end with.
pub const fn signal_text(signal: i32) -> Option<&'static str> {
    Some(match signal {
        3 => "Quit",
        SIGILL => "Illegal instruction",
        SIGTRAP => "Trace/BPT trap",
        SIGABRT => "Abort trap",
        SIGEMT => "EMT trap",
        SIGFPE => "Floating point exception",
        SIGKILL => "Killed",
        SIGBUS => "Bus error",
        SIGSEGV => "Segmentation fault",
        SIGSYS => "Bad system call",
        _ => return None,
    })
}

/// Whether the signal has the core property: its default action is a crash (`bsd/sys/signalvar.h`).
pub const fn is_core_signal(signal: i32) -> bool {
    matches!(signal, 3..=8 | SIGBUS..=SIGSYS)
}

/// The number that macOS gives to a Linux signal; `None` for those it does not have.
pub fn from_linux(signal: i32) -> Option<i32> {
    let name = super::linux::signal_name(signal)?;
    let index = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_numbers_become_darwins() {
        let differ =
            [(7, 10), (31, 12), (23, 16), (19, 17), (20, 18), (18, 19), (17, 20), (29, 23), (10, 30), (12, 31)];
        for (linux, darwin) in differ {
            assert_eq!(from_linux(linux), Some(darwin));
        }
        for same in [1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 14, 15, 21, 22, 24, 25, 26, 27, 28] {
            assert_eq!(from_linux(same), Some(same));
        }
        // SIGSTKFLT and SIGPWR don't exist there.
        assert_eq!((from_linux(16), from_linux(30), from_linux(0), from_linux(65)), (None, None, None, None));
    }

    #[test]
    fn core_signals_are_those_of_signalvar_h() {
        let core: Vec<i32> = (0..40).filter(|signal| is_core_signal(*signal)).collect();
        assert_eq!(core, [3, 4, 5, 6, 7, 8, 10, 11, 12]);
    }

    #[test]
    fn names_stand_at_their_numbers() {
        let expected = [(1, "SIGHUP"), (7, "SIGEMT"), (10, "SIGBUS"), (12, "SIGSYS"), (29, "SIGINFO"), (31, "SIGUSR2")];
        for (signal, name) in expected {
            assert_eq!(signal_name(signal), Some(name));
        }
        assert_eq!((signal_name(0), signal_name(-1), signal_name(32)), (None, None, None));
    }
}
