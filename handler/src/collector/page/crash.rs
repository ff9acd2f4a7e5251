//! One crash.

use aftermach_protocol::report::{Image, Report};

use super::super::meta::{Fields, Meta};
use super::html::Html;
use super::threads::{registers, threads};
use super::{begin, code_row, end, foreign, row, size, time};
use crate::minidump::CheckedModule;

/// Most rows of one table. The files have them all.
const MAX_ROWS: usize = 1000;
/// A field that is longer is shown folded.
const LONG_FIELD: usize = 400;

/// What the page shows.
pub(in crate::collector) struct CrashPage<'a> {
    pub(in crate::collector) meta: &'a Meta,
    /// The form's fields, or why they can't be read.
    pub(in crate::collector) fields: Result<Fields, String>,
    /// The report, if one came along, or why it can't be read.
    pub(in crate::collector) report: Option<Result<Report, String>>,
    /// The dump's bytes, or why they can't be read.
    pub(in crate::collector) dump: Result<Vec<u8>, String>,
}

/// Writes the page.
pub(in crate::collector) fn crash(page: &CrashPage<'_>) -> String {
    let meta = page.meta;
    let report = page.report.as_ref().and_then(|report| report.as_ref().ok());
    let mut html = begin(&meta.title(), &meta.product);
    summary(&mut html, meta, report);
    problems(&mut html, page);
    match report {
        Some(report) => of_report(&mut html, report),
        None => of_dump(&mut html, page.dump.as_deref().unwrap_or(&[])),
    }
    if let Ok(fields) = &page.fields {
        let fields = fields.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        table(&mut html, "Sent along", fields);
    }
    end(html)
}

fn summary(html: &mut Html, meta: &Meta, report: Option<&Report>) {
    html.raw("<section class=\"card\">").element("<h1>", meta.title(), "</h1>");
    if !meta.summary.is_empty() && meta.summary != meta.title() {
        html.element("<p>", &meta.summary, "</p>");
    }
    html.raw("<dl>");
    row(html, "Reason", &meta.reason);
    code_row(html, "Address", &meta.address);
    row(html, "Thread", &meta.thread);
    let version = [meta.product.as_str(), meta.version.as_str(), meta.channel.as_str()].join(" ");
    row(html, "Product", version.trim());
    let process = match meta.pid {
        Some(pid) => format!("{} [{pid}]", meta.process),
        None => meta.process.clone(),
    };
    row(html, "Process", process.trim());
    if let Some(report) = report {
        code_row(html, "Path", &report.process.path);
        if let Some(uptime) = report.process.uptime_us {
            row(html, "Lived for", &format!("{:.1} s", uptime as f64 / 1e6));
        }
        row(html, "Died", &report.times.died.as_deref().map(time).unwrap_or_default());
        let system = [&*report.system.name, &*report.system.version, &*report.system.cpu].join(" ");
        row(html, "System", system.trim());
    } else {
        row(html, "System", [meta.os.as_str(), meta.cpu.as_str()].join(" ").trim());
    }
    row(html, "Received", &time(&meta.received));
    code_row(html, "Id", &meta.id);
    html.raw("</dl><p class=\"buttons\"><a class=\"button\" href=\"/crash/").text(&meta.id);
    html.raw("/dump\">Minidump, ").text(size(meta.size)).raw("</a>");
    if meta.report {
        html.raw("<a class=\"button\" href=\"/crash/").text(&meta.id).raw("/report.json\">Report as JSON</a>");
    }
    html.raw("<a class=\"button\" href=\"/crash/")
        .text(&meta.id)
        .raw("/fields.json\">Fields as JSON</a></p></section>");
}

/// What could not be read, here and when the report was made.
fn problems(html: &mut Html, page: &CrashPage<'_>) {
    let mut notes: Vec<String> = page.meta.notes.clone();
    notes.extend(page.fields.as_ref().err().map(|why| format!("The fields can't be read: {why}")));
    match &page.report {
        Some(Err(why)) => notes.push(format!("The report that came along can't be read: {why}")),
        Some(Ok(report)) => {
            notes.extend(report.notes.iter().take(MAX_ROWS).map(|note| format!("{}: {}", note.part, note.text)))
        }
        None => {}
    }
    notes.extend(page.dump.as_ref().err().map(|why| format!("The dump can't be read: {why}")));
    if notes.is_empty() {
        return;
    }
    html.raw("<section class=\"card\"><h2>Notes</h2>");
    for note in &notes {
        html.element("<p class=\"note\">", note, "</p>");
    }
    html.raw("</section>");
}

