//! Uploads that are broken or lie. Each gets a clear answer, none leaves anything, and the service goes on.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use aftermach_handler::collector::Limits;

use crate::support::{Answer, Collector, FORM, connect, dump, form, post};

/// The answer's status and reason, after checking that nothing was kept and a good upload still works.
fn refused(collector: &Collector, answer: Answer) -> (u16, String) {
    collector.settle();
    assert_eq!(collector.kept(), [""; 0], "{}", answer.text());
    collector.still_works();
    (answer.status, answer.text())
}

#[test]
fn what_is_no_dump_is_refused_with_the_reason() {
    let collector = Collector::new();
    let whole = dump(b"");
    let mut unsigned = whole.clone();
    unsigned[..4].fill(0);
    let cases: [(&[u8], &str); 5] = [
        (b"not a dump at all", "not a minidump"),
        (b"", "empty"),
        (&whole[..40], "cut off"),
        (&unsigned, "not a minidump"),
        (b"MDMP\x93\xa7\0\0\xff\xff\xff\xff \0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "streams"),
    ];
    for (bytes, reason) in cases {
        let body = form(&[("prod", None, b"P"), ("upload_file_minidump", Some("x"), bytes)]);
        let (status, text) = refused(&collector, collector.post("/submit", FORM, &body));
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(reason), "{text:?} does not say {reason:?}");
        assert_eq!(collector.post("/api/1/minidump/", "application/octet-stream", bytes).status, 400);
    }
}

#[test]
fn a_form_that_is_not_one_is_refused_with_the_reason() {
    let collector = Collector::new();
    let bytes = dump(b"");
    let good = form(&[("upload_file_minidump", Some("x"), &bytes)]);
    let twice = form(&[("upload_file_minidump", Some("x"), &bytes), ("upload_file_minidump", Some("y"), &bytes)]);
    let cases: [(&str, Vec<u8>, u16, &str); 8] = [
        (FORM, form(&[("prod", None, b"P")]), 400, "no part named upload_file_minidump"),
        (FORM, twice, 400, "two parts named upload_file_minidump"),
        (FORM, good[..good.len() - 20].to_vec(), 400, "cut off"),
        (FORM, b"hello".to_vec(), 400, "boundary never occurs"),
        ("multipart/form-data", good.clone(), 400, "no valid boundary"),
        ("text/html", good.clone(), 415, "send a form"),
        ("multipart/form-data; boundary=BOUNDARY\r\nContent-Encoding: br", good.clone(), 415, "only gzip"),
        ("multipart/form-data; boundary=BOUNDARY\r\nContent-Encoding: gzip", good, 400, "can't be decompressed"),
    ];
    for (kind, body, status, reason) in cases {
        let (got, text) = refused(&collector, collector.post("/submit", kind, &body));
        assert_eq!((got, text.contains(reason)), (status, true), "{kind}: {text}");
    }
}

#[test]
fn a_declared_gigabyte_is_refused_before_it_is_sent() {
    let collector = Collector::new();
    let mut stream = connect(collector.address());
    let head = format!(
        "POST /submit HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nContent-Length: 1073741824\r\nConnection: close\r\n\r\n",
        collector.address()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"--BOUNDARY\r\n").unwrap();
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    drop(stream);
    collector.settle();
    assert_eq!(collector.kept(), [""; 0]);
    collector.still_works();
}

#[test]
fn a_sender_that_listens_only_at_the_end_hears_why_it_was_refused() {
    let collector = Collector::with(Limits { dump: 1 << 20, report: 0, rest: 1 << 20, ..Limits::default() });
    let large = form(&[("upload_file_minidump", Some("x"), &dump(&vec![1; 40 << 20]))]);
    for _ in 0..5 {
        let (status, text) = refused(&collector, collector.post("/submit", FORM, &large));
        assert_eq!(status, 413, "{text}");
    }
}

#[test]
fn a_streamed_gigabyte_is_refused_and_its_sender_hears_so() {
    let collector = Collector::with(Limits { dump: 1 << 20, ..Limits::default() });
    let stream = connect(collector.address());
    let mut reading = stream.try_clone().unwrap();
    let mut writing = stream;
    let address = collector.address();
    let answer = std::thread::scope(|scope| {
        scope.spawn(move || {
            let head = format!(
                "POST /submit HTTP/1.1\r\nHost: {address}\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            );
            let part = "--BOUNDARY\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"x\"\r\n\r\nMDMP";
            let mut sent = writing.write_all(head.as_bytes());
            sent = sent.and_then(|()| write!(writing, "{:x}\r\n{part}\r\n", part.len()));
            let block = vec![b'x'; 1 << 20];
            for _ in 0..1024 {
                sent = sent.and_then(|()| write!(writing, "{:x}\r\n", block.len()));
                sent = sent.and_then(|()| writing.write_all(&block)).and_then(|()| writing.write_all(b"\r\n"));
            }
            // It may hang up on us any time; that it did, the reader sees.
            drop(sent.and_then(|()| writing.write_all(b"0\r\n\r\n")));
        });
        Answer::read(&mut reading)
    });
    let (status, text) = refused(&collector, answer);
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("larger than 1048576 bytes"), "{text}");
}

