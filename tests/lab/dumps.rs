//! Minidumps of the lab's victims, each with our frames beside it, for other readers' unwinders (tests/readers/lab_unwinders).

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use aftermach_handler::minidump::{Extra, write};
use aftermach_handler::snapshot::{Image, Registers, Snapshot, Thread};
use aftermach_handler::unwind::{Limits, Sections, Trace, unwind};
use aftermach_protocol::platform::Cpu;
use serde_json::{Value, json};

/// Where dumps are to be left, if they are.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("AFTERMACH_LAB_DUMPS").map(PathBuf::from);
    if folder.is_none() {
        println!("SKIP: AFTERMACH_LAB_DUMPS names no folder to leave dumps in");
    }
    folder
}

/// Words of each stack that go with its frames, so that it can be told what a wrong step was made of.
const WORDS: u64 = 4096;

/// Leaves the dump of one moment of a build, and its frames as we find them; with the truth, where the stepper knows it.
pub(crate) fn leave(folder: &Path, build: &str, name: &str, snapshot: &Snapshot, truth: Option<&[u64]>) {
    let cpu = match snapshot.cpu {
        Cpu::X86_64 => "x86_64",
        Cpu::Arm64 => "arm64",
    };
    let path = folder.join(format!("{cpu}-{build}-{name}.dmp"));
    write(snapshot, &Extra::default(), &mut File::create(&path).unwrap()).unwrap();
    let limits = Limits { fold_after: 1000, ..Limits::default() };
    let traces = unwind(snapshot, &Sections::new(snapshot), &limits);
    let threads: Vec<_> =
        traces.iter().zip(&snapshot.threads).map(|(trace, thread)| shown(trace, thread, snapshot)).collect();
    let image = |image: &Image| json!([image.path, image.base, image.size]);
    let images: Vec<_> = snapshot.images.iter().map(image).collect();
    let all = json!({"cpu": cpu, "build": build, "name": name, "threads": threads, "images": images, "truth": truth});
    serde_json::to_writer(File::create(path.with_extension("json")).unwrap(), &all).unwrap();
}

fn shown(trace: &Trace, thread: &Thread, snapshot: &Snapshot) -> Value {
    let frames: Vec<_> =
        trace.frames.iter().map(|frame| json!([frame.address, format!("{:?}", frame.trust)])).collect();
    let (sp, fp, lr) = match thread.state.registers.as_ref().unwrap() {
        Registers::X86_64(registers) => (registers.rsp, registers.rbp, 0),
        Registers::Arm64(registers) => (registers.sp, registers.fp, registers.lr),
    };
    // The stack pointer need not be aligned to words, but is.
    let words: Vec<_> = (0..WORDS).map_while(|index| snapshot.memory.word(sp + index * 8)).collect();
    json!({"id": trace.thread, "frames": frames, "sp": sp, "fp": fp, "lr": lr, "words": words})
}

/// Leaves dumps of some moments of a build's run, a few for each.
pub(crate) struct Dumps<'a> {
    folder: &'a Path,
    build: &'a str,
    /// Addresses that the run has been at.
    seen: HashSet<u64>,
    /// So many are between one dump and the next.
    stride: usize,
}

impl<'a> Dumps<'a> {
    pub(crate) fn new(folder: &'a Path, build: &'a str) -> Dumps<'a> {
        let stride = match build {
            "signal" | "lazy" => 19,
            "rust" => 701,
            _ => 101,
        };
        Dumps { folder, build, seen: HashSet::new(), stride }
    }

    /// A name for the dump of a moment at `pc`, if one is to be left.
    pub(crate) fn wanted(&mut self, pc: u64) -> Option<String> {
        let new = self.seen.insert(pc) && self.seen.len() % self.stride == self.stride / 2;
        new.then(|| format!("moment-{}", self.seen.len()))
    }

    pub(crate) fn leave(&self, name: &str, snapshot: &Snapshot, truth: &[u64]) {
        leave(self.folder, self.build, name, snapshot, Some(truth));
    }
}
