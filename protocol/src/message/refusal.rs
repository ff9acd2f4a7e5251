//! Why a message was not understood.

use std::fmt;

use crate::dump_message::DumpMessageError;
use crate::exception::KernReturn;

/// What was wrong with a message. Whatever rights it carried are still the receiver's to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A field lies past the end.
    Short {
        /// Bytes that would have been needed.
        needs: usize,
        /// Bytes there are.
        has: usize,
    },
    /// The header's size is not the one that its contents have.
    Size {
        /// The header's.
        says: u32,
        /// What it should be.
        expected: u32,
    },
    /// No message that is known here has this id.
    Id(i32),
    /// The complex bit is set and must not be (`true`), or is not and must be, or the rights are not those that the message
    /// carries (`false`).
    Complex(bool),
    /// Another number of descriptors than the message has.
    Descriptors(u32),
    /// A descriptor of another type or right than the message carries.
    Descriptor {
        /// `mach_msg_descriptor_type_t`.
        kind: u8,
        /// Its disposition.
        disposition: u8,
    },
    /// The NDR record does not say little-endian.
    NotLittleEndian,
    /// A number of codes other than two.
    Codes(u32),
    /// More words of thread state than [`super::MAX_STATE_WORDS`].
    StateWords(u32),
    /// A client's request names itself by a kind of port that is not known here.
    Subject(u32),
    /// A client's request of a version that there never was.
    Version(u32),
    /// A reply whose result and contents contradict each other.
    Reply(KernReturn),
}

impl Refusal {
    /// What a server answers to such a request: `MIG_BAD_ID` for an unknown id, `MIG_TYPE_ERROR` for the rest
    /// (`osfmk/mach/mig_errors.h`). The kernel takes either as "not handled".
    pub const fn code(self) -> KernReturn {
        match self {
            Refusal::Id(_) => KernReturn::MIG_BAD_ID,
            _ => KernReturn::MIG_TYPE_ERROR,
        }
    }
}

impl From<DumpMessageError> for Refusal {
    fn from(error: DumpMessageError) -> Refusal {
        match error {
            DumpMessageError::Size(size) => {
                Refusal::Size { says: size as u32, expected: crate::dump_message::REQUEST_SIZE as u32 }
            }
            DumpMessageError::Id(id) => Refusal::Id(id),
            DumpMessageError::Descriptor => Refusal::Complex(false),
            DumpMessageError::Kind(kind) => Refusal::Subject(kind),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Short { needs, has } => write!(f, "a message of {has} bytes has a field that ends at {needs}"),
            Refusal::Size { says, expected } => write!(f, "a message says it has {says} bytes, not {expected}"),
            Refusal::Id(id) => write!(f, "unknown message id {id}"),
            Refusal::Complex(true) => f.write_str("a message without descriptors is marked complex"),
            Refusal::Complex(false) => f.write_str("a message does not carry the rights that it must"),
            Refusal::Descriptors(count) => write!(f, "unexpected number of descriptors: {count}"),
            Refusal::Descriptor { kind, disposition } => {
                write!(f, "unexpected descriptor of type {kind}, disposition {disposition}")
            }
            Refusal::NotLittleEndian => f.write_str("integers are not little-endian"),
            Refusal::Codes(count) => write!(f, "{count} exception codes instead of 2"),
            Refusal::StateWords(count) => write!(f, "{count} words of thread state"),
            Refusal::Subject(kind) => write!(f, "a client names itself by a port of unknown kind {kind}"),
            Refusal::Version(version) => write!(f, "a client's request of version {version}"),
            Refusal::Reply(code) => write!(f, "a reply with {code} has the wrong contents"),
        }
    }
}

impl std::error::Error for Refusal {}
