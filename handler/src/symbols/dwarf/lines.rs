//! Source lines: a unit's line program, run once for all addresses that are looked up in the unit.

use std::time::Instant;

use addr2line::gimli::{DebugLine, DebugLineOffset, LineProgramHeader, LittleEndian};

use super::index::Index;
use super::section::Sections;
use super::unit::{Root, Slice, length_of, malformed};
use crate::unwind::file::FileError;

/// Rows between two looks at the clock.
const ROWS_PER_LOOK: u32 = 1 << 16;

/// A line program's bytes.
pub(super) fn read<'s>(
    sections: &'s Sections<'_>,
    root: &Root,
) -> Result<Option<std::borrow::Cow<'s, [u8]>>, FileError> {
    let Some(offset) = root.line else { return Ok(None) };
    let start = sections.up_to(&sections.line, offset, 12)?;
    let (_, length) = length_of(&start).ok_or(FileError::Malformed("a line program"))?;
    sections.bytes(&sections.line, offset, length).map(Some)
}

/// Where the code at some addresses comes from.
pub(super) struct Lines<'a> {
    header: LineProgramHeader<Slice<'a>>,
    /// File and line for each address; a line of 0 is none.
    pub(super) rows: Vec<Option<(u64, u32)>>,
}

impl<'a> Lines<'a> {
    /// Runs a line program, and finds the rows of `addresses`, which are sorted.
    pub(super) fn run(
        program: &'a [u8],
        addresses: &[u64],
        index: &Index<'_>,
        deadline: Instant,
    ) -> Result<Lines<'a>, FileError> {
        let program = DebugLine::new(program, LittleEndian).program(DebugLineOffset(0), 8, None, None);
        let mut rows = program.map_err(malformed)?.rows();
        let mut found: Vec<Option<(u64, u32)>> = vec![None; addresses.len()];
        let mut left = addresses.len();
        // The row before, if this sequence has one: address, file, line; and the first address that may be its.
        let mut before: Option<(u64, u64, u32)> = None;
        let mut next = addresses.len();
        let mut in_code = false;
        // What this sequence has found: it counts only if the sequence comes to its end.
        let mut tentative: Vec<(usize, (u64, u32))> = Vec::new();
        let mut until_look = ROWS_PER_LOOK;
        while left > 0 {
            let Some((_, row)) = rows.next_row().map_err(malformed)? else { break };
            let address = row.address();
            match before {
                None => {
                    in_code = index.is_code(address);
                    next = addresses.partition_point(|wanted| *wanted < address);
                }
                // Of several rows for one address, the last one counts.
                Some((start, file, line)) if address > start => {
                    while let Some(wanted) = addresses.get(next)
                        && *wanted < address
                    {
                        if in_code && found[next].is_none() {
                            tentative.push((next, (file, line)));
                        }
                        next += 1;
                    }
                }
                Some(_) => {}
            }
            if row.end_sequence() {
                before = None;
                for (index, place) in tentative.drain(..) {
                    found[index] = Some(place);
                    left -= 1;
                }
            } else {
                let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(u32::MAX));
                before = Some((address, row.file_index(), line));
            }
            until_look -= 1;
            if until_look == 0 {
                until_look = ROWS_PER_LOOK;
                if Instant::now() >= deadline {
                    break;
                }
            }
        }
        Ok(Lines { header: rows.header().clone(), rows: found })
    }

    /// The path of a file of the program.
    pub(super) fn file(&self, sections: &Sections<'_>, root: &Root, index: u64) -> Option<String> {
        if index == 0 && self.header.version() <= 4 {
            return None;
        }
        let file = self.header.file(index)?;
        let mut path = root.directory.clone().unwrap_or_default();
        // Folder 0 is the one in which the unit was compiled.
        if file.directory_index() != 0
            && let Some(directory) = file.directory(&self.header)
        {
            push(&mut path, &root.string(sections, directory)?);
        }
        push(&mut path, &root.string(sections, file.path_name())?);
        Some(path)
    }
}

/// Goes on from `path` to `next`, which may be a path of its own, on Unix or Windows.
fn push(path: &mut String, next: &str) {
    let backward = |path: &str| path.starts_with('\\') || path.get(1..3) == Some(":\\");
    if next.starts_with('/') || next.get(1..3) == Some(":/") || backward(next) {
        next.clone_into(path);
        return;
    }
    let separator = if backward(path) { '\\' } else { '/' };
    if !path.is_empty() && !path.ends_with(separator) {
        path.push(separator);
    }
    path.push_str(next);
}
