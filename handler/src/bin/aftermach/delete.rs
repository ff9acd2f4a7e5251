//! `aftermach delete`: removes reports.

use std::process::ExitCode;

use aftermach_handler::store::Location;

use crate::stores::{StoreArgs, print};

/// Deletes reports for good.
///
/// If one of the ids is wrong, none is deleted.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The reports: their ids, the starts of them, or "latest".
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All reports.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With --all: only those of this product, by its folder's name.
    #[arg(long, value_name = "NAME", requires = "all")]
    product: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = args.store.open()?;
    let mut failed = false;
    let mut locations: Vec<Location> = if args.all {
        let listing = store.list(args.product.as_deref())?;
        for error in &listing.unreadable {
            eprintln!("aftermach: {error}");
            failed = true;
        }
        listing.entries.into_iter().map(|entry| entry.location).collect()
    } else {
        args.ids.iter().map(|id| store.find(id)).collect::<Result<_, _>>()?
    };
    locations.sort_by(|one, other| one.id.cmp(&other.id));
    locations.dedup();
    for location in &locations {
        match store.delete(location) {
            Ok(()) => print(format!("deleted {}\n", location.id).as_bytes())?,
            Err(error) => {
                eprintln!("aftermach: {error}");
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
