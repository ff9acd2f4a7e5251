//! The Mach message by which a living client asks to be reported (macOS), as bytes and values.
//!
//! It comes on the port that exceptions come on, from a user process: its audit token is not zero, unlike the kernel's. Who
//! asks is taken from that token; the task in the message must be the asker's own, which the receiver checks. Shaped like
//! exception message 2408, under an id of its own, so that it is never taken for one of the kernel's.
//!
//! ```text
//! request   0 header   24 descriptor count u32 = 1   28 port descriptor   40 NDR   48 thread id u64
//!          56 record address u64   64 kind u32   68 reserved u32                              72 bytes
//! reply     0 header   24 NDR   32 code i32                                                   36 bytes
//! ```

/// Message id of the request. Far from every range that Apple's interfaces use.
pub const REQUEST_ID: i32 = 0x4146_5401;
/// Message id of the reply: request + 100, as MIG has it.
pub const REPLY_ID: i32 = REQUEST_ID + 100;
/// Bytes in a request, without its trailer.
pub const REQUEST_SIZE: usize = 72;
/// Bytes in a reply, without its trailer.
pub const REPLY_SIZE: usize = 36;

/// `MACH_MSG_TYPE_MOVE_SEND`, `MACH_MSG_TYPE_COPY_SEND`, `MACH_MSG_TYPE_MAKE_SEND_ONCE` (osfmk/mach/message.h).
const MOVE_SEND: u8 = 17;
const COPY_SEND: u32 = 19;
const MAKE_SEND_ONCE: u32 = 21;
const COMPLEX: u32 = 0x8000_0000;
/// `NDR_record`: little-endian integers, the rest 0 (osfmk/mach/ndr.h).
const NDR: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

/// What the port in a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A task identity token (0): macOS 12 and later.
    IdentityToken(u32),
    /// The task port itself (1): macOS 11.
    Task(u32),
}

/// A request as its receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpRequest {
    /// The asker's task, as a port name that the receiver now owns a right to.
    pub subject: Subject,
    /// The thread that asks, which the report shows first.
    pub thread_id: u64,
    /// Address of the client's record header.
    pub record: u64,
}

/// Why a message is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpMessageError {
    /// Not a request's exact size.
    Size(usize),
    /// Another message id.
    Id(i32),
    /// Not exactly one port, moved to the receiver. Destroy the message.
    Descriptor,
    /// A kind of subject that is not in [`Subject`]. The port's right came all the same: destroy the message.
    Kind(u32),
}

/// A request, ready to be sent: from `reply_port` (a receive right of the sender's) to `service`.
pub fn encode_request(service: u32, reply_port: u32, request: &DumpRequest) -> [u8; REQUEST_SIZE] {
    let (kind, port) = match request.subject {
        Subject::IdentityToken(port) => (0_u32, port),
        Subject::Task(port) => (1, port),
    };
    let mut writer = Writer { bytes: [0; REQUEST_SIZE], at: 0 };
    writer.put(&(COMPLEX | MAKE_SEND_ONCE << 8 | COPY_SEND).to_le_bytes());
    writer.put(&(REQUEST_SIZE as u32).to_le_bytes());
    writer.put(&service.to_le_bytes());
    writer.put(&reply_port.to_le_bytes());
    writer.put(&0_u32.to_le_bytes());
    writer.put(&REQUEST_ID.to_le_bytes());
    writer.put(&1_u32.to_le_bytes());
    // Port descriptor: name, padding, disposition, type 0.
    writer.put(&port.to_le_bytes());
    writer.put(&[0, 0, 0, 0, 0, 0, COPY_SEND as u8, 0]);
    writer.put(&NDR);
    writer.put(&request.thread_id.to_le_bytes());
    writer.put(&request.record.to_le_bytes());
    writer.put(&kind.to_le_bytes());
    writer.bytes
}

