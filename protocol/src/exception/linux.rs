//! Linux signals as `siginfo_t` describes them (`include/uapi/asm-generic/siginfo.h`).

/// One signal as it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinuxSignal {
    /// `si_signo`, 1 to 64.
    pub signal: i32,
    /// `si_code`: above zero the kernel raised it for what the thread did (a hardware fault), otherwise a process sent it.
    pub code: i32,
    /// `si_addr` for hardware faults. With `SI_KERNEL` (0x80) the processor did not say, and this is `None`.
    pub address: Option<u64>,
    /// `si_pid` and `si_uid` for signals that a process sent.
    pub sender: Option<Sender>,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// `si_pid`.
    pub pid: i32,
    /// `si_uid`.
    pub uid: u32,
}

/// `SI_KERNEL`: raised by the kernel, which does not say where.
pub const SI_KERNEL: i32 = 0x80;

/// Signals whose default action ends the process with a core dump: those that make a crash report (signal(7), x86 and ARM).
pub const CORE_SIGNALS: [i32; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

/// The name of a signal, for x86-64 and ARM64 numbers (signal(7)).
pub const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        16 => "SIGSTKFLT",
        17 => "SIGCHLD",
        18 => "SIGCONT",
        19 => "SIGSTOP",
        20 => "SIGTSTP",
        21 => "SIGTTIN",
        22 => "SIGTTOU",
        23 => "SIGURG",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        26 => "SIGVTALRM",
        27 => "SIGPROF",
        28 => "SIGWINCH",
        29 => "SIGIO",
        30 => "SIGPWR",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// The name of a fault signal's `si_code` (sigaction(2)), where it has one.
pub const fn code_name(signal: i32, code: i32) -> Option<&'static str> {
    Some(match (signal, code) {
        (_, SI_KERNEL) => "SI_KERNEL",
        (_, 0) => "SI_USER",
        (_, -1) => "SI_QUEUE",
        (_, -6) => "SI_TKILL",
        (4, 1) => "ILL_ILLOPC",
        (4, 2) => "ILL_ILLOPN",
        (4, 3) => "ILL_ILLADR",
        (4, 4) => "ILL_ILLTRP",
        (4, 5) => "ILL_PRVOPC",
        (4, 6) => "ILL_PRVREG",
        (4, 7) => "ILL_COPROC",
        (4, 8) => "ILL_BADSTK",
        (5, 1) => "TRAP_BRKPT",
        (5, 2) => "TRAP_TRACE",
        (7, 1) => "BUS_ADRALN",
        (7, 2) => "BUS_ADRERR",
        (7, 3) => "BUS_OBJERR",
        (8, 1) => "FPE_INTDIV",
        (8, 2) => "FPE_INTOVF",
        (8, 3) => "FPE_FLTDIV",
        (8, 4) => "FPE_FLTOVF",
        (8, 5) => "FPE_FLTUND",
        (8, 6) => "FPE_FLTRES",
        (8, 7) => "FPE_FLTINV",
        (8, 8) => "FPE_FLTSUB",
        (11, 1) => "SEGV_MAPERR",
        (11, 2) => "SEGV_ACCERR",
        (11, 3) => "SEGV_BNDERR",
        (11, 4) => "SEGV_PKUERR",
        (31, 1) => "SYS_SECCOMP",
        _ => return None,
    })
}

impl LinuxSignal {
    /// Whether the thread's own instruction raised it: a first-chance exception, as XNU would send one.
    pub const fn is_hardware_fault(&self) -> bool {
        self.code > 0 && matches!(self.signal, 4 | 5 | 7 | 8 | 11)
    }

    /// Whether its default action is a crash.
    pub fn is_core_signal(&self) -> bool {
        CORE_SIGNALS.contains(&self.signal)
    }
}
