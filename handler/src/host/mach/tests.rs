//! Whole messages through the server, over the stand-in kernel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aftermach_protocol::dump_message;
use aftermach_protocol::exception::{KernReturn, MachException};
use aftermach_protocol::message::{Notification, PortName, Refusal, Reply};
use aftermach_protocol::reply::Occasion;

use super::ports::{Group, Ledger, Rights};
use super::server::{Handled, Policy, Server};
use super::stand_in::{FakeTask, OURSELVES, PAGE, StandInKernel, THREADS, VOUCHER, delivered};
use super::system::Facts;
use super::task::MachTask;
use super::told::Told;
use crate::host::{HostState, ReadMemory, Receiver, Task};

use crate::snapshot::{Death, Limits, Snapshot, capture};

mod clients;
mod earlier;
mod often;

const CLIENT: i32 = 100;
const STRANGER: i32 = 200;
const CLOSED: i32 = 300;

const FAULT: MachException = MachException::new(1, 1, 0x10);
const CRASH: MachException = MachException::new(10, 0x0B10_0001, 0x10);

fn kernel() -> StandInKernel {
    let memory = BTreeMap::from([(PAGE, vec![0xAB; PAGE as usize]), (3 * PAGE, vec![0xCD; PAGE as usize])]);
    let task =
        FakeTask { threads: vec![11, 12, 13], memory, dyld: 2 * PAGE, signature: Some((0, "")), ..FakeTask::default() };
    StandInKernel::default()
        .with_task(CLIENT, task.clone())
        .with_task(STRANGER, task.clone())
        .with_task(OURSELVES, task.clone())
        .with_task(CLOSED, FakeTask { closed: true, ..task })
}

/// Reports every death but the stranger's, as the service does.
#[derive(Default)]
struct Recorder {
    snapshots: Vec<(Snapshot, Duration)>,
    /// Called while the task is held.
    while_held: Option<Box<dyn FnMut()>>,
    /// Called once it has been let go.
    once_released: Option<Box<dyn FnMut()>>,
    /// What the host told of itself.
    states: Vec<HostState>,
}

impl Receiver for Recorder {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        if let Some(call) = &mut self.while_held {
            call();
        }
        if death.pid == STRANGER {
            return None;
        }
        Some(Box::new(capture(task, death, &Limits::default())))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration) {
        if let Some(call) = &mut self.once_released {
            call();
        }
        self.snapshots.push((*snapshot, held));
    }

    fn host_state(&mut self, state: HostState) {
        self.states.push(state);
    }
}

struct Bench {
    kernel: Arc<StandInKernel>,
    rights: Rights,
    server: Server,
    recorder: Recorder,
    /// Set when a capture has gone on too long after its deadline.
    stuck: Arc<AtomicBool>,
}

impl Bench {
    fn new(kernel: StandInKernel, policy: Policy) -> Bench {
        let kernel = Arc::new(kernel);
        let rights = Rights::new(Arc::<StandInKernel>::clone(&kernel), Arc::new(Ledger::new()));
        let facts = Facts::read(&*kernel, None);
        let stuck = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stuck);
        let is_stuck = move || told.store(true, Ordering::Release);
        let server = Server::new(Arc::<StandInKernel>::clone(&kernel), rights.clone(), facts, policy, is_stuck);
        let server = server.unwrap();
        Bench { kernel, rights, server, recorder: Recorder::default(), stuck }
    }

    fn handle(&mut self, mut buffer: Vec<u8>) -> Handled {
        self.server.handle(&mut buffer, &mut self.recorder)
    }

    /// The result in the last reply.
    fn last_reply(&self) -> KernReturn {
        let replies = self.kernel.replies.lock().unwrap();
        Reply::decode(replies.last().unwrap()).unwrap().code
    }

    fn last_snapshot(&self) -> &Snapshot {
        &self.recorder.snapshots.last().unwrap().0
    }

    fn gaps(&self) -> String {
        let gaps = self.last_snapshot().gaps.iter().map(|gap| format!("{}: {}", gap.part, gap.what));
        gaps.collect::<Vec<_>>().join("\n")
    }
}

