//! What the program said of itself: the client's records in its images (`aftermach_protocol::record`).

use aftermach_protocol::record::{Contents, HEADER_SIZE, Header, MAX_HEADER_SIZE, State};

use super::Annotations;
use super::capture::Capture;

/// Records read: each image may have one of its own.
const RECORDS: usize = 16;

/// A record that could be read.
struct Record {
    header: Header,
    contents: Contents,
    raw: Vec<u8>,
}

/// Reads the records whose headers are at `addresses`. Where there are several, identity and raw bytes are those of the one
/// through which the client was installed, and the annotations of all are kept, each key once.
pub(super) fn read(capture: &mut Capture<'_>, addresses: &[u64]) -> Annotations {
    if addresses.len() > RECORDS {
        capture.gap("annotations", format!("{} client records; {RECORDS} were read", addresses.len()));
    }
    let mut records: Vec<Record> =
        addresses.iter().take(RECORDS).filter_map(|address| record(capture, *address)).collect();
    let rank = |state: State| match state {
        State::Installed => 0,
        State::Detached | State::Unknown(_) => 1,
        State::NotInstalled => 2,
    };
    // Of those that were installed, one that a forked child's parent installed comes after the child's own.
    let own = if records.len() > 1 { capture.task.own_pid() as u32 } else { 0 };
    records.sort_by_key(|record| (rank(record.header.state), record.header.pid != own));
    let mut result = Annotations::default();
    for record in records {
        let contents = record.contents;
        if result.product.is_none() {
            let installed = record.header.state == State::Installed;
            result.installer = (installed && contents.product.is_some()).then_some(record.header.pid);
            result.product = contents.product;
        }
        result.version = result.version.or(contents.version);
        for annotation in contents.annotations {
            add(capture, &mut result, annotation.key, annotation.value);
        }
        result.breadcrumbs.extend(contents.breadcrumbs.into_iter().map(|crumb| (crumb.time, crumb.text)));
        if result.raw.is_empty() {
            result.raw = record.raw;
        }
    }
    result
}

fn add(capture: &mut Capture<'_>, result: &mut Annotations, key: String, mut value: String) {
    let limits = capture.limits;
    if result.values.iter().any(|(known, _)| *known == key) {
        return;
    }
    if result.values.len() >= limits.annotations {
        return capture.gap("annotations", format!("more than {} annotations: {key} was left out", limits.annotations));
    }
    if value.len() > limits.annotation {
        let end = value.floor_char_boundary(limits.annotation);
        capture.gap("annotations", format!("{key}: {end} of {} bytes kept", value.len()));
        value.truncate(end);
    }
    result.values.push((key, value));
}

fn record(capture: &mut Capture<'_>, address: u64) -> Option<Record> {
    let mut raw = capture.read(address, HEADER_SIZE);
    if let Ok(header) = Header::decode(&raw)
        && header.size as usize > HEADER_SIZE
    {
        // A later version's header has more.
        raw = capture.read(address, (header.size as usize).min(MAX_HEADER_SIZE));
    }
    let header = match Header::decode(&raw) {
        Ok(header) => header,
        Err(error) => {
            capture.gap("annotations", format!("{address:#x}: {error}"));
            return None;
        }
    };
    let space = capture.read(header.space, header.space_size as usize);
    if space.len() < header.space_size as usize {
        let (read, size) = (space.len(), header.space_size);
        capture.gap("annotations", format!("{read} of {size} bytes of the client record could be read"));
    }
    let contents = Contents::decode(&header, &space);
    for damage in &contents.damage {
        capture.gap("annotations", damage.to_string());
    }
    raw.extend_from_slice(&space);
    Some(Record { header, contents, raw })
}
