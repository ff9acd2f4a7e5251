//! Tasks that meet hardware exceptions in their normal course.

use super::*;
use crate::host::mach::first_chances::OFTEN;
use crate::host::mach::stand_in::{FakeAction, To};

const PROTECTED: u32 = 0x8000_0004;
const CLASSIC: u32 = 0x8000_0001;
/// `EXC_MASK_CRASH`, and bad access, bad instruction, arithmetic, breakpoint (`osfmk/mach/exception_types.h`).
const MASK_CRASH: u32 = 0x400;
const MASK_HARDWARE: u32 = 0x2 | 0x4 | 0x8 | 0x40;

/// A server with a client that registered its port for everything, and changed as `change` says.
fn bench_with(change: impl FnOnce(&mut FakeTask)) -> (Bench, PortName) {
    bench_over(kernel(), change)
}

fn bench_over(kernel: StandInKernel, change: impl FnOnce(&mut FakeTask)) -> (Bench, PortName) {
    let ours = kernel.space.give_receive();
    {
        let mut tasks = kernel.tasks.lock().unwrap();
        let task = tasks.get_mut(&CLIENT).unwrap();
        let (mask, to) = (MASK_CRASH | MASK_HARDWARE, To::Ours(ours));
        task.actions = vec![FakeAction { mask, to, behaviour: PROTECTED, flavor: 0 }];
        change(task);
    }
    (Bench::new(kernel, Policy::default()), ours)
}

impl Bench {
    fn fault(&mut self, id: i32, ours: PortName) {
        let mut message = self.kernel.message(id, CLIENT, 1, FAULT);
        message.request.header.local = ours;
        let handled = self.handle(message.buffer());
        assert!(handled.outstanding.is_empty());
    }

    fn often(&mut self, id: i32, ours: PortName) {
        (0..OFTEN).for_each(|_| self.fault(id, ours));
    }

    fn actions(&self) -> Vec<FakeAction> {
        self.kernel.tasks.lock().unwrap()[&CLIENT].actions.clone()
    }

    /// What the report of the client's death says of its first chances.
    fn said(&mut self, ours: PortName) -> String {
        let mut message = self.kernel.message(2408, CLIENT, 1, CRASH);
        message.request.header.local = ours;
        self.handle(message.buffer());
        self.gaps().lines().filter(|line| line.starts_with("first chances")).collect()
    }

    fn is_back_at_the_start(&self, ours: PortName) {
        let mut census = self.kernel.space.census();
        assert!(census.remove(&ours.0).is_some_and(|entry| entry.receive && entry.send == 0));
        assert!(census.is_empty(), "{census:?}");
        assert!(self.rights.ledger().outstanding().is_empty());
    }
}

#[test]
fn a_jit_is_let_alone_after_so_many_faults_and_its_death_is_still_ours() {
    for id in [2405, 2408] {
        let (mut bench, ours) = bench_with(|_| ());
        for _ in 1..OFTEN {
            bench.fault(id, ours);
        }
        assert_eq!(bench.actions()[0].mask, MASK_CRASH | MASK_HARDWARE);
        bench.fault(id, ours);
        let left = FakeAction { mask: MASK_CRASH, to: To::Ours(ours), behaviour: PROTECTED, flavor: 0 };
        assert_eq!(bench.actions(), [left]);
        assert_eq!(
            bench.said(ours),
            "first chances: the task met 100 hardware exceptions within 5s that it dealt with itself: from then on they were \
             not watched any more, and a thread's last one may be missing"
        );
        bench.is_back_at_the_start(ours);
    }
}

#[test]
fn a_task_that_faults_now_and_then_is_watched_on_and_nothing_is_said() {
    let (mut bench, ours) = bench_with(|_| ());
    for _ in 0..10 {
        bench.fault(2408, ours);
    }
    assert_eq!(bench.actions()[0].mask, MASK_CRASH | MASK_HARDWARE);
    assert_eq!(bench.said(ours), "");
}

