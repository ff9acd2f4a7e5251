//! What a client and the service say to each other over the service's Unix socket (Linux), as bytes and values.
//!
//! The client connects to [`socket_path`](crate::product::ProductRef::socket_path), sends one [`Request`] and reads one
//! [`Status`]. It keeps the connection of an accepted [`Kind::Attach`] open: the service's end of it closing tells the client
//! that the service is gone. Its other requests come on connections of their own, so that an answer that is late is never
//! taken for another's. Who the client is comes from `SO_PEERCRED` of each, never from what it says: a forked child asks
//! [`Kind::Release`] for itself. The client's end closing says nothing: a forked child may hold it too. Numbers are
//! little-endian.
//!
//! ```text
//! request   0 magic "AFTM"   4 version u16   6 kind u16   8 about u64      16 bytes
//! reply     0 magic "AFTM"   4 status u32                                   8 bytes
//! ```

use std::fmt;

/// The first four bytes of either message.
pub const MAGIC: [u8; 4] = *b"AFTM";
/// The version that this code speaks.
pub const VERSION: u16 = 1;
/// Bytes in a request.
pub const REQUEST_SIZE: usize = 16;
/// Bytes in a reply.
pub const REPLY_SIZE: usize = 8;

/// What the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Watch me until I die (1).
    Attach,
    /// Watch me no longer (2).
    Release,
    /// Report me as I stand; I go on living (3). Only for a process that is watched. The reply comes once the snapshot is
    /// taken and every thread has been let go.
    Snapshot,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// With [`Kind::Snapshot`] the asking thread's id, as the client knows it: the report shows that thread first. Else the
    /// address of the client's record header in its own memory. 0 if there is none.
    pub about: u64,
}

/// The service's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done (0).
    Ok,
    /// The system refused: ptrace is not permitted here (1).
    RefusedBySystem,
    /// A version or kind that the service doesn't know (2).
    Unsupported,
    /// A debugger or another service traces the process already (3).
    AlreadyTraced,
    /// The service has as many clients, or as much work, as it takes; or this process has asked for so many reports of itself
    /// that it has to wait for the next (4).
    Busy,
    /// The client belongs to a user whom the service doesn't serve (5).
    NotPermitted,
    /// This service watches the process already: another image in it has installed its own copy of the client (6).
    AlreadyAttached,
    /// This service does not watch the process (7): it was never asked to, or it is another service than was asked.
    NotAttached,
}

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// Not the message's exact size.
    Size(usize),
    /// They do not start with [`MAGIC`].
    Magic,
    /// A version other than [`VERSION`]. Answer [`Status::Unsupported`].
    Version(u16),
    /// A kind that is not in [`Kind`]. Answer [`Status::Unsupported`].
    Kind(u16),
    /// A status that is not in [`Status`]: a newer service's. It means refusal.
    Status(u32),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Size(size) => write!(f, "a message of {size} bytes"),
            SessionError::Magic => f.write_str("not a message of Aftermach's"),
            SessionError::Version(version) => write!(f, "version {version}; version {VERSION} is spoken here"),
            SessionError::Kind(kind) => write!(f, "a request of unknown kind {kind}"),
            SessionError::Status(status) => write!(f, "an answer of unknown status {status}"),
        }
    }
}

impl std::error::Error for SessionError {}

/// A request as bytes.
#[inline]
pub const fn encode_request(request: &Request) -> [u8; REQUEST_SIZE] {
    let kind: u16 = match request.kind {
        Kind::Attach => 1,
        Kind::Release => 2,
        Kind::Snapshot => 3,
    };
    let [m0, m1, m2, m3] = MAGIC;
    let [v0, v1] = VERSION.to_le_bytes();
    let [k0, k1] = kind.to_le_bytes();
    let [a0, a1, a2, a3, a4, a5, a6, a7] = request.about.to_le_bytes();
    [m0, m1, m2, m3, v0, v1, k0, k1, a0, a1, a2, a3, a4, a5, a6, a7]
}

