//! What an event means and whose it is: policy alone, as functions of values.
//!
//! A hardware exception is a *first chance* and never a report: signal handlers, JITs and garbage collectors live on them. A
//! report is made of a *death* by a signal whose default action is a crash. Whose death it is says the client's record in
//! the dead task's memory, never the way by which the exception came: tracing and exception ports are inherited by children, and
//! so is the record. It speaks for the process that installed the client, and for no child of it.

use aftermach_protocol::exception::linux::CORE_SIGNALS;
use aftermach_protocol::exception::mach::EXC_CRASH;
use aftermach_protocol::exception::{Exception, LinuxSignal};
use aftermach_protocol::product::Product;

use crate::snapshot::Annotations;

/// What a signal means that is about to be delivered to a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The thread's own instruction raised it: a first-chance exception. It may be the thread's death as well.
    FirstChance,
    /// Sent by somebody, or raised by a system call; the process may die of it as of a crash.
    PossibleDeath,
    /// Not our business.
    Nothing,
}

/// What `signal` means.
pub fn meaning(signal: &LinuxSignal) -> Meaning {
    if signal.is_hardware_fault() {
        Meaning::FirstChance
    } else if signal.is_core_signal() {
        Meaning::PossibleDeath
    } else {
        Meaning::Nothing
    }
}

/// Whether a process that `signal` ended (`None`: it exited) died of a crash. Being told to end, by `SIGKILL`, `SIGTERM`,
/// `SIGINT` or `SIGPIPE`, is none.
pub fn is_crash(signal: Option<i32>) -> bool {
    signal.is_some_and(|signal| CORE_SIGNALS.contains(&signal))
}

/// Whether a report is made of a death: one by a crash's signal, on Linux; whatever the kernel of macOS sends as `EXC_CRASH`,
/// which it does for nothing else; and what the program itself asked for.
pub fn is_reported(exception: &Exception, signal: i32) -> bool {
    match exception {
        Exception::Linux(_) => is_crash(Some(signal)),
        Exception::Mach(exception) => exception.kind == EXC_CRASH,
        Exception::Simulated => true,
    }
}

/// Whose deaths are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's: the program was given to us to be watched, with all that it starts.
    Everything,
    /// Those of tasks that carry the installed client of this product.
    Product(Product),
}

/// Whose a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Its death makes a report.
    Ours,
    /// Nothing of it is written.
    Stranger,
}

/// Whose a task is, if that can be told without reading it. `is_client`: whether it asked the host itself to be watched, where the
/// host knows.
pub fn whose_unread(scope: &Scope, is_client: Option<bool>) -> Option<Whose> {
    match (scope, is_client) {
        (Scope::Everything, _) => Some(Whose::Ours),
        (Scope::Product(_), Some(false)) => Some(Whose::Stranger),
        // It may have asked the service of another product.
        (Scope::Product(_), Some(true) | None) => None,
    }
}

/// Whose a task is that says `annotations` of itself, and knows itself by the number `own_pid`. 0: that is not known, and who
/// installed the client can't be checked.
pub fn whose(scope: &Scope, annotations: &Annotations, own_pid: i32) -> Whose {
    let installed = || annotations.installer.is_some_and(|pid| own_pid == 0 || i64::from(pid) == i64::from(own_pid));
    let ours = match scope {
        Scope::Everything => true,
        Scope::Product(product) => {
            installed()
                && annotations.product.as_ref().is_some_and(|(group, name, channel)| {
                    (product.group(), product.name(), product.channel())
                        == (group.as_str(), name.as_str(), channel.as_str())
                })
        }
    };
    if ours { Whose::Ours } else { Whose::Stranger }
}

#[cfg(test)]
mod tests {
    use aftermach_protocol::exception::MachException;
    use aftermach_protocol::exception::linux::{SI_KERNEL, Sender};

    use super::*;

    // Numbers of Linux, on whatever system this is tested: signal(7), sigaction(2).
    const SIGINT: i32 = 2;
    const SIGQUIT: i32 = 3;
    const SIGILL: i32 = 4;
    const SIGTRAP: i32 = 5;
    const SIGABRT: i32 = 6;
    const SIGBUS: i32 = 7;
    const SIGFPE: i32 = 8;
    const SIGUSR1: i32 = 10;
    const SIGSEGV: i32 = 11;
    const SIGTERM: i32 = 15;
    const SIGCHLD: i32 = 17;
    const SIGXCPU: i32 = 24;
    const SIGXFSZ: i32 = 25;
    const SIGSYS: i32 = 31;
    const SI_USER: i32 = 0;
    const SI_TKILL: i32 = -6;

