//! Runs a real Mach-O program on x86-64 Linux, for the lab: `macho_loader [--stop] MAIN [ARGUMENT ...]`.
//!
//! It does dyld's part: maps the program and its libraries at random slides, applies chained fixups, and keeps a
//! `dyld_all_image_infos`. That structure lies in a mapping named "dyld_all_image_infos", where a tracer finds it in the list of mappings:
//! what `TASK_DYLD_INFO` is on macOS. With `--stop` it traps once before it jumps to the program.
//!
//! The libraries must not need libSystem: tests/lab/victims bring their own, with Linux's system calls.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "macho_loader/image.rs"]
mod image;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "macho_loader/linux.rs"]
mod system;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[path = "macho_loader/other.rs"]
mod system;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let stop = arguments.first().is_some_and(|first| first == "--stop");
    if stop {
        arguments.remove(0);
    }
    match system::run(&arguments, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("macho_loader: {error:#}");
            ExitCode::FAILURE
        }
    }
}
