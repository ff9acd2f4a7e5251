//! A program that links the client: `registered GROUP NAME HOW [PROGRAM ARGS]`. It registers, says so, and then
//! `crash`es, crashes on a `thread`, has a `fork`ed child crash, or one that registers itself
//! (`fork-install`) or detaches (`fork-detach`), `exec`s a program, `spawn`s one, waits for `input` to end, or
//! `dump`s itself on a thread, so often as the next argument says, prints each answer, and crashes if the one after it is `crash`.

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
        "fork" | "fork-install" | "fork-detach" => {
            // SAFETY: this process has one thread, so the child may do as it likes.
            if unsafe { libc::fork() } == 0 {
                match how.as_str() {
                    "fork-install" => _ = aftermach_client::install(&product, &Options::new().version("2.5")).unwrap(),
                    "fork-detach" => aftermach_client::detach_for_child(),
                    _ => {}
                }
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
        "dump" => {
            let times: u32 = rest[0].parse().unwrap();
            let check = move || (0..times).for_each(|_| println!("{}", told(check_state())));
            thread::Builder::new().name("checker".to_owned()).spawn(check).unwrap().join().unwrap();
            if rest.get(1).is_some_and(|then| then == "crash") {
                packet_loop();
            }
        }
        "input" => {
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

/// Notices that something is wrong.
#[inline(never)]
fn check_state() -> Result<(), aftermach_client::Error> {
    let result = aftermach_client::dump_without_crashing();
    std::hint::black_box(result)
}

fn told(result: Result<(), aftermach_client::Error>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "reported".to_owned())
}

#[inline(never)]
fn packet_loop() {
    // SAFETY: none. This write is meant to fault.
    unsafe { std::ptr::write_volatile(std::hint::black_box(24) as *mut u64, 1) };
}
