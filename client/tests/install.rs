//! Installing over the service's socket, with a service that answers as each test wants.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use aftermach_client::{
    Error, Options, ProductRef, detach_for_child, dump_without_crashing, install, rearm, uninstall,
};
use aftermach_protocol::record::State;
use aftermach_protocol::session::{Kind, Status};
use support::{Answer, Folder, Service, own_record, turn};

fn product() -> ProductRef<'static> {
    ProductRef::new("com.example", "Tunnel", "canary").unwrap()
}

/// A tenth of a second: long enough for a service that answers, short for a test of one that doesn't.
fn at(path: &str) -> Options<'_> {
    Options::new().service(path).version("1.4.2").timeout_ms(100)
}

fn patient(path: &str) -> Options<'_> {
    at(path).timeout_ms(60_000)
}

/// Waits as long as it takes: a broken client would never send it.
fn asked(service: &Service) -> support::Asked {
    service.asked.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

#[test]
fn an_installed_client_says_who_it_is_and_its_release_is_asked_for() {
    let _turn = turn();
    let service = Service::new("installed", Answer::Status(Status::Ok));
    install(&product(), &patient(service.path())).unwrap();
    let attach = asked(&service);
    assert_eq!((attach.pid, attach.request.kind), (own_pid(), Kind::Attach));

    let (header, contents) = own_record();
    assert_eq!((header.state, header.pid as i32), (State::Installed, own_pid()));
    assert_eq!(contents.product, Some(("com.example".into(), "Tunnel".into(), "canary".into())));
    assert_eq!(contents.version.as_deref(), Some("1.4.2"));
    // The address that the service was given is the header's.
    // SAFETY: the client's own header, which lives as long as the program.
    let magic = unsafe { *(attach.request.about as *const [u8; 8]) };
    assert_eq!(&magic, b"AFTMREC\0");

    assert_eq!(install(&product(), &patient(service.path())), Err(Error::AlreadyInstalled));
    uninstall().unwrap();
    assert_eq!(asked(&service).request.kind, Kind::Release);
    assert_eq!(own_record().0.state, State::Detached);
    assert_eq!(uninstall(), Err(Error::NotInstalled));

    install(&product(), &patient(service.path())).unwrap();
    assert_eq!(asked(&service).request.kind, Kind::Attach);
    uninstall().unwrap();
}

#[test]
fn without_a_service_the_program_is_told_and_nothing_is_installed() {
    let _turn = turn();
    let folder = Folder::new("none");
    let path = folder.path().join("s.sock");
    let path = path.to_str().unwrap();
    assert_eq!(install(&product(), &at(path)), Err(Error::NoService));
    std::fs::write(path, "not a socket").unwrap();
    assert_eq!(install(&product(), &at(path)), Err(Error::NoService));
    assert_ne!(own_record().0.state, State::Installed);
    for call in [uninstall, rearm, dump_without_crashing] {
        assert_eq!(call(), Err(Error::NotInstalled));
    }
}

#[test]
fn every_refusal_of_the_service_has_its_reason() {
    let _turn = turn();
    for (status, reason) in [
        (Status::RefusedBySystem, Error::RefusedBySystem),
        (Status::Unsupported, Error::Incompatible),
        (Status::AlreadyTraced, Error::AlreadyTraced),
        (Status::Busy, Error::ServiceBusy),
        (Status::NotPermitted, Error::NotPermitted),
        (Status::AlreadyAttached, Error::AlreadyInstalled),
    ] {
        let service = Service::new("refusal", Answer::Status(status));
        assert_eq!(install(&product(), &patient(service.path())), Err(reason));
        assert_eq!(own_record().0.state, State::NotInstalled);
    }
}

#[test]
fn a_service_that_is_silent_hangs_up_or_speaks_another_language_holds_nobody_up() {
    let _turn = turn();
    let silent = Service::new("silent", Answer::Silence);
    assert_eq!(install(&product(), &at(silent.path())), Err(Error::Timeout));
    let half = Service::new("half", Answer::Bytes(b"AFTM"));
    assert_eq!(install(&product(), &at(half.path())), Err(Error::Timeout));
    let hung_up = Service::new("hung-up", Answer::HangUp);
    assert_eq!(install(&product(), &patient(hung_up.path())), Err(Error::NoService));
    let other = Service::new("other", Answer::Bytes(b"HTTP/1.1"));
    assert_eq!(install(&product(), &patient(other.path())), Err(Error::Incompatible));
    let newer = Service::new("newer", Answer::Bytes(b"AFTM\xff\0\0\0"));
    assert_eq!(install(&product(), &patient(newer.path())), Err(Error::Incompatible));
}

#[test]
fn a_path_or_version_that_does_not_fit_is_refused() {
    let _turn = turn();
    assert_eq!(install(&product(), &at(&"p".repeat(108))), Err(Error::Argument));
    assert_eq!(install(&product(), &at("with\0nul")), Err(Error::Argument));
    assert_eq!(install(&product(), &at("/nowhere").version(&"1".repeat(64))), Err(Error::Argument));
    assert_eq!(install(&product(), &at("/nowhere").version(&"1".repeat(63))), Err(Error::NoService));
}

#[test]
fn rearming_asks_again_only_once_the_service_is_gone() {
    let _turn = turn();
    let folder = Folder::new("rearm");
    let path = folder.path().join("s.sock");
    let path = path.to_str().unwrap();
    let service = Service::new("rearm-first", Answer::Status(Status::Ok));
    std::os::unix::fs::symlink(service.path(), path).unwrap();
    install(&product(), &patient(path)).unwrap();
    assert_eq!(asked(&service).request.kind, Kind::Attach);
    rearm().unwrap();
    assert!(service.asked.try_recv().is_err());

    service.end();
    assert_eq!(rearm(), Err(Error::NoService));
    std::fs::remove_file(path).unwrap();
    let next = Service::new("rearm-next", Answer::Status(Status::Ok));
    std::os::unix::fs::symlink(next.path(), path).unwrap();
    rearm().unwrap();
    assert_eq!(asked(&next).request.kind, Kind::Attach);
    uninstall().unwrap();
}

#[test]
fn a_dump_is_asked_for_and_its_refusal_told() {
    let _turn = turn();
    let service = Service::new("dump", Answer::Status(Status::Ok));
    install(&product(), &patient(service.path())).unwrap();
    dump_without_crashing().unwrap();
    let kinds = [asked(&service).request.kind, asked(&service).request.kind];
    assert_eq!(kinds, [Kind::Attach, Kind::Snapshot]);
    uninstall().unwrap();
}

/// Runs `body` in a forked child and returns its exit status.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls only what may be called after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let status = body();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: the child above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child ended by itself");
    libc::WEXITSTATUS(status)
}