fn bench() -> Bench {
    Bench::new(kernel(), Policy::default())
}

#[test]
fn a_clients_death_is_captured_answered_and_then_told() {
    for id in [2405, 2407, 2408, 2410] {
        let mut bench = bench();
        let message = bench.kernel.message(id, CLIENT, 1, CRASH);
        let handled = bench.handle(message.buffer());
        assert_eq!((handled.occasion, handled.pid), (Occasion::Death, Some(CLIENT)));
        assert_eq!(handled.answered, Some(KernReturn::RCV_PORT_DIED));
        assert_eq!(bench.last_reply(), KernReturn::RCV_PORT_DIED);
        let snapshot = bench.last_snapshot();
        assert_eq!((snapshot.death.pid, snapshot.death.thread, snapshot.death.signal), (CLIENT, Some(12), 11));
        let threads: Vec<_> = snapshot.threads.iter().map(|thread| thread.state.id).collect();
        assert_eq!(threads.len(), 3);
        let crashed = snapshot.threads.iter().find(|thread| thread.state.id == 12).unwrap();
        assert_eq!(crashed.state.registers.as_ref().unwrap().pc(), 12 * 0x1000);
    }
}

#[test]
fn the_switch_for_apples_report_decides_between_success_and_port_died() {
    let policy = Policy { system_report: false, ..Policy::default() };
    let mut bench = Bench::new(kernel(), policy);
    let message = bench.kernel.message(2408, CLIENT, 0, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::SUCCESS));
}

#[test]
fn a_first_chance_is_passed_on_and_shown_with_the_death() {
    let mut bench = bench();
    for id in [2405, 2408] {
        let message = bench.kernel.message(id, CLIENT, 2, FAULT);
        let handled = bench.handle(message.buffer());
        assert_eq!(handled.answered, Some(KernReturn::FAILURE));
        assert!(handled.outstanding.is_empty());
    }
    assert!(bench.recorder.snapshots.is_empty());
    let message = bench.kernel.message(2405, CLIENT, 2, MachException::new(10, 0x0600_0000, 0));
    bench.handle(message.buffer());
    let threads = &bench.last_snapshot().threads;
    let faults: Vec<_> = threads.iter().map(|thread| thread.state.first_chance.as_ref().map(|f| f.pc)).collect();
    assert_eq!(faults, [None, None, Some(13 * 0x1000)]);
}

#[test]
fn strangers_and_ourselves_are_passed_on_and_we_are_not_even_read() {
    let mut bench = bench();
    let message = bench.kernel.message(2405, STRANGER, 0, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::FAILURE));
    let before = bench.kernel.steps.load(Ordering::Relaxed);
    let message = bench.kernel.message(2405, OURSELVES, 0, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::FAILURE));
    // Its id, the thread's id, the reply.
    assert_eq!(bench.kernel.steps.load(Ordering::Relaxed) - before, 3);
    assert!(bench.recorder.snapshots.is_empty());
}

#[test]
fn a_token_that_gives_no_port_makes_a_report_of_what_the_message_holds() {
    let mut bench = bench();
    let message = bench.kernel.message(2410, CLOSED, 1, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::RCV_PORT_DIED));
    let snapshot = bench.last_snapshot();
    assert_eq!((snapshot.process.pid, snapshot.process.name.as_str()), (CLOSED, "victim"));
    assert_eq!(snapshot.threads.len(), 1);
    let thread = &snapshot.threads[0].state;
    assert_eq!((thread.id, thread.registers.as_ref().unwrap().pc()), (12, 65 << 32 | 64));
    assert!(bench.gaps().contains("its identity token gave no port to read it by: KERN_DENIED"), "{}", bench.gaps());
}

