//! What the client opens it closes. In a program of its own: other tests' services open and close things too.
#![cfg(target_os = "linux")]

mod support;

use aftermach_client::{Error, Options, ProductRef, dump_without_crashing, install, uninstall};
use aftermach_protocol::session::Status;
use support::{Answer, Folder, Service};

#[test]
fn nothing_is_left_open_once_the_client_is_uninstalled() {
    let product = ProductRef::new("com.example", "Tunnel", "").unwrap();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let folder = Folder::new("open");
    let path = folder.path().join("none.sock");
    let before = open();
    for _ in 0..50 {
        assert_eq!(install(&product, &Options::new().service(path.to_str().unwrap())), Err(Error::NoService));
    }
    assert_eq!(open(), before);

    let service = Service::new("open-service", Answer::Status(Status::Ok));
    let before = open();
    for _ in 0..10 {
        install(&product, &Options::new().service(service.path()).timeout_ms(60_000)).unwrap();
        dump_without_crashing().unwrap();
        uninstall().unwrap();
    }
    // The service, a thread of this process, keeps its end of each of the 30 connections; the client keeps none.
    let kinds = service.asked.try_iter().count();
    assert_eq!((kinds, open() - before), (30, 30));
}
