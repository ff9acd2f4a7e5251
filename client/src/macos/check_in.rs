//! Asking the service for a port of this process's own.

use core::mem::offset_of;

use aftermach_protocol::message::{
    CHECK_IN_ID, CHECK_IN_REPLY_ID, CHECK_IN_REPLY_SIZE, CHECK_IN_SIZE, CHECK_IN_VERSION, MAX_PREVIOUS,
    PREVIOUS_IN_PROCESS,
};
use mach2::message::{
    MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MOVE_SEND, MACH_MSGH_BITS_COMPLEX, mach_msg_body_t,
    mach_msg_port_descriptor_t,
};
use mach2::port::mach_port_t;

use super::exchange::{Message, NDR};
use super::ports::{self, SendRight, Table};
use crate::error::Error;

/// The request as `aftermach_protocol::message::CheckIn` lays it out.
#[repr(C)]
struct Body {
    count: mach_msg_body_t,
    previous: [mach_msg_port_descriptor_t; MAX_PREVIOUS],
    ndr: [u8; 8],
    version: u32,
    reserved: u32,
    rows: [Row; MAX_PREVIOUS],
}

#[repr(C)]
struct Row {
    mask: u32,
    behaviour: u32,
    flavor: i32,
    flags: u32,
}

/// An answer with a port. It lies where the request lay.
#[repr(C)]
struct Answer {
    count: mach_msg_body_t,
    port: mach_msg_port_descriptor_t,
    ndr: [u8; 8],
    code: i32,
    version: u32,
}

/// The header comes before both.
const HEADER: usize = 24;

const _: () = {
    assert!(offset_of!(Message<Body>, body) == HEADER);
    assert!(HEADER + offset_of!(Body, previous) == 28 && HEADER + offset_of!(Body, ndr) == 88);
    assert!(HEADER + offset_of!(Body, version) == 96 && HEADER + offset_of!(Body, rows) == 104);
    assert!(HEADER + size_of::<Body>() == CHECK_IN_SIZE);
    assert!(HEADER + offset_of!(Answer, port) == 28 && HEADER + offset_of!(Answer, code) == 48);
    assert!(HEADER + size_of::<Answer>() == CHECK_IN_REPLY_SIZE && CHECK_IN_REPLY_SIZE < CHECK_IN_SIZE);
    assert!(super::exchange::reply_id(CHECK_IN_ID) == CHECK_IN_REPLY_ID);
};

/// Asks `service`, and tells it where exceptions went `before`: it passes on what it has no use for.
pub(super) fn ask(service: mach_port_t, before: &Table, timeout_ms: u32) -> Result<SendRight, Error> {
    // SAFETY: numbers all of them, of every value.
    let mut message = unsafe { Message::<Body>::empty() };
    message.address(service, CHECK_IN_ID);
    let body = &mut message.body;
    body.count.msgh_descriptor_count = MAX_PREVIOUS as u32;
    body.ndr = NDR;
    body.version = CHECK_IN_VERSION;
    for descriptor in &mut body.previous {
        descriptor.disposition = MACH_MSG_TYPE_COPY_SEND as u8;
    }
    let places = body.previous.iter_mut().zip(&mut body.rows);
    for (entry, (descriptor, row)) in before.elsewhere(service).zip(places) {
        descriptor.name = entry.port;
        // Exceptions of a dying process can't be passed on to itself.
        let flags = if ports::kinds(entry.port) & ports::RECEIVE != 0 { PREVIOUS_IN_PROCESS } else { 0 };
        *row = Row { mask: entry.mask, behaviour: entry.behaviour, flavor: entry.flavor, flags };
    }
    message.exchange(timeout_ms)?;
    let header = message.header;
    // SAFETY: the message is larger than an answer, and all of it are plain numbers.
    let answer = unsafe { &*(&raw const message.body).cast::<Answer>() };
    let has_port = header.msgh_bits & MACH_MSGH_BITS_COMPLEX != 0
        && header.msgh_id == CHECK_IN_REPLY_ID
        && header.msgh_size as usize == CHECK_IN_REPLY_SIZE
        && answer.count.msgh_descriptor_count == 1
        && u32::from(answer.port.type_) == 0
        && u32::from(answer.port.disposition) == MACH_MSG_TYPE_MOVE_SEND;
    if !has_port {
        // A code alone that is no error has no port either.
        return Err(message.conclude().err().unwrap_or(Error::Incompatible));
    }
    match answer.port.name {
        // The service ended while it answered.
        name if !ports::is_right(name) => Err(Error::NoService),
        name => Ok(SendRight::from_name(name)),
    }
}
