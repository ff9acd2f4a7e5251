//! minidump-unwind, as minidump-stackwalk uses it, over a dump of the snapshot.

use std::io::Cursor;

use aftermach_handler::minidump::{Extra, write};
use aftermach_handler::snapshot::Snapshot;
use minidump::Minidump;

/// The dump that it reads.
pub(crate) fn dump(snapshot: &Snapshot) -> anyhow::Result<Vec<u8>> {
    let mut dump = Cursor::new(Vec::new());
    write(snapshot, &Extra::default(), &mut dump)?;
    Ok(dump.into_inner())
}

/// Walks every stack of a dump and returns how many frames there are.
pub(crate) fn frames(dump: &[u8]) -> anyhow::Result<usize> {
    let provider = minidump_unwind::Symbolizer::new(minidump_unwind::simple_symbol_supplier(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let dump = Minidump::read(dump)?;
    let state = runtime.block_on(minidump_processor::process_minidump(&dump, &provider))?;
    Ok(state.threads.iter().map(|thread| thread.frames.len()).sum())
}
