//! Our unwinder beside framehop on the stacks of a real victim's ordinary threads, where framehop is right.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

#[path = "bench/src/linux/framehop.rs"]
mod framehop_walk;
mod support;

use std::fs::File;
use std::time::Duration;

use aftermach_handler::host::{self, Options, Program, Receiver, Task};
use aftermach_handler::snapshot::{Death, Limits, Snapshot, capture};
use aftermach_handler::unwind::{self, Sections, Stop};
use framehop_walk::Framehop;

/// Threads that wait in the victim.
const THREADS: usize = 20;

/// Keeps the snapshot of a death.
#[derive(Default)]
struct Keeper(Option<Box<Snapshot>>);

impl Receiver for Keeper {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        Some(Box::new(capture(task, death, &Limits::default())))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, _held: Duration) {
        self.0 = Some(snapshot);
    }
}

#[test]
fn ordinary_threads_have_the_frames_that_framehop_finds() {
    if !support::ptrace_works("ordinary_threads_have_the_frames_that_framehop_finds") {
        return;
    }
    // They are in their waits long before the victim dies.
    let threads = THREADS.to_string();
    let arguments = ["crash", "null-write", "--threads", &threads, "--after", "300"];
    let null = File::options().write(true).open("/dev/null").unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_aftermach")).args(arguments).stderr(null);
    let mut keeper = Keeper::default();
    host::run(&program, &Options::default(), &mut keeper).unwrap();
    let snapshot = keeper.0.expect("the victim's death");
    // framehop folds nothing.
    let limits = unwind::Limits { fold_after: 10_000, ..unwind::Limits::default() };
    let ours = unwind::unwind(&snapshot, &Sections::new(&snapshot), &limits);
    let theirs = Framehop::new(&snapshot).unwrap().walk(&snapshot);
    assert_eq!(ours.len(), THREADS + 1);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let addresses: Vec<u64> = ours.frames.iter().map(|frame| frame.address).collect();
        assert_eq!(&addresses, theirs, "thread {}", ours.thread);
        assert_eq!(ours.stop, Stop::Root, "thread {}", ours.thread);
    }
    // Each waits under 40 calls of one function.
    assert!(theirs.iter().filter(|frames| frames.len() > 40).count() >= THREADS, "{theirs:x?}");
}
