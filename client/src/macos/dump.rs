//! Asking the service for a report of the living process.

use aftermach_protocol::dump_message::{DumpRequest, REPLY_SIZE, REQUEST_SIZE, Subject, decode_reply, encode_request};
use mach2::kern_return::{KERN_RESOURCE_SHORTAGE, KERN_SUCCESS};
use mach2::message::{
    MACH_MSG_SUCCESS, MACH_RCV_MSG, MACH_RCV_TIMED_OUT, MACH_RCV_TIMEOUT, MACH_SEND_INVALID_DEST, MACH_SEND_MSG,
    MACH_SEND_TIMED_OUT, MACH_SEND_TIMEOUT, mach_msg, mach_msg_destroy, mach_msg_header_t,
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

#[repr(C, align(8))]
struct Buffer {
    bytes: [u8; REQUEST_SIZE + TRAILER],
}

const _: () = assert!(size_of::<mach_msg_header_t>() == 24 && REPLY_SIZE < REQUEST_SIZE);

/// Sends the request to `service` and waits for the answer.
pub(super) fn ask(service: mach_port_t, asked: &Request) -> Result<(), Error> {
    // The token may be given away, a hardened task's own port may not.
    let (token, subject) = match facts::create_identity_token() {
        Some(create) => {
            let mut name = MACH_PORT_NULL;
            // SAFETY: this task's own port, and a name to write to.
            let result = unsafe { create(mach_task_self(), &mut name) };
            if result != KERN_SUCCESS {
                return Err(Error::System(result));
            }
            (Some(SendRight::from_name(name)), Subject::IdentityToken(name))
        }
        // SAFETY: reads the name of this task's port.
        None => (None, Subject::Task(unsafe { mach_task_self() })),
    };
    let mut thread_id = 0;
    // SAFETY: thread 0 is the calling one; the id is written.
    unsafe { libc::pthread_threadid_np(0, &mut thread_id) };
    // SAFETY: the thread's own reply port, which libSystem makes and keeps.
    let reply_port = unsafe { mig_get_reply_port() };
    let request = encode_request(service, reply_port, &DumpRequest { subject, thread_id, record: asked.record });
    let mut buffer = Buffer { bytes: [0; REQUEST_SIZE + TRAILER] };
    for (to, from) in buffer.bytes.iter_mut().zip(request) {
        *to = from;
    }
    let header = (&raw mut buffer).cast::<mach_msg_header_t>();
    // SAFETY: the buffer holds a message of REQUEST_SIZE bytes and has room for the answer.
    let result = unsafe {
        mach_msg(
            header,
            MACH_SEND_MSG | MACH_RCV_MSG | MACH_SEND_TIMEOUT | MACH_RCV_TIMEOUT,
            REQUEST_SIZE as u32,
            size_of::<Buffer>() as u32,
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
            unsafe { mach_msg_destroy(header) };
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
    let [_, _, _, _, s0, s1, s2, s3, ..] = buffer.bytes;
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let code = buffer.bytes.get(..size).and_then(decode_reply);
    // An answer of another shape may carry rights.
    // SAFETY: the buffer holds the received message.
    unsafe { mach_msg_destroy((&raw mut buffer).cast()) };
    match code {
        Some(0) => Ok(()),
        Some(KERN_RESOURCE_SHORTAGE) => Err(Error::ServiceBusy),
        None | Some(MIG_BAD_ID) => Err(Error::Incompatible),
        Some(other) => Err(Error::System(other)),
    }
}