#[test]
fn a_message_about_nobody_is_still_a_death_with_its_codes() {
    let mut bench = bench();
    let message = bench.kernel.message(2406, CLIENT, 0, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::RCV_PORT_DIED));
    assert_eq!((bench.last_snapshot().death.pid, bench.last_snapshot().death.signal), (0, 11));
}

#[test]
fn a_fault_that_one_server_saw_is_joined_by_the_one_beside_it() {
    let mut bench = bench();
    let mut beside = bench.server.beside(|| {}).unwrap();
    let mut fault = bench.kernel.message(2408, CLIENT, 1, FAULT).buffer();
    beside.handle(&mut fault, &mut bench.recorder);
    let message = bench.kernel.message(2408, CLIENT, 1, CRASH);
    bench.handle(message.buffer());
    let threads = &bench.last_snapshot().threads;
    let seen = threads.iter().find(|thread| thread.state.id == 12).unwrap().state.first_chance.as_ref().unwrap();
    assert_eq!(seen.exception, aftermach_protocol::exception::Exception::Mach(FAULT));
}

#[test]
fn a_process_that_sends_an_exception_is_denied_and_nothing_is_read() {
    let mut bench = bench();
    let message = bench.kernel.message(2405, CLIENT, 0, CRASH).sent_by(666);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::DENIED));
    assert!(bench.recorder.snapshots.is_empty());
}

#[test]
fn a_client_may_ask_for_itself_only() {
    for by_token in [true, false] {
        let mut bench = bench();
        let own = bench.kernel.dump_message(CLIENT, by_token, CLIENT);
        assert_eq!(bench.handle(own).answered, Some(KernReturn::SUCCESS));
        assert_eq!(dump_message::decode_reply(&bench.kernel.replies.lock().unwrap()[0]), Some(0));
        let death = &bench.last_snapshot().death;
        assert_eq!((death.pid, death.thread, death.signal), (CLIENT, Some(12), 0));
        let others = bench.kernel.dump_message(CLIENT, by_token, STRANGER);
        assert_eq!(bench.handle(others).answered, Some(KernReturn::FAILURE));
        let kernels = bench.kernel.dump_message(CLIENT, by_token, 0);
        assert_eq!(bench.handle(kernels).answered, Some(KernReturn::DENIED));
        assert_eq!(bench.recorder.snapshots.len(), 1);
    }
}

#[test]
fn messages_that_are_not_understood_are_answered_and_what_they_carry_is_destroyed() {
    let mut bench = bench();
    let before = bench.kernel.space.census();
    let mut codes = bench.kernel.message(2405, CLIENT, 0, CRASH).buffer();
    codes[64] = 3;
    let handled = bench.handle(codes);
    assert_eq!(handled.occasion, Occasion::Malformed(Refusal::Codes(3)));
    assert_eq!(bench.last_reply(), KernReturn(-300));
    let mut unknown = bench.kernel.message(2408, CLIENT, 0, CRASH).buffer();
    unknown[20..24].copy_from_slice(&2409i32.to_le_bytes());
    assert_eq!(bench.handle(unknown).answered, Some(KernReturn(-303)));
    assert_eq!(bench.kernel.space.census(), before);
}

#[test]
fn a_forged_dead_name_takes_nothing_from_us_and_the_kernels_gives_its_reference_back() {
    let mut bench = bench();
    let ours = bench.kernel.space.give_send(5555);
    let before = bench.kernel.space.census();
    let notice = Notification::DeadName(ours).encode(PortName(0x0B03));
    let handled = bench.handle(delivered(notice.clone(), 666));
    assert_eq!((handled.occasion, handled.answered), (Occasion::Notification, None));
    assert_eq!(bench.kernel.space.census(), before);
    bench.kernel.space.kill(5555);
    bench.kernel.space.give_dead(ours);
    bench.handle(delivered(notice, 0));
    assert_eq!(bench.kernel.space.census()[&ours.0].dead, 1);
}

