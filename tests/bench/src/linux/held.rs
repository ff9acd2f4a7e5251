//! How long the victim is held and how long its report takes, beside minidump-writer, in turns; and where the time goes.

use std::path::Path;
use std::time::Duration;

use aftermach_handler::service::Made;
use anyhow::Context;

use super::spread::{Spread, milliseconds};
use super::{THREADS, ours, peer};

/// One row: the peer's times, and ours.
struct Row {
    threads: u16,
    dumps: Vec<Duration>,
    ours: Vec<Made>,
}

pub(crate) fn print(tool: &Path, rounds: usize) -> anyhow::Result<()> {
    let rows: Vec<Row> = THREADS.into_iter().map(|threads| row(tool, threads, rounds)).collect::<Result<_, _>>()?;
    println!("{rounds} rounds each, in turns, after one to warm up; milliseconds, minimum / median");
    println!(
        "{:>7}  {:>17}  {:>17} {:>6}  {:>17} {:>6}",
        "threads", "peer: dump", "ours: held", "ratio", "report", "ratio"
    );
    for Row { threads, dumps, ours } in &rows {
        let dumps = Spread::of(dumps.iter().copied());
        let held = Spread::of(ours.iter().map(|made| made.held));
        let total = Spread::of(ours.iter().map(|made| made.total));
        let (held_ratio, total_ratio) = (held.over(&dumps), total.over(&dumps));
        println!("{threads:>7}  {dumps:>17}  {held:>17} {held_ratio:>6.2}  {total:>17} {total_ratio:>6.2}");
    }
    println!(
        "peer:   minidump-writer 0.13 dumping the victim alive, from its first call to the file being written, not synced"
    );
    println!("held:   from the moment the death is known until the victim is let go");
    println!("report: from the same moment until dump and report, unwound and with names, are on the disk, synced");
    println!();
    parts(&rows);
    Ok(())
}

fn row(tool: &Path, threads: u16, rounds: usize) -> anyhow::Result<Row> {
    let mut row = Row { threads, dumps: Vec::new(), ours: Vec::new() };
    for round in 0..=rounds {
        let dump = peer::dump(tool, threads).context("minidump-writer")?;
        let made = ours::report(tool, threads)?;
        if round > 0 {
            row.dumps.push(dump);
            row.ours.push(made);
        }
    }
    Ok(row)
}

/// Medians of each part. They need not add up to the median of the whole.
fn parts(rows: &[Row]) {
    type Part = (&'static str, fn(&Made) -> Duration);
    const PARTS: [Part; 8] = [
        ("gather", |made| Duration::from_micros(made.report.times.gathering_us.unwrap_or(0))),
        ("copy", |made| Duration::from_micros(made.report.times.copying_us.unwrap_or(0))),
        ("let go", |made| {
            let copied = made.report.times.gathering_us.unwrap_or(0) + made.report.times.copying_us.unwrap_or(0);
            made.held.saturating_sub(Duration::from_micros(copied))
        }),
        ("unwind", |made| made.stages.unwinding),
        ("names", |made| made.stages.naming),
        ("dump", |made| made.stages.dump),
        ("report", |made| made.stages.report),
        ("sync", |made| made.stages.syncing),
    ];
    println!("where it goes; milliseconds, median");
    print!("{:>7} ", "threads");
    PARTS.iter().for_each(|(name, _)| print!(" {name:>7}"));
    println!(" {:>9}", "captured");
    for Row { threads, ours, .. } in rows {
        print!("{threads:>7} ");
        for (_, part) in PARTS {
            print!(" {:>7.2}", milliseconds(Spread::of(ours.iter().map(part)).median()));
        }
        println!(" {:>5} KiB", ours.first().map_or(0, |made| made.captured >> 10));
    }
}
