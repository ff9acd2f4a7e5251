//! `aftermach upload`: sends one report to a dashboard.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aftermach_handler::store::Location;
use aftermach_handler::upload::multipart::Plan;
use aftermach_handler::upload::{
    Consent, Delivered, Format, Options, Outcome, Profile, Settings, Timeouts, deliver, draft,
};
use anyhow::{Context, bail};

use crate::stores::{StoreArgs, print};

/// Holds the address, so that its key shows in no list of processes.
const TO_VARIABLE: &str = "AFTERMACH_UPLOAD_TO";
/// EX_TEMPFAIL of sysexits.h: another attempt may do.
const TRY_AGAIN: u8 = 75;

/// Sends a report to a crash dashboard, or sets whether reports may be sent.
///
/// The address is that of a server that takes Breakpad's form (also Crashpad, Socorro, Electron, `aftermach collect`), or a
/// Sentry DSN. What came of it is kept with the report. Exit status: 0 accepted, 1 refused or not sent, 75 not now.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The report: its id, the start of it, or "latest".
    #[arg(value_name = "ID", required_unless_present = "consent")]
    id: Option<String>,
    /// Where to: https://HOST/PATH, or a Sentry DSN. Without it, the environment's AFTERMACH_UPLOAD_TO.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// What is spoken there, if the address does not show it.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// A field that the server wants besides ours, for Breakpad's form. May be repeated.
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    fields: Vec<(String, String)>,
    /// Send the dump without the report beside it.
    #[arg(long)]
    without_report: bool,
    /// Agree to sending this report, without being asked.
    #[arg(long)]
    yes: bool,
    /// Show what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: write the exact body to this file.
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    body: Option<PathBuf>,
    /// Set whether reports of this store may be sent at all, and without being asked.
    #[arg(long, value_enum, value_name = "WHEN", conflicts_with_all = ["id", "to", "yes", "dry_run"])]
    consent: Option<ConsentName>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FormatName {
    /// Breakpad's form.
    Breakpad,
    /// Sentry's minidump endpoint.
    Sentry,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ConsentName {
    /// Send without asking.
    Always,
    /// Ask for each report (how it is at first).
    Ask,
    /// Send nothing, whoever asks.
    Never,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(consent) = args.consent {
        return set_consent(&args.store.root()?, consent);
    }
    let Some(id) = &args.id else { bail!("which report?") };
    let profile = profile(&args)?;
    let store = args.store.open()?;
    let report = store.find(id)?;
    if args.dry_run {
        return dry_run(&draft(&store, &report, &profile, !args.without_report)?, &profile, args.body);
    }
    let settings = Settings::load(store.root());
    if settings.consent == Consent::Never {
        let note = settings.note.unwrap_or_else(|| {
            "uploads are switched off in this store; `aftermach upload --consent ask` allows them one by one".to_owned()
        });
        bail!("not sent: {note}");
    }
    if !profile.is_private() {
        eprintln!("aftermach: warning: {profile} is not encrypted; everybody on the way can read the report");
    }
    let confirmed = args.yes || settings.consent == Consent::Always || confirm(&report, &profile)?;
    if !confirmed {
        print(b"Not sent.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let options = Options { confirmed, attach_report: !args.without_report, timeouts: Timeouts::default() };
    tell(&deliver(&store, &report, &profile, options)?, &profile)
}

fn set_consent(root: &Path, name: ConsentName) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::load(root);
    if let Some(note) = settings.note.take() {
        eprintln!("aftermach: warning: {note}; the file is written anew");
    }
    settings.consent = match name {
        ConsentName::Always => Consent::Always,
        ConsentName::Ask => Consent::Ask,
        ConsentName::Never => Consent::Never,
    };
    settings.save(root).with_context(|| format!("can't write the settings in {}", root.display()))?;
    print(format!("Uploads from {}: {}\n", root.display(), settings.consent.name()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn profile(args: &Args) -> anyhow::Result<Profile> {
    let from_environment = || std::env::var(TO_VARIABLE).ok();
    let address =
        args.to.clone().or_else(from_environment).with_context(|| {
            format!("where to? Name the server with --to URL, or in the environment's {TO_VARIABLE}")
        })?;
    let format = args.format.map(|name| match name {
        FormatName::Breakpad => Format::Breakpad,
        FormatName::Sentry => Format::Sentry,
    });
    let mut profile = Profile::parse(&address, format)?;
    match &mut profile {
        Profile::Breakpad { fields, .. } => fields.clone_from(&args.fields),
        Profile::Sentry { .. } if !args.fields.is_empty() => bail!("--field is for servers that take Breakpad's form"),
        Profile::Sentry { .. } => {}
    }
    Ok(profile)
}

fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a field is NAME=VALUE".to_owned()),
    }
}

/// Asks whoever sits at the terminal. Nobody there is a no, with what to do.
fn confirm(report: &Location, profile: &Profile) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!(
            "not sent: there is nobody to ask; agree with --yes, or once for all with `aftermach upload --consent always`"
        );
    }
    eprintln!(
        "Report {} holds parts of the memory of the program that crashed, and its arguments and paths.",
        report.id
    );
    eprint!("Send it to {profile}? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn dry_run(plan: &Plan, profile: &Profile, body: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let (kind, length) = (plan.content_type(), plan.content_length());
    let mut text = format!("POST {profile}\nContent-Type: {kind}\nContent-Length: {length}\n\n");
    for part in plan.parts() {
        text += &format!("{:>10}  {}", part.length, part.name.escape_debug());
        if let Some(file_name) = &part.file_name {
            text += &format!(" as {}", file_name.escape_debug());
        }
        text.push('\n');
    }
    if let Some(path) = body {
        let written = File::create_new(&path).and_then(|mut file| io::copy(&mut plan.reader(), &mut file));
        written.with_context(|| format!("can't write {}", path.display()))?;
        text += &format!("\nBody written to {}; nothing was sent.\n", path.display());
    } else {
        text += "\nNothing was sent.\n";
    }
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn tell(delivered: &Delivered, profile: &Profile) -> anyhow::Result<ExitCode> {
    if let Some(error) = &delivered.unrecorded {
        eprintln!("aftermach: warning: what came of it could not be kept with the report: {error}");
    }
    let outcome = &delivered.sent.outcome;
    let reason = outcome.reason().unwrap_or("");
    Ok(match outcome {
        Outcome::Accepted { id } => {
            let id = id.as_ref().map(|id| format!(" as {id}")).unwrap_or_default();
            print(format!("Accepted by {profile}{id}\n").as_bytes())?;
            ExitCode::SUCCESS
        }
        Outcome::Rejected { .. } | Outcome::TooLarge => {
            eprintln!("aftermach: refused by {profile}: {reason}");
            ExitCode::FAILURE
        }
        Outcome::Retry { .. } | Outcome::Offline { .. } => {
            eprintln!("aftermach: not delivered to {profile}: {reason}; try again later");
            ExitCode::from(TRY_AGAIN)
        }
    })
}
