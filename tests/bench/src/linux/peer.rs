//! minidump-writer dumping a living victim.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use minidump_writer::minidump_writer::MinidumpWriterConfig;

use super::victim::{self, Folder};

/// Ten minutes: the victim is killed long before.
const NEVER: u32 = 600_000;
/// For all threads to get from their start into their wait.
const SETTLING: Duration = Duration::from_millis(50);
const START_LIMIT: Duration = Duration::from_secs(20);

/// Time from the first call until the file is written.
pub(crate) fn dump(tool: &Path, threads: u16) -> anyhow::Result<Duration> {
    let folder = Folder::new("peer")?;
    let mut child = Command::new(tool).args(victim::arguments(threads, NEVER)).stderr(Stdio::null()).spawn()?;
    let result = dump_when_ready(i32::try_from(child.id())?, threads, &folder.path().join("peer.dmp"));
    child.kill()?;
    child.wait()?;
    result
}

fn dump_when_ready(pid: i32, threads: u16, path: &Path) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let start = Instant::now();
    while fs::read_dir(&tasks)?.count() <= usize::from(threads) {
        anyhow::ensure!(start.elapsed() < START_LIMIT, "the victim did not start its threads");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(SETTLING);
    let mut file = File::create(path)?;
    let start = Instant::now();
    MinidumpWriterConfig::new(pid, pid).write(&mut file).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(start.elapsed())
}
