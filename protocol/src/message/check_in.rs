//! The message by which a client asks the service for a port of its own (macOS), as bytes and values.
//!
//! It comes on the port that exceptions come on, from a user process: who asks is what its audit token says. It carries the
//! exception ports that were registered before the client's, for exceptions that are passed on. The answer brings a send right
//! to a port that the service made for this client: one to register instead of the service's, or to keep, so that the service
//! learns of the client's end.
//!
//! ```text
//! request   0 header   24 descriptor count u32 = 5   28 port descriptors, null where there are fewer   88 NDR
//!          96 version u32   100 reserved u32   104 one row a port: mask u32, behaviour u32, flavour i32, flags u32
//!                                                                                                184 bytes, or more
//! answer    0 header   24 descriptor count u32 = 1   28 port descriptor   40 NDR   48 code i32 = 0   52 version u32
//!                                                                                                 56 bytes
//! refusal   0 header   24 NDR   32 code i32                                                       36 bytes
//! ```
//!
//! A later version of the request appends to it, and raises the version; readers take the part that they know.

use super::bytes::{NDR, Reader};
use super::header::{Disposition, Header, PortName, read_descriptor_count, read_port, write_port};
use super::refusal::Refusal;
use crate::exception::KernReturn;

/// Message id of the request. Far from every range that Apple's interfaces use.
pub const CHECK_IN_ID: i32 = 0x4146_5402;
/// Message id of the answer: request + 100, as MIG has it.
pub const CHECK_IN_REPLY_ID: i32 = CHECK_IN_ID + 100;
/// Bytes in a request of version 1, without its trailer.
pub const CHECK_IN_SIZE: usize = 184;
/// Bytes in an answer with a port, without its trailer.
pub const CHECK_IN_REPLY_SIZE: usize = 56;
/// Bytes in an answer without.
pub const CHECK_IN_REFUSAL_SIZE: usize = 36;
/// The version that is described here.
pub const CHECK_IN_VERSION: u32 = 1;
/// Rows of a request: one for each exception type that a client registers for, since each may have gone elsewhere.
pub const MAX_PREVIOUS: usize = 5;
/// Flag of a row: the client itself receives on the port. It can't while it is dying.
pub const PREVIOUS_IN_PROCESS: u32 = 1;

/// Where some exceptions went before the client registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Previous {
    /// A send right; null if the row is empty, dead if the port was.
    pub port: PortName,
    /// The exception types (`EXC_MASK_*`).
    pub mask: u32,
    /// The behaviour with its modifiers.
    pub behaviour: u32,
    /// The flavour of thread state.
    pub flavor: i32,
    /// [`PREVIOUS_IN_PROCESS`], and whatever later versions know.
    pub flags: u32,
}

/// A client's request, as the service receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckIn {
    /// The sender's version of this message, from 1.
    pub version: u32,
    /// The rows. The receiver owns a right for each port that is one.
    pub previous: [Previous; MAX_PREVIOUS],
}

impl CheckIn {
    /// Reads a received request of exactly these bytes.
    pub fn decode(bytes: &[u8]) -> Result<CheckIn, Refusal> {
        let mut reader = Reader::new(bytes);
        let header = Header::read_whole(&mut reader, bytes)?;
        if header.id != CHECK_IN_ID {
            return Err(Refusal::Id(header.id));
        }
        read_descriptor_count(&header, &mut reader, MAX_PREVIOUS as u32)?;
        let mut previous = [Previous::default(); MAX_PREVIOUS];
        for row in &mut previous {
            row.port = read_port(&mut reader, Disposition::SEND)?;
        }
        reader.ndr()?;
        let (version, _reserved) = (reader.u32()?, reader.u32()?);
        for row in &mut previous {
            row.mask = reader.u32()?;
            row.behaviour = reader.u32()?;
            row.flavor = reader.i32()?;
            row.flags = reader.u32()?;
        }
        match version {
            0 => return Err(Refusal::Version(version)),
            CHECK_IN_VERSION => header.expect_size(reader.offset())?,
            _ => {}
        }
        Ok(CheckIn { version, previous })
    }

