//! `aftermach crash KIND`: dies in a named way, to try an installation and to test the handler.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arm64.rs")]
mod instructions;
mod kinds;
mod signals;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::Context;

pub(crate) use kinds::Kind;

/// Dies in a named way: to try an installation, and to see what its report looks like.
///
/// Alone it is an ordinary crash. Under `aftermach run -- aftermach crash KIND` it makes a report.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to die.
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// Have this many named threads ("idle-0", …) wait while it happens.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=2000))]
    threads: u16,
    /// With KIND "exit": the exit code.
    #[arg(long, default_value_t = 3, value_name = "CODE")]
    code: u8,
    /// Wait this many milliseconds first.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    after: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    signals::default_fault_handlers(args.kind);
    spawn_idle_threads(args.threads).context("starting the threads that wait")?;
    if args.kind == Kind::NamedThread {
        return on_a_named_thread(args);
    }
    thread::sleep(Duration::from_millis(args.after));
    first_step(args.kind, args.code)?;
    anyhow::bail!("still alive after {:?}, which should have ended this process", args.kind)
}

/// Threads that wait, each deep enough to have a stack worth looking at. They live as long as the process.
fn spawn_idle_threads(count: u16) -> std::io::Result<()> {
    let all_started = Arc::new(Barrier::new(usize::from(count) + 1));
    for index in 0..count {
        let all_started = Arc::clone(&all_started);
        // Hundreds of them must fit in any container: 128 KiB is plenty for a wait.
        thread::Builder::new().name(format!("idle-{index}")).stack_size(128 << 10).spawn(move || {
            all_started.wait();
            idle(40)
        })?;
    }
    all_started.wait();
    Ok(())
}

#[inline(never)]
fn idle(depth: u32) {
    if depth == 0 {
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    idle(black_box(depth - 1));
    black_box(depth);
}

/// Seven workers wait, the eighth dies.
fn on_a_named_thread(args: Args) -> anyhow::Result<ExitCode> {
    spawn_idle_threads(7)?;
    let crasher =
        thread::Builder::new().name("crasher".to_owned()).spawn(move || first_step(Kind::NullWrite, args.code))?;
    match crasher.join() {
        Ok(result) => result?,
        Err(_) => anyhow::bail!("the thread panicked"),
    }
    anyhow::bail!("still alive after the named thread's crash")
}

/// Two plain frames between the tool and the crash, so that a report has callers to show.
#[inline(never)]
fn first_step(kind: Kind, code: u8) -> anyhow::Result<()> {
    let result = second_step(black_box(kind), code);
    black_box(&result);
    result
}

#[inline(never)]
fn second_step(kind: Kind, code: u8) -> anyhow::Result<()> {
    let result = kinds::die(black_box(kind), code);
    black_box(&result);
    result
}
