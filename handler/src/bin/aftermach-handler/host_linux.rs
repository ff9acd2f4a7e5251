//! How clients reach the service on Linux: a socket that stands where launchd's Mach service stands on macOS.

use std::path::PathBuf;

use aftermach_handler::host::linux::{Endpoint, HostError, ServeOptions, Stopper, probe, serve as serve_socket};
use aftermach_handler::service::Service;
use aftermach_protocol::product::Product;
use anyhow::Context;

use crate::signals::Ending;

/// What only this system needs.
#[derive(clap::Args)]
#[group(id = "host")]
pub(crate) struct Args {
    /// The socket to listen on [default: the product's own, where its clients look].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve every user's programs, not only those of the user that the service runs as.
    #[arg(long)]
    every_user: bool,
}

/// Serves until told to end.
pub(crate) fn serve(product: &Product, args: &Args, service: &Service, ending: Ending) -> anyhow::Result<()> {
    probe().map_err(HostError::from)?;
    let endpoint = match &args.socket {
        Some(path) => Endpoint::at(path)?,
        None => Endpoint::of(product)?,
    };
    let stop = Stopper::new().context("preparing to be ended")?;
    let stopper = stop.clone();
    ending.then(move || stopper.stop()).context("waiting for signals")?;
    tracing::info!("serving {} on {}", product.stem(), endpoint.path().display());
    let listener = endpoint.listener()?;
    serve_socket(listener, &ServeOptions { every_user: args.every_user }, &mut &*service, &stop)?;
    Ok(())
}

/// The exit status that tells an error.
pub(crate) fn exit_status(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<HostError>().map_or(1, HostError::exit_status)
}
