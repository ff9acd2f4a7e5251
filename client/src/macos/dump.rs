//! Asking the service for a report of the living process.

use core::mem::offset_of;

use aftermach_protocol::dump_message::{REPLY_ID, REPLY_SIZE, REQUEST_ID, REQUEST_SIZE};
use mach2::kern_return::KERN_SUCCESS;
use mach2::message::{MACH_MSG_TYPE_COPY_SEND, mach_msg_body_t, mach_msg_port_descriptor_t};
use mach2::port::{MACH_PORT_NULL, mach_port_t};
use mach2::traps::mach_task_self;

use super::exchange::{Message, NDR, reply_id};
use super::facts;
use super::ports::SendRight;
use crate::error::Error;
use crate::install::Request;

/// How long the snapshot may take, in milliseconds: launchd may have to start the service first.
const TIMEOUT_MS: u32 = 10_000;

/// The request as `aftermach_protocol::dump_message` lays it out.
#[repr(C)]
struct Body {
    count: mach_msg_body_t,
    subject: mach_msg_port_descriptor_t,
    ndr: [u8; 8],
    thread_id: u64,
    record: u64,
    kind: u32,
    reserved: u32,
}

/// The header comes before it.
const HEADER: usize = 24;

const _: () = {
    assert!(offset_of!(Message<Body>, body) == HEADER);
    assert!(HEADER + offset_of!(Body, subject) == 28 && HEADER + offset_of!(Body, ndr) == 40);
    assert!(HEADER + offset_of!(Body, thread_id) == 48 && HEADER + offset_of!(Body, kind) == 64);
    assert!(HEADER + size_of::<Body>() == REQUEST_SIZE && REPLY_SIZE < REQUEST_SIZE);
    assert!(reply_id(REQUEST_ID) == REPLY_ID);
};

/// Sends the request to `service` and waits for the answer.
pub(super) fn ask(service: mach_port_t, asked: &Request) -> Result<(), Error> {
    // The token may be given away, a hardened task's own port may not.
    let (token, subject, kind) = match facts::create_identity_token() {
        Some(create) => {
            let mut name = MACH_PORT_NULL;
            // SAFETY: this task's own port, and a name to write to.
            let result = unsafe { create(mach_task_self(), &mut name) };
            if result != KERN_SUCCESS {
                return Err(Error::System(result));
            }
            (SendRight::from_name(name), name, 0)
        }
        // SAFETY: reads the name of this task's port.
        None => (SendRight::from_name(MACH_PORT_NULL), unsafe { mach_task_self() }, 1),
    };
    let mut thread_id = 0;
    // SAFETY: thread 0 is the calling one; the id is written.
    unsafe { libc::pthread_threadid_np(0, &mut thread_id) };
    // SAFETY: numbers all of them, of every value.
    let mut message = unsafe { Message::<Body>::empty() };
    message.address(service, REQUEST_ID);
    message.body.count.msgh_descriptor_count = 1;
    message.body.subject = mach_msg_port_descriptor_t::new(subject, MACH_MSG_TYPE_COPY_SEND);
    message.body.ndr = NDR;
    message.body.thread_id = thread_id;
    message.body.record = asked.record;
    message.body.kind = kind;
    let sent = message.exchange(asked.timeout_ms.max(TIMEOUT_MS));
    // The message carried a copy.
    drop(token);
    sent?;
    message.conclude()
}