    /// The request's bytes as a client sends them: from `reply_port` (a receive right of its own) to `service`, with copies of
    /// its rights.
    pub fn encode(&self, service: PortName, reply_port: PortName) -> Vec<u8> {
        let dispositions = u32::from(Disposition::COPY_SEND.0) | u32::from(Disposition::MAKE_SEND_ONCE.0) << 8;
        let header = Header {
            bits: Header::COMPLEX | dispositions,
            size: CHECK_IN_SIZE as u32,
            remote: service,
            local: reply_port,
            id: CHECK_IN_ID,
            ..Header::default()
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend((MAX_PREVIOUS as u32).to_le_bytes());
        for row in &self.previous {
            write_port(&mut bytes, row.port, Disposition::COPY_SEND);
        }
        bytes.extend(NDR);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend([0; 4]);
        for row in &self.previous {
            for field in [row.mask, row.behaviour, row.flavor as u32, row.flags] {
                bytes.extend(field.to_le_bytes());
            }
        }
        bytes
    }
}

/// The answer to a request with this header: moves a send right to the client's port.
pub fn encode_check_in_reply(request: &Header, port: PortName) -> Vec<u8> {
    let header = Header {
        bits: Header::COMPLEX | u32::from(request.remote_disposition().0),
        size: CHECK_IN_REPLY_SIZE as u32,
        remote: request.remote,
        id: CHECK_IN_REPLY_ID,
        ..Header::default()
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend(1u32.to_le_bytes());
    write_port(&mut bytes, port, Disposition::SEND);
    bytes.extend(NDR);
    bytes.extend(0i32.to_le_bytes());
    bytes.extend(CHECK_IN_VERSION.to_le_bytes());
    bytes
}

/// Reads an answer: the port, or the reason why there is none.
pub fn decode_check_in_reply(bytes: &[u8]) -> Result<Result<PortName, KernReturn>, Refusal> {
    let mut reader = Reader::new(bytes);
    let header = Header::read_whole(&mut reader, bytes)?;
    if header.id != CHECK_IN_REPLY_ID {
        return Err(Refusal::Id(header.id));
    }
    let answer = if header.is_complex() {
        read_descriptor_count(&header, &mut reader, 1)?;
        let port = read_port(&mut reader, Disposition::SEND)?;
        reader.ndr()?;
        let (code, _version) = (reader.i32()?, reader.u32()?);
        if code != 0 {
            return Err(Refusal::Reply(KernReturn(code)));
        }
        Ok(port)
    } else {
        reader.ndr()?;
        Err(KernReturn(reader.i32()?))
    };
    header.expect_size(reader.offset())?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Contents, Received, Reply};

    const FIRST: Previous =
        Previous { port: PortName(0x1203), mask: 0x400, behaviour: 0x8000_0001, flavor: 7, flags: PREVIOUS_IN_PROCESS };

    fn request() -> CheckIn {
        let mut previous = [Previous::default(); MAX_PREVIOUS];
        previous[0] = FIRST;
        previous[4] = Previous { port: PortName::DEAD, mask: 2, ..Previous::default() };
        CheckIn { version: CHECK_IN_VERSION, previous }
    }

    /// What the kernel makes of a sent request: `ipc_kmsg_copyout` gives the receiver what was copied from the sender.
    fn received(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[..4].copy_from_slice(&0x8000_1112_u32.to_le_bytes());
        for index in 0..MAX_PREVIOUS {
            bytes[28 + 12 * index + 10] = 17;
        }
        bytes
    }

    #[test]
    fn a_request_is_a_complex_message_with_five_ports_and_a_row_for_each() {
        let bytes = request().encode(PortName(0x0b07), PortName(0x0707));
        assert_eq!(bytes.len(), CHECK_IN_SIZE);
        #[rustfmt::skip]
        let start = [
            // Complex, copy-send to the service, make-send-once to the reply port (osfmk/mach/message.h).
            0x13, 0x15, 0, 0x80,  184, 0, 0, 0,  0x07, 0x0b, 0, 0,  0x07, 0x07, 0, 0,  0, 0, 0, 0,  0x02, 0x54, 0x46, 0x41,
            5, 0, 0, 0,
            0x03, 0x12, 0, 0,  0, 0, 0, 0,  0, 0, 19, 0,
            0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 19, 0,
        ];
        assert_eq!(bytes[..52], start);
        assert_eq!(bytes[76..88], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 19, 0]);
        assert_eq!(bytes[88..104], [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[104..120], [0, 4, 0, 0, 1, 0, 0, 0x80, 7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[168..184], [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_received_request_is_read_with_everything_in_it() {
        let bytes = received(request().encode(PortName(1), PortName(2)));
        assert_eq!(CheckIn::decode(&bytes), Ok(request()));
        let buffer = Received::split(&bytes).unwrap();
        assert_eq!(buffer.contents(), Ok(Contents::CheckIn(request())));
    }

    #[test]
    fn a_later_version_may_be_longer_and_this_one_may_not() {
        let mut longer = received(request().encode(PortName(1), PortName(2)));
        longer.extend([7; 16]);
        longer[4] = 200;
        assert_eq!(CheckIn::decode(&longer), Err(Refusal::Size { says: 200, expected: 184 }));
        longer[96] = 2;
        assert_eq!(CheckIn::decode(&longer).unwrap().previous, request().previous);
        longer[96] = 0;
        assert_eq!(CheckIn::decode(&longer), Err(Refusal::Version(0)));
    }

    #[test]
    fn cut_and_misdescribed_requests_are_refused() {
        let good = received(request().encode(PortName(1), PortName(2)));
        for length in 0..good.len() {
            let mut cut = good[..length].to_vec();
            assert!(CheckIn::decode(&cut).is_err());
            if length >= 8 {
                cut[4] = length as u8;
                assert!(CheckIn::decode(&cut).is_err(), "{length}");
            }
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            CheckIn::decode(&bytes)
        };
        assert_eq!(with(20, 3), Err(Refusal::Id(0x4146_5403)));
        assert_eq!(with(3, 0), Err(Refusal::Complex(false)));
        assert_eq!(with(24, 4), Err(Refusal::Descriptors(4)));
        assert_eq!(with(38, 16), Err(Refusal::Descriptor { kind: 0, disposition: 16 }));
        assert_eq!(with(51, 1), Err(Refusal::Descriptor { kind: 1, disposition: 17 }));
        assert_eq!(with(92, 0), Err(Refusal::NotLittleEndian));
    }

    #[test]
    fn an_answer_moves_one_port_to_the_reply_right_that_came() {
        let request = Header { bits: 0x8000_1112, remote: PortName(0x1503), ..Header::default() };
        let bytes = encode_check_in_reply(&request, PortName(0x2203));
        #[rustfmt::skip]
        let expected = [
            0x12, 0, 0, 0x80,  56, 0, 0, 0,  0x03, 0x15, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0x66, 0x54, 0x46, 0x41,
            1, 0, 0, 0,
            0x03, 0x22, 0, 0,  0, 0, 0, 0,  0, 0, 17, 0,
            0, 0, 0, 0, 1, 0, 0, 0,
            0, 0, 0, 0,  1, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(decode_check_in_reply(&bytes), Ok(Ok(PortName(0x2203))));
    }

    #[test]
    fn a_refusal_is_the_reply_of_any_server_that_does_not_know_the_request() {
        let request = Header { bits: 0x8000_1112, remote: PortName(0x1503), id: CHECK_IN_ID, ..Header::default() };
        let bytes = Reply::to_header(&request, KernReturn::MIG_BAD_ID).encode();
        assert_eq!(bytes.len(), CHECK_IN_REFUSAL_SIZE);
        assert_eq!(decode_check_in_reply(&bytes), Ok(Err(KernReturn(-303))));
        assert!(decode_check_in_reply(&bytes[..35]).is_err());
    }
}