    /// The default actions of signal(7).
    #[test]
    fn only_signals_that_dump_core_are_crashes() {
        let core = [SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS];
        for signal in 1..=64 {
            assert_eq!(is_crash(Some(signal)), core.contains(&signal), "signal {signal}");
        }
        assert!(!is_crash(None));
    }

    /// SIGBUS is 10 there, which is SIGUSR1 on Linux, and a kill by the kernel itself is a crash.
    #[test]
    fn whatever_macos_sends_as_a_crash_is_one() {
        let mach = |kind, code| Exception::Mach(MachException::new(kind, code, 0));
        assert!(is_reported(&mach(10, 0x0A10_0002), 10));
        assert!(is_reported(&mach(10, 0x0910_0032), 9));
        assert!(!is_reported(&mach(1, 1), 11));
        let segv = LinuxSignal { signal: SIGSEGV, code: 1, address: None, sender: None };
        assert!(is_reported(&Exception::Linux(segv), SIGSEGV));
        assert!(is_reported(&Exception::Simulated, 0));
        assert!(!is_reported(&Exception::Linux(LinuxSignal { signal: SIGUSR1, ..segv }), SIGUSR1));
    }

    /// sigaction(2): codes above zero are the kernel's.
    #[test]
    fn a_signal_that_somebody_sent_is_no_first_chance() {
        let signal = |signal, code| LinuxSignal { signal, code, address: None, sender: None };
        let sent = LinuxSignal { sender: Some(Sender { pid: 1, uid: 0 }), ..signal(SIGSEGV, SI_USER) };
        for (signal, expected) in [
            (signal(SIGSEGV, 1), Meaning::FirstChance),
            (signal(SIGSEGV, SI_KERNEL), Meaning::FirstChance),
            (signal(SIGBUS, 2), Meaning::FirstChance),
            (signal(SIGILL, 2), Meaning::FirstChance),
            (signal(SIGFPE, 1), Meaning::FirstChance),
            (signal(SIGTRAP, SI_KERNEL), Meaning::FirstChance),
            (sent, Meaning::PossibleDeath),
            (signal(SIGABRT, SI_TKILL), Meaning::PossibleDeath),
            (signal(SIGSYS, 1), Meaning::PossibleDeath),
            (signal(SIGQUIT, SI_KERNEL), Meaning::PossibleDeath),
            (signal(SIGTERM, SI_USER), Meaning::Nothing),
            (signal(SIGUSR1, SI_TKILL), Meaning::Nothing),
            (signal(SIGCHLD, 1), Meaning::Nothing),
            (signal(SIGINT, SI_KERNEL), Meaning::Nothing),
        ] {
            assert_eq!(meaning(&signal), expected, "{signal:?}");
        }
    }

    #[test]
    fn a_task_without_the_client_is_a_stranger_to_the_service_but_not_to_run() {
        let product = |channel: &str| Product::new("com.example", "Tunnel", channel).unwrap();
        let says = |channel: &str| Annotations {
            product: Some(("com.example".to_owned(), "Tunnel".to_owned(), channel.to_owned())),
            installer: Some(7),
            ..Annotations::default()
        };
        let detached = Annotations { installer: None, ..says("") };
        let nothing = Annotations::default();
        for (scope, annotations, expected) in [
            (Scope::Everything, &nothing, Whose::Ours),
            (Scope::Everything, &says("beta"), Whose::Ours),
            (Scope::Product(product("")), &nothing, Whose::Stranger),
            (Scope::Product(product("")), &says(""), Whose::Ours),
            (Scope::Product(product("")), &says("beta"), Whose::Stranger),
            (Scope::Product(product("beta")), &says("beta"), Whose::Ours),
            (Scope::Product(product("")), &detached, Whose::Stranger),
            (Scope::Everything, &detached, Whose::Ours),
        ] {
            assert_eq!(whose(&scope, annotations, 7), expected, "{scope:?} {annotations:?}");
        }
        // A forked child has its parent's record.
        assert_eq!(whose(&Scope::Product(product("")), &says(""), 0), Whose::Ours);
        for own in [8, -7, i32::MAX] {
            assert_eq!(whose(&Scope::Product(product("")), &says(""), own), Whose::Stranger);
            assert_eq!(whose(&Scope::Everything, &says(""), own), Whose::Ours);
        }
    }

    #[test]
    fn who_did_not_ask_itself_need_not_be_read() {
        let ours = Scope::Product(Product::new("com.example", "Tunnel", "").unwrap());
        assert_eq!(whose_unread(&ours, Some(false)), Some(Whose::Stranger));
        assert_eq!(whose_unread(&ours, Some(true)), None);
        assert_eq!(whose_unread(&ours, None), None);
        for is_client in [None, Some(false), Some(true)] {
            assert_eq!(whose_unread(&Scope::Everything, is_client), Some(Whose::Ours));
        }
    }
}
