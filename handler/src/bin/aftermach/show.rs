//! `aftermach show`: one report.

use std::process::ExitCode;

use aftermach_handler::report::text::{self, escape};
use aftermach_handler::store::{REPORT_JSON, StoreError};
use anyhow::Context;

use crate::stores::{StoreArgs, print};

/// Shows a report: what happened, the crashed thread, the other threads, registers, what the program said, images, and
/// what could not be read.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The report: its id, the start of it, or "latest".
    #[arg(value_name = "ID")]
    id: String,
    /// As text (the default).
    #[arg(long, conflicts_with = "json")]
    text: bool,
    /// As JSON: report.json, which docs/report-schema.md explains.
    #[arg(long)]
    json: bool,
    /// All frames of all threads, and all images.
    #[arg(long, visible_alias = "threads", conflicts_with = "json")]
    all: bool,
    /// Cut frames and threads to so many columns.
    #[arg(long, value_name = "COLUMNS", conflicts_with = "json")]
    width: Option<usize>,
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let location = args.store.open()?.find(&args.id)?;
    if args.json {
        // As it is, whatever version wrote it.
        let json: serde_json::Value = serde_json::from_slice(&location.read_bytes(REPORT_JSON)?)
            .with_context(|| format!("{} is damaged", location.file(REPORT_JSON).display()))?;
        print(format!("{json:#}\n").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = match location.read() {
        Err(error @ StoreError::Report { .. }) => {
            return Err(error).with_context(|| format!("can't show report {}", location.id));
        }
        other => other?,
    };
    let mut shown = text::render(&report, &text::Options { width: args.width, all: args.all });
    shown.push_str(&format!("\nFiles in {}\n", escape(&location.folder.to_string_lossy())));
    print(shown.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
