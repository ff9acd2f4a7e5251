//! The eight exception messages, by table.

use super::bytes::{NDR, Reader};
use super::header::{Disposition, Header, PortName, read_descriptor_count, read_port, write_port};
use super::refusal::Refusal;
use crate::exception::MachException;

/// `THREAD_STATE_MAX` in 32-bit words, on both CPUs since macOS 12 (`osfmk/mach/machine/thread_state.h`).
pub const MAX_STATE_WORDS: u32 = 1296;

/// How wide the codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeWidth {
    /// Cut to 32 bits: registered without `MACH_EXCEPTION_CODES`, messages 2401 to 2403.
    Bits32,
    /// Whole.
    Bits64,
}

/// Whose exception it is, as far as the message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `EXCEPTION_STATE`: nobody knows.
    Nobody,
    /// Send rights: control ports or, without developer mode, read ports. Either may be null or dead.
    Ports {
        /// The thread.
        thread: PortName,
        /// Its task.
        task: PortName,
    },
    /// The protected behaviours: nothing that could change the task.
    Identity {
        /// Send right to a task identity token.
        token: PortName,
        /// The thread's 64-bit id.
        thread_id: u64,
    },
}

/// A thread's state as a message carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its flavour: which structure the words are, by CPU.
    pub flavor: i32,
    /// At most [`MAX_STATE_WORDS`].
    pub words: Vec<u32>,
}

/// An exception message. [`Request::id`] follows from what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The header; id, size and complex bit are derived from the rest when encoding.
    pub header: Header,
    /// Whose exception it is.
    pub subject: Subject,
    /// What it is. 32-bit codes are extended with zeros.
    pub exception: MachException,
    /// How wide the codes were.
    pub width: CodeWidth,
    /// The thread's state, in the behaviours that send it.
    pub state: Option<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nobody,
    Ports,
    Identity,
}

/// One row a message: id, what it says of the subject, width of codes, whether a state follows.
const MESSAGES: [(i32, Carries, CodeWidth, bool); 8] = [
    (2401, Carries::Ports, CodeWidth::Bits32, false),
    (2402, Carries::Nobody, CodeWidth::Bits32, true),
    (2403, Carries::Ports, CodeWidth::Bits32, true),
    (2405, Carries::Ports, CodeWidth::Bits64, false),
    (2406, Carries::Nobody, CodeWidth::Bits64, true),
    (2407, Carries::Ports, CodeWidth::Bits64, true),
    (2408, Carries::Identity, CodeWidth::Bits64, false),
    (2410, Carries::Identity, CodeWidth::Bits64, true),
];

/// Whether `id` is one of the messages that carry a state, whose successful reply must carry one too.
pub(super) fn has_state(id: i32) -> Option<bool> {
    MESSAGES.iter().find(|row| row.0 == id).map(|row| row.3)
}

impl Request {
    /// Reads a message of exactly these bytes. Offsets are computed, never assumed: everything after the codes moves with
    /// their number and width. Two codes are required, as the kernel sends them; a system call refused on arm64 may have
    /// one, and is refused too, since nothing here would know what to report of it.
    pub fn decode(bytes: &[u8]) -> Result<Request, Refusal> {
        let mut reader = Reader::new(bytes);
        let header = Header::read_whole(&mut reader, bytes)?;
        let Some(&(_, carries, width, with_state)) = MESSAGES.iter().find(|row| row.0 == header.id) else {
            return Err(Refusal::Id(header.id));
        };
        let subject = read_subject(&header, &mut reader, carries)?;
        let kind = reader.u32()?;
        let codes = read_codes(&mut reader, width)?;
        let state = if with_state { Some(read_state(&mut reader)?) } else { None };
        header.expect_size(reader.offset())?;
        Ok(Request { header, subject, exception: MachException { kind, codes }, width, state })
    }

    /// The message's id; `None` if no message holds this combination.
    pub fn id(&self) -> Option<i32> {
        let carries = match self.subject {
            Subject::Nobody => Carries::Nobody,
            Subject::Ports { .. } => Carries::Ports,
            Subject::Identity { .. } => Carries::Identity,
        };
        let wanted = (carries, self.width, self.state.is_some());
        MESSAGES.iter().find(|row| (row.1, row.2, row.3) == wanted).map(|row| row.0)
    }