#[test]
fn what_others_registered_in_the_task_stays() {
    let debugger = FakeAction { mask: 0x40, to: To::Object(9001), behaviour: CLASSIC, flavor: 7 };
    let (mut bench, ours) = bench_with(|task| {
        task.actions[0].mask &= !0x40;
        task.actions.push(debugger);
    });
    bench.often(2408, ours);
    assert_eq!(bench.actions()[0].mask, MASK_CRASH);
    assert_eq!(bench.actions()[1..], [debugger]);
    bench.is_back_at_the_start(ours);
}

#[test]
fn who_was_there_before_us_is_there_again() {
    let (mut bench, ours) = bench_with(|_| ());
    let set = bench.kernel.space.give_set();
    bench.server.admit_clients(set);
    let row = |mask, object, behaviour| aftermach_protocol::message::Previous {
        port: bench.kernel.space.give_send(object),
        mask,
        behaviour,
        flavor: 3,
        flags: 0,
    };
    let rows = [row(0x2 | MASK_CRASH, 9001, CLASSIC), row(0x4, 9002, PROTECTED)];
    let mut request = bench.kernel.check_in_message(CLIENT as u32, &rows);
    let version = request.len() - 4;
    request[version] = 1;
    assert_eq!(bench.handle(request).answered, Some(KernReturn::SUCCESS));
    // One of them has died since.
    bench.kernel.space.kill(9002);
    bench.often(2408, ours);
    let restored = FakeAction { mask: 0x2, to: To::Object(9001), behaviour: CLASSIC, flavor: 3 };
    assert_eq!(bench.actions()[1..], [restored]);
    assert_eq!(bench.actions()[0].mask, MASK_CRASH);
}

#[test]
fn a_hardened_task_is_never_touched_and_neither_is_one_that_nobody_knows() {
    let signatures = [
        Some((0, "<key>com.apple.security.hardened-process</key><true/>")),
        Some((0, "<key>com.apple.security.only-one-exception-port</key><true/>")),
        Some((0x0400_0000, "")),
        None,
    ];
    for signature in signatures {
        let (mut bench, ours) = bench_with(|task| task.signature = signature);
        let before = bench.actions();
        bench.often(2408, ours);
        assert_eq!(bench.actions(), before);
        assert!(bench.said(ours).contains("each waited for the service all the same, for it is hardened"));
        bench.is_back_at_the_start(ours);
    }
}

#[test]
fn where_it_can_not_be_done_the_report_says_so_and_it_is_not_tried_again() {
    let (mut bench, ours) = bench_with(|task| task.closed = true);
    bench.often(2408, ours);
    assert!(bench.said(ours).contains("for its control port was refused: KERN_DENIED"));
    bench.is_back_at_the_start(ours);

    let (mut bench, ours) = bench_with(|task| task.stubborn = true);
    bench.often(2405, ours);
    let steps = bench.kernel.steps.load(Ordering::Relaxed);
    bench.fault(2405, ours);
    let of_one = bench.kernel.steps.load(Ordering::Relaxed) - steps;
    let steps = bench.kernel.steps.load(Ordering::Relaxed);
    bench.often(2405, ours);
    assert_eq!(bench.kernel.steps.load(Ordering::Relaxed) - steps, of_one * OFTEN as usize);
    assert!(bench.said(ours).contains("for the system accepted it, and did otherwise"));
}

#[test]
fn whichever_call_fails_everything_is_given_back() {
    for id in [2405, 2408] {
        let (mut whole, ours) = bench_with(|_| ());
        whole.often(id, ours);
        let steps = whole.kernel.steps.load(Ordering::Relaxed);
        // The last message's calls are the ones that count.
        for step in steps - 30..steps {
            for dies in [false, true] {
                let (fails_at, dies_at) = if dies { (None, Some(step)) } else { (Some(step), None) };
                let (mut bench, ours) = bench_over(StandInKernel { fails_at, dies_at, ..kernel() }, |_| ());
                bench.often(id, ours);
                bench.is_back_at_the_start(ours);
            }
        }
    }
}
