//! MiscInfo: `MINIDUMP_MISC_INFO_4`.
//!
//! Version 5 adds the layout of extended registers in contexts, which ours don't have there, and a cookie of Windows.

use std::io::{Seek, Write};
use std::time::Duration;

use aftermach_protocol::platform::Os;
use minidump_writer::minidump_format::MDStreamType;
use minidump_writer::minidump_format::format::{MINIDUMP_MISC_INFO_4, MiscInfoFlags, TIME_ZONE_INFORMATION};
use scroll::ctx::SizeWith;

use super::file::{DumpFile, fixed_utf16};
use super::{Error, unix_seconds};
use crate::snapshot::Snapshot;

/// Writes the stream.
pub(super) fn write<W: Write + Seek>(file: &mut DumpFile<'_, W>, snapshot: &Snapshot) -> Result<(), Error> {
    let process = &snapshot.process;
    let mut flags = MiscInfoFlags::MINIDUMP_MISC1_PROCESS_ID | MiscInfoFlags::MINIDUMP_MISC4_BUILDSTRING;
    if process.started.is_some() {
        flags |= MiscInfoFlags::MINIDUMP_MISC1_PROCESS_TIMES;
    }
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let (user, kernel) = process.cpu_time.unwrap_or_default();
    let info = MINIDUMP_MISC_INFO_4 {
        size_of_info: MINIDUMP_MISC_INFO_4::size_with(&scroll::LE) as u32,
        flags1: flags.bits(),
        process_id: process.pid as u32,
        process_create_time: process.started.map_or(0, unix_seconds),
        process_user_time: seconds(user),
        process_kernel_time: seconds(kernel),
        processor_max_mhz: 0,
        processor_current_mhz: 0,
        processor_mhz_limit: 0,
        processor_max_idle_state: 0,
        processor_current_idle_state: 0,
        process_integrity_level: 0,
        process_execute_flags: 0,
        protected_process: 0,
        time_zone_id: 0,
        time_zone: TIME_ZONE_INFORMATION::default(),
        build_string: fixed_utf16(&system(snapshot)),
        dbg_bld_str: fixed_utf16(&writer(snapshot)),
    };
    file.stream(MDStreamType::MiscInfoStream, |file| file.put(info))
}

/// The system for people, as Crashpad spells it: "macOS 15.4.1 (24E263); Mac16,13".
fn system(snapshot: &Snapshot) -> String {
    let system = &snapshot.system;
    let mut text = match snapshot.os {
        Os::MacOs => format!("{} {} ({})", system.name, system.version, system.build),
        Os::Linux => format!("{}; Linux {}", system.name, system.version),
    };
    for part in [system.machine.as_deref(), Some(system.cpu_model.as_str())].into_iter().flatten() {
        if !part.is_empty() {
            text.push_str("; ");
            text.push_str(part);
        }
    }
    text
}

/// Who wrote the dump.
fn writer(snapshot: &Snapshot) -> String {
    format!("aftermach.{} {}", snapshot.cpu.name(), env!("CARGO_PKG_VERSION"))
}
