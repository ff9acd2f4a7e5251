//! What to answer to which message. One function decides, so that the policy can be read and tested as a table.
//!
//! What an answer does (`osfmk/kern/exception.c`, `bsd/kern/kern_exit.c`): `KERN_SUCCESS` means handled: a thread goes on, and a
//! dying process leaves no report of Apple's. `MACH_RCV_PORT_DIED` ends the search for handlers: a dying process gets Apple's
//! report, but a thread at its first chance would fault again for ever, without a signal. Anything else asks the next handler,
//! and at last the system's own.

use crate::exception::{KernReturn, MachException, mach};
use crate::message::Refusal;

/// What a message is, by its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A thread met an exception; signal handlers and other exception handlers may still deal with it.
    FirstChance,
    /// `EXC_CRASH`: the task is dead.
    Death,
    /// `EXC_RESOURCE`, `EXC_GUARD`, `EXC_CORPSE_NOTIFY` or something newer: never asked for, but inherited registrations of
    /// others may bring it.
    Unasked,
    /// Our client asks for a report on itself, by [`dump_message`](crate::dump_message).
    Simulated,
    /// A client asks for a port of its own ([`CheckIn`](crate::message::CheckIn)).
    CheckIn,
    /// The answer of another handler, that an exception was passed on to.
    PassedOn,
    /// A notification about a port.
    Notification,
    /// It could not be understood.
    Malformed(Refusal),
}

impl Occasion {
    /// Which occasion an exception is.
    pub const fn of(exception: &MachException) -> Occasion {
        match exception.kind {
            mach::EXC_BAD_ACCESS..=mach::EXC_RPC_ALERT => Occasion::FirstChance,
            mach::EXC_CRASH => Occasion::Death,
            _ => Occasion::Unasked,
        }
    }
}

/// Who sent the message, by its audit trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The kernel.
    Kernel,
    /// A process.
    Process,
}

/// Whose exception it is, by what the task itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A client's.
    Client,
    /// A task that merely inherited a client's ports, or whose ports could not be read: nobody we know.
    Stranger,
    /// This very process: nothing of it may be suspended or waited for.
    Ourselves,
}

/// How much of the task was copied out before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// All of it, or as much as can be read.
    Whole,
    /// What there was at the deadline.
    AtDeadline,
    /// Nothing: there will be no report of ours.
    Nothing,
    /// Nothing: it asks for reports of itself faster than they are made.
    TooOften,
}

/// Everything the answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What the message is.
    pub occasion: Occasion,
    /// Who sent it.
    pub sender: Sender,
    /// Whose exception it is.
    pub whose: Whose,
    /// How much was copied.
    pub captured: Captured,
    /// Whether Apple's report shall be made beside ours.
    pub system_report: bool,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Reply with this result.
    Reply(KernReturn),
    /// Reply with a port for the client, or with the reason why it gets none.
    Port,
    /// Nobody waits for a reply.
    None,
}

/// What to answer.
pub fn answer(case: &Case) -> Answer {
    let code = match (case.occasion, case.sender) {
        (Occasion::Notification | Occasion::PassedOn, _) => return Answer::None,
        (Occasion::CheckIn, Sender::Process) => return Answer::Port,
        (Occasion::Malformed(refusal), _) => refusal.code(),
        (Occasion::Simulated, Sender::Process) => simulated(case),
        // Only the kernel knows of exceptions, and it is nobody's client: this is somebody's trick or mistake.
        (Occasion::Simulated | Occasion::CheckIn, Sender::Kernel) | (_, Sender::Process) => KernReturn::DENIED,
        (Occasion::Death, Sender::Kernel) => death(case),
        (Occasion::FirstChance | Occasion::Unasked, Sender::Kernel) => KernReturn::FAILURE,
    };
    Answer::Reply(code)
}

fn simulated(case: &Case) -> KernReturn {
    match (case.whose, case.captured) {
        (Whose::Client, Captured::Whole | Captured::AtDeadline) => KernReturn::SUCCESS,
        (Whose::Client, Captured::TooOften) => KernReturn::RESOURCE_SHORTAGE,
        _ => KernReturn::FAILURE,
    }
}