#[test]
fn a_small_body_that_unpacks_to_more_than_is_taken_is_refused() {
    let collector = Collector::with(Limits { dump: 1 << 20, ..Limits::default() });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let head = "--BOUNDARY\r\nContent-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"x\"\r\n\r\n";
    encoder.write_all(head.as_bytes()).unwrap();
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let answer = collector.post("/submit", &format!("{FORM}\r\nContent-Encoding: gzip"), &bomb);
    let (status, text) = refused(&collector, answer);
    assert_eq!(status, 413, "{text}");
}

#[test]
fn a_length_that_lies_is_refused() {
    let collector = Collector::with(Limits { idle: Duration::from_millis(300), ..Limits::default() });
    let body = form(&[("upload_file_minidump", Some("x"), &dump(b""))]);
    let with_length = |length: &str| {
        let head = format!(
            "POST /submit HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nConnection: close\r\n{length}\r\n\r\n",
            collector.address()
        );
        [head.as_bytes(), &body].concat()
    };
    let real = body.len();
    // Too short, too long, and lengths that are none or two. RFC 9112, section 6.3: a server must refuse those.
    let lies = [
        format!("Content-Length: {}", real - 10),
        "Content-Length: 0".to_owned(),
        format!("Content-Length: {}", real + 10),
        "Content-Length: -1".to_owned(),
        "Content-Length: 99999999999999999999999999".to_owned(),
        "Content-Length: 0x10".to_owned(),
        format!("Content-Length: {real}\r\nContent-Length: {}", real - 1),
    ];
    for lie in lies {
        let (status, text) = refused(&collector, collector.send(&with_length(&lie)));
        assert!(matches!(status, 400 | 408 | 413), "{lie:?}: {status} {text}");
    }
    // Bytes behind the declared end are another request, and no part of this one.
    let long = [with_length(&format!("Content-Length: {real}")), b"rest rest rest\r\n\r\n".to_vec()].concat();
    let answer = collector.send(&long);
    assert_eq!(answer.status, 200);
    assert_eq!(collector.kept().len(), 1);
}

#[test]
fn a_sender_that_disappears_leaves_nothing() {
    let collector = Collector::new();
    let body = form(&[("upload_file_minidump", Some("x"), &dump(&[1; 100_000]))]);
    let request = post(collector.address(), "/submit", FORM, &body);
    for sent in [0, 10, 100, 300, 5000, request.len() - 3] {
        let mut stream = connect(collector.address());
        stream.write_all(&request[..sent]).unwrap();
        drop(stream);
    }
    collector.settle();
    assert_eq!(collector.kept(), [""; 0]);
    collector.still_works();
}

#[test]
fn a_sender_that_stalls_is_given_up() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let collector = Collector::with(limits);
    let request = post(collector.address(), "/submit", FORM, &form(&[("upload_file_minidump", Some("x"), &dump(b""))]));
    let mut stalled = connect(collector.address());
    stalled.write_all(&request[..request.len() - 5]).unwrap();
    let (status, text) = refused(&collector, Answer::read(&mut stalled));
    assert_eq!(status, 408, "{text}");

    // One that never gets through its headers is hung up on.
    let mut silent = connect(collector.address());
    silent.write_all(b"POST /submit HT").unwrap();
    assert_eq!(Answer::read(&mut silent).status, 0);
    collector.still_works();
}

#[test]
fn connections_over_the_cap_wait_and_are_served() {
    let limits = Limits { connections: 2, idle: Duration::from_millis(100), ..Limits::default() };
    let collector = Collector::with(limits);
    let idle: Vec<_> = (0..10).map(|_| connect(collector.address())).collect();
    collector.still_works();
    drop(idle);
}

