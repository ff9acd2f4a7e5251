//! Clients that ask for a port of their own.

use aftermach_protocol::message::{Previous, decode_check_in_reply};

use super::*;
use crate::host::mach::sessions::{MAX_SESSIONS, MAX_SESSIONS_OF_USER};

impl Bench {
    /// One that lets clients check in.
    fn admitting(kernel: StandInKernel) -> Bench {
        let bench = Bench::new(kernel, Policy::default());
        bench.server.admit_clients(bench.kernel.space.give_set());
        bench
    }

    /// Process `pid` asks. Its port, or the reason why it gets none.
    fn check_in(&mut self, pid: u32, previous: &[Previous]) -> Result<PortName, KernReturn> {
        let request = self.kernel.check_in_message(pid, previous);
        let handled = self.handle(request);
        assert!(handled.outstanding.is_empty());
        let replies = self.kernel.replies.lock().unwrap();
        decode_check_in_reply(replies.last().expect("an answer")).unwrap()
    }

    /// Handles what the kernel has to say.
    fn handle_notices(&mut self) {
        while let Some(notice) = { self.kernel.notices.lock().unwrap().pop() } {
            let handled = self.handle(notice);
            assert_eq!((handled.occasion, handled.answered), (Occasion::Notification, None));
        }
    }

    /// Nothing is left but the set.
    fn assert_empty(&self, what: &str) {
        let census = self.kernel.space.census();
        assert!(census.values().all(|entry| entry.set), "{what}: {census:?}");
        assert_eq!(self.server.clients(), 0, "{what}");
        assert!(self.rights.ledger().outstanding().is_empty(), "{what}:\n{}", self.rights.ledger().describe());
    }
}

/// A row for a port that nobody here receives on.
fn previous(kernel: &StandInKernel, object: u64) -> Previous {
    Previous { port: kernel.space.give_send(object), mask: 0x400, behaviour: 0x8000_0001, flavor: 0, flags: 0 }
}

#[test]
fn a_client_gets_a_port_that_lives_until_its_last_sender_is_gone() {
    let mut bench = Bench::admitting(kernel());
    let port = bench.check_in(100, &[]).unwrap();
    assert_eq!(bench.server.clients(), 1);
    // The client has the only right to send, and we have the one to receive.
    let entry = bench.kernel.space.census()[&port.0];
    assert_eq!((entry.receive, entry.send), (true, 0));
    let mut death = bench.kernel.message(2408, CLIENT, 1, CRASH);
    death.request.header.local = port;
    assert_eq!(bench.handle(death.buffer()).answered, Some(KernReturn::RCV_PORT_DIED));
    bench.handle_notices();
    assert_eq!(bench.server.clients(), 1);
    bench.kernel.outside_drops(port);
    bench.handle_notices();
    bench.assert_empty("after the client's end");
}

#[test]
fn one_process_has_one_port_however_often_it_asks_and_its_next_image_another() {
    let mut bench = Bench::admitting(kernel());
    let port = bench.check_in(100, &[]).unwrap();
    assert_eq!(bench.check_in(100, &[]), Ok(port));
    let mut next_image = bench.kernel.check_in_message(100, &[]);
    let version = next_image.len() - 4;
    next_image[version] = 2;
    bench.handle(next_image);
    assert_eq!(bench.server.clients(), 2);
    bench.kernel.outside_drops(port);
    bench.handle_notices();
    assert_eq!(bench.server.clients(), 2);
    bench.kernel.outside_drops(port);
    bench.handle_notices();
    assert_eq!(bench.server.clients(), 1);
}

#[test]
fn a_notice_that_a_new_right_has_overtaken_ends_nothing_and_the_next_one_does() {
    let mut bench = Bench::admitting(kernel());
    let port = bench.check_in(100, &[]).unwrap();
    bench.kernel.outside_drops(port);
    assert_eq!(bench.kernel.notices.lock().unwrap().len(), 1);
    // The client checks in again before the notice is received.
    assert_eq!(bench.check_in(100, &[]), Ok(port));
    bench.handle_notices();
    assert_eq!(bench.server.clients(), 1);
    bench.kernel.outside_drops(port);
    bench.handle_notices();
    bench.assert_empty("after both");
}

#[test]
fn a_right_that_came_and_went_while_a_notice_was_on_its_way_is_not_waited_for() {
    let mut bench = Bench::admitting(kernel());
    let port = bench.check_in(100, &[]).unwrap();
    bench.kernel.outside_drops(port);
    assert_eq!(bench.check_in(100, &[]), Ok(port));
    bench.kernel.outside_drops(port);
    bench.handle_notices();
    bench.assert_empty("after both");
}

#[test]
fn a_forged_notice_ends_nobodys_session() {
    let mut bench = Bench::admitting(kernel());
    let port = bench.check_in(100, &[]).unwrap();
    bench.handle(delivered(Notification::NoSenders(9).encode(port), 666));
    assert_eq!(bench.server.clients(), 1);
}

