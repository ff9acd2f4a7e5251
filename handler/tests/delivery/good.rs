//! Uploads that are as they should be.

use std::io::Write;
use std::process::Command;

use aftermach_handler::collector::Limits;
use aftermach_handler::upload::{Outcome, Profile, deliver, draft};
use aftermach_protocol::report::UploadState;

use crate::support::{Collector, FORM, Stored, dump, form, yes};

#[test]
fn our_upload_is_kept_byte_for_byte_under_the_reports_id_and_recorded() {
    let collector = Collector::new();
    let port = collector.address().port();
    for address in
        [collector.url("/submit"), collector.url("/"), format!("http://0123456789abcdef0@127.0.0.1:{port}/1")]
    {
        let stored = Stored::new(dump(&[0x80; 200_000]));
        let profile = Profile::parse(&address, None).unwrap();
        let delivered = deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
        assert!(delivered.unrecorded.is_none());
        assert_eq!(delivered.sent.outcome, Outcome::Accepted { id: Some(stored.location.id.clone()) }, "{address}");
        assert_eq!(collector.dump_of(&stored.location.id), stored.dump);
        let uploads = stored.uploads();
        assert_eq!(uploads.len(), 1);
        assert_eq!((&uploads[0].state, uploads[0].status), (&UploadState::Accepted, Some(200)));
        assert_eq!(uploads[0].server_id.as_ref(), Some(&stored.location.id));
        let kept = std::fs::read_to_string(stored.location.file("report.json")).unwrap();
        assert!(!kept.contains("0123456789abcdef0"), "the key is in the report");
    }
    assert_eq!(collector.kept().len(), 3);
}

#[test]
fn curl_and_we_deliver_the_same_file() {
    let collector = Collector::new();
    let stored = Stored::new(dump(b"\r\n--BOUNDARY\r\n\0\xff the same bytes"));
    let file = stored.location.file("minidump.dmp");
    let mut command = Command::new("curl");
    command.args(["-sS", "-F", "prod=Tunnel", "-F"]).arg(format!("upload_file_minidump=@{}", file.display()));
    let output = match command.arg(collector.url("/submit")).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIP: no curl here: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{output:?}");
    let by_curl = String::from_utf8(output.stdout).unwrap();
    let profile = Profile::parse(&collector.url("/submit"), None).unwrap();
    deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
    assert_ne!(by_curl, stored.location.id);
    assert_eq!(collector.dump_of(&by_curl), stored.dump);
    assert_eq!(collector.dump_of(&stored.location.id), stored.dump);
}

#[test]
fn curls_large_upload_that_waits_for_a_go_ahead_is_taken_or_refused() {
    let limits = Limits { dump: 3_000_000, rest: 0, report: 0, ..Limits::default() };
    let collector = Collector::with(limits);
    let stored = Stored::new(dump(&[7; 2_500_000]));
    let too_large = Stored::new(dump(&[7; 9_000_000]));
    for (stored, status) in [(&stored, "200"), (&too_large, "413")] {
        let file = stored.location.file("minidump.dmp");
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/octet-stream"]);
        command.args(["-H", "Expect: 100-continue", "--data-binary"]).arg(format!("@{}", file.display()));
        match command.arg(collector.url("/submit")).output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{output:?}"),
            Err(error) => println!("SKIP: no curl here: {error}"),
        }
    }
}

#[test]
fn a_report_sent_again_is_the_same_bytes_and_the_same_crash() {
    let collector = Collector::new();
    let stored = Stored::new(dump(b"again"));
    let profile = Profile::parse(&collector.url("/submit"), None).unwrap();
    deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
    let read = |plan: aftermach_handler::upload::multipart::Plan| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut plan.reader(), &mut bytes).unwrap();
        bytes
    };
    let first = read(draft(&stored.store, &stored.location, &profile, true).unwrap());
    let second = deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
    assert_eq!(second.sent.outcome, Outcome::Accepted { id: Some(stored.location.id.clone()) });
    assert_eq!(first, read(draft(&stored.store, &stored.location, &profile, true).unwrap()));
    assert_eq!(collector.kept(), std::slice::from_ref(&stored.location.id));
    assert_eq!(stored.uploads()[0].attempts, 2);
}

#[test]
fn the_dump_alone_is_taken_as_a_body() {
    let collector = Collector::new();
    let bytes = dump(b"raw");
    for path in ["/submit", "/", "/api/42/minidump/?sentry_key=abc", "/api/42/minidump"] {
        let answer = collector.post(path, "application/octet-stream", &bytes);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(collector.dump_of(&answer.text()), bytes);
    }
}

#[test]
fn a_compressed_body_is_taken() {
    let collector = Collector::new();
    let bytes = dump(&[b'z'; 300_000]);
    let body = form(&[("prod", None, b"Zipped"), ("upload_file_minidump", Some("x.dmp"), &bytes)]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&body).unwrap();
    let kind = format!("{FORM}\r\nContent-Encoding: gzip");
    let answer = collector.post("/submit", &kind, &encoder.finish().unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(collector.dump_of(&answer.text()), bytes);
    assert!(collector.get("/").text().contains("Zipped"));
}

#[test]
fn a_chunked_body_is_taken() {
    let collector = Collector::new();
    let bytes = dump(b"chunks");
    let body = form(&[("upload_file_minidump", Some("x.dmp"), &bytes)]);
    let mut request = format!(
        "POST /submit HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        collector.address()
    )
    .into_bytes();
    for chunk in body.chunks(11) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = collector.send(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(collector.dump_of(&answer.text()), bytes);
}

#[test]
fn a_hundred_uploads_at_once_are_a_hundred_crashes() {
    let collector = Collector::new();
    let collector = &collector;
    std::thread::scope(|scope| {
        for n in 0..100_u32 {
            scope.spawn(move || {
                let bytes = dump(&n.to_le_bytes().repeat(5000));
                let answer = collector.post("/submit", FORM, &form(&[("upload_file_minidump", Some("x"), &bytes)]));
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(collector.dump_of(&answer.text()), bytes);
            });
        }
    });
    collector.settle();
    assert_eq!(collector.kept().len(), 100);
}

#[test]
fn one_report_sent_by_many_at_once_is_one_crash() {
    let collector = Collector::new();
    let collector = &collector;
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let body = form(&[("report_id", None, id.as_bytes()), ("upload_file_minidump", Some("x"), &dump(b"race"))]);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(collector.post("/submit", FORM, &body).text(), id));
        }
    });
    collector.settle();
    assert_eq!(collector.kept(), [id]);
}
