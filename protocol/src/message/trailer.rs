//! What the kernel appends to a message: who sent it.

use super::bytes::Reader;

/// `audit_token_t`: eight words that the kernel fills in (`bsd/kern/kern_audit`, `set_security_token`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AuditToken(pub [u32; 8]);

impl AuditToken {
    /// Effective user id.
    pub const fn effective_uid(&self) -> u32 {
        self.0[1]
    }

    /// Real user id.
    pub const fn real_uid(&self) -> u32 {
        self.0[3]
    }

    /// Process id; 0 is the kernel.
    pub const fn pid(&self) -> i32 {
        self.0[5] as i32
    }

    /// Distinguishes processes that had the same id one after the other, and the images of one that executes another.
    pub const fn pid_version(&self) -> u32 {
        self.0[7]
    }
}

/// A message's trailer. Fields that were not asked for, or did not fit, are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailer {
    /// Sequence number of the message on its port.
    pub sequence: Option<u32>,
    /// Effective user and group of the sender.
    pub sender: Option<(u32, u32)>,
    /// Who sent it.
    pub audit: Option<AuditToken>,
    /// The receiving port's context.
    pub context: Option<u64>,
}

impl Trailer {
    /// `MACH_MSG_TRAILER_FORMAT_0`, the only one.
    const FORMAT_0: u32 = 0;
    /// Size of the trailer that `MACH_RCV_TRAILER_AUDIT` asks for.
    pub const AUDIT_SIZE: u32 = 52;

    /// Reads a trailer as far as it goes. Never fails: who can't be identified has simply not been.
    pub fn decode(bytes: &[u8]) -> Trailer {
        let mut reader = Reader::new(bytes);
        let mut trailer = Trailer::default();
        let (Ok(Trailer::FORMAT_0), Ok(size)) = (reader.u32(), reader.u32()) else { return trailer };
        // Fields beyond the trailer's own size are whatever the buffer held before.
        let Some(bytes) = bytes.get(..size as usize) else { return trailer };
        let mut reader = Reader::new(bytes);
        let _header = reader.u64();
        trailer.sequence = reader.u32().ok();
        trailer.sender = pair(&mut reader);
        trailer.audit = audit(&mut reader);
        trailer.context = reader.u64().ok();
        trailer
    }

    /// Whether the kernel sent the message. Only then is it an exception: anyone who holds a send right to the port can send
    /// the same bytes, but no process has id 0.
    pub fn from_kernel(&self) -> bool {
        self.audit.is_some_and(|token| token.pid() == 0)
    }
}

fn pair(reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    Some((reader.u32().ok()?, reader.u32().ok()?))
}

fn audit(reader: &mut Reader<'_>) -> Option<AuditToken> {
    let mut token = AuditToken::default();
    for word in &mut token.0 {
        *word = reader.u32().ok()?;
    }
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The layout of `mach_msg_audit_trailer_t`: type, size, sequence number, security token, audit token.
    const AUDIT: [u32; 13] = [0, 52, 9, 501, 20, 1, 501, 20, 502, 21, 4242, 100_005, 77];

    #[test]
    fn the_words_of_an_audit_trailer_are_where_message_h_puts_them() {
        let trailer = Trailer::decode(&bytes(&AUDIT));
        assert_eq!(trailer.sequence, Some(9));
        assert_eq!(trailer.sender, Some((501, 20)));
        let token = trailer.audit.unwrap();
        assert_eq!((token.effective_uid(), token.real_uid()), (501, 502));
        assert_eq!((token.pid(), token.pid_version()), (4242, 77));
        assert_eq!(trailer.context, None);
        assert!(!trailer.from_kernel());
    }

    #[test]
    fn the_kernel_is_recognised_by_process_id_zero() {
        let mut words = [0; 13];
        words[1] = 52;
        words[4] = 1;
        assert!(Trailer::decode(&bytes(&words)).from_kernel());
    }

    #[test]
    fn a_trailer_that_is_missing_cut_or_of_another_format_does_not_speak_for_the_kernel() {
        let kernel = {
            let mut words = [0; 13];
            words[1] = 52;
            bytes(&words)
        };
        for length in 0..kernel.len() {
            assert!(!Trailer::decode(&kernel[..length]).from_kernel(), "{length} bytes");
        }
        let mut other = kernel.clone();
        other[0] = 1;
        assert!(!Trailer::decode(&other).from_kernel());
        let mut small = kernel;
        small[4] = 20;
        assert_eq!(Trailer::decode(&small).sender, Some((0, 0)));
        assert!(!Trailer::decode(&small).from_kernel());
    }

    #[test]
    fn a_context_follows_in_the_larger_trailers() {
        for size in [60u32, 68] {
            let mut words = AUDIT.to_vec();
            words[1] = size;
            words.extend([0x55AA_0001, 0x1234_0000, 0, 0]);
            let trailer = Trailer::decode(&bytes(&words));
            assert_eq!(trailer.context, Some(0x1234_0000_55AA_0001));
        }
    }
}
