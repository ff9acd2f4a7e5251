//! Starting and stopping a collector.

use std::io::Write;
use std::net::TcpListener;

use aftermach_handler::collector::{Config, Limits, StartError, StoreError, start};

use crate::support::{Answer, Collector, FORM, Folder, collector_in, connect, dump, form, post};

fn config(listen: &str, folder: &Folder) -> Config {
    Config {
        listen: listen.parse().unwrap(),
        store: folder.path("crashes"),
        allow_remote: false,
        limits: Limits::default(),
    }
}

#[test]
fn a_port_in_use_is_said_so_and_the_store_is_not_touched() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = start(config(&taken.local_addr().unwrap().to_string(), &folder)).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().contains("the port is in use"), "{error}");
    assert!(!folder.path("crashes").exists());
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let folder = Folder::new();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = start(config(listen, &folder)).unwrap_err();
        assert!(matches!(error, StartError::Remote(_)), "{listen}: {error}");
        assert!(error.to_string().contains("--allow-remote"), "{error}");
    }
    let running = start(Config { allow_remote: true, ..config("0.0.0.0:0", &folder) }).unwrap();
    assert!(running.url().starts_with("http://127.0.0.1:"), "{}", running.url());
    running.stop();
}

#[test]
fn a_store_that_cannot_be_one_is_an_error() {
    let folder = Folder::new();
    std::fs::write(folder.path("crashes"), "a file").unwrap();
    let error = start(config("127.0.0.1:0", &folder)).unwrap_err();
    assert!(matches!(error, StartError::Store(StoreError::Unusable { .. })), "{error}");
    assert!(error.to_string().contains("crashes"), "{error}");
}

#[test]
fn two_collectors_do_not_share_a_store() {
    let collector = Collector::new();
    let error = collector_in(&collector.crashes(), Limits::default()).unwrap_err();
    assert!(matches!(error, StartError::Store(StoreError::Locked(_))), "{error}");
}

#[test]
fn a_collector_that_stops_lets_an_upload_end_and_can_be_started_again() {
    let Collector { running, folder } = Collector::new();
    let bytes = dump(b"in progress");
    let request = post(running.address(), "/submit", FORM, &form(&[("upload_file_minidump", Some("x"), &bytes)]));
    let mut stream = connect(running.address());
    stream.write_all(&request[..request.len() / 2]).unwrap();
    // In progress as soon as its files are there.
    while std::fs::read_dir(folder.path("crashes").join(".incoming")).unwrap().next().is_none() {
        std::thread::yield_now();
    }
    let stopping = std::thread::spawn(move || running.stop());
    stream.write_all(&request[request.len() / 2..]).unwrap();
    let answer = Answer::read(&mut stream);
    assert_eq!(answer.status, 200, "{}", answer.text());
    stopping.join().unwrap();

    let again = Collector { running: collector_in(&folder.path("crashes"), Limits::default()).unwrap(), folder };
    assert_eq!(again.dump_of(&answer.text()), bytes);
    again.still_works();
}