#[test]
fn a_forked_child_is_released_for_itself_and_its_parent_stays_installed() {
    let _turn = turn();
    let service = Service::new("fork", Answer::Status(Status::Ok));
    install(&product(), &patient(service.path())).unwrap();
    let attach = asked(&service);
    detach_for_child();
    assert_eq!(own_record().0.state, State::Installed, "in the installer itself it does nothing");

    let state = in_child(|| {
        detach_for_child();
        // The state's number, read without the heap.
        i32::from(aftermach_client::header_bytes()[16])
    });
    assert_eq!(state, 2);
    let release = asked(&service);
    assert_eq!((release.request.kind, release.request.about), (Kind::Release, attach.request.about));
    assert_ne!(release.pid, own_pid());
    assert_eq!(own_record().0.state, State::Installed);
    uninstall().unwrap();
}

#[test]
fn a_forked_child_may_install_the_client_for_itself() {
    let _turn = turn();
    let service = Service::new("fork-install", Answer::Status(Status::Ok));
    let options = patient(service.path());
    install(&product(), &options).unwrap();
    assert_eq!(asked(&service).request.kind, Kind::Attach);
    let code = in_child(|| match install(&product(), &options) {
        Ok(_) => 0,
        Err(reason) => reason.code(),
    });
    assert_eq!(code, 0);
    let of_child = [asked(&service), asked(&service)];
    assert_eq!(of_child.map(|asked| asked.request.kind), [Kind::Release, Kind::Attach]);
    assert!(of_child.iter().all(|asked| asked.pid != own_pid()));
    uninstall().unwrap();
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_service_of_another_user_is_not_trusted() {
    let _turn = turn();
    if !is_root() {
        println!("SKIP: only root can play another user");
        return;
    }
    let folder = Folder::new("impostor");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("s.sock");
    let listening = folder.path().join("listening");
    // SAFETY: the child makes its socket by system calls alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        listen_as_nobody(&path, &listening);
    }
    while !listening.exists() {
        std::thread::yield_now();
    }
    let result = install(&product(), &at(path.to_str().unwrap()));
    // SAFETY: the child above.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    assert_eq!(result, Err(Error::Impostor));
}

fn listen_as_nobody(path: &Path, listening: &Path) -> ! {
    // SAFETY: plain numbers.
    let changed = unsafe { libc::setresuid(65534, 65534, 65534) };
    let listener = std::os::unix::net::UnixListener::bind(path);
    if changed == 0 && listener.is_ok() {
        let _ = std::fs::write(listening, "");
    }
    loop {
        // SAFETY: no preconditions.
        unsafe { libc::pause() };
    }
}