    /// The message's bytes, as the kernel would send them to a receiver; `None` if no message holds this combination or the
    /// state is too long.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut header = Header { id: self.id()?, ..self.header };
        header.bits &= !Header::COMPLEX;
        if !matches!(self.subject, Subject::Nobody) {
            header.bits |= Header::COMPLEX;
        }
        let mut bytes = vec![0; Header::SIZE];
        self.write_subject(&mut bytes);
        bytes.extend(self.exception.kind.to_le_bytes());
        bytes.extend(2u32.to_le_bytes());
        for code in self.exception.codes {
            match self.width {
                CodeWidth::Bits32 => bytes.extend((code as u32).to_le_bytes()),
                CodeWidth::Bits64 => bytes.extend(code.to_le_bytes()),
            }
        }
        if let Some(state) = &self.state {
            write_state(&mut bytes, state)?;
        }
        header.size = u32::try_from(bytes.len()).ok()?;
        bytes[..Header::SIZE].copy_from_slice(&header.encode());
        Some(bytes)
    }

    /// The message's bytes as a handler sends it on to another: to `handler`, whose answer shall come to `reply_port` (a receive
    /// right of the sender's). The sender keeps its rights. `None` as for [`Request::encode`].
    pub fn encode_to(&self, handler: PortName, reply_port: PortName) -> Option<Vec<u8>> {
        let bits = u32::from(Disposition::COPY_SEND.0) | u32::from(Disposition::MAKE_SEND_ONCE.0) << 8;
        let header = Header { bits, remote: handler, local: reply_port, voucher: PortName::NULL, ..self.header };
        let mut bytes = Request { header, ..self.clone() }.encode()?;
        let descriptors = match self.subject {
            Subject::Nobody => 0,
            Subject::Ports { .. } => 2,
            Subject::Identity { .. } => 1,
        };
        for index in 0..descriptors {
            // The disposition of a port descriptor of 12 bytes, behind the header and the number of descriptors.
            *bytes.get_mut(Header::SIZE + 4 + 12 * index + 10)? = Disposition::COPY_SEND.0;
        }
        Some(bytes)
    }

    fn write_subject(&self, bytes: &mut Vec<u8>) {
        match self.subject {
            Subject::Nobody => bytes.extend(NDR),
            Subject::Ports { thread, task } => {
                bytes.extend(2u32.to_le_bytes());
                write_port(bytes, thread, Disposition::SEND);
                write_port(bytes, task, Disposition::SEND);
                bytes.extend(NDR);
            }
            Subject::Identity { token, thread_id } => {
                bytes.extend(1u32.to_le_bytes());
                write_port(bytes, token, Disposition::SEND);
                bytes.extend(NDR);
                bytes.extend(thread_id.to_le_bytes());
            }
        }
    }
}

/// Descriptors, NDR record and thread id. Rights that the kernel copies arrive as send rights, disposition 17, and nothing
/// else is accepted, as in a generated server.
fn read_subject(header: &Header, reader: &mut Reader<'_>, carries: Carries) -> Result<Subject, Refusal> {
    Ok(match carries {
        Carries::Nobody => {
            read_descriptor_count(header, reader, 0)?;
            reader.ndr()?;
            Subject::Nobody
        }
        Carries::Ports => {
            read_descriptor_count(header, reader, 2)?;
            let thread = read_port(reader, Disposition::SEND)?;
            let task = read_port(reader, Disposition::SEND)?;
            reader.ndr()?;
            Subject::Ports { thread, task }
        }
        Carries::Identity => {
            read_descriptor_count(header, reader, 1)?;
            let token = read_port(reader, Disposition::SEND)?;
            reader.ndr()?;
            Subject::Identity { token, thread_id: reader.u64()? }
        }
    })
}

fn read_codes(reader: &mut Reader<'_>, width: CodeWidth) -> Result<[u64; 2], Refusal> {
    match reader.u32()? {
        2 => {}
        count => return Err(Refusal::Codes(count)),
    }
    Ok(match width {
        CodeWidth::Bits32 => [reader.u32()?.into(), reader.u32()?.into()],
        CodeWidth::Bits64 => [reader.u64()?, reader.u64()?],
    })
}

pub(super) fn read_state(reader: &mut Reader<'_>) -> Result<State, Refusal> {
    let flavor = reader.i32()?;
    let count = reader.u32()?;
    if count > MAX_STATE_WORDS {
        return Err(Refusal::StateWords(count));
    }
    let words = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(State { flavor, words })
}

pub(super) fn write_state(bytes: &mut Vec<u8>, state: &State) -> Option<()> {
    let count = u32::try_from(state.words.len()).ok().filter(|count| *count <= MAX_STATE_WORDS)?;
    bytes.extend(state.flavor.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(state.words.iter().flat_map(|word| word.to_le_bytes()));
    Some(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
