//! Notifications about ports (`osfmk/mach/notify.h`).
//!
//! Anyone may send these bytes: they mean something only with a trailer from the kernel.

use super::bytes::{NDR, Reader};
use super::header::{Disposition, Header, PortName, read_descriptor_count, read_port, write_port};
use super::refusal::Refusal;

/// What happened to a port. The header's local port says on which port the notice came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notification {
    /// 65: the name was deallocated.
    PortDeleted(PortName),
    /// 66: a queue that was full has room.
    SendPossible(PortName),
    /// 69: a receive right was destroyed, and comes back: the receiver owns it.
    PortDestroyed(PortName),
    /// 70: no send rights are left. The number of rights ever made: ask for the next notice with it, or a right made
    /// meanwhile goes unseen.
    NoSenders(u32),
    /// 71: a send-once right was dropped unused.
    SendOnce,
    /// 72: a port died. The name holds one more dead-name reference than before: the receiver owns it.
    DeadName(PortName),
}

const PORT_DELETED: i32 = 65;
const SEND_POSSIBLE: i32 = 66;
const PORT_DESTROYED: i32 = 69;
const NO_SENDERS: i32 = 70;
const SEND_ONCE: i32 = 71;
const DEAD_NAME: i32 = 72;

impl Notification {
    /// Whether a message id is a notification's.
    pub const fn is_id(id: i32) -> bool {
        matches!(id, PORT_DELETED | SEND_POSSIBLE | PORT_DESTROYED | NO_SENDERS | SEND_ONCE | DEAD_NAME)
    }

    /// Reads a message of exactly these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Notification, Refusal> {
        let mut reader = Reader::new(bytes);
        let header = Header::read_whole(&mut reader, bytes)?;
        let descriptors = if header.id == PORT_DESTROYED { 1 } else { 0 };
        if Notification::is_id(header.id) {
            read_descriptor_count(&header, &mut reader, descriptors)?;
        }
        let notification = match header.id {
            PORT_DELETED => Notification::PortDeleted(read_name(&mut reader)?),
            SEND_POSSIBLE => Notification::SendPossible(read_name(&mut reader)?),
            PORT_DESTROYED => Notification::PortDestroyed(read_port(&mut reader, Disposition::RECEIVE)?),
            NO_SENDERS => Notification::NoSenders(read_name(&mut reader)?.0),
            SEND_ONCE => Notification::SendOnce,
            DEAD_NAME => Notification::DeadName(read_name(&mut reader)?),
            id => return Err(Refusal::Id(id)),
        };
        header.expect_size(reader.offset())?;
        Ok(notification)
    }

    /// The message's bytes as they arrive at `local`.
    pub fn encode(&self, local: PortName) -> Vec<u8> {
        let mut bytes = vec![0; Header::SIZE];
        let mut header = Header { bits: u32::from(Disposition::SEND_ONCE.0) << 8, local, ..Header::default() };
        let (id, word) = match *self {
            Notification::PortDeleted(name) => (PORT_DELETED, Some(name.0)),
            Notification::SendPossible(name) => (SEND_POSSIBLE, Some(name.0)),
            Notification::NoSenders(count) => (NO_SENDERS, Some(count)),
            Notification::DeadName(name) => (DEAD_NAME, Some(name.0)),
            Notification::SendOnce => (SEND_ONCE, None),
            Notification::PortDestroyed(name) => {
                header.bits |= Header::COMPLEX;
                bytes.extend(1u32.to_le_bytes());
                write_port(&mut bytes, name, Disposition::RECEIVE);
                (PORT_DESTROYED, None)
            }
        };
        if let Some(word) = word {
            bytes.extend(NDR);
            bytes.extend(word.to_le_bytes());
        }
        header.id = id;
        header.size = bytes.len() as u32;
        bytes[..Header::SIZE].copy_from_slice(&header.encode());
        bytes
    }
}

fn read_name(reader: &mut Reader<'_>) -> Result<PortName, Refusal> {
    reader.ndr()?;
    Ok(PortName(reader.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Notification, i32, usize); 6] = [
        (Notification::PortDeleted(PortName(0x103)), 65, 36),
        (Notification::SendPossible(PortName(0x203)), 66, 36),
        (Notification::PortDestroyed(PortName(0x303)), 69, 40),
        (Notification::NoSenders(7), 70, 36),
        (Notification::SendOnce, 71, 24),
        (Notification::DeadName(PortName(0x403)), 72, 36),
    ];

    #[test]
    fn every_notification_has_the_id_and_size_of_notify_h_and_survives_a_round_trip() {
        for (notification, id, size) in ALL {
            let bytes = notification.encode(PortName(0x99));
            assert_eq!(Header::decode(&bytes).unwrap().id, id);
            assert_eq!(bytes.len(), size, "{notification:?}");
            assert_eq!(Notification::decode(&bytes), Ok(notification));
        }
    }

    #[test]
    fn a_no_senders_notice_is_these_bytes() {
        #[rustfmt::skip]
        let bytes = [
            0x00, 0x12, 0, 0,  36, 0, 0, 0,  0, 0, 0, 0,  0x0B, 0x0A, 0, 0,  0, 0, 0, 0,  70, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0,
            3, 0, 0, 0,
        ];
        assert_eq!(Notification::decode(&bytes), Ok(Notification::NoSenders(3)));
    }

    #[test]
    fn a_notice_that_is_cut_too_long_or_complex_is_refused() {
        for (notification, ..) in ALL {
            let bytes = notification.encode(PortName(1));
            for length in 0..bytes.len() {
                assert!(Notification::decode(&bytes[..length]).is_err());
            }
            let mut long = bytes.clone();
            long.extend([0; 4]);
            long[4] += 4;
            assert!(Notification::decode(&long).is_err());
            let mut complex = bytes;
            complex[3] ^= 0x80;
            assert!(Notification::decode(&complex).is_err());
        }
    }
}
