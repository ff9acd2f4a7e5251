//! `aftermach list`: the stored reports.

use std::fmt::Write;
use std::process::ExitCode;

use aftermach_handler::report::text::escape;
use aftermach_handler::store::{Contents, Entry};
use serde_json::{Value, json};

use crate::stores::{StoreArgs, print};

/// Shortest part of an id that is shown.
const ID: usize = 8;
/// Widest product and process, in characters.
const NAME: usize = 24;

/// Lists the stored reports, the newest first.
///
/// The first column is the start of the report's id: enough of it for `show`, `export`, `delete` and `upload`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only reports of this product: its name, or its folder's.
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// At most this many.
    #[arg(short = 'n', long, value_name = "COUNT")]
    max: Option<usize>,
    /// As JSON: one array with an object a report.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(store) = args.store.open_or_empty()? else {
        print(if args.json { b"[]\n" } else { b"" })?;
        eprintln!("aftermach: no reports yet");
        return Ok(ExitCode::SUCCESS);
    };
    let listing = store.list(None)?;
    let digits = id_length(&listing.entries);
    let is_wanted = |entry: &&Entry| args.product.as_deref().is_none_or(|product| is_of(entry, product));
    let entries: Vec<&Entry> = listing.entries.iter().filter(is_wanted).take(args.max.unwrap_or(usize::MAX)).collect();
    if args.json {
        let objects: Vec<Value> = entries.iter().map(|entry| object(entry)).collect();
        print(format!("{:#}\n", Value::from(objects)).as_bytes())?;
    } else if entries.is_empty() {
        eprintln!("aftermach: no reports in {}", store.root().display());
    } else {
        print(table(&entries, digits).as_bytes())?;
    }
    for error in &listing.unreadable {
        eprintln!("aftermach: {error}");
    }
    Ok(if listing.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_of(entry: &Entry, product: &str) -> bool {
    let name = match &entry.contents {
        Contents::Report(head) => head.product.as_ref().map(|product| product.name.as_str()),
        _ => None,
    };
    entry.location.product == product || name == Some(product)
}

/// How much of an id tells all of them apart.
fn id_length(entries: &[Entry]) -> usize {
    let mut ids: Vec<&str> = entries.iter().map(|entry| entry.location.id.as_str()).collect();
    ids.sort_unstable();
    let common = |pair: &[&str]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, other)| one == other).count();
    ids.windows(2).map(|pair| common(pair) + 1).max().unwrap_or(ID).max(ID)
}

fn table(entries: &[&Entry], digits: usize) -> String {
    let rows: Vec<[String; 3]> = entries.iter().map(|entry| row(entry)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).clamp(7, NAME);
    let (product, process) = (width(0), width(1));
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<digits$}  {:<19}  {:<product$}  {:<process$}  WHAT HAPPENED",
        "ID", "TIME (UTC)", "PRODUCT", "PROCESS"
    );
    for (entry, [of, name, what]) in entries.iter().zip(&rows) {
        let time = escape(&entry.time).replacen('T', " ", 1);
        let id = &entry.location.id[..digits.min(entry.location.id.len())];
        let (of, name) = (cut(of, product), cut(name, process));
        let time: String = time.chars().take(19).collect();
        let _ = writeln!(out, "{id:<digits$}  {time:<19}  {of:<product$}  {name:<process$}  {what}");
    }
    out
}

/// Product, process and what happened.
fn row(entry: &Entry) -> [String; 3] {
    let escaped = |text: &str| escape(text).into_owned();
    match &entry.contents {
        Contents::Report(head) => {
            let product = head.product.as_ref().map(|product| match product.channel.as_str() {
                "" => product.name.clone(),
                channel => format!("{} {channel}", product.name),
            });
            // The sentence starts with the process, which has its own column.
            let subject = format!("{} (pid {}) ", head.process.name, head.process.pid);
            let summary = &head.exception.summary;
            let what = summary.split_once(&subject).map_or(summary.as_str(), |(_, happened)| happened);
            let product = product.unwrap_or_else(|| entry.location.product.clone());
            [escaped(&product), escaped(&head.process.name), escaped(what)]
        }
        Contents::Newer(schema) => {
            [entry.location.product.clone(), String::new(), format!("written by a later version (schema {schema})")]
        }
        Contents::Damaged(why) => [entry.location.product.clone(), String::new(), format!("damaged: {}", escape(why))],
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn object(entry: &Entry) -> Value {
    let location = &entry.location;
    let mut object = json!({
        "report_id": location.id,
        "folder": location.folder.to_string_lossy(),
        "bytes": entry.bytes,
        "time": entry.time,
    });
    let more = match &entry.contents {
        Contents::Report(head) => json!({
            "state": "readable",
            "product": head.product,
            "process": { "pid": head.process.pid, "name": head.process.name, "path": head.process.path },
            "summary": head.exception.summary,
            "kind": head.exception.kind,
            "signature": head.signature,
            "upload": head.upload,
        }),
        Contents::Newer(schema) => json!({ "state": "newer", "schema": schema }),
        Contents::Damaged(why) => json!({ "state": "damaged", "error": why }),
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    object
}