#[test]
fn at_the_deadline_the_task_is_let_go_and_the_report_says_so() {
    let policy = Policy { deadline: Duration::ZERO, system_report: false };
    let mut bench = Bench::new(kernel(), policy);
    let kernel = Arc::clone(&bench.kernel);
    // Hangs until somebody else has answered.
    bench.recorder.while_held = Some(Box::new(move || {
        while kernel.replies.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
    }));
    let message = bench.kernel.message(2408, CLIENT, 0, CRASH);
    // Apple's report is made after all: nobody knew yet whether ours would be.
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::RCV_PORT_DIED));
    assert_eq!(bench.kernel.replies.lock().unwrap().len(), 1);
    assert!(bench.gaps().contains("the task was let go at the deadline"), "{}", bench.gaps());
}

#[test]
fn a_capture_that_hangs_on_after_its_deadline_is_told_of_with_the_task_already_gone() {
    let mut bench = Bench::new(kernel(), Policy { deadline: Duration::ZERO, system_report: true });
    let (kernel, stuck) = (Arc::clone(&bench.kernel), Arc::clone(&bench.stuck));
    bench.recorder.while_held = Some(Box::new(move || {
        while !stuck.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert_eq!(kernel.replies.lock().unwrap().len(), 1);
    }));
    let message = bench.kernel.message(2405, CLIENT, 0, CRASH);
    assert_eq!(bench.handle(message.buffer()).answered, Some(KernReturn::RCV_PORT_DIED));
}

#[test]
fn when_a_death_is_told_the_reply_is_out_and_only_the_voucher_is_still_held() {
    let mut bench = bench();
    let before = bench.kernel.space.census();
    let kernel = Arc::clone(&bench.kernel);
    bench.recorder.once_released = Some(Box::new(move || {
        assert_eq!(kernel.replies.lock().unwrap().len(), 1);
        let census = kernel.space.census();
        assert_eq!(census.values().map(|entry| (entry.send, entry.dead)).collect::<Vec<_>>(), [(1, 0)]);
    }));
    let message = bench.kernel.message(2408, CLIENT, 0, CRASH);
    bench.handle(message.buffer());
    assert_eq!(bench.recorder.snapshots.len(), 1);
    assert_eq!(bench.kernel.space.census(), before);
}

#[test]
fn a_victim_that_is_killed_before_the_reply_leaves_no_right_behind() {
    let mut bench = bench();
    let message = bench.kernel.message(2405, CLIENT, 0, CRASH);
    // Counted once, so as to know which call the reply is.
    bench.handle(message.buffer());
    let last = bench.kernel.steps.load(Ordering::Relaxed) - 1;
    let mut bench = Bench::new(StandInKernel { fails_at: Some(last), ..kernel() }, Policy::default());
    let message = bench.kernel.message(2405, CLIENT, 0, CRASH);
    let handled = bench.handle(message.buffer());
    assert_eq!((handled.answered, handled.outstanding.len()), (None, 0));
    assert!(bench.kernel.space.census().is_empty());
    assert!(bench.gaps().contains("the task was killed while it was read"), "{}", bench.gaps());
}

/// A group of the ledger, as the host told it last: held and refused.
fn last_told(bench: &Bench, group: &str) -> (i64, u64) {
    let state = bench.recorder.states.last().unwrap();
    let group = state.ports.iter().find(|told| told.name == group).unwrap();
    (group.held, group.refused)
}

#[test]
fn a_right_that_the_kernel_does_not_take_back_is_named_by_its_group_in_that_report() {
    let mut bench = Bench::new(StandInKernel { keeps: Some(THREADS + 2), ..kernel() }, Policy::default());
    let told = Told::first(&bench.rights, &mut bench.recorder);
    let message = bench.kernel.message(2408, CLIENT, 0, CRASH);
    let handled = bench.handle(message.buffer());
    told.after(&handled, &mut bench.recorder);
    // One right a thread, the third of which is refused.
    assert!(bench.gaps().contains("ports: threads: 3 rights taken, 2 given back, 1 refused"), "{}", bench.gaps());
    assert_eq!((last_told(&bench, "threads"), last_told(&bench, "task reader")), ((1, 1), (1, 1)));
    assert_eq!(last_told(&bench, "messages"), (0, 0));
    // The next report does not bear the blame.
    let other = bench.kernel.message(2408, CLOSED, 0, CRASH);
    bench.handle(other.buffer());
    assert!(!bench.gaps().contains("ports:"), "{}", bench.gaps());
}