#[test]
fn an_upload_ends_when_its_time_is_up_however_steadily_it_trickles() {
    let limits = Limits { upload: Duration::from_millis(300), ..Limits::default() };
    let collector = Collector::with(limits);
    let mut stream = connect(collector.address());
    let request = post(collector.address(), "/submit", FORM, &[b'-'; 1_000_000]);
    let mut reading = stream.try_clone().unwrap();
    let answer = std::thread::scope(|scope| {
        scope.spawn(move || {
            let head = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            let mut sent = stream.write_all(&request[..head]).is_ok();
            for _ in 0..1000 {
                sent = sent && stream.write_all(b"\r\n").is_ok();
                std::thread::sleep(Duration::from_millis(10));
                if !sent {
                    break;
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
        });
        Answer::read(&mut reading)
    });
    let (status, text) = refused(&collector, answer);
    assert_eq!(status, 408, "{text}");
}

#[test]
fn too_much_of_anything_is_refused() {
    let limits = Limits { fields: 4, parts: 8, field: 100, fields_total: 300, part_head: 300, ..Limits::default() };
    let collector = Collector::with(limits);
    let bytes = dump(b"");
    let long_name = "n".repeat(257);
    let long_head = "h".repeat(400);
    let hundred = [b'v'; 100];
    let report = vec![b' '; (8 << 20) + 1];
    let with_dump = |parts: &[(&str, Option<&str>, &[u8])]| {
        let mut parts = parts.to_vec();
        parts.push(("upload_file_minidump", Some("x"), &bytes));
        form(&parts)
    };
    let cases = [
        (with_dump(&[("a", None, &[b'v'; 101])]), 413, "longer than 100 bytes"),
        (
            with_dump(&[("a", None, b""), ("b", None, b""), ("c", None, b""), ("d", None, b""), ("e", None, b"")]),
            413,
            "more than 4 fields",
        ),
        (
            with_dump(&[("a", None, &hundred), ("b", None, &hundred), ("c", None, &hundred), ("d", None, &hundred)]),
            413,
            "together",
        ),
        (with_dump(&[("a", Some("f"), &b""[..]); 9]), 413, "more than 8 parts"),
        (with_dump(&[(&long_name, None, b"")]), 413, "name is longer"),
        (with_dump(&[(&long_head, None, b"")]), 400, "headers are longer"),
        (with_dump(&[("aftermach_report", Some("r"), &report)]), 413, "report is larger"),
    ];
    for (body, status, reason) in cases {
        let (got, text) = refused(&collector, collector.post("/submit", FORM, &body));
        assert_eq!((got, text.contains(reason)), (status, true), "{text}");
    }
}

#[test]
fn names_that_are_paths_lead_nowhere() {
    let collector = Collector::new();
    let bytes = dump(b"paths");
    let tricks =
        ["../../../../tmp/aftermach-escaped", "/tmp/aftermach-escaped", "..\\\\..\\\\x", "meta.json", ".", "a\\0b"];
    for trick in tricks {
        let body = form(&[
            ("report_id", None, trick.as_bytes()),
            (trick, None, b"field"),
            (trick, Some(trick), b"attachment"),
            ("upload_file_minidump", Some(trick), &bytes),
        ]);
        let answer = collector.post("/submit", FORM, &body);
        assert_eq!(answer.status, 200, "{trick}: {}", answer.text());
        assert_eq!(collector.dump_of(&answer.text()), bytes);
    }
    assert_eq!(collector.kept().len(), tricks.len());
    assert!(!std::path::Path::new("/tmp/aftermach-escaped").exists());
    let mut outside = std::fs::read_dir(&collector.folder.0).unwrap();
    assert_eq!(outside.next().unwrap().unwrap().file_name(), "crashes");
    assert!(outside.next().is_none());
}

#[test]
fn headers_that_are_junk_are_refused() {
    let collector = Collector::new();
    let host = collector.address();
    let endless = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    let many = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let junk: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a TLS client's first words\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /submit HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header\x01: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        endless.as_bytes(),
        many.as_bytes(),
    ];
    for request in junk {
        let answer = collector.send(request);
        assert!(matches!(answer.status, 0 | 400 | 431), "{}: {}", String::from_utf8_lossy(&request[..20]), answer.head);
        collector.still_works();
    }
}

#[test]
fn a_report_that_came_along_broken_costs_the_report_only() {
    let collector = Collector::new();
    let bytes = dump(b"report");
    for report in [&b"{"[..], b"", b"[]", b"{\"schema\":99,\"report_id\":\"x\"}", &[b'['; 100_000]] {
        let body = form(&[("aftermach_report", Some("r.json"), report), ("upload_file_minidump", Some("x"), &bytes)]);
        let answer = collector.post("/submit", FORM, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = collector.get(&format!("/crash/{}", answer.text())).text();
        assert!(page.contains("the report that came along was not kept"), "{page}");
    }
}
