//! `aftermach-handler`: the service, and nothing else.

#[cfg_attr(target_os = "linux", path = "host_linux.rs")]
#[cfg_attr(target_os = "macos", path = "host_macos.rs")]
mod host;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes a report of each crash of the programs that registered with it.
#[derive(Parser)]
#[command(name = "aftermach-handler", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
}

fn main() -> ExitCode {
    let Command::Serve(args) = Arguments::parse().command;
    serve::run(args).unwrap_or_else(|error| {
        eprintln!("aftermach-handler: {error:#}");
        ExitCode::from(host::exit_status(&error))
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
