//! MozSoftErrors: what could not be read or written, as JSON. rust-minidump hands it on as it is.
//!
//! An array of objects, each with the part that is concerned and what is missing, for people.

use std::io::{Seek, Write};

use minidump_writer::minidump_format::MDStreamType;
use serde_json::json;

use super::file::DumpFile;
use super::{Error, Extra};
use crate::snapshot::{Gap, Snapshot};

/// Writes the gaps of the snapshot, of what followed it, and of this dump; no stream if there are none.
pub(super) fn write<W: Write + Seek>(
    file: &mut DumpFile<'_, W>,
    snapshot: &Snapshot,
    extra: &Extra<'_>,
    own: &[Gap],
) -> Result<(), Error> {
    let gaps = snapshot.gaps.iter().chain(extra.notes).chain(own);
    let errors: Vec<_> = gaps.map(|gap| json!({ "part": gap.part, "what": gap.what })).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let text = serde_json::Value::Array(errors).to_string();
    file.stream(MDStreamType::MozSoftErrors, |file| file.bytes(text.as_bytes()))
}
