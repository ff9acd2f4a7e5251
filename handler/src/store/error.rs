//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use aftermach_protocol::report::ReadError;

/// What went wrong, on what.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is not there.
    #[error("there is no report store at {}", .0.display())]
    NoStore(PathBuf),
    /// The system refused: no space, no permission, …
    #[error("can't {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried: "read", "write", …
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No report has that id.
    #[error("no report's id starts with \"{}\"", .0.escape_debug())]
    NotFound(String),
    /// There are no reports.
    #[error("there are no reports in {}", .0.display())]
    Empty(PathBuf),
    /// Not a report id or the start of one.
    #[error("\"{}\" is no report id: an id, or the start of one, has hexadecimal digits and hyphens only", .0.escape_debug())]
    BadId(String),
    /// Several reports have ids that start so.
    #[error("several reports' ids start with \"{prefix}\": {}", .ids.join(", "))]
    Ambiguous {
        /// The start.
        prefix: String,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A `report.json` can't be read.
    #[error("{}: {why}", .path.display())]
    Report {
        /// Its path.
        path: PathBuf,
        /// Why not.
        why: ReadError,
    },
    /// A report without the file that was asked for.
    #[error("the report has no {}", .0.display())]
    NoFile(PathBuf),
    /// A report alone is larger than all reports of a product may be.
    #[error("a report of {size} bytes is more than the {limit} bytes that all reports of a product may take")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file's name that would leave the report's folder.
    #[error("\"{}\" is no name for a file of a report", .0.escape_debug())]
    BadName(String),
    /// Something is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
}

impl StoreError {
    /// Turns a system's refusal into an error that says what was tried on what.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
        move |source| StoreError::Io { doing, path: path.to_owned(), source }
    }
}
