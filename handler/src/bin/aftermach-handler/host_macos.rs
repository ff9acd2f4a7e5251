//! How clients reach the service on macOS: launchd holds the receive right of the product's Mach service and hands it out.

use std::time::Duration;

use aftermach_handler::host::mach::{Policy, serve as serve_mach};
use aftermach_handler::host::{HostError, ServeOptions, Stopper};
use aftermach_handler::service::Service;
use aftermach_protocol::product::Product;
use anyhow::Context;

use crate::signals::Ending;

/// What only this system needs.
#[derive(clap::Args)]
#[group(id = "host")]
pub(crate) struct Args {
    /// End after this many idle seconds; launchd starts the service again when a client needs it.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle: u64,
    /// Have the system make no report of its own of crashes that are reported here.
    #[arg(long)]
    no_system_report: bool,
    /// Note where each port right is taken: a report of one that was not given back then names the place.
    #[arg(long)]
    trace_ports: bool,
}

/// Serves until told to end, or idle for too long.
pub(crate) fn serve(product: &Product, args: &Args, service: &Service, ending: Ending) -> anyhow::Result<()> {
    let stop = Stopper::new().context("preparing to be ended")?;
    let stopper = stop.clone();
    ending.then(move || stopper.stop()).context("waiting for signals")?;
    let options = ServeOptions {
        policy: Policy { system_report: !args.no_system_report, ..Policy::default() },
        idle: Some(Duration::from_secs(args.idle)),
        note_places: args.trace_ports,
    };
    serve_mach(&product.service(), &options, service, &stop)?;
    Ok(())
}

/// The exit status that tells an error.
pub(crate) fn exit_status(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<HostError>().map_or(1, HostError::exit_status)
}