#[test]
fn a_voucher_that_is_not_taken_back_shows_in_the_ledger_of_the_whole() {
    let mut bench = Bench::new(StandInKernel { keeps: Some(VOUCHER), ..kernel() }, Policy::default());
    let told = Told::first(&bench.rights, &mut bench.recorder);
    let message = bench.kernel.message(2408, CLIENT, 0, CRASH);
    let handled = bench.handle(message.buffer());
    told.after(&handled, &mut bench.recorder);
    assert_eq!((last_told(&bench, "vouchers"), last_told(&bench, "handler")), ((1, 1), (1, 1)));
}

#[test]
fn the_host_tells_how_it_stands_after_deaths_and_refusals_but_not_after_first_chances() {
    let mut bench = bench();
    let told = Told::first(&bench.rights, &mut bench.recorder);
    let first_chance = bench.kernel.message(2408, CLIENT, 0, FAULT).buffer();
    let forged = bench.kernel.message(2405, CLIENT, 0, CRASH).sent_by(666).buffer();
    let death = bench.kernel.message(2408, CLIENT, 0, CRASH).buffer();
    for buffer in [first_chance, forged, vec![0xFF; 60], death] {
        let handled = bench.handle(buffer);
        told.after(&handled, &mut bench.recorder);
    }
    let refused: Vec<_> = bench.recorder.states.iter().map(|state| state.refused).collect();
    assert_eq!(refused, [0, 1, 2, 2]);
}

/// Every kind of message that the exception port can bring.
const KINDS: [fn(&StandInKernel) -> Vec<u8>; 23] = [
    |kernel| kernel.message(2405, CLIENT, 0, FAULT).buffer(),
    |kernel| kernel.message(2408, CLIENT, 0, FAULT).buffer(),
    |kernel| kernel.message(2405, CLIENT, 0, CRASH).buffer(),
    |kernel| kernel.message(2406, CLIENT, 0, CRASH).buffer(),
    |kernel| kernel.message(2407, CLIENT, 0, CRASH).buffer(),
    |kernel| kernel.message(2408, CLIENT, 0, CRASH).buffer(),
    |kernel| kernel.message(2410, CLIENT, 0, CRASH).buffer(),
    |kernel| kernel.message(2408, CLOSED, 0, CRASH).buffer(),
    |kernel| kernel.message(2405, STRANGER, 0, CRASH).buffer(),
    |kernel| kernel.message(2405, OURSELVES, 0, FAULT).buffer(),
    |kernel| kernel.message(2408, OURSELVES, 0, CRASH).buffer(),
    |kernel| kernel.message(2405, CLIENT, 0, MachException::new(12, 1 << 61, 0)).buffer(),
    |kernel| kernel.dump_message(CLIENT, true, CLIENT),
    |kernel| kernel.dump_message(CLIENT, false, CLIENT),
    |kernel| kernel.dump_message(CLIENT, true, STRANGER),
    |kernel| {
        let mut buffer = kernel.dump_message(CLIENT, true, CLIENT);
        buffer[64] = 7;
        buffer
    },
    |kernel| kernel.message(2408, CLIENT, 0, CRASH).sent_by(666).buffer(),
    |kernel| {
        let mut buffer = kernel.message(2405, CLIENT, 0, CRASH).buffer();
        buffer[64] = 1;
        buffer
    },
    |kernel| {
        let mut buffer = kernel.message(2408, CLIENT, 0, CRASH).buffer();
        buffer[20..24].copy_from_slice(&2409i32.to_le_bytes());
        buffer
    },
    |kernel| {
        let name = kernel.space.give_send(5555);
        kernel.space.kill(5555);
        delivered(Notification::DeadName(name).encode(PortName(0x0B03)), 0)
    },
    // Nobody is admitted.
    |kernel| kernel.check_in_message(CLIENT as u32, &[]),
    |_| delivered(Notification::NoSenders(1).encode(PortName(0x0B03)), 0),
    |kernel| delivered(Notification::PortDestroyed(kernel.space.give_receive()).encode(PortName(0x0B03)), 666),
];