/// The request that these bytes are.
pub fn decode_request(bytes: &[u8]) -> Result<Request, SessionError> {
    let &[m0, m1, m2, m3, v0, v1, k0, k1, a0, a1, a2, a3, a4, a5, a6, a7] = bytes else {
        return Err(SessionError::Size(bytes.len()));
    };
    if [m0, m1, m2, m3] != MAGIC {
        return Err(SessionError::Magic);
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(SessionError::Version(version));
    }
    let kind = match u16::from_le_bytes([k0, k1]) {
        1 => Kind::Attach,
        2 => Kind::Release,
        3 => Kind::Snapshot,
        other => return Err(SessionError::Kind(other)),
    };
    Ok(Request { kind, about: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]) })
}

/// A reply as bytes.
pub const fn encode_reply(status: Status) -> [u8; REPLY_SIZE] {
    let status: u32 = match status {
        Status::Ok => 0,
        Status::RefusedBySystem => 1,
        Status::Unsupported => 2,
        Status::AlreadyTraced => 3,
        Status::Busy => 4,
        Status::NotPermitted => 5,
        Status::AlreadyAttached => 6,
        Status::NotAttached => 7,
    };
    let [m0, m1, m2, m3] = MAGIC;
    let [s0, s1, s2, s3] = status.to_le_bytes();
    [m0, m1, m2, m3, s0, s1, s2, s3]
}

/// The reply that these bytes are.
#[inline]
pub fn decode_reply(bytes: &[u8]) -> Result<Status, SessionError> {
    let &[m0, m1, m2, m3, s0, s1, s2, s3] = bytes else {
        return Err(SessionError::Size(bytes.len()));
    };
    if [m0, m1, m2, m3] != MAGIC {
        return Err(SessionError::Magic);
    }
    Ok(match u32::from_le_bytes([s0, s1, s2, s3]) {
        0 => Status::Ok,
        1 => Status::RefusedBySystem,
        2 => Status::Unsupported,
        3 => Status::AlreadyTraced,
        4 => Status::Busy,
        5 => Status::NotPermitted,
        6 => Status::AlreadyAttached,
        7 => Status::NotAttached,
        other => return Err(SessionError::Status(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_documented_bytes() {
        let request = Request { kind: Kind::Snapshot, about: 0x1122_3344_5566_7788 };
        let bytes = *b"AFTM\x01\x00\x03\x00\x88\x77\x66\x55\x44\x33\x22\x11";
        assert_eq!(encode_request(&request), bytes);
        assert_eq!(decode_request(&bytes), Ok(request));
    }

    #[test]
    fn a_reply_has_the_documented_bytes() {
        assert_eq!(encode_reply(Status::Busy), *b"AFTM\x04\x00\x00\x00");
        assert_eq!(decode_reply(b"AFTM\x05\x00\x00\x00"), Ok(Status::NotPermitted));
    }

    #[test]
    fn requests_of_another_make_are_refused_with_the_reason() {
        let good = encode_request(&Request { kind: Kind::Attach, about: 0 });
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            decode_request(&bytes)
        };
        assert_eq!(decode_request(&good[..15]), Err(SessionError::Size(15)));
        assert_eq!(decode_request(&[good.as_slice(), &[0]].concat()), Err(SessionError::Size(17)));
        assert_eq!(with(0, b'B'), Err(SessionError::Magic));
        assert_eq!(with(4, 2), Err(SessionError::Version(2)));
        assert_eq!(with(6, 0), Err(SessionError::Kind(0)));
        assert_eq!(with(7, 1), Err(SessionError::Kind(0x101)));
    }

    #[test]
    fn replies_of_another_make_are_refused_with_the_reason() {
        assert_eq!(decode_reply(b""), Err(SessionError::Size(0)));
        assert_eq!(decode_reply(b"HTTP/1.1"), Err(SessionError::Magic));
        assert_eq!(decode_reply(b"AFTM\x08\x00\x00\x00"), Err(SessionError::Status(8)));
    }
}
