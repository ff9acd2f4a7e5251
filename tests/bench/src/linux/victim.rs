//! The victim of both sides: `aftermach crash null-write --threads N`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The tool, built as this program was.
pub(crate) fn tool() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("finding this program")?;
    let tool = here.with_file_name("aftermach");
    // Measuring yesterday's tool would be worse than waiting for cargo.
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "aftermach-handler", "--bins"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.status().context("running cargo to build the tool")?;
    anyhow::ensure!(built.success() && tool.exists(), "{} could not be built", tool.display());
    Ok(tool)
}

/// The arguments of a victim with `threads` threads that wait, which dies after so many milliseconds.
pub(crate) fn arguments(threads: u16, after: u32) -> [String; 6] {
    let (threads, after) = (threads.to_string(), after.to_string());
    ["crash", "null-write", "--threads", &threads, "--after", &after].map(str::to_owned)
}

/// A folder for one measurement, removed afterwards.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("aftermach-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
