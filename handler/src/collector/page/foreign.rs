//! What a dump says by itself, for crashes that came without a report: registers of the thread that crashed.

use minidump::{Minidump, MinidumpException, MinidumpSystemInfo};

/// General-purpose registers at the exception, by name; empty if there are none to be read.
pub(super) fn registers(dump: &[u8]) -> Vec<(&'static str, u64)> {
    let read = || {
        let dump = Minidump::read(dump).ok()?;
        let system = dump.get_stream::<MinidumpSystemInfo>().ok()?;
        let exception = dump.get_stream::<MinidumpException<'_>>().ok()?;
        let context = exception.context(&system, None)?;
        Some(context.valid_registers().collect())
    };
    read().unwrap_or_default()
}
