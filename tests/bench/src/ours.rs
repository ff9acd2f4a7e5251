//! `aftermach run` over a victim that dies; the times are those of its report.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aftermach_protocol::report::Report;
use anyhow::Context;

use crate::victim::{self, Folder};

/// What one report says of its own cost.
pub(crate) struct Times {
    /// How long the victim was held.
    pub(crate) held: Duration,
    /// From its death until the report was on the disk.
    pub(crate) written: Duration,
}

/// One crash under the handler.
pub(crate) fn report(tool: &Path, threads: u16) -> anyhow::Result<Times> {
    let folder = Folder::new("ours")?;
    let mut command = Command::new(tool);
    command.arg("run").arg("--store").arg(folder.path()).arg("--").arg(tool).args(victim::arguments(threads));
    let mut child = victim::start(&mut command)?;
    child.stdin.take().context("the victim's input")?.write_all(b"\n")?;
    child.wait()?;
    let report = only_report(folder.path())?;
    let microseconds =
        |value: Option<u64>, name| value.map(Duration::from_micros).with_context(|| format!("no {name}"));
    Ok(Times {
        held: microseconds(report.times.held_us, "held_us")?,
        written: microseconds(report.times.total_us, "total_us")?,
    })
}

fn only_report(store: &Path) -> anyhow::Result<Report> {
    let mut found = Vec::new();
    for product in fs::read_dir(store)? {
        let product = product?.path();
        if product.is_dir() {
            for report in fs::read_dir(product)? {
                found.push(report?.path().join("report.json"));
            }
        }
    }
    anyhow::ensure!(found.len() == 1, "there are {} reports where one was expected", found.len());
    Ok(Report::from_bytes(&fs::read(&found[0])?)?)
}
