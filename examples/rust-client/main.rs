//! A Rust program that has its crashes reported: `cargo run -p aftermach-client --example rust-client -- GROUP NAME [crash]`.

use std::env;
use std::process::{Command, ExitCode};

use aftermach_client::{Options, ProductRef};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [group, name, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: rust-client GROUP NAME [crash]");
        return ExitCode::from(64);
    };
    let product = match ProductRef::new(group, name, "") {
        Ok(product) => product,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(64);
        }
    };
    match aftermach_client::install(&product, &Options::new().version("1.0")) {
        Ok(installed) => println!("installed: {installed:?}"),
        // The program goes on all the same.
        Err(reason) => eprintln!("crashes will not be reported: {reason}"),
    }

    let _ = aftermach_client::set("state", "serving");
    for request in 1..=3 {
        serve(request);
    }
    if rest.first().is_some_and(|word| word == "crash") {
        aftermach_client::breadcrumb("about to abort");
        std::process::abort();
    }
    if rest.first().is_some_and(|word| word == "child") {
        run_child();
    }
    ExitCode::SUCCESS
}

fn serve(request: u32) {
    // The report of a crash in here names the request; afterwards the annotation is gone.
    let _request = aftermach_client::scoped("request", &request.to_string());
    aftermach_client::breadcrumb(&format!("request {request}"));
}

/// A child that is not ours to report: freed between fork and exec.
fn run_child() {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new("true");
    let detach = || {
        aftermach_client::detach_for_child();
        Ok(())
    };
    // SAFETY: `detach_for_child` is async-signal-safe.
    unsafe { command.pre_exec(detach) };
    match command.status() {
        Ok(status) => println!("child: {status}"),
        Err(error) => eprintln!("child: {error}"),
    }
}
