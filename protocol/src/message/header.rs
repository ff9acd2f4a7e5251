//! The header of a Mach message, and port descriptors in its body.

use super::Refusal;
use super::bytes::Reader;

/// A port's name in a task's name space (`mach_port_name_t`). A number, not a right: who owns the right is said elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortName(pub u32);

impl PortName {
    /// `MACH_PORT_NULL`: no port.
    pub const NULL: PortName = PortName(0);
    /// `MACH_PORT_DEAD`: the port died on the way.
    pub const DEAD: PortName = PortName(u32::MAX);

    /// Whether the name can name a right: neither null nor dead (`MACH_PORT_VALID`).
    pub const fn is_valid(self) -> bool {
        self.0 != Self::NULL.0 && self.0 != Self::DEAD.0
    }
}

/// What a message does to a right it carries (`MACH_MSG_TYPE_*`). On receipt it says which right arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Disposition(pub u8);

impl Disposition {
    /// No right.
    pub const NONE: Disposition = Disposition(0);
    /// `MACH_MSG_TYPE_MOVE_RECEIVE`: a receive right.
    pub const RECEIVE: Disposition = Disposition(16);
    /// `MACH_MSG_TYPE_MOVE_SEND`: a send right.
    pub const SEND: Disposition = Disposition(17);
    /// `MACH_MSG_TYPE_MOVE_SEND_ONCE`: a send-once right.
    pub const SEND_ONCE: Disposition = Disposition(18);
    /// `MACH_MSG_TYPE_COPY_SEND`.
    pub const COPY_SEND: Disposition = Disposition(19);
    /// `MACH_MSG_TYPE_MAKE_SEND`.
    pub const MAKE_SEND: Disposition = Disposition(20);
    /// `MACH_MSG_TYPE_MAKE_SEND_ONCE`.
    pub const MAKE_SEND_ONCE: Disposition = Disposition(21);
}

/// `mach_msg_header_t`, 24 bytes, as the receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Dispositions of the three ports and the complex bit.
    pub bits: u32,
    /// Bytes of header and body, without the trailer.
    pub size: u32,
    /// Where the reply goes.
    pub remote: PortName,
    /// The port the message was received on.
    pub local: PortName,
    /// The sender's voucher.
    pub voucher: PortName,
    /// Which message it is.
    pub id: i32,
}

impl Header {
    /// Its size in bytes.
    pub const SIZE: usize = 24;
    /// `MACH_MSGH_BITS_COMPLEX`: the body starts with descriptors.
    pub const COMPLEX: u32 = 0x8000_0000;

    /// Reads a header. Its fields are not judged.
    pub fn decode(bytes: &[u8]) -> Result<Header, Refusal> {
        Header::read(&mut Reader::new(bytes))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Header, Refusal> {
        Ok(Header {
            bits: reader.u32()?,
            size: reader.u32()?,
            remote: PortName(reader.u32()?),
            local: PortName(reader.u32()?),
            voucher: PortName(reader.u32()?),
            id: reader.i32()?,
        })
    }

    /// Reads the header of a whole message and requires its size to be the message's.
    pub(super) fn read_whole(reader: &mut Reader<'_>, bytes: &[u8]) -> Result<Header, Refusal> {
        let header = Header::read(reader)?;
        header.expect_size(bytes.len())?;
        Ok(header)
    }

    pub(super) fn expect_size(&self, expected: usize) -> Result<(), Refusal> {
        if self.size as usize == expected {
            return Ok(());
        }
        Err(Refusal::Size { says: self.size, expected: u32::try_from(expected).unwrap_or(u32::MAX) })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; Header::SIZE] {
        let fields = [self.bits, self.size, self.remote.0, self.local.0, self.voucher.0, self.id as u32];
        let mut bytes = [0; Header::SIZE];
        for (place, field) in bytes.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Whether the body starts with descriptors.
    pub const fn is_complex(&self) -> bool {
        self.bits & Header::COMPLEX != 0
    }

    /// Which right [`Header::remote`] is (low five bits; other bits of the byte are the kernel's own).
    pub const fn remote_disposition(&self) -> Disposition {
        Disposition((self.bits & 0x1F) as u8)
    }

    /// Which right the sender used to reach [`Header::local`].
    pub const fn local_disposition(&self) -> Disposition {
        Disposition(((self.bits >> 8) & 0x1F) as u8)
    }

    /// Which right [`Header::voucher`] is; none unless vouchers were asked for.
    pub const fn voucher_disposition(&self) -> Disposition {
        Disposition(((self.bits >> 16) & 0x1F) as u8)
    }

    /// Whether somebody waits for a reply that we can send.
    pub fn wants_reply(&self) -> bool {
        self.remote.is_valid() && matches!(self.remote_disposition(), Disposition::SEND | Disposition::SEND_ONCE)
    }
}

/// `MACH_MSG_PORT_DESCRIPTOR`.
const PORT_DESCRIPTOR: u8 = 0;

/// Reads the descriptor count of a complex message and requires `expected` of them.
pub(super) fn read_descriptor_count(header: &Header, reader: &mut Reader<'_>, expected: u32) -> Result<(), Refusal> {
    match (header.is_complex(), expected) {
        (false, 0) => return Ok(()),
        (true, 0) | (false, _) => return Err(Refusal::Complex(header.is_complex())),
        (true, _) => {}
    }
    let count = reader.u32()?;
    if count == expected { Ok(()) } else { Err(Refusal::Descriptors(count)) }
}

/// Reads a port descriptor (12 bytes): name, two paddings, disposition, type. The name may be null or dead.
pub(super) fn read_port(reader: &mut Reader<'_>, disposition: Disposition) -> Result<PortName, Refusal> {
    let name = PortName(reader.u32()?);
    let _padding = (reader.u32()?, reader.u16()?);
    let [found, kind] = reader.take()?;
    if kind != PORT_DESCRIPTOR || found != disposition.0 {
        return Err(Refusal::Descriptor { kind, disposition: found });
    }
    Ok(name)
}

/// Appends a port descriptor.
pub(super) fn write_port(bytes: &mut Vec<u8>, name: PortName, disposition: Disposition) {
    bytes.extend(name.0.to_le_bytes());
    bytes.extend([0; 6]);
    bytes.extend([disposition.0, PORT_DESCRIPTOR]);
}
