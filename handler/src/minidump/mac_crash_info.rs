//! MozMacosCrashInfo: `MINIDUMP_MAC_CRASH_INFO` with records of version 5: messages that libraries left for the crash reporter
//! (`__DATA,__crash_info`, "assertion failed: …").

use std::io::{Seek, Write};
use std::path::Path;

use aftermach_protocol::platform::Os;
use minidump_writer::minidump_format::format::{
    MAC_CRASH_INFO_STRING_MAX_SIZE, MAC_CRASH_INFOS_MAX, MINIDUMP_MAC_CRASH_INFO, MINIDUMP_MAC_CRASH_INFO_RECORD_5,
};
use minidump_writer::minidump_format::{MDLocationDescriptor, MDStreamType};
use scroll::ctx::SizeWith;

use super::Error;
use super::file::DumpFile;
use crate::snapshot::{Gap, Snapshot};

/// Writes the stream; none without messages.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    notes: &mut Vec<Gap>,
) -> Result<(), Error> {
    let messages = &snapshot.annotations.messages;
    if snapshot.os != Os::MacOs || messages.is_empty() {
        return Ok(());
    }
    if messages.len() > MAC_CRASH_INFOS_MAX {
        let what = format!("the minidump holds {MAC_CRASH_INFOS_MAX} of {} messages of libraries", messages.len());
        notes.push(Gap::new("annotations", what));
    }
    let mut records = [MDLocationDescriptor::default(); MAC_CRASH_INFOS_MAX];
    for ((path, message), record) in messages.iter().zip(&mut records) {
        *record = self::record(file, path, message)?;
    }
    file.stream(MDStreamType::MozMacosCrashInfoStream, |file| {
        file.put(MINIDUMP_MAC_CRASH_INFO {
            stream_type: MDStreamType::MozMacosCrashInfoStream.into(),
            record_count: messages.len().min(MAC_CRASH_INFOS_MAX) as u32,
            record_start_size: MINIDUMP_MAC_CRASH_INFO_RECORD_5::size_with(&scroll::LE) as u32,
            records,
        })
    })
}

fn record<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    path: &Path,
    message: &str,
) -> Result<MDLocationDescriptor, Error> {
    file.piece(|file| {
        file.put(MINIDUMP_MAC_CRASH_INFO_RECORD_5 {
            stream_type: u32::from(MDStreamType::MozMacosCrashInfoStream).into(),
            version: 5,
            thread: 0,
            dialog_mode: 0,
            abort_cause: 0,
        })?;
        // Module path, message, signature string, backtrace, second message.
        for text in [&*path.to_string_lossy(), message, "", "", ""] {
            file.bytes(c_string(text).as_bytes())?;
            file.bytes(&[0])?;
        }
        Ok(())
    })
}

/// As much of a text as fits in a string of this stream: up to its first NUL, and shorter than the readers' limit.
fn c_string(text: &str) -> &str {
    let text = text.split('\0').next().unwrap_or_default();
    &text[..text.floor_char_boundary(MAC_CRASH_INFO_STRING_MAX_SIZE - 1)]
}
