//! ThreadList: `MINIDUMP_THREAD_LIST` of `MINIDUMP_THREAD`.

use std::io::{Seek, Write};

use aftermach_protocol::platform::Os;
use minidump_writer::minidump_format::{MDLocationDescriptor, MDMemoryDescriptor, MDRawThread, MDStreamType};

use super::Error;
use super::file::DumpFile;
use super::memory_list::MemoryMap;
use super::thread_ids::ThreadIds;
use crate::snapshot::{Registers, Snapshot, Thread};

/// Writes the list: each thread of the snapshot, in its order.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    ids: &ThreadIds,
    memory: &MemoryMap<'_>,
    contexts: &[MDLocationDescriptor],
) -> Result<(), Error> {
    file.stream(MDStreamType::ThreadListStream, |file| {
        file.put(snapshot.threads.len() as u32)?;
        for (index, thread) in snapshot.threads.iter().enumerate() {
            file.put(MDRawThread {
                thread_id: ids.of(index),
                suspend_count: 0,
                priority_class: 0,
                priority: thread.state.priority.unwrap_or(0) as u32,
                teb: thread_data(snapshot.os, thread),
                stack: stack(thread, memory),
                thread_context: contexts.get(index).copied().unwrap_or_default(),
            })?;
        }
        Ok(())
    })
}

/// The stack's bytes, or where it would be if none were copied.
fn stack(thread: &Thread, memory: &MemoryMap<'_>) -> MDMemoryDescriptor {
    match (&thread.stack, &thread.state.registers) {
        (Some(stack), _) => memory.descriptor(stack.start, stack.end),
        (None, Some(registers)) => memory.descriptor(registers.sp(), registers.sp()),
        (None, None) => MDMemoryDescriptor::default(),
    }
}

/// The address of thread-local data: Windows has its thread environment block here, Crashpad the thread-specific data.
fn thread_data(os: Os, thread: &Thread) -> u64 {
    match (os, &thread.state.registers) {
        (Os::Linux, Some(Registers::X86_64(registers))) => registers.fs_base,
        (Os::MacOs, Some(Registers::X86_64(registers))) => registers.gs_base,
        (_, Some(Registers::Arm64(_)) | None) => 0,
    }
}
