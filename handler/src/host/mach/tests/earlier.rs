//! Exceptions that go on to the handler whose place ours took.

use std::time::Instant;

use aftermach_protocol::message::{CodeWidth, Previous, Request, Subject, decode_check_in_reply};

use super::*;
use crate::host::mach::pass_on::{MAX_WAITING, MAX_WAITING_OF_ONE, PATIENCE};

/// Who was registered before.
const REPORTER: u64 = 9001;
/// `EXC_MASK_CRASH`, and bad access, bad instruction, arithmetic, breakpoint.
const EVERYTHING: u32 = 0x400 | 0x2 | 0x4 | 0x8 | 0x40;
const CODES: u32 = 0x8000_0000;

/// A server, its service port, and the client's own port.
struct Passing {
    bench: Bench,
    service: PortName,
    own: PortName,
}

fn passing(kernel: StandInKernel, policy: Policy, behaviour: u32, flags: u32) -> Passing {
    let service = kernel.space.give_receive();
    let mut bench = Bench::new(kernel, policy);
    bench.server.admit_clients(bench.kernel.space.give_set());
    let port = bench.kernel.space.give_send(REPORTER);
    let row = Previous { port, mask: EVERYTHING, behaviour, flavor: 6, flags };
    let mut request = bench.kernel.check_in_message(CLIENT as u32, &[row]);
    // The process's version, the audit token's last word.
    let version = request.len() - 4;
    request[version] = 1;
    bench.handle(request);
    let answer = bench.kernel.replies.lock().unwrap().pop();
    let own = answer.map_or(PortName::NULL, |answer| decode_check_in_reply(&answer).unwrap().unwrap_or(PortName::NULL));
    Passing { bench, service, own }
}

fn usual(behaviour: u32) -> Passing {
    passing(kernel(), Policy::default(), behaviour, 0)
}

impl Passing {
    /// An exception of the client's arrives on the service's port.
    fn exception(&mut self, id: i32, exception: MachException) -> Handled {
        let (pid, port) = (CLIENT, self.service);
        self.exception_of(pid, port, id, exception)
    }

    fn exception_of(&mut self, pid: i32, port: PortName, id: i32, exception: MachException) -> Handled {
        let mut message = self.bench.kernel.message(id, pid, 1, exception);
        message.request.header.local = port;
        let handled = self.bench.handle(message.buffer());
        assert!(handled.outstanding.is_empty(), "{:?}", handled.outstanding);
        handled
    }

    /// What the other handler received last, as the kernel gives it out, and where it answers.
    fn received(&self) -> (Request, PortName) {
        let (handler, port, mut bytes) = self.bench.kernel.sent_on.lock().unwrap().pop().expect("it was asked");
        assert_eq!(handler, REPORTER);
        for index in 0..if bytes[3] & 0x80 != 0 { bytes[24].into() } else { 0 } {
            bytes[38 + 12 * index] = 17;
        }
        (Request::decode(&bytes).unwrap(), port)
    }

    /// The other handler answers `request`.
    fn answers(&mut self, request: &Request, port: PortName, code: KernReturn) -> Handled {
        let mut bytes = Reply::to(request, code).encode();
        // A received answer's remote port is none; it came by a send-once right.
        bytes[..4].copy_from_slice(&0x0000_1200u32.to_le_bytes());
        bytes[8..12].fill(0);
        bytes[12..16].copy_from_slice(&port.0.to_le_bytes());
        self.bench.handle(delivered(bytes, 666))
    }

    fn waits(&self) -> bool {
        self.bench.server.patience().is_some()
    }

    /// The client's end.
    fn end(&mut self) {
        if self.own != PortName::NULL {
            self.bench.kernel.outside_drops(self.own);
        }
        while let Some(notice) = { self.bench.kernel.notices.lock().unwrap().pop() } {
            self.bench.handle(notice);
        }
        let census = self.bench.kernel.space.census();
        let rest: Vec<_> = census.iter().filter(|(name, entry)| !entry.set && **name != self.service.0).collect();
        assert!(rest.is_empty(), "{rest:?}");
        let ledger = self.bench.rights.ledger();
        assert!(ledger.outstanding().is_empty(), "{}", ledger.describe());
    }
}