fn death(case: &Case) -> KernReturn {
    match (case.whose, case.captured) {
        (Whose::Stranger | Whose::Ourselves, _) => KernReturn::FAILURE,
        // Without a report of ours the system's is the only one: whoever switched it off did not want none.
        (Whose::Client, Captured::Nothing | Captured::TooOften) => KernReturn::RCV_PORT_DIED,
        (Whose::Client, _) if case.system_report => KernReturn::RCV_PORT_DIED,
        (Whose::Client, _) => KernReturn::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Captured::{AtDeadline, Nothing, TooOften, Whole};
    use Occasion::{CheckIn, Death, FirstChance, Malformed, Notification, PassedOn, Simulated, Unasked};
    use Sender::{Kernel, Process};
    use Whose::{Client, Ourselves, Stranger};

    const SENDERS: [Sender; 2] = [Kernel, Process];
    const EVERYBODY: [Whose; 3] = [Client, Stranger, Ourselves];
    const CAPTURES: [Captured; 4] = [Whole, AtDeadline, Nothing, TooOften];

    fn cases(occasion: Occasion, senders: &[Sender]) -> Vec<Case> {
        let mut cases = Vec::new();
        for &sender in senders {
            for whose in EVERYBODY {
                for captured in CAPTURES {
                    for system_report in [true, false] {
                        cases.push(Case { occasion, sender, whose, captured, system_report });
                    }
                }
            }
        }
        cases
    }

    fn reply(occasion: Occasion, sender: Sender, whose: Whose, captured: Captured, system_report: bool) -> KernReturn {
        match answer(&Case { occasion, sender, whose, captured, system_report }) {
            Answer::Reply(code) => code,
            Answer::Port | Answer::None => panic!("no plain reply"),
        }
    }

    #[test]
    fn a_first_chance_is_always_passed_on() {
        for case in cases(FirstChance, &[Kernel]).into_iter().chain(cases(Unasked, &[Kernel])) {
            assert_eq!(answer(&case), Answer::Reply(KernReturn::FAILURE), "{case:?}");
        }
    }

    #[test]
    fn a_clients_death_leaves_apples_report_unless_it_is_switched_off() {
        for captured in [Whole, AtDeadline] {
            assert_eq!(reply(Death, Kernel, Client, captured, true), KernReturn::RCV_PORT_DIED);
            assert_eq!(reply(Death, Kernel, Client, captured, false), KernReturn::SUCCESS);
        }
    }

    #[test]
    fn a_death_that_we_could_not_capture_is_left_to_apple_whatever_the_switch() {
        for system_report in [true, false] {
            assert_eq!(reply(Death, Kernel, Client, Nothing, system_report), KernReturn::RCV_PORT_DIED);
        }
    }

    #[test]
    fn strangers_and_our_own_task_are_passed_on() {
        for whose in [Stranger, Ourselves] {
            for captured in CAPTURES {
                for system_report in [true, false] {
                    assert_eq!(reply(Death, Kernel, whose, captured, system_report), KernReturn::FAILURE);
                    assert_eq!(reply(Simulated, Process, whose, captured, system_report), KernReturn::FAILURE);
                }
            }
        }
    }

    #[test]
    fn a_process_that_plays_kernel_is_denied_and_so_is_a_kernel_that_simulates() {
        for occasion in [FirstChance, Death, Unasked] {
            for case in cases(occasion, &[Process]) {
                assert_eq!(answer(&case), Answer::Reply(KernReturn::DENIED), "{case:?}");
            }
        }
        for case in cases(Simulated, &[Kernel]).into_iter().chain(cases(CheckIn, &[Kernel])) {
            assert_eq!(answer(&case), Answer::Reply(KernReturn::DENIED));
        }
    }

    #[test]
    fn a_client_that_checks_in_gets_a_port_whatever_else_is_known() {
        for case in cases(CheckIn, &[Process]) {
            assert_eq!(answer(&case), Answer::Port);
        }
    }

    #[test]
    fn a_client_that_asks_for_a_report_hears_whether_there_is_one() {
        for system_report in [true, false] {
            assert_eq!(reply(Simulated, Process, Client, Whole, system_report), KernReturn::SUCCESS);
            assert_eq!(reply(Simulated, Process, Client, AtDeadline, system_report), KernReturn::SUCCESS);
            assert_eq!(reply(Simulated, Process, Client, Nothing, system_report), KernReturn::FAILURE);
            assert_eq!(reply(Simulated, Process, Client, TooOften, system_report), KernReturn::RESOURCE_SHORTAGE);
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_as_a_generated_server_would() {
        for case in cases(Malformed(Refusal::Id(2409)), &SENDERS) {
            assert_eq!(answer(&case), Answer::Reply(KernReturn(-303)));
        }
        for case in cases(Malformed(Refusal::Codes(3)), &SENDERS) {
            assert_eq!(answer(&case), Answer::Reply(KernReturn(-300)));
        }
    }

    #[test]
    fn notifications_and_answers_want_no_reply() {
        for case in cases(Notification, &SENDERS).into_iter().chain(cases(PassedOn, &SENDERS)) {
            assert_eq!(answer(&case), Answer::None);
        }
    }

    #[test]
    fn nothing_but_a_death_is_ever_answered_with_port_died() {
        let occasions = [FirstChance, Unasked, Simulated, CheckIn, Notification, Malformed(Refusal::Id(1))];
        for case in occasions.into_iter().flat_map(|occasion| cases(occasion, &SENDERS)) {
            assert_ne!(answer(&case), Answer::Reply(KernReturn::RCV_PORT_DIED), "{case:?}");
        }
    }

    #[test]
    fn every_exception_type_is_one_occasion() {
        let of = |kind| Occasion::of(&MachException::new(kind, 0, 0));
        assert!((1..=9).all(|kind| of(kind) == FirstChance));
        assert_eq!(of(10), Death);
        assert!([0, 11, 12, 13, 14, u32::MAX].into_iter().all(|kind| of(kind) == Unasked));
    }
}
