//! The messages of XNU's exception server interface as bytes and as values (`osfmk/mach/mach_exc.defs`, subsystem 2405;
//! `osfmk/mach/exc.defs`, subsystem 2401; `osfmk/mach/message.h`).
//!
//! Written by hand instead of generated: a generated server answers what it does not understand by itself, and hides the
//! difference between a message that lies and one that is merely new. Here any bytes become a value or a [`Refusal`].
//!
//! All integers are little-endian and all structures packed to four bytes, so 64-bit codes are not aligned.

mod bytes;
mod check_in;
mod header;
mod notification;
mod refusal;
mod reply;
mod request;
mod trailer;

#[cfg(test)]
mod any_bytes;

pub use check_in::{
    CHECK_IN_ID, CHECK_IN_REFUSAL_SIZE, CHECK_IN_REPLY_ID, CHECK_IN_REPLY_SIZE, CHECK_IN_SIZE, CHECK_IN_VERSION,
    CheckIn, MAX_PREVIOUS, PREVIOUS_IN_PROCESS, Previous, decode_check_in_reply, encode_check_in_reply,
};
pub use header::{Disposition, Header, PortName};
pub use notification::Notification;
pub use refusal::Refusal;
pub use reply::Reply;
pub use request::{CodeWidth, MAX_STATE_WORDS, Request, State, Subject};
pub use trailer::{AuditToken, Trailer};

use crate::dump_message::{self, DumpRequest};

/// Bytes of the largest request, 2407 with [`MAX_STATE_WORDS`] words of state.
pub const MAX_REQUEST_SIZE: usize = 5276;

/// Bytes of a buffer that every exception message fits in with any trailer (68 bytes at most): whole pages on both CPUs,
/// with room to spare for messages that grow in a later system.
pub const RECEIVE_BUFFER_SIZE: usize = 32 * 1024;

/// A message as it was received: header and body, then its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The message's header.
    pub header: Header,
    /// Header and body.
    pub message: &'a [u8],
    /// What the kernel says of the sender.
    pub trailer: Trailer,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// An exception, or what claims to be one: see [`Trailer::from_kernel`].
    Exception(Request),
    /// A notification, or what claims to be one.
    Notification(Notification),
    /// A client asks to be reported as it stands.
    Dump(DumpRequest),
    /// A client asks for a port of its own.
    CheckIn(CheckIn),
}

impl<'a> Received<'a> {
    /// Divides a receive buffer at the size that the header gives. The trailer starts at the next multiple of four; a
    /// missing or cut one leaves its fields `None`.
    pub fn split(buffer: &'a [u8]) -> Result<Received<'a>, Refusal> {
        let header = Header::decode(buffer)?;
        let size = header.size as usize;
        if size < Header::SIZE {
            return Err(Refusal::Size { says: header.size, expected: Header::SIZE as u32 });
        }
        let Some(message) = buffer.get(..size) else {
            return Err(Refusal::Short { needs: size, has: buffer.len() });
        };
        // Cannot overflow: `size` is at most the buffer's length.
        let trailer = buffer.get(size.next_multiple_of(4)..).unwrap_or_default();
        Ok(Received { header, message, trailer: Trailer::decode(trailer) })
    }

    /// Reads the body by the header's message id.
    pub fn contents(&self) -> Result<Contents, Refusal> {
        if Notification::is_id(self.header.id) {
            return Notification::decode(self.message).map(Contents::Notification);
        }
        if self.header.id == dump_message::REQUEST_ID {
            return dump_message::decode_request(self.message).map(Contents::Dump).map_err(Refusal::from);
        }
        if self.header.id == CHECK_IN_ID {
            return CheckIn::decode(self.message).map(Contents::CheckIn);
        }
        Request::decode(self.message).map(Contents::Exception)
    }
}
