//! What happened, in terms that both systems share.

use aftermach_protocol::exception::linux::{SI_KERNEL, Sender, code_name, signal_name};
use aftermach_protocol::exception::{Exception, LinuxSignal, MachException, darwin, mach};
use aftermach_protocol::platform::Cpu;
use aftermach_protocol::report::{Code, Hex, Signal};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Memory could not be accessed.
    Memory {
        /// Where.
        address: u64,
        /// It is mapped, but not for that. `None` where the system does not say.
        protected: Option<bool>,
    },
    /// The processor refused an instruction and does not say why (x86-64: general protection fault).
    GeneralProtection,
    /// Memory is mapped, but what backs it could not be read.
    Backing {
        /// Where.
        address: u64,
    },
    /// An access was not aligned.
    Misaligned {
        /// Where, if the system says so.
        address: Option<u64>,
    },
    /// The processor does not know the instruction, or not for this program.
    Instruction,
    /// A breakpoint or trap.
    Breakpoint,
    /// An integer division.
    Division,
    /// A floating-point operation.
    Float,
    /// A system call that is forbidden.
    SystemCall,
    /// The program ended itself with abort().
    Abort,
    /// A process sent the signal; itself, if the pid is its own.
    Sent(Option<Sender>),
    /// The system ended it for using too much.
    Limit,
    /// The terminal's user ended it.
    Terminal,
    /// The program asked for a report, and went on.
    Request,
    /// Something else, as the system describes it; may be empty.
    Other(String),
}

/// An exception as reports show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    /// What the system calls it.
    pub(super) name: String,
    /// The signal that the parent sees.
    pub(super) signal: Option<Signal>,
    /// What the system says more exactly.
    pub(super) code: Option<Code>,
    /// A Mach exception's codes.
    pub(super) codes: Vec<Hex>,
    /// What happened.
    pub(super) cause: Cause,
}

/// Reads an exception of a process whose id is `pid`; `signal` is what its parent sees, if that is known better.
pub(super) fn facts(exception: &Exception, cpu: Cpu, pid: i32, signal: Option<i32>) -> Facts {
    match exception {
        Exception::Linux(linux) => from_linux(linux, pid),
        Exception::Mach(mach) => from_mach(mach, cpu, signal),
        Exception::Simulated => {
            Facts { name: "SIMULATED".to_owned(), signal: None, code: None, codes: Vec::new(), cause: Cause::Request }
        }
    }
}

fn from_linux(signal: &LinuxSignal, pid: i32) -> Facts {
    let name = signal_name(signal.signal).map_or_else(|| format!("signal {}", signal.signal), str::to_owned);
    Facts {
        signal: Some(Signal { name: name.clone(), number: signal.signal, ..Signal::default() }),
        code: Some(Code {
            name: code_name(signal.signal, signal.code).map(str::to_owned),
            value: signal.code.into(),
            ..Code::default()
        }),
        codes: Vec::new(),
        cause: linux_cause(signal, pid),
        name,
    }
}

/// By `si_signo` and `si_code` (sigaction(2)).
fn linux_cause(signal: &LinuxSignal, pid: i32) -> Cause {
    let by_itself = signal.sender.is_none_or(|sender| sender.pid == pid);
    match (signal.signal, signal.code, signal.address) {
        (6, code, _) if code <= 0 && by_itself => Cause::Abort,
        (24 | 25, code, _) if code == SI_KERNEL || signal.sender.is_none() => Cause::Limit,
        (3, SI_KERNEL, _) => Cause::Terminal,
        // Zero and below: kill(2), sigqueue(3), tgkill(2).
        (_, code, _) if code <= 0 => Cause::Sent(signal.sender),
        (11, 1, Some(address)) => Cause::Memory { address, protected: Some(false) },
        (11, 2..=4, Some(address)) => Cause::Memory { address, protected: Some(true) },
        // #GP, and #SS for addresses that rsp and rbp take part in (arch/x86/kernel/traps.c).
        (7 | 11, SI_KERNEL, _) => Cause::GeneralProtection,
        (11, _, Some(address)) => Cause::Memory { address, protected: None },
        (7, 1, address) => Cause::Misaligned { address },
        (7, _, Some(address)) => Cause::Backing { address },
        (4, ..) => Cause::Instruction,
        // int3 has SI_KERNEL; brk and single steps TRAP_*.
        (5, ..) => Cause::Breakpoint,
        (8, 1 | 2, _) => Cause::Division,
        (8, ..) => Cause::Float,
        (31, ..) => Cause::SystemCall,
        _ => Cause::Other(String::new()),
    }
}

fn from_mach(exception: &MachException, cpu: Cpu, signal: Option<i32>) -> Facts {
    let inner = exception.unwrapped(cpu);
    let number = signal.or_else(|| exception.crash(cpu).map(|crash| crash.signal)).or_else(|| inner.signal(cpu));
    let signal = number.map(|number| Signal {
        name: darwin::signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned),
        number,
        ..Signal::default()
    });
    Facts {
        name: inner.name(),
        code: (inner.kind != mach::EXC_CRASH).then(|| Code {
            name: inner.code_name(cpu).map(str::to_owned),
            value: inner.code() as i64,
            ..Code::default()
        }),
        codes: exception.codes.into_iter().map(Hex).collect(),
        cause: mach_cause(&inner, cpu, number),
        signal,
    }
}

fn mach_cause(inner: &MachException, cpu: Cpu, signal: Option<i32>) -> Cause {
    // KERN_INVALID_ADDRESS and KERN_PROTECTION_FAILURE (osfmk/mach/kern_return.h).
    const INVALID_ADDRESS: u64 = 1;
    const PROTECTION_FAILURE: u64 = 2;
    // EXC_I386_GPFLT (osfmk/mach/i386/exception.h).
    const GENERAL_PROTECTION: u64 = 13;
    match (inner.kind, inner.code(), inner.fault_address(cpu)) {
        (mach::EXC_BAD_ACCESS, GENERAL_PROTECTION, None) if cpu == Cpu::X86_64 => Cause::GeneralProtection,
        (mach::EXC_BAD_ACCESS, INVALID_ADDRESS, Some(address)) => Cause::Memory { address, protected: Some(false) },
        (mach::EXC_BAD_ACCESS, PROTECTION_FAILURE, Some(address)) => Cause::Memory { address, protected: Some(true) },
        (mach::EXC_BAD_INSTRUCTION, ..) => Cause::Instruction,
        (mach::EXC_BREAKPOINT, ..) => Cause::Breakpoint,
        // EXC_I386_DIV = 1 (osfmk/mach/i386/exception.h).
        (mach::EXC_ARITHMETIC, 1, _) if cpu == Cpu::X86_64 => Cause::Division,
        (mach::EXC_ARITHMETIC, ..) => Cause::Float,
        (mach::EXC_SYSCALL | mach::EXC_MACH_SYSCALL, ..) => Cause::SystemCall,
        (mach::EXC_CRASH, ..) if signal == Some(darwin::SIGABRT) => Cause::Abort,
        (mach::EXC_CRASH, ..) => Cause::Sent(None),
        (mach::EXC_RESOURCE, ..) => Cause::Limit,
        _ => Cause::Other(inner.detail(cpu)),
    }
}
