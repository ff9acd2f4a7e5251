//! One report: from the snapshot of a task that is gone to a folder in the store.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::product::Product;
use aftermach_protocol::report::{File, Note};
use uuid::Uuid;

use super::protect::protect;
use super::{Made, Settings, Stages};
use crate::host::own_shared_cache;
use crate::minidump::{self, Extra};
use crate::report::{self, Input, text};
use crate::snapshot::{Gap, Snapshot};
use crate::store::{MINIDUMP, PendingReport, REPORT_JSON, REPORT_TEXT, StoreError};
use crate::symbols::{self, NameCache, Names, Symbolizer};
use crate::time::{microseconds, rfc3339};
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
pub(super) fn produce(
    settings: &Settings,
    known_names: &NameCache,
    snapshot: Snapshot,
    died: Instant,
) -> Result<Made, ProduceError> {
    let product = product_of(&snapshot).unwrap_or_else(|| settings.product.clone());
    let pending = settings.store.create(&product)?;
    let id = Uuid::try_parse(pending.id())?;

    let mut notes = Vec::new();
    let mut stages = Stages::default();
    let mut lap = Lap(Instant::now());
    let sections = protect("unwind", &mut notes, || Some(Sections::with_shared_cache(&snapshot, own_shared_cache())));
    let traces = protect("unwind", &mut notes, || match &sections {
        Some(sections) => unwind::unwind(&snapshot, sections, &unwind::Limits::default()),
        None => Vec::new(),
    });
    stages.unwinding = lap.take();

    // The dump has no names in it: it gets onto the disk while they are looked for. If they were found by then, it goes there
    // with the rest of the report, since each turn to the disk takes its time.
    let naming = AtomicBool::new(true);
    let of_unwinding: Vec<Gap> = notes.iter().cloned().chain(sections.iter().flat_map(Sections::gaps)).collect();
    let write = || {
        let start = Instant::now();
        let notes = write_minidump(&pending, &snapshot, id, &of_unwinding, &naming)?;
        Ok::<_, ProduceError>((notes, start.elapsed()))
    };
    let (names, dump) = thread::scope(|scope| {
        let writer = thread::Builder::new().name("minidump".to_owned()).spawn_scoped(scope, write);
        let names = name(&snapshot, sections.as_ref(), &traces, known_names, &mut notes);
        stages.naming = lap.take();
        naming.store(false, Ordering::Relaxed);
        let dump = match writer {
            Ok(writer) => writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => write(),
        };
        (names, dump)
    });
    let (of_dump, dump) = dump?;
    notes.extend(of_dump);
    stages.dump = dump;
    // The rest of it, that is: most of it went by meanwhile.
    lap.take();
    // The tables of large programs have megabytes.
    drop(sections);

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
    pending.write_with(REPORT_JSON, |out| report.write_to(out))?;
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

/// What stands at the addresses of all frames.
fn name(
    snapshot: &Snapshot,
    sections: Option<&Sections>,
    traces: &[Trace],
    known: &NameCache,
    notes: &mut Vec<Gap>,
) -> Names {
    let Some(sections) = sections else { return Names::default() };
    let (names, gaps) = protect("symbols", notes, || {
        let symbolizer = Symbolizer::new(snapshot, sections, symbols::Limits::default()).with_cache(known);
        (symbolizer.names(traces), symbolizer.gaps())
    });
    notes.extend(sections.gaps());
    notes.extend(gaps);
    names
}

/// Writes the minidump, waits until it is on the disk if `sync` still says so then, and returns what it could not hold. What goes wrong with the dump alone is a note, and the report goes
/// on; a disk that takes nothing more is an error.
fn write_minidump(
    pending: &PendingReport,
    snapshot: &Snapshot,
    report_id: Uuid,
    notes: &[Gap],
    sync: &AtomicBool,
) -> Result<Vec<Gap>, ProduceError> {
    pending.make_room(snapshot.memory.len())?;
    let path = pending.folder().join(MINIDUMP);
    let file = pending.create_file(MINIDUMP)?;
    let extra = Extra { report_id, notes, ..Extra::default() };
    match minidump::write(snapshot, &extra, &mut &file) {
        Ok(written) => {
            if sync.load(Ordering::Relaxed) {
                file.sync_all().map_err(StoreError::io("write", &path))?;
            }
            Ok(written.notes)
        }
        Err(minidump::Error::Io { source, .. }) => Err(StoreError::io("write", &path)(source).into()),
        Err(error) => {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            Ok(vec![Gap::new("minidump", error.to_string())])
        }
    }
}

fn files(pending: &PendingReport) -> Result<Vec<File>, StoreError> {
    Ok(pending.files()?.into_iter().map(|(name, size)| File { name, size, ..File::default() }).collect())
}
