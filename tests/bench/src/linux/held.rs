//! How long the victim is held and how long its report takes, beside minidump-writer, in turns; and where the time goes.

use std::path::Path;
use std::time::Duration;

use aftermach_handler::service::Made;
use anyhow::Context;

use super::ours::Handler;
use super::spread::{Spread, milliseconds};
use super::target::Target;
use super::victim::Folder;
use super::{THREADS, ours, peer};

const HELD: Target = Target::AtMost(0.25);
const REPORT: Target = Target::AtMost(2.0);

/// One row: the peer's times, and ours.
struct Row {
    threads: u16,
    dumps: Vec<Duration>,
    /// Each by a handler that has seen no crash before.
    first: Vec<Made>,
    /// By one handler, which has seen the program die before.
    again: Vec<Made>,
}

pub(crate) fn print(tool: &Path, rounds: usize) -> anyhow::Result<()> {
    let rows: Vec<Row> = THREADS.into_iter().map(|threads| row(tool, threads, rounds)).collect::<Result<_, _>>()?;
    println!("{rounds} rounds each, in turns, after one to warm up; milliseconds, minimum / median");
    println!(
        "{:>7}  {:>17}  {:>17} {:>6}  {:>17} {:>6}  {:>17} {:>6}",
        "threads", "peer: dump", "ours: held", "ratio", "first report", "ratio", "report again", "ratio"
    );
    for row in &rows {
        let (dumps, [held, first, again]) = row.spreads();
        print!("{:>7}  {dumps:>17}", row.threads);
        for ours in [held, first, again] {
            print!("  {ours:>17} {:>6.2}", ours.over(&dumps));
        }
        println!();
    }
    let ratios = |which: usize| {
        rows.iter().map(move |row| {
            let (dumps, ours) = row.spreads();
            (format!("{} threads", row.threads), ours[which].over(&dumps))
        })
    };
    HELD.print("held over the peer's dump,", ratios(0));
    REPORT.print("first report over the peer's dump,", ratios(1));
    REPORT.print("report again over the peer's dump,", ratios(2));
    println!(
        "peer:   minidump-writer 0.13 dumping the victim alive, from its first call to the file being written, not synced"
    );
    println!("held:   from the moment the death is known until the victim is let go");
    println!("report: from the same moment until dump and report, unwound and with names, are on the disk, synced;");
    println!("        the first one that a handler makes, and one of a program whose names it has found before");
    println!();
    parts("the first report", &rows, |row| &row.first);
    parts("a report again", &rows, |row| &row.again);
    Ok(())
}

impl Row {
    /// The peer's dumps; how long we held, made the first report, made another one.
    fn spreads(&self) -> (Spread, [Spread; 3]) {
        let total = |all: &[Made]| Spread::of(all.iter().map(|made| made.total));
        let held = Spread::of(self.first.iter().chain(&self.again).map(|made| made.held));
        (Spread::of(self.dumps.iter().copied()), [held, total(&self.first), total(&self.again)])
    }
}

fn row(tool: &Path, threads: u16, rounds: usize) -> anyhow::Result<Row> {
    let mut row = Row { threads, dumps: Vec::new(), first: Vec::new(), again: Vec::new() };
    let folder = Folder::new("again")?;
    let mut handler = Handler::start(folder.path())?;
    for round in 0..=rounds {
        let dump = peer::dump(tool, threads).context("minidump-writer")?;
        let first = ours::report(tool, threads)?;
        let again = handler.report(ours::program(tool, threads)?)?;
        if round > 0 {
            row.dumps.push(dump);
            row.first.push(first);
            row.again.push(again);
        }
    }
    handler.finish();
    Ok(row)
}

/// Medians of each part. They need not add up to the median of the whole.
fn parts(of: &str, rows: &[Row], made: impl Fn(&Row) -> &Vec<Made>) {
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
    println!("where the time of {of} goes; milliseconds, median");
    print!("{:>7} ", "threads");
    PARTS.iter().for_each(|(name, _)| print!(" {name:>7}"));
    println!(" {:>9}", "captured");
    for row in rows {
        let ours = made(row);
        print!("{:>7} ", row.threads);
        for (_, part) in PARTS {
            print!(" {:>7.2}", milliseconds(Spread::of(ours.iter().map(part)).median()));
        }
        println!(" {:>5} KiB", ours.first().map_or(0, |made| made.captured >> 10));
    }
}
