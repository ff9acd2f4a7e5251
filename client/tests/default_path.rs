//! Where the client looks for the service's socket when nobody tells it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use aftermach_client::{Error, Options, ProductRef, install, uninstall};
use aftermach_protocol::session::Status;
use support::{Answer, Folder, Service, turn};

/// SAFETY for both: tests of this program take turns, and the services' threads don't read the environment.
fn set_runtime_directory(path: &std::path::Path) {
    // SAFETY: see above.
    unsafe { std::env::set_var("XDG_RUNTIME_DIR", path) };
}

fn unset_runtime_directory() {
    // SAFETY: see above.
    unsafe { std::env::remove_var("XDG_RUNTIME_DIR") };
}

fn try_install(product: &ProductRef<'_>) -> Result<(), Error> {
    install(product, &Options::new().timeout_ms(60_000)).map(|_| uninstall().unwrap())
}

#[test]
fn the_socket_is_found_in_the_runtime_directory() {
    let _turn = turn();
    let folder = Folder::new("runtime");
    set_runtime_directory(folder.path());
    let product = ProductRef::new("com.example", "Tunnel", "").unwrap();
    assert_eq!(try_install(&product), Err(Error::NoService));
    let _asked = Service::listen(&folder.path().join("com.example.Tunnel.crashd.v1.sock"), Answer::Status(Status::Ok));
    assert_eq!(try_install(&product), Ok(()));
    // Another channel is another service.
    let canary = ProductRef::new("com.example", "Tunnel", "canary").unwrap();
    assert_eq!(try_install(&canary), Err(Error::NoService));
}

#[test]
fn without_one_the_socket_is_found_in_a_directory_under_tmp_that_only_its_user_writes() {
    let _turn = turn();
    unset_runtime_directory();
    // SAFETY: geteuid can't fail.
    let own = PathBuf::from(format!("/tmp/aftermach-{}", unsafe { libc::geteuid() }));
    // A name that no other test or product has: the directory may be in use.
    let name = format!("Test{}", std::process::id());
    let product = ProductRef::new("com.example", &name, "").unwrap();
    let made = std::fs::create_dir(&own).is_ok();
    let before = std::fs::metadata(&own).unwrap().permissions();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = own.join(format!("com.example.{name}.crashd.v1.sock"));
    let _asked = Service::listen(&socket, Answer::Status(Status::Ok));
    let private = try_install(&product);
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o770)).unwrap();
    let shared = try_install(&product);
    std::fs::set_permissions(&own, before).unwrap();
    std::fs::remove_file(&socket).unwrap();
    let mut by_link = None;
    if made {
        std::fs::remove_dir(&own).unwrap();
        let elsewhere = Folder::new("elsewhere");
        symlink(elsewhere.path(), &own).unwrap();
        by_link = Some(try_install(&product));
        std::fs::remove_file(&own).unwrap();
    }
    assert_eq!(private, Ok(()));
    assert_eq!(shared, Err(Error::Impostor));
    assert!(by_link.is_none_or(|result| result == Err(Error::Impostor)));
}
