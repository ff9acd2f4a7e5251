//! The list of crashes, newest first.

use super::super::crashes::Entry;
use super::super::meta::Meta;
use super::{begin, end, size, time};
use crate::collector::page::html::Html;

/// Crashes on one page.
const PER_PAGE: usize = 100;

/// What the list shows.
pub(in crate::collector) struct ListPage<'a> {
    /// The newest crashes, the newest first.
    pub(in crate::collector) entries: &'a [Entry],
    /// How many there are in all.
    pub(in crate::collector) count: usize,
    /// What to look for; empty for everything.
    pub(in crate::collector) query: &'a str,
    /// Which page, from 1.
    pub(in crate::collector) page: usize,
    /// Where to send crashes.
    pub(in crate::collector) submit: &'a str,
}

/// Writes the list.
pub(in crate::collector) fn list(page: &ListPage<'_>) -> String {
    let needle = page.query.trim().to_lowercase();
    let found: Vec<&Entry> = page
        .entries
        .iter()
        .filter(|entry| match entry {
            Entry::Whole(meta) => needle.is_empty() || meta.matches(&needle),
            Entry::Damaged(id, _) => needle.is_empty() || id.to_string().contains(&needle),
        })
        .collect();
    let mut html = begin("Crashes", &count(page.entries.len(), page.count));
    if page.entries.is_empty() {
        empty(&mut html, page.submit);
        return end(html);
    }
    html.raw(
        "<form class=\"bar\" method=\"get\" action=\"/\" role=\"search\"><input type=\"search\" name=\"q\" value=\"",
    )
    .text(page.query)
    .raw("\" placeholder=\"Product, version, process, reason, signature …\" aria-label=\"Filter\" maxlength=\"200\">")
    .raw("<button>Filter</button></form>");
    if found.is_empty() {
        html.raw("<div class=\"card empty\"><h1>Nothing found</h1><p class=\"soft\">No crash has “")
            .text(page.query)
            .raw("” in it.</p><p><a class=\"button\" href=\"/\">All crashes</a></p></div>");
        return end(html);
    }
    let pages = found.len().div_ceil(PER_PAGE);
    let number = page.page.clamp(1, pages);
    html.raw("<div class=\"card list\">");
    for entry in found.iter().skip((number - 1) * PER_PAGE).take(PER_PAGE) {
        match entry {
            Entry::Whole(meta) => row(&mut html, meta),
            Entry::Damaged(id, _) => {
                html.raw("<a class=\"row\" href=\"/crash/")
                    .text(id)
                    .raw("\"><b>Damaged</b><span class=\"when\"></span><span class=\"sub\">")
                    .raw("<span class=\"tag bad\">can't be read</span>")
                    .element("<code>", id, "</code></span></a>");
            }
        }
    }
    html.raw("</div>");
    turn(&mut html, page.query, number, pages);
    end(html)
}

fn row(html: &mut Html, meta: &Meta) {
    html.raw("<a class=\"row\" href=\"/crash/").text(&meta.id).raw("\"><b>").text(meta.title());
    html.element("</b><span class=\"when\">", time(&meta.received), "</span><span class=\"sub\">");
    if !meta.reason.is_empty() && !meta.title().contains(&meta.reason) {
        html.element("<span class=\"tag bad\">", &meta.reason, "</span>");
    }
    let product = [meta.product.as_str(), meta.version.as_str(), meta.channel.as_str()];
    let product: Vec<&str> = product.into_iter().filter(|part| !part.is_empty()).collect();
    let mut facts = vec![product.join(" ")];
    if meta.process != meta.product {
        facts.push(meta.process.clone());
    }
    if !meta.thread.is_empty() {
        facts.push(format!("thread {}", meta.thread));
    }
    facts.push([meta.os.as_str(), meta.cpu.as_str()].join(" ").trim().to_owned());
    facts.retain(|fact| !fact.is_empty());
    html.text(facts.join(" · ")).element("</span><span class=\"when\">", size(meta.size), "</span></a>");
}

fn count(shown: usize, all: usize) -> String {
    match all {
        0 => "no crashes yet".to_owned(),
        1 => "1 crash".to_owned(),
        all if all > shown => format!("{all} crashes, the newest {shown} of them here"),
        all => format!("{all} crashes"),
    }
}

fn empty(html: &mut Html, submit: &str) {
    html.raw("<div class=\"card empty\"><h1>No crashes yet</h1><p class=\"soft\">Send one, and reload this page:</p><pre><code>")
        .raw("aftermach upload latest --to ")
        .text(submit)
        .raw("\n\ncurl -F prod=Example -F ver=1.0 \\\n     -F upload_file_minidump=@some.dmp ")
        .text(submit)
        .raw("</code></pre><p class=\"soft small\">Breakpad and Crashpad clients send to the same address; ")
        .raw("Sentry's to <code>/api/1/minidump/</code>.</p></div>");
}

fn turn(html: &mut Html, query: &str, number: usize, pages: usize) {
    if pages < 2 {
        return;
    }
    let mut link = |page: usize, text: &'static str| {
        html.raw("<a class=\"button\" href=\"/?page=").text(page);
        if !query.is_empty() {
            html.raw("&amp;q=").text(percent_encoded(query));
        }
        html.raw("\">").raw(text).raw("</a>");
    };
    // A paragraph around both, opened by hand: the closure holds the page meanwhile.
    if number > 1 {
        link(number - 1, "Newer");
    }
    if number < pages {
        link(number + 1, "Older");
    }
    html.raw(" <span class=\"soft small\">page ").text(number).raw(" of ").text(pages).raw("</span>");
}

/// For a query's value: everything but letters and digits.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<Entry> {
        (0..count)
            .map(|n| {
                Entry::Whole(Box::new(Meta {
                    id: format!("id-{n}"),
                    product: format!("Product{n}<b>"),
                    signature: format!("crash_{n}"),
                    ..Meta::default()
                }))
            })
            .collect()
    }

    fn shown(entries: &[Entry], query: &str, page: usize) -> String {
        list(&ListPage { entries, count: entries.len(), query, page, submit: "http://127.0.0.1:1/submit" })
    }

    #[test]
    fn an_empty_store_says_how_to_fill_it() {
        assert!(shown(&[], "", 1).contains("aftermach upload latest --to http://127.0.0.1:1/submit"));
    }

    #[test]
    fn the_filter_finds_and_is_escaped() {
        let entries = entries(12);
        let html = shown(&entries, "CRASH_11", 1);
        assert!(html.contains("/crash/id-11") && !html.contains("/crash/id-1\""));
        assert!(html.contains("Product11&lt;b&gt;") && !html.contains("Product11<b>"));
        let html = shown(&entries, "\"><script>", 1);
        assert!(html.contains("Nothing found") && !html.contains("<script"));
    }

    #[test]
    fn pages_hold_every_crash_once() {
        let entries = entries(PER_PAGE + 1);
        let (first, second) = (shown(&entries, "", 1), shown(&entries, "", 2));
        assert_eq!(first.matches("class=\"row\"").count(), PER_PAGE);
        assert_eq!(second.matches("class=\"row\"").count(), 1);
        assert!(first.contains("page=2") && !first.contains("Newer") && second.contains("page=1"));
        assert_eq!(shown(&entries, "", usize::MAX).matches("class=\"row\"").count(), 1);
    }
}
