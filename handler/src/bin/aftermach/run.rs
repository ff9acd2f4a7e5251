//! `aftermach run`: any program, caught from outside.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use aftermach_handler::host::{self, HostError, Options, Program};
use aftermach_handler::service::{self, Made, ProduceError, Service};
use aftermach_handler::store::{self, Store};
use aftermach_handler::triage::Scope;
use aftermach_protocol::product::Product;
use anyhow::Context;

/// Runs a program and makes a report of each crash of it and of its descendants.
///
/// The program needs nothing: no client, no rebuild. It runs as ever, its terminal, signals and exit status included; a
/// crash costs it the time that its memory takes to be copied. Reports go to the store: see `aftermach list`.
///
/// Exit status: the program's own (if a signal ended it, this command ends by the same signal); 77 if the system refuses
/// tracing, 127 if there is no such program, 126 if it can't be executed, 125 if Aftermach itself failed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where reports go [default: the user's store].
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Say nothing of reports that were made.
    #[arg(long, short)]
    quiet: bool,
    /// Stay until all descendants of the program have ended, not only the program itself.
    #[arg(long)]
    wait: bool,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// What `run` exits with if it is Aftermach that failed, as `env` and `timeout` do.
const OWN_FAILURE: u8 = 125;

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Err(error) = run_program(args);
    eprintln!("aftermach: {error:#}");
    let status = error.downcast_ref::<HostError>().map_or(OWN_FAILURE, HostError::exit_status);
    Ok(ExitCode::from(status))
}

/// Returns only with an error: otherwise this process ends as the program did.
fn run_program(args: Args) -> anyhow::Result<Infallible> {
    let (name, arguments) = args.program.split_first().context("which program?")?;
    let root = match args.store {
        Some(root) => root,
        None => store::default_root().context("no home folder to keep reports in; name one with --store")?,
    };
    let quiet = args.quiet;
    let service = Service::start(service::Settings {
        store: Store::open(root)?,
        product: any_program()?,
        scope: Scope::Everything,
        upload_to: None,
        done: Box::new(move |made| tell(quiet, made)),
    })?;
    let program = Program::new(name).args(arguments);
    let options = Options { relay_signals: true, wait_for_descendants: args.wait };
    let ending = host::run(&program, &options, &mut &service);
    service.finish();
    ending?.pass_on()
}

/// The product of programs that name none.
pub(crate) fn any_program() -> anyhow::Result<Product> {
    Ok(Product::new("aftermach", "run", "")?)
}

fn tell(quiet: bool, made: Result<Made, ProduceError>) {
    match made {
        Ok(_) if quiet => {}
        Ok(made) => {
            eprintln!("aftermach: {}", made.report.exception.summary);
            eprintln!(
                "aftermach: held {:.1} ms, report after {:.1} ms: {}",
                made.held.as_secs_f64() * 1e3,
                made.total.as_secs_f64() * 1e3,
                made.folder.display()
            );
        }
        Err(error) => eprintln!("aftermach: no report was made: {error}"),
    }
}