#[test]
fn a_first_chance_goes_to_the_earlier_handler_and_its_answer_to_the_kernel() {
    let answers = [
        (KernReturn::SUCCESS, KernReturn::SUCCESS),
        (KernReturn::FAILURE, KernReturn::FAILURE),
        (KernReturn::MIG_BAD_ID, KernReturn::FAILURE),
        // The thread would fault again for ever.
        (KernReturn::RCV_PORT_DIED, KernReturn::FAILURE),
    ];
    for (theirs, ours) in answers {
        let mut passing = usual(CODES | 1);
        assert_eq!(passing.exception(2408, FAULT).answered, None);
        assert!(passing.bench.kernel.replies.lock().unwrap().is_empty() && passing.waits());
        let (request, port) = passing.received();
        assert_eq!((request.header.id, request.exception, request.width), (2405, FAULT, CodeWidth::Bits64));
        let handled = passing.answers(&request, port, theirs);
        assert_eq!((handled.occasion, handled.pid), (Occasion::PassedOn, Some(CLIENT)));
        assert_eq!((handled.answered, passing.bench.last_reply()), (Some(ours), ours));
        // To the message that the kernel had sent.
        assert_eq!(Reply::decode(&passing.bench.kernel.replies.lock().unwrap()[0]).unwrap().request, 2408);
        assert!(!passing.waits());
        passing.end();
    }
}

#[test]
fn a_death_is_captured_first_and_what_the_earlier_handler_says_counts() {
    let answers = [
        (KernReturn::SUCCESS, KernReturn::SUCCESS),
        (KernReturn::RCV_PORT_DIED, KernReturn::RCV_PORT_DIED),
        // Apple's report is made all the same.
        (KernReturn::FAILURE, KernReturn::RCV_PORT_DIED),
    ];
    for (theirs, ours) in answers {
        let mut passing = usual(CODES | 1);
        assert_eq!(passing.exception(2408, CRASH).answered, None);
        assert_eq!(passing.bench.last_snapshot().death.pid, CLIENT);
        assert!(passing.bench.gaps().contains("handlers: the handler that was registered before was asked too"));
        let (request, port) = passing.received();
        assert_eq!(request.exception, CRASH);
        assert_eq!(passing.answers(&request, port, theirs).answered, Some(ours));
        passing.end();
    }
}

#[test]
fn each_form_of_registration_gets_its_message() {
    // Behaviour, the message for a fault, and the one for a death.
    let forms = [
        (CODES | 1, Some(2405), 2405),
        (1, Some(2401), 2401),
        (CODES | 4, Some(2408), 2408),
        // `MACH_EXCEPTION_BACKTRACE_PREFERRED` changes nothing where there is no corpse.
        (0x2000_0000 | CODES | 4, Some(2408), 2408),
        (CODES | 2, None, 2406),
        (CODES | 3, None, 2407),
        (CODES | 5, None, 2410),
        (2, None, 2402),
        (3, None, 2403),
    ];
    for (behaviour, for_fault, for_death) in forms {
        let mut passing = usual(behaviour);
        let fault = passing.exception(2408, FAULT);
        assert_eq!(fault.answered.is_none(), for_fault.is_some(), "{behaviour:#x}");
        if let Some(id) = for_fault {
            let (request, port) = passing.received();
            assert_eq!(request.header.id, id);
            passing.answers(&request, port, KernReturn::FAILURE);
        }
        assert_eq!(passing.exception(2408, CRASH).answered, None);
        let (request, port) = passing.received();
        assert_eq!(request.header.id, for_death);
        if let Subject::Identity { thread_id, .. } = request.subject {
            assert_eq!(thread_id, 12);
        }
        // The thread's pc in `ARM_THREAD_STATE64`, words 64 and 65.
        assert!(request.state.as_ref().is_none_or(|state| (state.flavor, state.words[64]) == (6, 12 * 0x1000)));
        assert_eq!(passing.answers(&request, port, KernReturn::SUCCESS).answered, Some(KernReturn::SUCCESS));
        let said = passing.bench.gaps();
        let refused = "was not asked of the task's hardware exceptions: it may change the thread's state";
        assert_eq!(said.contains(refused), for_fault.is_none(), "{said}");
        passing.end();
    }
}

