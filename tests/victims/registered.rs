//! A program that links the client: `registered GROUP NAME HOW [PROGRAM ARGS]`. It registers, says so, and then
//! `crash`es, crashes on a `thread`, has a `fork`ed child crash, `exec`s a program, `spawn`s one, or waits for `input` to end.

#![allow(clippy::unwrap_used, reason = "a victim that can't go on is a failed test")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;

use aftermach_client::{Options, ProductRef};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [group, name, how, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: registered GROUP NAME HOW [PROGRAM ARGS]");
        return ExitCode::from(64);
    };
    let product = ProductRef::new(group, name, "").unwrap();
    match aftermach_client::install(&product, &Options::new().version("2.5")) {
        Ok(_) => println!("registered"),
        Err(reason) => {
            eprintln!("not registered: {reason}");
            return ExitCode::from(3);
        }
    }
    aftermach_client::set("tunnel", "utun7").unwrap();
    aftermach_client::breadcrumb("connected");
    aftermach_client::breadcrumb("lost the network");
    match how.as_str() {
        "crash" => packet_loop(),
        "thread" => thread::Builder::new().name("packets".to_owned()).spawn(packet_loop).unwrap().join().unwrap(),
        "fork" => {
            // SAFETY: the child does nothing but crash.
            if unsafe { libc::fork() } == 0 {
                packet_loop();
            }
            // SAFETY: waits for the child; its status is not asked for.
            unsafe { libc::wait(std::ptr::null_mut()) };
        }
        "exec" => {
            let error = Command::new(&rest[0]).args(&rest[1..]).exec();
            eprintln!("{error}");
            return ExitCode::from(4);
        }
        "spawn" => {
            Command::new(&rest[0]).args(&rest[1..]).status().unwrap();
        }
        "input" => {
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

#[inline(never)]
fn packet_loop() {
    // SAFETY: none. This write is meant to fault.
    unsafe { std::ptr::write_volatile(std::hint::black_box(24) as *mut u64, 1) };
}