fn of_report(html: &mut Html, report: &Report) {
    let messages = report.messages.iter().map(|message| (message.image.as_str(), message.text.as_str()));
    table(html, "Messages", messages);
    if let Some(first) = &report.first_chance {
        html.raw("<section class=\"card\"><h2>While handling a fault</h2><p>")
            .text(&first.exception.summary)
            .raw("</p></section>");
    }
    threads(html, report);
    table(html, "Annotations", report.annotations.iter().map(|(name, value)| (name, value.as_str())));
    let crumbs: Vec<(String, &str)> = report
        .breadcrumbs
        .iter()
        .map(|crumb| (format!("{:.3} s", crumb.time_us as f64 / 1e6), crumb.text.as_str()))
        .collect();
    table(html, "What it did before", crumbs.iter().map(|(time, text)| (time.as_str(), *text)));
    images(html, report.images.len(), report.images.iter().map(image_row));
}

fn image_row(image: &Image) -> (String, String, String) {
    (format!("{}", image.base), image.path.clone(), image.id.clone().unwrap_or_default())
}

fn of_dump(html: &mut Html, dump: &[u8]) {
    let Ok(summary) = crate::minidump::check(dump) else { return };
    html.raw(
        "<section class=\"card\"><h2>From the minidump</h2><p class=\"soft small\">It came without a report of ours, ",
    )
    .raw("so there are no names and lines here: open the dump in LLDB or with minidump-stackwalk.</p><dl>");
    row(html, "Threads", &summary.threads.to_string());
    row(html, "System version", summary.os_version.as_deref().unwrap_or(""));
    html.raw("</dl></section>");
    let values = foreign::registers(dump);
    if !values.is_empty() {
        html.raw("<section class=\"card\"><h2>Registers at the exception</h2>");
        registers(html, values.into_iter());
        html.raw("</section>");
    }
    table(html, "Annotations", summary.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    images(html, summary.modules.len(), summary.modules.iter().map(module_row));
}

fn module_row(module: &CheckedModule) -> (String, String, String) {
    (format!("{:#x}", module.base), module.file.clone(), module.debug_id.clone().unwrap_or_default())
}

fn images(html: &mut Html, count: usize, rows: impl Iterator<Item = (String, String, String)>) {
    if count == 0 {
        return;
    }
    html.raw("<section class=\"card\"><details class=\"lone\"><summary><b>Images</b> <span class=\"soft\">")
        .text(count);
    html.raw("</span></summary><div class=\"scroll\"><table><thead><tr><th>Base</th><th>Path</th><th>Id</th></tr></thead><tbody>");
    for (base, path, id) in rows.take(MAX_ROWS) {
        html.element("<tr><td class=\"mono\">", base, "</td><td class=\"wrap\">").text(path);
        html.element("</td><td class=\"mono wrap\">", id, "</td></tr>");
    }
    html.raw("</tbody></table></div>");
    rest(html, count);
    html.raw("</details></section>");
}

/// Names and values; nothing if there are none.
fn table<'a>(html: &mut Html, title: &'static str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let rows: Vec<(&str, &str)> = rows.collect();
    if rows.is_empty() {
        return;
    }
    html.raw("<section class=\"card\"><h2>").raw(title).raw("</h2><div class=\"scroll\"><table><tbody>");
    for (name, value) in rows.iter().take(MAX_ROWS) {
        html.element("<tr><td class=\"key\">", name, "</td><td class=\"wrap\">");
        if value.len() > LONG_FIELD {
            html.raw("<details class=\"lone\"><summary class=\"soft\">").text(value.len()).raw(" bytes</summary>");
            html.text(value).raw("</details>");
        } else {
            html.text(value);
        }
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div>");
    rest(html, rows.len());
    html.raw("</section>");
}

fn rest(html: &mut Html, count: usize) {
    if count > MAX_ROWS {
        html.raw("<p class=\"soft small\">").text(count - MAX_ROWS).raw(" more are in the files.</p>");
    }
}
