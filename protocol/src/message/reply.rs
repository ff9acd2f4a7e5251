//! Replies to exception messages.

use super::bytes::{NDR, Reader};
use super::header::{Disposition, Header, PortName};
use super::refusal::Refusal;
use super::request::{Request, State, has_state, read_state, write_state};
use crate::exception::KernReturn;

/// A reply. The kernel takes anything it does not expect as "not handled": a result other than zero must come in exactly 36
/// bytes, success to a message with a state must bring a state back, and nothing may be complex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The right to send it with.
    pub port: PortName,
    /// Which right that is.
    pub disposition: Disposition,
    /// The request's id; the reply's is 100 more.
    pub request: i32,
    /// The result.
    pub code: KernReturn,
    /// The state that the thread shall go on with.
    pub state: Option<State>,
}

/// What MIG adds to a request's id.
const REPLY_IDS: i32 = 100;

impl Reply {
    /// Bytes of a reply without a state.
    pub const SIZE: usize = 36;
    /// Bytes of the largest reply.
    pub const MAX_SIZE: usize = 5228;

    /// A reply to an understood message. Success gives a state back unchanged where one came.
    pub fn to(request: &Request, code: KernReturn) -> Reply {
        let state = if code == KernReturn::SUCCESS { request.state.clone() } else { None };
        Reply { state, ..Reply::to_header(&request.header, code) }
    }

    /// A reply to a message of which only the header is to be relied on. `code` must not be success, unless the request is
    /// known to carry no state.
    pub fn to_header(header: &Header, code: KernReturn) -> Reply {
        let (port, disposition) = (header.remote, header.remote_disposition());
        Reply { port, disposition, request: header.id, code, state: None }
    }

    /// The reply's bytes. The remote disposition moves the right, so sending consumes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; Header::SIZE];
        bytes.extend(NDR);
        bytes.extend(self.code.0.to_le_bytes());
        if let (KernReturn::SUCCESS, Some(state)) = (self.code, &self.state) {
            // Longer than any message allows: leave it out, and let the kernel reject the reply.
            let _too_long = write_state(&mut bytes, state);
        }
        let header = Header {
            bits: self.disposition.0.into(),
            size: bytes.len() as u32,
            remote: self.port,
            // A peer may send any id: this must not overflow.
            id: self.request.wrapping_add(REPLY_IDS),
            ..Header::default()
        };
        bytes[..Header::SIZE].copy_from_slice(&header.encode());
        bytes
    }

    /// Reads a reply of exactly these bytes by the kernel's rules.
    pub fn decode(bytes: &[u8]) -> Result<Reply, Refusal> {
        let mut reader = Reader::new(bytes);
        let header = Header::read_whole(&mut reader, bytes)?;
        let request = header.id.wrapping_sub(REPLY_IDS);
        let with_state = has_state(request).ok_or(Refusal::Id(header.id))?;
        if header.is_complex() {
            return Err(Refusal::Complex(true));
        }
        reader.ndr()?;
        let code = KernReturn(reader.i32()?);
        let state = match (with_state, code) {
            (true, KernReturn::SUCCESS) if reader.offset() == bytes.len() => return Err(Refusal::Reply(code)),
            (true, KernReturn::SUCCESS) => Some(read_state(&mut reader)?),
            _ => None,
        };
        header.expect_size(reader.offset())?;
        let (port, disposition) = (header.remote, header.remote_disposition());
        Ok(Reply { port, disposition, request, code, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exception::MachException;
    use crate::message::{CodeWidth, MAX_STATE_WORDS, Subject};

    fn request(state: Option<State>) -> Request {
        let header = Header { bits: 0x8000_1112, remote: PortName(0x1503), id: 2405, ..Header::default() };
        let subject = Subject::Ports { thread: PortName(1), task: PortName(2) };
        let exception = MachException { kind: 1, codes: [1, 0] };
        Request { header, subject, exception, width: CodeWidth::Bits64, state }
    }

    #[test]
    fn a_reply_without_state_is_these_36_bytes() {
        let bytes = Reply::to(&request(None), KernReturn::RCV_PORT_DIED).encode();
        #[rustfmt::skip]
        let expected = [
            0x12, 0, 0, 0,  36, 0, 0, 0,  0x03, 0x15, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0xC9, 0x09, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0,
            0x09, 0x40, 0x00, 0x10,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn success_gives_a_state_back_and_failure_does_not() {
        let mut request = request(Some(State { flavor: 6, words: vec![7; 68] }));
        request.header.id = 2407;
        let success = Reply::to(&request, KernReturn::SUCCESS).encode();
        assert_eq!(success.len(), 44 + 4 * 68);
        assert_eq!(success[36..48], [6, 0, 0, 0, 68, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(Reply::decode(&success).unwrap().state, request.state);
        assert_eq!(Reply::to(&request, KernReturn::FAILURE).encode().len(), 36);
    }

    #[test]
    fn the_largest_reply_has_5228_bytes() {
        let state = State { flavor: 1, words: vec![0; MAX_STATE_WORDS as usize] };
        let mut request = request(Some(state));
        request.header.id = 2406;
        assert_eq!(Reply::to(&request, KernReturn::SUCCESS).encode().len(), Reply::MAX_SIZE);
    }

    #[test]
    fn the_kernel_rules_for_replies_are_kept() {
        let good = Reply::to(&request(None), KernReturn::SUCCESS).encode();
        assert!(Reply::decode(&good).is_ok());

        let mut complex = good.clone();
        complex[3] |= 0x80;
        assert_eq!(Reply::decode(&complex), Err(Refusal::Complex(true)));

        let mut id = good.clone();
        id[20] = 0xCC; // 2508, then 2511
        assert!(Reply::decode(&id).is_ok());
        id[20] = 0xCF;
        assert_eq!(Reply::decode(&id), Err(Refusal::Id(2511)));

        let mut stateless = good.clone();
        stateless[20] = 0xCA; // 2506 succeeds only with a state
        assert_eq!(Reply::decode(&stateless), Err(Refusal::Reply(KernReturn::SUCCESS)));

        let mut long = Reply::to(&request(None), KernReturn::FAILURE).encode();
        long.extend([0; 8]);
        long[4] = 44;
        assert_eq!(Reply::decode(&long), Err(Refusal::Size { says: 44, expected: 36 }));
    }

    #[test]
    fn any_id_can_be_answered() {
        let header = Header { id: i32::MAX, ..request(None).header };
        let bytes = Reply::to_header(&header, KernReturn::MIG_BAD_ID).encode();
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[32..], (-303i32).to_le_bytes());
    }
}
