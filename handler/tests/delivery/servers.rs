//! Our uploader against servers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use aftermach_handler::collector::Limits;
use aftermach_handler::upload::{DeliverError, Options, Outcome, Profile, Timeouts, deliver};
use aftermach_protocol::report::UploadState;

use crate::support::{Collector, Stored, dump, yes};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server for one connection.
struct Server {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    Server { address, thread }
}

/// Reads a request to its end, as its Content-Length says, and gives it back.
pub(crate) fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        let read = stream.read(&mut block).unwrap();
        assert!(read > 0, "the request ended early");
        bytes.extend_from_slice(&block[..read]);
        let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if bytes.len() == head + 4 + length.parse::<usize>().unwrap() {
            return bytes;
        }
    }
}

/// A server that reads the request and answers with these bytes.
fn answering(answer: impl Into<Vec<u8>>) -> Server {
    let answer = answer.into();
    server(move |mut stream| {
        read_request(&mut stream);
        // The reader may have had enough before the end.
        let _ = stream.write_all(&answer);
    })
}

fn outcome_of(server: Server, timeouts: Timeouts) -> Outcome {
    let stored = Stored::new(dump(&[5; 100_000]));
    let address = format!("http://{}/submit?token={KEY}", server.address);
    let profile = Profile::parse(&address, None).unwrap();
    let delivered = deliver(&stored.store, &stored.location, &profile, Options { timeouts, ..yes() }).unwrap();
    server.thread.join().unwrap();
    let recorded = std::fs::read_to_string(stored.location.file("report.json")).unwrap();
    assert!(!recorded.contains(KEY), "the key is in the report: {recorded}");
    assert!(!format!("{delivered:?}").contains(KEY), "the key is in the outcome: {delivered:?}");
    assert_eq!(stored.uploads().len(), 1);
    delivered.sent.outcome
}

#[test]
fn every_request_has_its_length_and_no_chunks() {
    let server = server(|mut stream| {
        let request = read_request(&mut stream);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("transfer-encoding"), "{head}");
        assert_eq!(head.matches("content-length:").count(), 1);
        assert!(head.contains("user-agent: aftermach/"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n17").unwrap();
    });
    assert_eq!(outcome_of(server, Timeouts::default()), Outcome::Accepted { id: Some("17".into()) });
}

#[test]
fn a_server_that_asks_to_wait_is_heard() {
    let server = answering("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    let outcome = outcome_of(server, Timeouts::default());
    assert!(
        matches!(outcome, Outcome::Retry { after: Some(after), .. } if after == Duration::from_secs(7)),
        "{outcome:?}"
    );
}

#[test]
fn a_login_page_is_no_acceptance() {
    let page = "<!DOCTYPE html><html>Please log in";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let outcome = outcome_of(answering(answer), Timeouts::default());
    assert!(matches!(outcome, Outcome::Offline { .. }), "{outcome:?}");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let to = elsewhere.local_addr().unwrap();
    for status in [301, 302, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n");
        let outcome = outcome_of(answering(answer), Timeouts::default());
        assert!(outcome.reason().is_some_and(|reason| reason.contains("127.0.0.1")), "{outcome:?}");
    }
    assert!(elsewhere.accept().is_err(), "somebody came");
}

#[test]
fn an_answer_without_end_is_cut() {
    let server = server(|mut stream| {
        read_request(&mut stream);
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 65_536]);
        }
    });
    let outcome = outcome_of(server, Timeouts::default());
    assert!(matches!(outcome, Outcome::Offline { .. }), "{outcome:?}");
}

#[test]
fn a_connection_that_breaks_off_is_worth_another_try() {
    let in_the_body = server(|mut stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let before_the_answer = server(|mut stream| {
        read_request(&mut stream);
    });
    let in_the_head = answering("HTTP/1.1 200 O");
    let junk = answering("220 smtp.example.com ready\r\n\r\n");
    for server in [in_the_body, before_the_answer, in_the_head, junk] {
        let outcome = outcome_of(server, Timeouts::default());
        assert!(matches!(outcome, Outcome::Offline { .. }), "{outcome:?}");
    }
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let timeouts = Timeouts { answer: Duration::from_millis(200), ..Timeouts::default() };
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let server = server(move |mut stream| {
        read_request(&mut stream);
        let _ = wait.recv();
    });
    let stored = Stored::new(dump(b""));
    let profile = Profile::parse(&format!("http://{}/", server.address), None).unwrap();
    let delivered = deliver(&stored.store, &stored.location, &profile, Options { timeouts, ..yes() }).unwrap();
    drop(done);
    server.thread.join().unwrap();
    assert_eq!(delivered.sent.outcome.reason().map(|reason| reason.starts_with("no answer in time")), Some(true));
    assert_eq!(stored.uploads()[0].state, UploadState::Retry);
    assert!(stored.uploads()[0].next_attempt.is_some());
}

#[test]
fn nobody_there_is_worth_another_try_and_names_no_key() {
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stored = Stored::new(dump(b""));
    let profile = Profile::parse(&format!("http://{KEY}@{address}/1"), None).unwrap();
    let delivered = deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
    let text = format!("{delivered:?} {:?} {profile:?}", stored.uploads());
    assert!(matches!(delivered.sent.outcome, Outcome::Offline { .. }), "{text}");
    assert!(!text.contains(KEY), "{text}");
}

#[test]
fn a_dump_that_is_too_large_for_the_collector_is_told_so() {
    let collector = Collector::with(Limits { dump: 1 << 20, report: 0, rest: 1 << 20, ..Limits::default() });
    let profile = Profile::parse(&collector.url("/submit"), None).unwrap();
    // The one is refused by its declared length, the other while it is sent.
    for size in [30 << 20, 3 << 19] {
        let stored = Stored::new(dump(&vec![9; size]));
        let delivered = deliver(&stored.store, &stored.location, &profile, yes()).unwrap();
        assert_eq!(delivered.sent.outcome, Outcome::TooLarge, "{size}");
        assert_eq!(stored.uploads()[0].state, UploadState::Rejected);
    }
    collector.settle();
    assert_eq!(collector.kept(), [""; 0]);
}

#[test]
fn nothing_is_sent_without_consent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let stored = Stored::new(dump(b""));
    let profile = Profile::parse(&format!("http://{}/", listener.local_addr().unwrap()), None).unwrap();
    let error = deliver(&stored.store, &stored.location, &profile, Options { confirmed: false, ..yes() }).unwrap_err();
    assert!(matches!(error, DeliverError::NotAllowed(_)), "{error}");
    std::fs::write(stored.folder.path("store").join("settings.json"), r#"{"uploads":"never"}"#).unwrap();
    let error = deliver(&stored.store, &stored.location, &profile, yes()).unwrap_err();
    assert!(matches!(error, DeliverError::NotAllowed(_)), "{error}");
    assert!(listener.accept().is_err(), "somebody came");
    assert_eq!(stored.uploads(), []);
}

#[test]
fn a_report_without_its_dump_is_an_error_of_ours() {
    let stored = Stored::new(dump(b""));
    std::fs::remove_file(stored.location.file("minidump.dmp")).unwrap();
    let profile = Profile::parse("http://127.0.0.1:1/", None).unwrap();
    let error = deliver(&stored.store, &stored.location, &profile, yes()).unwrap_err();
    assert!(error.to_string().contains("minidump.dmp"), "{error}");
}