/// The request that these bytes, received without their trailer, are.
pub fn decode_request(bytes: &[u8]) -> Result<DumpRequest, DumpMessageError> {
    if bytes.len() != REQUEST_SIZE {
        return Err(DumpMessageError::Size(bytes.len()));
    }
    let number = |at| u32::from_le_bytes(array(bytes, at));
    let id = number(20) as i32;
    if id != REQUEST_ID {
        return Err(DumpMessageError::Id(id));
    }
    let [.., disposition, kind]: [u8; 8] = array(bytes, 32);
    if number(0) & COMPLEX == 0 || number(24) != 1 || disposition != MOVE_SEND || kind != 0 {
        return Err(DumpMessageError::Descriptor);
    }
    let port = number(28);
    let subject = match number(64) {
        0 => Subject::IdentityToken(port),
        1 => Subject::Task(port),
        other => return Err(DumpMessageError::Kind(other)),
    };
    let long = |at| u64::from_le_bytes(array(bytes, at));
    Ok(DumpRequest { subject, thread_id: long(48), record: long(56) })
}

/// The code in a reply's bytes; `None` if they are no reply.
#[inline]
pub fn decode_reply(bytes: &[u8]) -> Option<i32> {
    let id = i32::from_le_bytes(array(bytes, 20));
    (bytes.len() == REPLY_SIZE && id == REPLY_ID).then(|| i32::from_le_bytes(array(bytes, 32)))
}

/// A reply to the send-once right that the request brought, with `MACH_MSG_TYPE_MOVE_SEND_ONCE` (18).
pub fn encode_reply(reply_port: u32, code: i32) -> [u8; REPLY_SIZE] {
    let mut writer = Writer { bytes: [0; REPLY_SIZE], at: 0 };
    writer.put(&18_u32.to_le_bytes());
    writer.put(&(REPLY_SIZE as u32).to_le_bytes());
    writer.put(&reply_port.to_le_bytes());
    writer.put(&[0; 8]);
    writer.put(&REPLY_ID.to_le_bytes());
    writer.put(&NDR);
    writer.put(&code.to_le_bytes());
    writer.bytes
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn put(&mut self, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(field) {
            *to = *from;
        }
        self.at += field.len();
    }
}

/// The bytes at `at`, zeros where they end.
#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: DumpRequest =
        DumpRequest { subject: Subject::IdentityToken(0x1203), thread_id: 0x0102_0304, record: 0x1_0000_4000 };

    #[test]
    fn a_request_has_the_bytes_of_a_complex_message_with_one_port() {
        let bytes = encode_request(0x0b07, 0x0707, &REQUEST);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            // bits 0x80001513, size 72, remote, local, voucher, id
            "13150080480000000b0700000707000000000000".replace("0b070000", "070b0000")
                + "01544641"
                // one descriptor: name, pad, COPY_SEND (19), type 0
                + "01000000" + "03120000" + "00000000" + "00001300"
                + "0000000001000000"
                + "0403020100000000" + "0040000001000000"
                + "0000000000000000"
        );
    }

    /// What the kernel makes of a sent request: the port is moved to the receiver.
    fn received(mut bytes: [u8; REQUEST_SIZE]) -> [u8; REQUEST_SIZE] {
        bytes[38] = 17;
        bytes
    }

    #[test]
    fn a_received_request_says_who_asks() {
        let bytes = received(encode_request(0x0b07, 0x0707, &REQUEST));
        assert_eq!(decode_request(&bytes), Ok(REQUEST));
        let task = DumpRequest { subject: Subject::Task(7), ..REQUEST };
        assert_eq!(decode_request(&received(encode_request(1, 2, &task))), Ok(task));
    }

    #[test]
    fn other_messages_are_refused_with_the_reason() {
        let good = received(encode_request(0x0b07, 0x0707, &REQUEST));
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            decode_request(&bytes)
        };
        assert_eq!(decode_request(&good[..71]), Err(DumpMessageError::Size(71)));
        assert_eq!(with(20, 2), Err(DumpMessageError::Id(0x4146_5402)));
        assert_eq!(with(3, 0), Err(DumpMessageError::Descriptor));
        assert_eq!(with(24, 2), Err(DumpMessageError::Descriptor));
        assert_eq!(with(38, 19), Err(DumpMessageError::Descriptor));
        assert_eq!(with(39, 1), Err(DumpMessageError::Descriptor));
        assert_eq!(with(64, 2), Err(DumpMessageError::Kind(2)));
    }

    #[test]
    fn a_reply_carries_its_code() {
        let bytes = encode_reply(0x0c03, -303);
        assert_eq!(bytes[..4], [18, 0, 0, 0]);
        assert_eq!(decode_reply(&bytes), Some(-303));
        assert_eq!(decode_reply(&bytes[..35]), None);
        assert_eq!(decode_reply(&[0; REPLY_SIZE]), None);
    }
}
