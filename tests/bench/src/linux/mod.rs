//! The tables.

mod framehop;
mod held;
mod memory;
mod minidump_unwind;
mod ours;
mod peer;
mod spread;
mod storm;
mod target;
mod unwinding;
mod victim;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

/// Threads that wait in the victim, besides the one that dies.
const THREADS: [u16; 3] = [10, 100, 500];
const DEFAULT_ROUNDS: usize = 9;

const TABLES: [(&str, Table); 4] =
    [("held", held::print), ("memory", memory::print), ("storm", storm::print), ("unwinding", unwinding::print)];

/// Prints a table: with the tool that dies, and a number of rounds.
type Table = fn(&Path, usize) -> anyhow::Result<()>;

/// Prints the tables that `arguments` name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match tables(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aftermach-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tables(arguments: &[String]) -> anyhow::Result<()> {
    let (rounds, names) = match arguments.split_first() {
        // This program runs itself for what needs a process of its own.
        Some((first, rest)) if first == memory::CHILD => return memory::child(rest),
        Some((first, rest)) if first == storm::CHILD => return storm::child(rest),
        Some((first, rest)) => match first.parse() {
            Ok(rounds) => (rounds, rest),
            Err(_) => (DEFAULT_ROUNDS, arguments),
        },
        None => (DEFAULT_ROUNDS, arguments),
    };
    let known = |name: &String| TABLES.iter().any(|(table, _)| table == name);
    anyhow::ensure!(names.iter().all(known) && rounds > 0, "the tables are held, memory, storm and unwinding");
    if let Err(refused) = aftermach_handler::host::probe() {
        anyhow::bail!("{refused}");
    }
    let tool = victim::tool()?;
    for (name, print) in TABLES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            print(&tool, rounds).with_context(|| format!("the table \"{name}\""))?;
            println!();
        }
    }
    Ok(())
}
