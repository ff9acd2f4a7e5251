//! Our own messages to the service, and its answers.

use mach2::kern_return::{KERN_NOT_SUPPORTED, KERN_RESOURCE_SHORTAGE};
use mach2::message::{
    MACH_MSG_SUCCESS, MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE, MACH_MSG_TYPE_MOVE_SEND_ONCE,
    MACH_MSGH_BITS, MACH_MSGH_BITS_COMPLEX, MACH_RCV_MSG, MACH_RCV_TIMED_OUT, MACH_RCV_TIMEOUT, MACH_SEND_INVALID_DEST,
    MACH_SEND_MSG, MACH_SEND_TIMED_OUT, MACH_SEND_TIMEOUT, mach_msg, mach_msg_destroy, mach_msg_header_t,
};
use mach2::mig::{mig_dealloc_reply_port, mig_get_reply_port, mig_put_reply_port};
use mach2::port::{MACH_PORT_NULL, mach_port_t};

use super::ports::SendRight;
use crate::error::Error;

/// `MIG_BAD_ID` (osfmk/mach/mig_errors.h): a service that doesn't know the request.
const MIG_BAD_ID: i32 = -303;

/// What MIG adds to a request's id.
const REPLY_IDS: i32 = 100;

/// The largest trailer (osfmk/mach/message.h), which the kernel may put behind the answer.
pub(super) const TRAILER: usize = 68;

/// Little-endian integers (osfmk/mach/ndr.h).
pub(super) const NDR: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

/// Room for a message with a port and for its answer, trailer included. Its body is `B`.
#[repr(C)]
pub(super) struct Message<B> {
    pub(super) header: mach_msg_header_t,
    pub(super) body: B,
    trailer: [u8; TRAILER],
}

/// An answer that is a code alone: `mig_reply_error_t`.
#[repr(C)]
struct Plain {
    header: mach_msg_header_t,
    ndr: [u8; 8],
    code: i32,
}

impl<B> Message<B> {
    /// An empty message: its body is all zeros.
    ///
    /// # Safety
    /// All zeros are a body, and so are the bytes of any message.
    pub(super) const unsafe fn empty() -> Message<B> {
        const { assert!(size_of::<mach_msg_header_t>().is_multiple_of(align_of::<B>())) };
        const { assert!(size_of::<Message<B>>() >= size_of::<Plain>() + TRAILER) };
        // SAFETY: the caller's promise; header and trailer are plain numbers.
        unsafe { core::mem::zeroed() }
    }

    /// Addresses it: message `id` to `service`, beginning with descriptors.
    pub(super) fn address(&mut self, service: mach_port_t, id: i32) {
        let header = &mut self.header;
        header.msgh_bits =
            MACH_MSGH_BITS_COMPLEX | MACH_MSGH_BITS(MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE);
        header.msgh_size = (size_of::<mach_msg_header_t>() + size_of::<B>()) as u32;
        header.msgh_remote_port = service;
        header.msgh_id = id;
    }

    /// Sends it, and has the answer in its place.
    pub(super) fn exchange(&mut self, timeout_ms: u32) -> Result<(), Error> {
        let room = size_of::<Message<B>>() as u32;
        // SAFETY: `room` bytes that begin with the header of a message, which is shorter by the trailer.
        unsafe { exchange(&raw mut self.header, room, timeout_ms) }
    }

    /// What the answer says if it is a code alone, and gives back what it carries if it is not: nobody knows what.
    pub(super) fn conclude(&mut self) -> Result<(), Error> {
        // SAFETY: the message is larger than `Plain`, and holds an answer that was received.
        unsafe { conclude(&raw mut self.header) }
    }
}

/// # Safety
/// At `header` are `room` bytes, which begin with a message that a copy of the thread's reply port may be put into.
#[inline(never)]
unsafe fn exchange(header: *mut mach_msg_header_t, room: u32, timeout_ms: u32) -> Result<(), Error> {
    // SAFETY: the caller's promise; the reply port is the thread's own, which libSystem makes and keeps.
    let (result, reply_port, returned) = unsafe {
        let reply_port = mig_get_reply_port();
        (*header).msgh_local_port = reply_port;
        let options = MACH_SEND_MSG | MACH_RCV_MSG | MACH_SEND_TIMEOUT | MACH_RCV_TIMEOUT;
        let size = (*header).msgh_size;
        let result = mach_msg(header, options, size, room, reply_port, timeout_ms, MACH_PORT_NULL);
        // `MACH_MSGH_BITS_LOCAL`.
        (result, reply_port, (*header).msgh_bits >> 8 & 0x1f)
    };
    if result == MACH_MSG_SUCCESS {
        // SAFETY: as for getting it.
        unsafe { mig_put_reply_port(reply_port) };
        return Ok(());
    }
    // A late answer, or word of a right that is given back, must not be taken for that of the thread's next call.
    // SAFETY: the thread's own reply port; libSystem makes a new one when asked.
    unsafe { mig_dealloc_reply_port(reply_port) };
    match result {
        MACH_RCV_TIMED_OUT => Err(Error::Timeout),
        MACH_SEND_TIMED_OUT => {
            // The message came back, with the rights that the kernel had made for it. Those are all given back but the one to
            // reply with, which stands where an arrived message has the name of a port (libsyscall's mach_msg.c).
            // SAFETY: the buffer holds that message.
            unsafe {
                mach_msg_destroy(header);
                if returned == MACH_MSG_TYPE_MOVE_SEND_ONCE {
                    drop(SendRight::from_name((*header).msgh_local_port));
                }
            }
            Err(Error::Timeout)
        }
        MACH_SEND_INVALID_DEST => Err(Error::NoService),
        other => Err(Error::System(other)),
    }
}

/// # Safety
/// At `header` is a received message in room for a [`Plain`] at least.
#[inline(never)]
unsafe fn conclude(header: *mut mach_msg_header_t) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let code = unsafe {
        let answer = header.cast::<Plain>();
        let plain = (*header).msgh_size as usize == size_of::<Plain>();
        let code = if plain { (*answer).code } else { MIG_BAD_ID };
        mach_msg_destroy(header);
        code
    };
    match code {
        0 => Ok(()),
        KERN_RESOURCE_SHORTAGE => Err(Error::ServiceBusy),
        MIG_BAD_ID | KERN_NOT_SUPPORTED => Err(Error::Incompatible),
        other => Err(Error::System(other)),
    }
}

/// The id of the answer to request `id`.
pub(super) const fn reply_id(id: i32) -> i32 {
    id + REPLY_IDS
}
