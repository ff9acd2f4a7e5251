//! Where reports are kept on Linux (XDG Base Directory Specification 0.8).

use std::env;
use std::path::PathBuf;

/// `$XDG_DATA_HOME/aftermach`, or `~/.local/share/aftermach`. `None` if there is no home directory.
pub fn default_root() -> Option<PathBuf> {
    // "If an implementation encounters a relative path in any of these variables it should [...] ignore it."
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(data.or_else(|| Some(env::home_dir()?.join(".local/share")))?.join("aftermach"))
}
