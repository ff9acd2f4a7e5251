//! `aftermach`: the tool. One file a command; this one only tells them apart.

mod crash;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Catches crashes from outside the program that crashes, and shows them.
///
/// Start with `aftermach demo`. Each command explains itself: `aftermach help COMMAND`.
#[derive(Parser)]
#[command(name = "aftermach", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Crash(crash::Args),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Crash(args) => crash::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("aftermach: {error:#}");
        ExitCode::FAILURE
    })
}
