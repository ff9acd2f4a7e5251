//! Streams of our own, for what no reader knows. docs/minidump.md describes them; "AM" is 0x414d.
//!
//! 0x414d0001: JSON with what the standard streams had to cut or translate (raw exception, ids, first chances).
//! 0x414d0002: the client's record as it was in the victim's memory.
//! 0x414d0003: the XSAVE areas of x86-64 threads (AVX and later registers).

use std::io::{Seek, Write};
use std::time::{Duration, SystemTime};

use minidump_writer::minidump_format::MDLocationDescriptor;
use serde::Serialize;

use super::Error;
use super::file::DumpFile;
use super::thread_ids::ThreadIds;
use crate::snapshot::{Exception, Registers, Snapshot};

/// JSON, see above.
pub(super) const INFO: u32 = 0x414d_0001;
/// Bytes, see above.
pub(super) const CLIENT_RECORD: u32 = 0x414d_0002;
/// A 32-bit count, then for each area the thread's id in this dump, the area's size and its offset; see above.
pub(super) const XSAVE: u32 = 0x414d_0003;

/// Writes the streams; those that would be empty are left out.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    ids: &ThreadIds,
) -> Result<(), Error> {
    let info = Info::new(snapshot, ids);
    let text = serde_json::to_vec(&info).map_err(|error| Error::Layout(error.to_string()))?;
    file.stream(INFO, |file| file.bytes(&text))?;
    if !snapshot.annotations.raw.is_empty() {
        file.stream(CLIENT_RECORD, |file| file.bytes(&snapshot.annotations.raw))?;
    }
    xsave(file, snapshot, ids)
}

fn xsave<W: Write + Seek>(file: &mut DumpFile<'_, W>, snapshot: &Snapshot, ids: &ThreadIds) -> Result<(), Error> {
    let mut areas = Vec::new();
    for (index, thread) in snapshot.threads.iter().enumerate() {
        if let Some(Registers::X86_64(registers)) = &thread.state.registers
            && let Some(area) = &registers.xsave
        {
            areas.push((ids.of(index), file.piece(|file| file.bytes(area))?));
        }
    }
    if areas.is_empty() {
        return Ok(());
    }
    file.stream(XSAVE, |file| {
        file.put(areas.len() as u32)?;
        for (id, MDLocationDescriptor { data_size, rva }) in areas {
            [id, data_size, rva].into_iter().try_for_each(|word| file.put(word))?;
        }
        Ok(())
    })
}

/// The JSON. 64-bit numbers are hexadecimal strings; what is not known is left out.
#[derive(Serialize)]
struct Info<'a> {
    schema: u32,
    producer: &'static str,
    exception: RawException,
    signal: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer_mask: Option<Hex>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    threads: Vec<ThreadInfo<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    breadcrumbs: Vec<(Seconds, &'a str)>,
}

/// A thread of which the standard streams don't say everything.
#[derive(Serialize)]
struct ThreadInfo<'a> {
    /// Its id in this dump.
    thread: u32,
    /// Its id in the system.
    id: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_chance: Option<FirstChance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_pc: Option<Hex>,
}

#[derive(Serialize)]
struct FirstChance {
    exception: RawException,
    pc: Hex,
    sp: Hex,
    time: Seconds,
}

#[derive(Serialize)]
#[serde(tag = "system", rename_all = "lowercase")]
enum RawException {
    Linux {
        signal: i32,
        code: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Hex>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sender_pid: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sender_uid: Option<u32>,
    },
    Mach {
        kind: u32,
        codes: [Hex; 2],
    },
    /// None: the program asked for the dump.
    Simulated,
}

struct Hex(u64);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Seconds, with a fraction.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'a> Info<'a> {
    fn new(snapshot: &'a Snapshot, ids: &ThreadIds) -> Info<'a> {
        let mask = snapshot.system.pointer_mask;
        let threads = snapshot.threads.iter().enumerate().map(|(index, thread)| {
            let state = &thread.state;
            let pc = state.registers.as_ref().map(Registers::pc);
            ThreadInfo {
                thread: ids.of(index),
                id: Hex(state.id),
                queue: state.queue.as_deref(),
                first_chance: state.first_chance.as_ref().map(|fault| FirstChance {
                    exception: RawException::from(fault.exception),
                    pc: Hex(fault.pc),
                    sp: Hex(fault.sp),
                    time: since_1970(fault.time),
                }),
                raw_pc: pc.filter(|pc| mask.is_some_and(|mask| pc & mask != *pc)).map(Hex),
            }
        });
        let said_elsewhere = |thread: &ThreadInfo<'_>| {
            u64::from(thread.thread) == thread.id.0
                && thread.queue.is_none()
                && thread.first_chance.is_none()
                && thread.raw_pc.is_none()
        };
        Info {
            schema: 1,
            producer: concat!("aftermach ", env!("CARGO_PKG_VERSION")),
            exception: RawException::from(snapshot.death.exception),
            signal: snapshot.death.signal,
            thread: snapshot.death.thread.map(Hex),
            pointer_mask: mask.map(Hex),
            threads: threads.filter(|thread| !said_elsewhere(thread)).collect(),
            breadcrumbs: snapshot.annotations.breadcrumbs.iter().map(|(at, text)| (Seconds(*at), &**text)).collect(),
        }
    }
}

impl From<Exception> for RawException {
    fn from(exception: Exception) -> RawException {
        match exception {
            Exception::Linux(signal) => RawException::Linux {
                signal: signal.signal,
                code: signal.code,
                address: signal.address.map(Hex),
                sender_pid: signal.sender.map(|sender| sender.pid),
                sender_uid: signal.sender.map(|sender| sender.uid),
            },
            Exception::Mach(mach) => RawException::Mach { kind: mach.kind, codes: mach.codes.map(Hex) },
            Exception::Simulated => RawException::Simulated,
        }
    }
}

fn since_1970(time: SystemTime) -> Seconds {
    Seconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
