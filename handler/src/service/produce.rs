//! One report: from the snapshot of a task that is gone to a folder in the store.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::{File, Note};
use uuid::Uuid;

use super::protect::protect;
use super::{Made, Settings, Stages};
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
    /// The store gave it an id that is none: a defect.
    #[error("the report's id is no UUID: {0}")]
    Id(#[from] uuid::Error),
}

/// Makes the report of one death and puts it into the store.
pub(super) fn produce(settings: &Settings, snapshot: Snapshot, died: Instant) -> Result<Made, ProduceError> {
    let product = product_of(&snapshot).unwrap_or_else(|| settings.product.clone());
    let pending = settings.store.create(&product)?;
    let id = Uuid::try_parse(pending.id())?;

    let mut notes = Vec::new();
    let mut stages = Stages::default();
    let mut lap = Lap(Instant::now());
    let (traces, names) = unwind_and_name(&snapshot, &mut notes, &mut lap, &mut stages);
    write_minidump(&pending, &snapshot, id, &mut notes)?;
    stages.dump = lap.take();

    let input = Input { id: pending.id(), product: Some(&product), snapshot: &snapshot, traces: &traces };
    let mut report = report::build(&input, &mut |frame| names.of(frame).to_vec());
    report.notes.extend(notes.into_iter().map(|gap| Note {
        part: gap.part.to_owned(),
        text: gap.what,
        ..Note::default()
    }));
    report.times.unwinding_us = Some(microseconds(stages.unwinding + stages.naming));
    report.times.writing_us = Some(microseconds(stages.dump));
    report.times.written = Some(rfc3339(SystemTime::now()));
    // Memory goes before the rest is written: a storm of crashes waits behind this one.
    let (held, captured) = (snapshot.times.held, snapshot.memory.len());
    drop((traces, names, snapshot));

    pending.write(REPORT_TEXT, text::render(&report, &text::Options::default()).as_bytes())?;
    report.files = files(&pending)?;
    pending.write(REPORT_JSON, &report.to_bytes())?;
    stages.report = lap.take();
    let folder = pending.commit()?;
    stages.syncing = lap.take();
    Ok(Made { report, folder, held, total: died.elapsed(), stages, captured })
}

/// Measures what comes one after the other.
struct Lap(Instant);

impl Lap {
    /// The time since the last call.
    fn take(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}

/// The product that the program named, if it is one.
fn product_of(snapshot: &Snapshot) -> Option<Product> {
    let (group, name, channel) = snapshot.annotations.product.as_ref()?;
    Product::new(group, name, channel).ok()
}

/// Every thread's frames, and what stands at their addresses.
fn unwind_and_name(
    snapshot: &Snapshot,
    notes: &mut Vec<Gap>,
    lap: &mut Lap,
    stages: &mut Stages,
) -> (Vec<Trace>, Names) {
    let Some(sections) = protect("unwind", notes, || Some(Sections::new(snapshot))) else { return Default::default() };
    let traces = protect("unwind", notes, || unwind::unwind(snapshot, &sections, &unwind::Limits::default()));
    stages.unwinding = lap.take();
    let (names, gaps) = protect("symbols", notes, || {
        let symbolizer = Symbolizer::new(snapshot, &sections, symbols::Limits::default());
        (symbolizer.names(&traces), symbolizer.gaps())
    });
    notes.extend(sections.gaps());
    notes.extend(gaps);
    stages.naming = lap.take();
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
