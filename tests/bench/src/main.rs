//! How long a victim of 10, 100 and 500 threads is held, and how long its report takes, beside minidump-writer dumping the same
//! victim in the same run. The machine's noise is in both, so read the ratios.
//!
//!     cargo run --release -p aftermach-bench [-- ROUNDS]

mod ours;
#[cfg_attr(target_os = "linux", path = "peer_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "peer_none.rs")]
mod peer;
mod victim;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

/// Threads that wait in the victim, besides the one that dies.
const THREADS: [u16; 3] = [10, 100, 500];
const DEFAULT_ROUNDS: usize = 9;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aftermach-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let rounds = match std::env::args().nth(1) {
        Some(rounds) => rounds.parse().context("the number of rounds")?,
        None => DEFAULT_ROUNDS,
    };
    let tool = victim::tool()?;
    println!("{rounds} rounds each, in turns, after one to warm up; milliseconds, minimum / median");
    println!();
    println!(
        "{:>7}  {:>17}  {:>17}  {:>6}  {:>17}  {:>6}",
        "threads", "peer: dump", "ours: held", "ratio", "ours: report", "ratio"
    );
    for threads in THREADS {
        let (mut dumps, mut held, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let dump = peer::dump(&tool, threads).context("minidump-writer")?;
            let ours = ours::report(&tool, threads).context("aftermach run")?;
            if round > 0 {
                dumps.push(dump);
                held.push(ours.held);
                reports.push(ours.written);
            }
        }
        let (dumps, held, reports) = (Spread::of(dumps), Spread::of(held), Spread::of(reports));
        println!(
            "{threads:>7}  {:>17}  {:>17}  {:>6.2}  {:>17}  {:>6.2}",
            dumps.to_string(),
            held.to_string(),
            held.over(&dumps),
            reports.to_string(),
            reports.over(&dumps)
        );
    }
    println!();
    println!("peer:   minidump-writer 0.13 dumping the victim alive, from its first call to the file being written");
    println!("held:   from the moment the death is known until the victim is let go");
    println!("report: from the same moment until dump and report, unwound and with names, are on the disk (synced)");
    Ok(ExitCode::SUCCESS)
}

/// Smallest and middle of some durations.
struct Spread {
    minimum: Duration,
    median: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Spread {
        all.sort();
        let at = |index: usize| all.get(index).copied().unwrap_or_default();
        Spread { minimum: at(0), median: at(all.len() / 2) }
    }

    /// This median over another's.
    fn over(&self, other: &Spread) -> f64 {
        self.median.as_secs_f64() / other.median.as_secs_f64()
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.2}", self.minimum.as_secs_f64() * 1e3, self.median.as_secs_f64() * 1e3)
    }
}
