//! `aftermach`: the tool. One file a command; this one only tells them apart.

mod collect;
mod crash;
mod delete;
mod demo;
mod doctor;
mod export;
mod list;
mod own_crash;
mod run;
mod service;
mod show;
mod stores;
mod upload;

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
    Collect(collect::Args),
    Crash(crash::Args),
    Delete(delete::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Export(export::Args),
    List(list::Args),
    Run(run::Args),
    Service(service::Args),
    Show(show::Args),
    Upload(upload::Args),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Collect(args) => collect::run(args),
        Command::Crash(args) => crash::run(args),
        Command::Delete(args) => delete::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Export(args) => export::run(args),
        Command::List(args) => list::run(args),
        Command::Run(args) => run::run(args),
        Command::Service(args) => service::run(args),
        Command::Show(args) => show::run(args),
        Command::Upload(args) => upload::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("aftermach: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_of_every_command_hold_together() {
        super::Arguments::command().debug_assert();
    }
}
