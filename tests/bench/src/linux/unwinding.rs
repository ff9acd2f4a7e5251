//! Frames a second: our unwinder, plain framehop and minidump-unwind over the same stacks.

use std::path::Path;
use std::time::{Duration, Instant};

use aftermach_handler::snapshot::Snapshot;
use aftermach_handler::unwind::{Limits, Sections, unwind};

use super::framehop::Framehop;
use super::spread::{Spread, milliseconds};
use super::target::Target;
use super::{minidump_unwind, ours};

/// Threads of the victim.
const THREADS: u16 = 500;

/// Walks of every stack: frames found, and how long each round took.
struct Walks {
    name: &'static str,
    frames: usize,
    times: Vec<Duration>,
}

impl Walks {
    fn new(name: &'static str) -> Walks {
        Walks { name, frames: 0, times: Vec::new() }
    }

    fn time(&mut self, walk: impl FnOnce() -> anyhow::Result<usize>) -> anyhow::Result<()> {
        let start = Instant::now();
        self.frames = walk()?;
        self.times.push(start.elapsed());
        Ok(())
    }
}

pub(crate) fn print(tool: &Path, rounds: usize) -> anyhow::Result<()> {
    let snapshot = ours::snapshot(tool, THREADS)?;
    let mut all = [
        Walks::new("ours, cold"),
        Walks::new("framehop, cold"),
        Walks::new("ours, tables read"),
        Walks::new("framehop, tables read"),
        Walks::new("framehop, rules cached"),
        Walks::new("minidump-unwind"),
    ];
    let [ours_cold, framehop_cold, ours_warm, framehop_warm, framehop_cached, minidump] = &mut all;
    let dump = minidump_unwind::dump(&snapshot)?;
    for round in 0..=rounds {
        // The first round has the files come into the system's cache, and does not count.
        let warm_up = round == 0;
        if warm_up {
            our_frames(&snapshot, &Sections::new(&snapshot));
            Framehop::new(&snapshot)?.walk(&snapshot);
            continue;
        }
        ours_cold.time(|| Ok(our_frames(&snapshot, &Sections::new(&snapshot))))?;
        framehop_cold.time(|| Ok(count(&Framehop::new(&snapshot)?.walk(&snapshot))))?;
        let sections = Sections::new(&snapshot);
        our_frames(&snapshot, &sections);
        ours_warm.time(|| Ok(our_frames(&snapshot, &sections)))?;
        let mut framehop = Framehop::new(&snapshot)?;
        framehop_warm.time(|| Ok(count(&framehop.walk(&snapshot))))?;
        framehop_cached.time(|| Ok(count(&framehop.walk(&snapshot))))?;
        minidump.time(|| minidump_unwind::frames(&dump))?;
    }
    println!("walking {} stacks; {rounds} rounds, milliseconds, minimum / median", snapshot.threads.len());
    println!("{:<23} {:>17} {:>9} {:>14}", "", "time", "frames", "frames/s");
    for Walks { name, frames, times } in &all {
        let time = Spread::of(times.iter().copied());
        let rate = *frames as f64 / time.median().as_secs_f64();
        println!("{name:<23} {time:>17} {frames:>9} {rate:>14.0}");
    }
    let ratio = |ours: &Walks, other: &Walks| {
        let rate = |walks: &Walks| walks.frames as f64 / milliseconds(Spread::of(walks.times.iter().copied()).median());
        rate(ours) / rate(other)
    };
    let [ours_cold, framehop_cold, ours_warm, framehop_warm, _, minidump] = &all;
    let over_framehop = [
        ("cold".to_owned(), ratio(ours_cold, framehop_cold)),
        ("tables read".to_owned(), ratio(ours_warm, framehop_warm)),
    ];
    Target::AtLeast(0.5).print("frames/s over framehop's,", over_framehop);
    let over_minidump = [("cold".to_owned(), ratio(ours_cold, minidump))];
    Target::AtLeast(20.0).print("frames/s over minidump-unwind's,", over_minidump);
    println!("cold: with opening the files and reading the tables; tables read: without, but no rule is known yet");
    println!(
        "minidump-unwind reads the dump and has no symbol files: it follows frame pointers and searches the stack"
    );
    Ok(())
}

fn our_frames(snapshot: &Snapshot, sections: &Sections) -> usize {
    let traces = unwind(snapshot, sections, &Limits::default());
    // Of a recursion only some frames are kept, but all of them were walked.
    let omitted = traces.iter().flat_map(|trace| &trace.folds).map(|fold| fold.omitted as usize * fold.length);
    omitted.sum::<usize>() + traces.iter().map(|trace| trace.frames.len()).sum::<usize>()
}

fn count(stacks: &[Vec<u64>]) -> usize {
    stacks.iter().map(Vec::len).sum()
}
