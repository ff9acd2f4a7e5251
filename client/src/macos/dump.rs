//! Asking the service for a report of the living process.

use core::mem::offset_of;

use aftermach_protocol::dump_message::{REPLY_SIZE, REQUEST_ID, REQUEST_SIZE, decode_reply};
use mach2::kern_return::{KERN_RESOURCE_SHORTAGE, KERN_SUCCESS};
use mach2::message::{
    MACH_MSG_SUCCESS, MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE, MACH_MSGH_BITS, MACH_MSGH_BITS_COMPLEX,
    MACH_RCV_MSG, MACH_RCV_TIMED_OUT, MACH_RCV_TIMEOUT, MACH_SEND_INVALID_DEST, MACH_SEND_MSG, MACH_SEND_TIMED_OUT,
    MACH_SEND_TIMEOUT, mach_msg, mach_msg_body_t, mach_msg_destroy, mach_msg_header_t, mach_msg_port_descriptor_t,
};
use mach2::mig::{mig_dealloc_reply_port, mig_get_reply_port, mig_put_reply_port};
use mach2::port::{MACH_PORT_NULL, mach_port_t};
use mach2::traps::mach_task_self;

use super::facts;
use super::ports::SendRight;
use crate::error::Error;
use crate::install::Request;

/// How long the snapshot may take, in milliseconds: launchd may have to start the service first.
const TIMEOUT_MS: u32 = 10_000;

/// `MIG_BAD_ID` (osfmk/mach/mig_errors.h): a service that doesn't know the request.
const MIG_BAD_ID: i32 = -303;

/// The largest trailer (osfmk/mach/message.h), which the kernel may put behind the reply.
const TRAILER: usize = 68;

/// The request as `aftermach_protocol::dump_message` lays it out, and room for the reply.
#[repr(C)]
struct Message {
    header: mach_msg_header_t,
    body: mach_msg_body_t,
    subject: mach_msg_port_descriptor_t,
    ndr: [u8; 8],
    thread_id: u64,
    record: u64,
    kind: u32,
    reserved: u32,
    trailer: [u8; TRAILER],
}

const _: () = {
    assert!(size_of::<mach_msg_header_t>() == 24);
    assert!(offset_of!(Message, subject) == 28);
    assert!(offset_of!(Message, ndr) == 40);
    assert!(offset_of!(Message, thread_id) == 48);
    assert!(offset_of!(Message, kind) == 64);
    assert!(offset_of!(Message, trailer) == REQUEST_SIZE && REPLY_SIZE < REQUEST_SIZE);
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
    // SAFETY: the thread's own reply port, which libSystem makes and keeps.
    let reply_port = unsafe { mig_get_reply_port() };
    let mut message = Message {
        header: mach_msg_header_t {
            msgh_bits: MACH_MSGH_BITS_COMPLEX | MACH_MSGH_BITS(MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE),
            msgh_size: REQUEST_SIZE as u32,
            msgh_remote_port: service,
            msgh_local_port: reply_port,
            msgh_voucher_port: MACH_PORT_NULL,
            msgh_id: REQUEST_ID,
        },
        body: mach_msg_body_t { msgh_descriptor_count: 1 },
        subject: mach_msg_port_descriptor_t::new(subject, MACH_MSG_TYPE_COPY_SEND),
        // Little-endian integers (osfmk/mach/ndr.h).
        ndr: [0, 0, 0, 0, 1, 0, 0, 0],
        thread_id,
        record: asked.record,
        kind,
        reserved: 0,
        trailer: [0; TRAILER],
    };
    // SAFETY: the message is REQUEST_SIZE bytes, and there is room for as many and a trailer in the answer.
    let result = unsafe {
        mach_msg(
            &mut message.header,
            MACH_SEND_MSG | MACH_RCV_MSG | MACH_SEND_TIMEOUT | MACH_RCV_TIMEOUT,
            REQUEST_SIZE as u32,
            size_of::<Message>() as u32,
            reply_port,
            asked.timeout_ms.max(TIMEOUT_MS),
            MACH_PORT_NULL,
        )
    };
    // The message carried a copy.
    drop(token);
    match result {
        MACH_MSG_SUCCESS => {}
        MACH_SEND_TIMED_OUT => {
            // The message came back, with the rights that the kernel had made for it.
            // SAFETY: the buffer holds that message.
            unsafe { mach_msg_destroy(&mut message.header) };
            return Err(Error::Timeout);
        }
        MACH_SEND_INVALID_DEST => return Err(Error::NoService),
        MACH_RCV_TIMED_OUT => {
            // A late answer must not be taken for that of the thread's next call.
            // SAFETY: the thread's own reply port; libSystem makes a new one when asked.
            unsafe { mig_dealloc_reply_port(reply_port) };
            return Err(Error::Timeout);
        }
        other => return Err(Error::System(other)),
    }
    // SAFETY: as for getting it.
    unsafe { mig_put_reply_port(reply_port) };
    let code = if message.header.msgh_size as usize == REPLY_SIZE {
        // SAFETY: the message is larger than REPLY_SIZE bytes, and all of them are set: by the reply.
        decode_reply(unsafe { &*(&raw const message).cast::<[u8; REPLY_SIZE]>() })
    } else {
        None
    };
    // An answer of another shape may carry rights.
    // SAFETY: the buffer holds the received message.
    unsafe { mach_msg_destroy(&mut message.header) };
    match code {
        Some(0) => Ok(()),
        Some(KERN_RESOURCE_SHORTAGE) => Err(Error::ServiceBusy),
        None | Some(MIG_BAD_ID) => Err(Error::Incompatible),
        Some(other) => Err(Error::System(other)),
    }
}