#[test]
fn a_form_that_nobody_knows_and_a_token_that_did_not_come_are_told_in_the_report() {
    // The kernel itself would panic at 4 without codes.
    for behaviour in [0, 4, 5, CODES | 6] {
        let mut passing = usual(behaviour);
        assert_eq!(passing.exception(2408, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
        assert!(passing.bench.gaps().contains("was not asked: its behaviour"), "{}", passing.bench.gaps());
        passing.end();
    }
    let mut passing = usual(CODES | 4);
    assert_eq!(passing.exception(2405, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
    assert!(passing.bench.gaps().contains("there is no right to tell it of the task by"));
    passing.end();
}

#[test]
fn a_task_that_nobody_may_read_is_passed_on_as_it_came_and_in_no_other_form() {
    let closed = || kernel().with_task(CLIENT, FakeTask { threads: vec![11, 12], closed: true, ..FakeTask::default() });
    let mut passing = passing(closed(), Policy::default(), CODES | 4, 0);
    // Nobody may read its version either, and so nobody knows that it is the client: but for the port that it came on.
    let own = passing.own;
    assert_eq!(passing.exception_of(CLIENT, own, 2408, CRASH).answered, None);
    let (request, port) = passing.received();
    passing.answers(&request, port, KernReturn::SUCCESS);
    passing.end();
}

#[test]
fn a_dying_process_is_not_asked_of_its_own_death_but_of_its_faults_and_its_childrens_deaths() {
    let mut passing = passing(kernel(), Policy::default(), CODES | 1, 1);
    assert_eq!(passing.exception(2408, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
    assert!(passing.bench.gaps().contains("was not asked: it is the process itself, which is dead"));
    assert_eq!(passing.exception(2408, FAULT).answered, None);
    let own = passing.own;
    assert_eq!(passing.exception_of(STRANGER, own, 2408, CRASH).answered, None);
    for code in [KernReturn::FAILURE, KernReturn::FAILURE] {
        let (request, port) = passing.received();
        assert_eq!(passing.answers(&request, port, code).answered, Some(KernReturn::FAILURE));
    }
    passing.end();
}

#[test]
fn who_merely_has_a_clients_number_is_not_told_to_the_clients_handler() {
    let mut passing = usual(CODES | 1);
    // Another process, and the client's number used again (the stand-in's tasks have version 1).
    assert_eq!(passing.exception_of(STRANGER, passing.service, 2405, CRASH).answered, Some(KernReturn::FAILURE));
    let mut request = passing.bench.kernel.check_in_message(STRANGER as u32, &[]);
    let version = request.len() - 4;
    request[version] = 2;
    passing.bench.handle(request);
    assert_eq!(passing.exception_of(STRANGER, passing.service, 2405, FAULT).answered, Some(KernReturn::FAILURE));
    assert!(passing.bench.kernel.sent_on.lock().unwrap().is_empty());
}

#[test]
fn with_apples_report_switched_off_a_death_ends_with_ours() {
    let policy = Policy { system_report: false, ..Policy::default() };
    let mut passing = passing(kernel(), policy, CODES | 1, 0);
    assert_eq!(passing.exception(2408, CRASH).answered, Some(KernReturn::SUCCESS));
    assert!(passing.bench.kernel.sent_on.lock().unwrap().is_empty());
    passing.end();
}

#[test]
fn a_death_that_was_answered_at_the_deadline_is_not_passed_on() {
    let policy = Policy { deadline: Duration::ZERO, ..Policy::default() };
    let mut passing = passing(kernel(), policy, CODES | 1, 0);
    let kernel = Arc::clone(&passing.bench.kernel);
    passing.bench.recorder.while_held = Some(Box::new(move || {
        while kernel.replies.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
    }));
    assert_eq!(passing.exception(2408, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
    assert!(passing.bench.kernel.sent_on.lock().unwrap().is_empty());
    passing.end();
}

#[test]
fn a_handler_that_gives_up_its_answer_or_answers_nonsense_has_not_handled_it() {
    let nonsense: [fn(PortName, &Request) -> Vec<u8>; 4] = [
        // `MACH_NOTIFY_SEND_ONCE`: the right to answer was dropped, or its owner ended.
        |port, _| delivered(Notification::SendOnce.encode(port), 0),
        // An answer to another message.
        |port, request| {
            let mut bytes = Reply::to(request, KernReturn::SUCCESS).encode();
            bytes[12..16].copy_from_slice(&port.0.to_le_bytes());
            bytes[20] += 1;
            delivered(bytes, 666)
        },
        |port, _| {
            let mut bytes = vec![0; 24];
            bytes[4] = 24;
            bytes[12..16].copy_from_slice(&port.0.to_le_bytes());
            delivered(bytes, 666)
        },
        |port, _| {
            let mut bytes = Notification::NoSenders(1).encode(port);
            bytes[20] = 99;
            delivered(bytes, 666)
        },
    ];
    for make in nonsense {
        let mut passing = usual(CODES | 1);
        passing.exception(2408, FAULT);
        let (request, port) = passing.received();
        let handled = passing.bench.handle(make(port, &request));
        assert_eq!((handled.occasion, handled.answered), (Occasion::PassedOn, Some(KernReturn::FAILURE)));
        passing.end();
    }
}

#[test]
fn an_answer_with_rights_in_it_leaves_none_behind() {
    let mut passing = usual(CODES | 1);
    passing.exception(2408, FAULT);
    let (_, port) = passing.received();
    let mut bytes = passing.bench.kernel.message(2405, CLIENT, 0, FAULT);
    bytes.request.header.local = port;
    bytes.request.header.id = 2505;
    let handled = passing.bench.handle(bytes.sent_by(666).buffer());
    assert_eq!(handled.answered, Some(KernReturn::FAILURE));
    passing.end();
}

#[test]
fn a_handler_that_does_not_answer_is_given_up_at_the_deadline() {
    let mut passing = usual(CODES | 1);
    passing.exception(2408, CRASH);
    passing.bench.server.give_up();
    assert!(passing.waits() && passing.bench.server.patience() <= Some(PATIENCE));
    passing.bench.server.passed_on().give_up(Instant::now() + PATIENCE);
    assert_eq!(passing.bench.last_reply(), KernReturn::RCV_PORT_DIED);
    assert!(!passing.waits());
    // Its answer comes to a port that is no more.
    passing.end();
}

#[test]
fn a_handler_that_is_gone_or_whose_queue_is_full_is_not_waited_for() {
    let mut gone = usual(CODES | 1);
    gone.bench.kernel.space.kill(REPORTER);
    assert_eq!(gone.exception(2408, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
    assert!(!gone.bench.gaps().contains("handlers"), "nobody is there");
    gone.end();
    for behaviour in [1, 2, 3, 4, 5] {
        let mut full = passing(StandInKernel { full: true, ..kernel() }, Policy::default(), CODES | behaviour, 0);
        assert_eq!(full.exception(2408, CRASH).answered, Some(KernReturn::RCV_PORT_DIED));
        assert!(full.bench.gaps().contains("was not asked: it can't be reached"), "{}", full.bench.gaps());
        full.end();
    }
}

#[test]
fn no_more_than_so_many_wait_and_those_of_one_process_do_not_take_all_places() {
    let mut passing = usual(CODES | 1);
    for _ in 0..MAX_WAITING_OF_ONE {
        assert_eq!(passing.exception(2408, FAULT).answered, None);
    }
    assert_eq!(passing.exception(2408, FAULT).answered, Some(KernReturn::FAILURE));
    let own = passing.own;
    let others = MAX_WAITING / MAX_WAITING_OF_ONE;
    for child in 1..=others as i32 {
        let mut tasks = passing.bench.kernel.tasks.lock().unwrap();
        let task = tasks[&CLIENT].clone();
        tasks.insert(1000 + child, task);
        drop(tasks);
        for _ in 0..MAX_WAITING_OF_ONE {
            let answered = passing.exception_of(1000 + child, own, 2408, FAULT).answered;
            assert_eq!(answered.is_none(), child < others as i32, "{child}");
        }
    }
    passing.bench.server.passed_on().give_up(Instant::now() + PATIENCE);
    passing.end();
}

/// From the client's question over an exception and its answer to the client's end, as far as it comes.
fn whole(passing: &mut Passing, id: i32, exception: MachException, code: KernReturn) {
    let handled = passing.exception(id, exception);
    let sent = passing.bench.kernel.sent_on.lock().unwrap().len();
    if handled.answered.is_none() && sent > 0 {
        let (request, port) = passing.received();
        passing.answers(&request, port, code);
    }
    passing.bench.recorder.snapshots.clear();
    passing.bench.kernel.replies.lock().unwrap().clear();
}

#[test]
fn after_a_thousand_of_every_form_everything_is_given_back() {
    for behaviour in [1, CODES | 1, CODES | 2, CODES | 3, CODES | 4, CODES | 5] {
        let mut passing = usual(behaviour);
        for number in 0..1000 {
            let (exception, code) = [(FAULT, KernReturn::SUCCESS), (CRASH, KernReturn::FAILURE)][number % 2];
            whole(&mut passing, [2405, 2408][number / 2 % 2], exception, code);
        }
        passing.end();
    }
}

#[test]
fn whichever_call_fails_and_whenever_the_victim_dies_everything_is_given_back() {
    for full in [false, true] {
        for behaviour in [1, CODES | 2, CODES | 3, CODES | 4] {
            for (id, exception) in [(2405, FAULT), (2408, FAULT), (2408, CRASH)] {
                let start = || StandInKernel { full, ..kernel() };
                let mut once = passing(start(), Policy::default(), behaviour, 0);
                whole(&mut once, id, exception, KernReturn::FAILURE);
                let steps = once.bench.kernel.steps.load(Ordering::Relaxed);
                for step in 0..steps {
                    for (fails_at, dies_at) in [(Some(step), None), (None, Some(step))] {
                        let kernel = StandInKernel { fails_at, dies_at, ..start() };
                        let mut passing = passing(kernel, Policy::default(), behaviour, 0);
                        whole(&mut passing, id, exception, KernReturn::FAILURE);
                        passing.end();
                    }
                }
            }
        }
    }
}
