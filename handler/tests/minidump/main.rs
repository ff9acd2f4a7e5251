//! Dumps written by Aftermach, read by rust-minidump: the reader that the dashboards use says what is in them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by unwrapping it")]

mod exceptions;
mod mutated;
mod odd;
mod random;
mod read_back;
mod samples;

use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use aftermach_handler::minidump::{Extra, write};
use aftermach_handler::snapshot::Snapshot;
use minidump::Minidump;
use minidump_processor::ProcessState;

/// A dump of a snapshot, in memory.
fn dump_of(snapshot: &Snapshot) -> Vec<u8> {
    dump_with(snapshot, &Extra::default())
}

fn dump_with(snapshot: &Snapshot, extra: &Extra<'_>) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let written = write(snapshot, extra, &mut out).unwrap();
    assert_eq!(written.bytes, out.get_ref().len() as u64);
    out.into_inner()
}

fn read(bytes: &[u8]) -> Minidump<'_, &[u8]> {
    Minidump::read(bytes).unwrap()
}

/// What the processor behind `minidump-stackwalk` makes of a dump, and every warning on the way.
fn process(bytes: &[u8]) -> (ProcessState, String) {
    let warnings = Log::default();
    let log = warnings.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .finish();
    let state = tracing::subscriber::with_default(subscriber, || {
        let provider = minidump_unwind::Symbolizer::new(minidump_unwind::simple_symbol_supplier(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dump = read(bytes);
        runtime.block_on(minidump_processor::process_minidump(&dump, &provider)).unwrap()
    });
    let text = String::from_utf8(warnings.0.lock().unwrap().clone()).unwrap();
    // Said of every dump: the reader is built without its disassembler (arm64 has none), and Linux dumps have their mappings
    // twice, as Breakpad's and as Windows' stream: some readers look for the one, some for the other.
    let said_of_all = ["failed to analyze the thread context", "got both kinds of info! (using InfoList)"];
    let said: Vec<&str> = text.lines().filter(|line| !said_of_all.iter().any(|known| line.contains(known))).collect();
    (state, said.join("\n"))
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
