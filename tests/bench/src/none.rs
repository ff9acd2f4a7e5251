//! Where there is nothing to compare with in one run.

use std::process::ExitCode;

/// Says so.
pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    eprintln!("aftermach-bench: here minidump-writer can't dump another process; the comparison runs on Linux");
    ExitCode::FAILURE
}
