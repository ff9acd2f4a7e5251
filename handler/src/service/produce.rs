//! One report: from the snapshot of a task that is gone to a folder in the store.

use std::fs;
use std::time::{Instant, SystemTime};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::{File, Note};
use uuid::Uuid;

use super::protect::protect;
use super::{Made, Settings};
use crate::minidump::{self, Extra};
use crate::report::time::{microseconds, rfc3339};
use crate::report::{self, Input, text};
use crate::snapshot::{Gap, Snapshot};
use crate::store::{MINIDUMP, PendingReport, REPORT_JSON, REPORT_TEXT, StoreError};
use crate::symbols::{self, Names, Symbolizer};
use crate::unwind::{self, Sections, Trace};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report was made, but could not be found again to be sent.
    #[error("the report's id is no UUID: {0}")]
    Id(#[from] uuid::Error),
}

/// Makes the report of one death and puts it into the store.
pub(super) fn produce(settings: &Settings, snapshot: Snapshot, died: Instant) -> Result<Made, ProduceError> {
    let product = product_of(&snapshot).unwrap_or_else(|| settings.product.clone());
    let pending = settings.store.create(&product)?;
    let id = Uuid::try_parse(pending.id())?;

    let mut notes = Vec::new();
    let start = Instant::now();
    let (traces, names) = unwind_and_name(&snapshot, &mut notes);
    let unwinding = start.elapsed();

    let start = Instant::now();
    write_minidump(&pending, &snapshot, id, &mut notes)?;
    let writing = start.elapsed();

    let input = Input { id: pending.id(), product: Some(&product), snapshot: &snapshot, traces: &traces };
    let mut report = report::build(&input, &mut |frame| names.of(frame).to_vec());
    report.notes.extend(notes.into_iter().map(|gap| Note {
        part: gap.part.to_owned(),
        text: gap.what,
        ..Note::default()
    }));
    report.times.unwinding_us = Some(microseconds(unwinding));
    report.times.writing_us = Some(microseconds(writing));
    report.times.written = Some(rfc3339(SystemTime::now()));
    // Memory goes before the rest is written: a storm of crashes waits behind this one.
    let held = snapshot.times.held;
    drop((traces, names, snapshot));

    pending.write(REPORT_TEXT, text::render(&report, &text::Options::default()).as_bytes())?;
    report.files = files(&pending)?;
    pending.write(REPORT_JSON, &report.to_bytes())?;
    let folder = pending.commit()?;
    Ok(Made { report, folder, held, total: died.elapsed() })
}

/// The product that the program named, if it is one.
fn product_of(snapshot: &Snapshot) -> Option<Product> {
    let (group, name, channel) = snapshot.annotations.product.as_ref()?;
    Product::new(group, name, channel).ok()
}

/// Every thread's frames, and what stands at their addresses.
fn unwind_and_name(snapshot: &Snapshot, notes: &mut Vec<Gap>) -> (Vec<Trace>, Names) {
    let Some(sections) = protect("unwind", notes, || Some(Sections::new(snapshot))) else { return Default::default() };
    let traces = protect("unwind", notes, || unwind::unwind(snapshot, &sections, &unwind::Limits::default()));
    let (names, gaps) = protect("symbols", notes, || {
        let symbolizer = Symbolizer::new(snapshot, &sections, symbols::Limits::default());
        (symbolizer.names(&traces), symbolizer.gaps())
    });
    notes.extend(sections.gaps());
    notes.extend(gaps);
    (traces, names)
}

/// Writes the minidump. What goes wrong with the dump alone is a note, and the report goes on; a disk that takes nothing more
/// is an error.
fn write_minidump(
    pending: &PendingReport,
    snapshot: &Snapshot,
    report_id: Uuid,
    notes: &mut Vec<Gap>,
) -> Result<(), ProduceError> {
    pending.make_room(snapshot.memory.len())?;
    let file = pending.create_file(MINIDUMP)?;
    let extra = Extra { report_id, notes, ..Extra::default() };
    match minidump::write(snapshot, &extra, &mut &file) {
        Ok(written) => notes.extend(written.notes),
        Err(minidump::Error::Io { source, .. }) => {
            return Err(StoreError::io("write", &pending.folder().join(MINIDUMP))(source).into());
        }
        Err(error) => {
            let path = pending.folder().join(MINIDUMP);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            notes.push(Gap::new("minidump", error.to_string()));
        }
    }
    Ok(())
}

fn files(pending: &PendingReport) -> Result<Vec<File>, StoreError> {
    Ok(pending.files()?.into_iter().map(|(name, size)| File { name, size, ..File::default() }).collect())
}
