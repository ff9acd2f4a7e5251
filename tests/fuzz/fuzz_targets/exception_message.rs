//! A receive buffer of any contents: the exception codec answers with a value or a refusal, and what it read it can write.
#![no_main]

use aftermach_protocol::exception::{ExitReason, Guard, Resource};
use aftermach_protocol::message::{Contents, Notification, Received, Reply, Request, decode_check_in_reply};
use aftermach_protocol::platform::Cpu;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|buffer: &[u8]| {
    let Ok(received) = Received::split(buffer) else { return };
    if let Ok(reply) = Reply::decode(received.message) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
    let _ = decode_check_in_reply(received.message);
    match received.contents() {
        Ok(Contents::Exception(request)) => {
            let again = request.encode().expect("what was read can be written");
            assert_eq!(again.len(), received.message.len());
            describe(&request);
            assert_eq!(Request::decode(&again), Ok(request));
        }
        Ok(Contents::Notification(notification)) => {
            let again = notification.encode(received.header.local);
            assert_eq!(Notification::decode(&again), Ok(notification));
        }
        Ok(Contents::Dump(_) | Contents::CheckIn(_)) => {}
        Err(refusal) => assert!(refusal.code().0 < 0),
    }
});

/// Whatever the codes, they have a description.
fn describe(request: &Request) {
    for cpu in [Cpu::X86_64, Cpu::Arm64] {
        assert!(!request.exception.describe(cpu).is_empty());
        let _ = request.exception.fault_address(cpu);
    }
    let _ = Guard::of(&request.exception).map(|guard| guard.describe());
    let _ = Resource::of(&request.exception).map(|resource| resource.describe());
    let _ = ExitReason::of_corpse(&request.exception).map(|reason| reason.to_string());
}
