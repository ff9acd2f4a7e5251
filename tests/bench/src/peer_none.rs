//! Where there is no peer to compare with in one run.

use std::path::Path;
use std::time::Duration;

/// Says so.
pub(crate) fn dump(_tool: &Path, _threads: u16) -> anyhow::Result<Duration> {
    anyhow::bail!("on this system minidump-writer can't dump another process; the comparison runs on Linux")
}