#[test]
fn earlier_handlers_ports_are_kept_as_long_as_the_client_lives_and_ours_are_not() {
    let mut bench = Bench::admitting(kernel());
    let before = previous(&bench.kernel, 5001);
    let port = bench.check_in(100, &[before, Previous { port: PortName::DEAD, ..before }]).unwrap();
    assert_eq!(bench.kernel.space.census()[&before.port.0].send, 1);
    // Replaced by what it says next: another's, and a port of ours, which would lead back.
    bench.kernel.space.make_send(port).unwrap();
    let other = previous(&bench.kernel, 5002);
    assert_eq!(bench.check_in(100, &[Previous { port, ..before }, other]), Ok(port));
    let census = bench.kernel.space.census();
    assert!(!census.contains_key(&before.port.0));
    assert_eq!((census[&other.port.0].send, census[&port.0].send), (1, 0));
    for _ in 0..2 {
        bench.kernel.outside_drops(port);
    }
    bench.handle_notices();
    bench.assert_empty("after the client's end");
}

#[test]
fn an_earlier_handler_that_is_no_handler_but_an_object_of_the_kernels_is_not_kept() {
    let mut bench = Bench::admitting(kernel());
    // The client's own task port: who sends to that by hand is killed.
    let task = Previous { port: bench.kernel.space.give_send(CLIENT as u64 * 1000), ..previous(&bench.kernel, 5001) };
    bench.check_in(100, &[task, previous(&bench.kernel, 5002)]).unwrap();
    let census = bench.kernel.space.census();
    assert!(!census.contains_key(&task.port.0));
    assert_eq!(bench.rights.ledger().counts(Group::ClientSessions).held(), 2);
}

#[test]
fn a_process_that_wants_its_answer_by_another_than_a_send_once_right_gets_none() {
    let mut bench = Bench::admitting(kernel());
    let reply = bench.kernel.space.give_send(CLIENT as u64 * 1000);
    let mut request = bench.kernel.check_in_message(100, &[]);
    let made = PortName(u32::from_le_bytes(request[8..12].try_into().unwrap()));
    bench.kernel.space.take_send_once(made).unwrap();
    request[0] = 0x11;
    request[8..12].copy_from_slice(&reply.0.to_le_bytes());
    assert_eq!(bench.handle(request).answered, None);
    assert!(bench.kernel.replies.lock().unwrap().is_empty());
    bench.handle_notices();
    bench.assert_empty("without an answer");
}

#[test]
fn there_are_at_most_so_many_clients_and_one_user_does_not_take_them_all() {
    let mut bench = Bench::admitting(kernel());
    // The audit token's effective user, in the trailer's seventh word.
    let ask = |bench: &mut Bench, pid: u32, user: u8| {
        let mut request = bench.kernel.check_in_message(pid, &[]);
        let user_at = request.len() - 52 + 24;
        request[user_at] = user;
        bench.handle(request).answered
    };
    let shortage = Some(KernReturn(6));
    for pid in 0..MAX_SESSIONS_OF_USER as u32 {
        assert_eq!(ask(&mut bench, 1000 + pid, 1), Some(KernReturn::SUCCESS));
    }
    assert_eq!(ask(&mut bench, 5000, 1), shortage);
    for pid in 0..(MAX_SESSIONS - MAX_SESSIONS_OF_USER) as u32 {
        assert_eq!(ask(&mut bench, 10_000 + pid, 2), Some(KernReturn::SUCCESS));
    }
    assert_eq!(ask(&mut bench, 50_000, 3), shortage);
    // Who has one may still ask.
    assert_eq!(ask(&mut bench, 1000, 1), Some(KernReturn::SUCCESS));
    assert_eq!(bench.server.clients(), MAX_SESSIONS);
}

#[test]
fn nobody_checks_in_with_a_server_that_runs_one_program_nor_in_the_kernels_name() {
    let mut bench = bench();
    let row = previous(&bench.kernel, 5001);
    assert_eq!(bench.check_in(100, &[row]), Err(KernReturn(46)));
    bench.assert_empty("not admitted");
    let mut bench = Bench::admitting(kernel());
    let row = previous(&bench.kernel, 5001);
    assert_eq!(bench.check_in(0, &[row]), Err(KernReturn::DENIED));
    bench.assert_empty("from the kernel");
}

/// From a client's first question to its end, as far as it comes.
fn whole_session(bench: &mut Bench) {
    let rows = [previous(&bench.kernel, 5001), previous(&bench.kernel, 5002)];
    let request = bench.kernel.check_in_message(100, &rows);
    let handled = bench.handle(request);
    assert!(handled.outstanding.is_empty());
    let answer = bench.kernel.replies.lock().unwrap().last().map(|reply| decode_check_in_reply(reply).unwrap());
    bench.kernel.space.kill(5001);
    if let Some(Ok(port)) = answer {
        bench.kernel.outside_drops(port);
    }
    bench.handle_notices();
}

#[test]
fn after_a_thousand_clients_everything_is_given_back() {
    let mut bench = Bench::admitting(kernel());
    for _ in 0..1000 {
        whole_session(&mut bench);
        bench.kernel.replies.lock().unwrap().clear();
    }
    bench.assert_empty("after a thousand");
    assert_eq!(bench.rights.ledger().counts(Group::ClientSessions).refused, 0);
}

#[test]
fn whichever_call_fails_a_client_that_is_gone_leaves_nothing_behind() {
    let mut whole = Bench::admitting(kernel());
    whole_session(&mut whole);
    let steps = whole.kernel.steps.load(Ordering::Relaxed);
    assert!(steps >= 6);
    for step in 0..steps {
        let mut bench = Bench::admitting(StandInKernel { fails_at: Some(step), ..kernel() });
        whole_session(&mut bench);
        bench.assert_empty(&format!("call {step} of {steps}"));
    }
}
