//! Where reports are kept on macOS.

use std::env;
use std::path::PathBuf;

/// `~/Library/Application Support/Aftermach`. `None` if there is no home directory.
///
/// Not `~/Library/Logs/DiagnosticReports`: the system prunes that folder, and may send what lies there.
pub fn default_root() -> Option<PathBuf> {
    Some(env::home_dir()?.join("Library/Application Support/Aftermach"))
}
