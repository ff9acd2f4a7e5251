//! Minidumps: writing one from a snapshot, and checking those that others send.
//!
//! A minidump is a header, a directory of typed streams, and whatever the streams point to by 32-bit offsets. Here is one
//! stream a file; each says which structure of the format it writes. Structures come from minidump-writer's format layer
//! (`minidump_format`), so that the bytes are laid out as the readers' own definitions have them. Its `mem_writer` and
//! `dir_section` are not used: they keep the whole dump in memory a second time, and cut offsets past 4 GiB down to 32 bits.
//! A crash handler has neither the memory nor the right to write a wrong dump, so `file` writes straight to the file, keeps
//! nothing but the offsets it needs, and refuses a dump that would grow past 4 GiB.
//!
//! - **Order.** Copied memory, then contexts and lists, then the directory, then the header; its signature comes last. A
//!   dump that was cut off anywhere, or ran into a full disk, is no dump to any reader.
//! - **Threads** bear the system's ids, mapped to 32 bits where they are longer (`thread_ids`). Contexts hold float and
//!   vector registers. Stacks lie in the memory list too, since LLDB looks nowhere else.
//! - **Exceptions** are spelled so that rust-minidump and LLDB both understand them (`exception`); the raw codes are kept.
//! - **What is left out on purpose:** the environment (it holds secrets), BreakpadInfo (a reader would hide a thread), the
//!   link map (no reader asks for it; ModuleList says the same).
//! - **What no reader knows** is in streams of our own (`own`): docs/minidump.md describes them.

mod check;
mod context;
mod crashpad_info;
mod exception;
mod file;
mod linux_files;
mod mac_crash_info;
mod memory_info;
mod memory_list;
mod misc_info;
mod modules;
mod own;
mod soft_errors;
mod system_info;
mod thread_ids;
mod thread_names;
mod threads;
mod walk;

use std::io::{Seek, Write};
use std::time::SystemTime;

use uuid::Uuid;

use crate::snapshot::{Gap, Snapshot};

pub use check::{CheckedModule, Summary, Unreadable, check};

use file::DumpFile;
use memory_list::MemoryMap;
use thread_ids::ThreadIds;

/// What a dump holds that the snapshot does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extra<'a> {
    /// The report's id; nil if it has none.
    pub report_id: Uuid,
    /// The installation's id, resettable by its user; nil if there is none.
    pub client_id: Uuid,
    /// Annotations of the process that the handler knows ("prod", "ver", "channel", "ptype", …). They come before those of
    /// the victim, and where both have a key, the victim's is left out.
    pub annotations: &'a [(String, String)],
    /// What went wrong since the capture (unwinding, symbols), for the soft errors.
    pub notes: &'a [Gap],
}

/// A dump that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its size in bytes.
    pub bytes: u64,
    /// What the format could not hold.
    pub notes: Vec<Gap>,
}

/// Why a dump was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Writing failed: the disk is full, or the file is gone.
    #[error("writing the minidump failed after {written} bytes: {source}")]
    Io {
        /// Bytes written before.
        written: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The format's offsets have 32 bits.
    #[error("the minidump would be larger than {limit} bytes, which is all that its format can address")]
    TooLarge {
        /// The format's limit.
        limit: u64,
    },
    /// A structure could not be laid out: a defect of the format layer.
    #[error("a structure of the minidump could not be laid out: {0}")]
    Layout(String),
}

/// Writes a snapshot as a minidump to `out`, from its start. On an error, what is there is no valid minidump.
pub fn write(snapshot: &Snapshot, extra: &Extra<'_>, out: &mut (impl Write + Seek)) -> Result<Written, Error> {
    write_limited(snapshot, extra, out, u32::MAX.into())
}

/// As [`write()`], and the file's bytes are on the disk when it returns. Whoever calls it writes to a name of their own and
/// renames the file when it is complete.
pub fn write_file(snapshot: &Snapshot, extra: &Extra<'_>, mut file: &std::fs::File) -> Result<Written, Error> {
    let written = write(snapshot, extra, &mut file)?;
    file.sync_all().map_err(|source| Error::Io { written: written.bytes, source })?;
    Ok(written)
}

fn write_limited(
    snapshot: &Snapshot,
    extra: &Extra<'_>,
    out: &mut (impl Write + Seek),
    limit: u64,
) -> Result<Written, Error> {
    let mut file = DumpFile::new(out, limit)?;
    let mut notes = Vec::new();
    let ids = ThreadIds::new(snapshot);

    let memory = MemoryMap::write(&mut file, &snapshot.memory)?;
    let contexts = context::write_all(&mut file, snapshot)?;
    system_info::write(&mut file, snapshot)?;
    misc_info::write(&mut file, snapshot)?;
    threads::write(&mut file, snapshot, &ids, &memory, &contexts)?;
    thread_names::write(&mut file, snapshot, &ids)?;
    exception::write(&mut file, snapshot, &ids, &contexts)?;
    let modules = modules::write(&mut file, snapshot, &mut notes)?;
    memory.write_list(&mut file)?;
    memory_info::write(&mut file, snapshot)?;
    linux_files::write(&mut file, snapshot)?;
    mac_crash_info::write(&mut file, snapshot, &mut notes)?;
    crashpad_info::write(&mut file, snapshot, extra, &modules)?;
    own::write(&mut file, snapshot, &ids)?;
    soft_errors::write(&mut file, snapshot, extra, &notes)?;

    let bytes = file.finish(unix_seconds(snapshot.death.time))?;
    Ok(Written { bytes, notes })
}

/// Seconds since 1970 as the format has them; 0 before, the greatest number after 2106.
fn unix_seconds(time: SystemTime) -> u32 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}