#[test]
fn after_a_thousand_messages_of_every_kind_the_ledger_is_where_it_was() {
    for (kind, make) in KINDS.into_iter().enumerate() {
        let mut bench = bench();
        for _ in 0..1000 {
            let buffer = make(&bench.kernel);
            let handled = bench.handle(buffer);
            assert!(handled.outstanding.is_empty(), "kind {kind}: {:?}", handled.outstanding);
            bench.recorder.snapshots.clear();
        }
        assert!(bench.rights.ledger().outstanding().is_empty(), "kind {kind}:\n{}", bench.rights.ledger().describe());
        assert!(bench.kernel.space.census().is_empty(), "kind {kind}: {:?}", bench.kernel.space.census());
    }
}

#[test]
fn whichever_call_fails_and_whenever_the_victim_dies_every_right_is_given_back() {
    for (kind, make) in KINDS.into_iter().enumerate() {
        let mut whole = bench();
        let buffer = make(&whole.kernel);
        whole.handle(buffer);
        let steps = whole.kernel.steps.load(Ordering::Relaxed);
        for step in 0..steps {
            for (fails_at, dies_at) in [(Some(step), None), (None, Some(step)), (Some(step), Some(step / 2))] {
                let mut bench = Bench::new(StandInKernel { fails_at, dies_at, ..kernel() }, Policy::default());
                let buffer = make(&bench.kernel);
                let handled = bench.handle(buffer);
                let what = format!("kind {kind}, call {step} of {steps}: {fails_at:?} {dies_at:?}");
                assert!(handled.outstanding.is_empty(), "{what}: {:?}", handled.outstanding);
                assert!(bench.rights.ledger().outstanding().is_empty(), "{what}");
                assert!(bench.kernel.space.census().is_empty(), "{what}: {:?}", bench.kernel.space.census());
            }
        }
    }
}

#[test]
fn bytes_that_no_kernel_delivers_are_refused() {
    let mut bench = bench();
    for length in [0, 1, 23, 24, 60] {
        assert!(matches!(bench.handle(vec![0xFF; length]).occasion, Occasion::Malformed(_)));
    }
}

#[test]
fn memory_is_read_up_to_the_first_page_that_can_not_be() {
    let kernel = kernel();
    let port = kernel.space.give_send(CLIENT as u64 * 1000);
    let rights = Rights::new(Arc::new(super::ports::stand_in::StandIn::default()), Arc::new(Ledger::new()));
    let facts = Facts::read(&kernel, None);
    let task = MachTask::new(&kernel, &rights, &facts, Some(port), CLIENT);
    let mut buffer = vec![0; 3 * PAGE as usize];
    assert_eq!(task.read(PAGE, &mut buffer), PAGE as usize);
    assert_eq!(task.read(2 * PAGE - 10, &mut buffer), 10);
    assert_eq!(task.read(2 * PAGE, &mut buffer), 0);
    assert_eq!(task.read(3 * PAGE + 1, &mut buffer[..8]), 8);
    assert_eq!(buffer[..8], [0xCD; 8]);
    assert_eq!(task.read(u64::MAX - 3, &mut buffer), 0);
    assert_eq!(task.read(PAGE, &mut []), 0);
}

#[test]
fn facts_about_the_machine_are_what_the_kernel_says() {
    let facts = Facts::read(&kernel(), None);
    assert_eq!((facts.system.version.as_str(), facts.system.cpu_count), ("15.4.1", 8));
    assert_eq!((facts.system.machine, facts.system.pointer_mask), (None, Some(0x7FFF_FFFF_FFFF)));
}
