//! The pages: a list of crashes, and one crash. Written on the server, without scripts and without anything from elsewhere.

mod crash;
mod foreign;
mod html;
mod list;
mod threads;

pub(super) use crash::{CrashPage, crash};
pub(super) use list::{ListPage, list};

use html::Html;

/// Begins a page; `title` and `place` (beside the name at the top) are text.
fn begin(title: &str, place: &str) -> Html {
    let mut html = Html::default();
    html.raw(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>",
    )
    .text(title)
    .raw(" – Aftermach</title><style>")
    .raw(include_str!("style.css"))
    .raw("</style></head><body><header><div><a href=\"/\">Aftermach</a><span>")
    .text(place)
    .raw("</span></div></header><main>");
    html
}

fn end(mut html: Html) -> String {
    html.raw("</main></body></html>\n");
    html.finish()
}

/// A page that only says why there is no other.
pub(super) fn message(title: &str, text: &str) -> String {
    let mut html = begin(title, "");
    html.raw("<div class=\"card empty\">").element("<h1>", title, "</h1>").element("<p class=\"soft\">", text, "</p>");
    html.raw("<p><a class=\"button\" href=\"/\">All crashes</a></p></div>");
    end(html)
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// "2026-01-02T03:04:05.678Z" as "2026-01-02 03:04:05 UTC"; anything else as it is.
fn time(rfc3339: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// A row of a description list; nothing if there is nothing to say.
fn row(html: &mut Html, name: &'static str, value: &str) {
    if !value.is_empty() {
        html.raw("<dt>").raw(name).element("</dt><dd>", value, "</dd>");
    }
}

/// The same for numbers and addresses.
fn code_row(html: &mut Html, name: &'static str, value: &str) {
    if !value.is_empty() {
        html.raw("<dt>").raw(name).element("</dt><dd class=\"mono\">", value, "</dd>");
    }
}
