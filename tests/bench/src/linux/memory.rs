//! What memory a handler takes over the bytes that it captured: the peak of a process that does nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::target::Target;
use super::{THREADS, ours};

const OVER: Target = Target::AtMost(16.0);

/// The argument with which this program makes one report and prints what memory it took.
pub(crate) const CHILD: &str = "--memory-of";

pub(crate) fn print(tool: &Path, _rounds: usize) -> anyhow::Result<()> {
    println!("memory of a process that makes one report; MiB");
    println!("{:>7}  {:>9}  {:>9}  {:>9}  {:>9}", "threads", "at start", "captured", "peak", "over");
    let mut all = Vec::new();
    for threads in THREADS {
        let child = Command::new(std::env::current_exe()?).arg(CHILD).arg(tool).arg(threads.to_string()).output()?;
        anyhow::ensure!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let text = String::from_utf8(child.stdout)?;
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [start, captured, peak] = numbers[..] else { anyhow::bail!("three numbers were expected: {text}") };
        let over = peak.saturating_sub(captured);
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let [start, captured, peak, over] = [start, captured, peak, over].map(mebibytes);
        println!("{threads:>7}  {start:>9.1}  {captured:>9.1}  {peak:>9.1}  {over:>9.1}");
        all.push((format!("{threads} threads"), over));
    }
    OVER.print("MiB over what was captured,", all);
    println!("at start: resident before the crash, this program and its libraries; over: peak less captured");
    Ok(())
}

/// Makes one report and prints the bytes resident before it, those captured, and the most that were resident.
pub(crate) fn child(arguments: &[String]) -> anyhow::Result<()> {
    let [tool, threads] = arguments else { anyhow::bail!("the tool and the number of threads were expected") };
    let start = resident("VmRSS:")?;
    let made = ours::report(Path::new(tool), threads.parse()?)?;
    println!("{start} {} {}", made.captured, resident("VmHWM:")?);
    Ok(())
}

/// Bytes, by a line of `/proc/self/status` in kB (proc(5)).
fn resident(key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line in /proc/self/status")?;
    let kibibytes: u64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes << 10)
}
