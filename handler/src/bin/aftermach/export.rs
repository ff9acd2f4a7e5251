//! `aftermach export`: a copy of a report for elsewhere.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aftermach_handler::store::{MINIDUMP, StoreError, export_bundle, export_minidump};
use anyhow::{Context, bail};

use crate::stores::{StoreArgs, print};

/// Copies a report's minidump, byte for byte, or all of the report.
///
/// Says on standard output where the copy is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The report: its id, the start of it, or "latest".
    #[arg(value_name = "ID")]
    id: String,
    /// Where to: a file, a folder, or "-" for standard output. Without it, ID.dmp (or the folder ID) right here.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// All files of the report, as a folder.
    #[arg(long)]
    bundle: bool,
    /// Replace a file that is there already.
    #[arg(long, conflicts_with = "bundle")]
    force: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let location = args.store.open()?.find(&args.id)?;
    let output = args.output.unwrap_or_else(|| PathBuf::from("."));
    if output == Path::new("-") {
        if args.bundle {
            bail!("a bundle is a folder: say with --output where to put it");
        }
        let path = location.file(MINIDUMP);
        let mut file = File::open(&path).with_context(|| format!("can't read {}", path.display()))?;
        io::copy(&mut file, &mut io::stdout().lock()).context("can't write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let copy = if args.bundle {
        export_bundle(&location, &output)?
    } else {
        match export_minidump(&location, &output, args.force) {
            Err(error @ StoreError::Exists(_)) => bail!("{error}; --force replaces it"),
            other => other?,
        }
    };
    print(format!("{}\n", copy.display()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
