//! The pages, and who may see them.

use aftermach_handler::upload::{Profile, deliver};
use aftermach_protocol::report::{Exception, Frame, Hex, Image, Note, Ordered, Signature, Thread, Trust};

use crate::support::{Collector, FORM, Stored, dump, form, yes};

const ATTACKS: [&str; 4] =
    ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'-alert(1)-'", "</style><svg onload=alert(1)>"];

/// None of the attacks' tags, nor an attribute of theirs behind a quote that ended ours.
fn assert_harmless(page: &str) {
    let page = page.to_lowercase();
    for trace in ["<script", "<img", "<svg", "</style><s", "\"><im", "'-alert"] {
        assert!(!page.contains(trace), "{trace} in {page}");
    }
}

#[test]
fn crash_text_never_becomes_markup_in_fields() {
    let collector = Collector::new();
    for attack in ATTACKS {
        let names = attack.replace('"', "%22");
        let body = form(&[
            ("prod", None, attack.as_bytes()),
            ("ver", None, attack.as_bytes()),
            ("process", None, attack.as_bytes()),
            ("signature", None, attack.as_bytes()),
            ("reason", None, attack.as_bytes()),
            (&names, None, attack.as_bytes()),
            (&names, Some(&names), b"attachment"),
            ("upload_file_minidump", Some(&names), &dump(attack.as_bytes())),
        ]);
        let answer = collector.post("/submit", FORM, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_harmless(&collector.get(&format!("/crash/{}", answer.text())).text());
    }
    let list = collector.get("/").text();
    assert!(list.contains("&lt;script&gt;alert(1)"), "{list}");
    assert_harmless(&list);
}

#[test]
fn crash_text_never_becomes_markup_in_a_report() {
    let collector = Collector::new();
    for attack in ATTACKS {
        let text = || attack.to_owned();
        let stored = Stored::with(dump(attack.as_bytes()), |report| {
            report.signature = Some(Signature { version: 1, text: text(), ..Signature::default() });
            report.exception = Exception { summary: text(), name: text(), thread: Some(0), ..Exception::default() };
            report.process.name = text();
            report.process.path = text();
            report.system.name = text();
            report.annotations = Ordered(vec![(text(), text())]);
            report.notes = vec![Note { part: text(), text: text(), ..Note::default() }];
            report.images = vec![Image { path: text(), id: Some(text()), ..Image::default() }];
            let frame = Frame {
                address: Hex(1),
                image: Some(0),
                function: Some(text()),
                file: Some(text()),
                line: Some(7),
                trust: Trust::Other(text()),
                ..Frame::default()
            };
            let registers = Ordered(vec![(text(), Hex(1))]);
            let thread = Thread { name: text(), crashed: true, frames: vec![frame], registers, ..Thread::default() };
            report.threads = vec![thread.clone(), thread];
        });
        let profile = Profile::parse(&collector.url("/submit"), None).unwrap();
        deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
        let page = collector.get(&format!("/crash/{}", stored.location.id)).text();
        assert!(page.contains("Crashed: thread 0"), "{page}");
        assert_harmless(&page);
        let json = collector.get(&format!("/crash/{}/report.json", stored.location.id));
        assert_eq!(json.header("content-type"), Some("application/json"));
        assert_eq!(json.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_foreign_dump_shows_what_it_says() {
    let collector = Collector::new();
    let id = collector.post("/", "application/octet-stream", &dump(b"")).text();
    let page = collector.get(&format!("/crash/{id}")).text();
    for fact in ["SIGSEGV / SEGV_MAPERR", "0xdeadbeef", "linux amd64", ">42<"] {
        assert!(page.contains(fact), "{fact} is not in {page}");
    }
}

#[test]
fn the_download_is_the_dump_byte_for_byte() {
    let collector = Collector::new();
    let bytes = dump(&(0..=255).collect::<Vec<u8>>().repeat(1000));
    let id = collector.post("/", "application/octet-stream", &bytes).text();
    let answer = collector.get(&format!("/crash/{id}/dump"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, bytes);
    assert_eq!(answer.header("content-disposition"), Some(format!("attachment; filename=\"{id}.dmp\"").as_str()));
}

#[test]
fn no_page_may_run_load_or_be_framed() {
    let collector = Collector::new();
    let id = collector.post("/", "application/octet-stream", &dump(b"")).text();
    for path in ["/", &format!("/crash/{id}"), &format!("/crash/{id}/dump"), "/nothing", "/crash/nothing"] {
        let answer = collector.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("script"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
    }
}

#[test]
fn pages_show_to_this_machines_names_only() {
    let collector = Collector::new();
    let port = collector.address().port();
    assert_eq!(collector.get_as("/", &format!("localhost:{port}")).status, 200);
    assert_eq!(collector.get_as("/", &format!("evil.example:{port}")).status, 403);
    let answer = collector.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.status, 400);
}

#[test]
fn another_website_can_send_no_crash() {
    let collector = Collector::new();
    let body = form(&[("upload_file_minidump", Some("x"), &dump(b""))]);
    let answer = collector.post("/submit", &format!("{FORM}\r\nOrigin: http://evil.example"), &body);
    assert_eq!(answer.status, 403);
    assert_eq!(collector.kept(), [""; 0]);
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let collector = Collector::new();
    let unknown = "/crash/67e55044-10b1-426f-9247-bb680e5fe0c8";
    for path in [
        unknown,
        &format!("{unknown}/dump"),
        "/crash/..%2f..%2fetc%2fpasswd",
        "/crash/%00",
        "/crash/..",
        "/x",
        "/api/1/x",
    ] {
        assert_eq!(collector.get(path).status, 404, "{path}");
    }
    assert_eq!(collector.get("/submit").status, 405);
    assert_eq!(collector.get("/api/1/minidump/").status, 405);
}

#[test]
fn a_damaged_crash_is_shown_as_such_beside_the_others() {
    let collector = Collector::new();
    let whole = collector.post("/", "application/octet-stream", &dump(b"1")).text();
    let damaged = collector.post("/", "application/octet-stream", &dump(b"2")).text();
    let half = collector.post("/", "application/octet-stream", &dump(b"3")).text();
    std::fs::write(collector.crashes().join(&damaged).join("meta.json"), "{").unwrap();
    std::fs::remove_file(collector.crashes().join(&half).join("minidump.dmp")).unwrap();
    std::fs::write(collector.crashes().join(&half).join("fields.json"), "[1]").unwrap();
    let list = collector.get("/");
    assert_eq!(list.status, 200);
    for id in [&whole, &damaged, &half] {
        assert!(list.text().contains(id.as_str()));
    }
    assert_eq!(collector.get(&format!("/crash/{damaged}")).status, 500);
    let page = collector.get(&format!("/crash/{half}")).text();
    assert!(page.contains("The dump can&#39;t be read") && page.contains("The fields can&#39;t be read"), "{page}");
    assert_eq!(collector.get(&format!("/crash/{half}/dump")).status, 500);
}
