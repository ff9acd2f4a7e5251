//! ThreadNames: `MINIDUMP_THREAD_NAME_LIST` of `MINIDUMP_THREAD_NAME`, for the threads that have one.

use std::io::{Seek, Write};

use minidump_writer::minidump_format::{MDRawThreadName, MDStreamType};

use super::Error;
use super::file::DumpFile;
use super::thread_ids::ThreadIds;
use crate::snapshot::Snapshot;

/// Writes the names; no stream if no thread has one.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    ids: &ThreadIds,
) -> Result<(), Error> {
    let mut names = Vec::new();
    for (index, thread) in snapshot.threads.iter().enumerate().filter(|(_, thread)| !thread.state.name.is_empty()) {
        let rva = file.string(&thread.state.name)?;
        names.push(MDRawThreadName { thread_id: ids.of(index), thread_name_rva: rva.into() });
    }
    if names.is_empty() {
        return Ok(());
    }
    file.stream(MDStreamType::ThreadNamesStream, |file| {
        file.put(names.len() as u32)?;
        names.into_iter().try_for_each(|name| file.put(name))
    })
}
