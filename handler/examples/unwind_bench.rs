//! How fast stacks are walked and named, beside plain framehop on the same stacks in the same run.
//!
//! `cargo run --release -p aftermach-handler --example unwind_bench -- PROGRAM [ARGUMENTS]`: runs a program that crashes.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use aftermach_handler::host::linux::{self, Options, Program};
use aftermach_handler::host::{Receiver, Task};
use aftermach_handler::snapshot::{Death, Limits, Registers, Snapshot, capture};
use aftermach_handler::symbols::{self, Symbolizer};
use aftermach_handler::unwind::file::ObjectFile;
use aftermach_handler::unwind::{self, Sections, unwind};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};

#[derive(Default)]
struct Catcher(Option<Box<Snapshot>>);

impl Receiver for Catcher {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        Some(Box::new(capture(task, death, &Limits::default())))
    }
    fn released(&mut self, snapshot: Box<Snapshot>, _held: Duration) {
        self.0 = Some(snapshot);
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: unwind_bench PROGRAM [ARGUMENTS]");
        return ExitCode::from(2);
    };
    let mut catcher = Catcher::default();
    let program = Program::new(program).args(arguments);
    if let Err(error) = linux::run(&program, &Options::default(), &mut catcher) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let Some(snapshot) = catcher.0 else {
        eprintln!("the program did not crash");
        return ExitCode::FAILURE;
    };

    let start = Instant::now();
    let sections = Sections::new(&snapshot);
    let limits = unwind::Limits::default();
    let traces = unwind(&snapshot, &sections, &limits);
    let all = start.elapsed();
    let frames: usize = traces.iter().map(|trace| trace.frames.len()).sum();
    println!("{} threads, {frames} frames: {all:.2?} with all tables read", traces.len());

    let ours = fastest(|| unwind(&snapshot, &sections, &limits).iter().map(|trace| trace.frames.len()).sum());
    report("ours, cold", &ours);
    let unwinder = framehop_of(&snapshot);
    let cold = fastest(|| walk_by_framehop(&snapshot, &unwinder, &mut CacheX86_64::new()));
    report("framehop, cold", &cold);
    let mut cache = CacheX86_64::new();
    let warm = fastest(|| walk_by_framehop(&snapshot, &unwinder, &mut cache));
    report("framehop, warm", &warm);

    let start = Instant::now();
    let names = Symbolizer::new(&snapshot, &sections, symbols::Limits::default()).names(&traces);
    let time = start.elapsed();
    let named = traces.iter().flat_map(|trace| &trace.frames).filter(|frame| !names.of(frame).is_empty()).count();
    println!("names: {named} of {frames} frames in {time:.2?}");
    ExitCode::SUCCESS
}

/// The fastest of many runs: frames and time.
fn fastest(mut run: impl FnMut() -> usize) -> (usize, Duration) {
    let once = |run: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        (black_box(run()), start.elapsed())
    };
    (0..200).map(|_| once(&mut run)).min_by_key(|(_, time)| *time).unwrap_or_default()
}

fn report(what: &str, (frames, time): &(usize, Duration)) {
    println!("{what}: {frames} frames in {time:.2?}, {:.2} M frames/s", *frames as f64 / time.as_secs_f64() / 1e6);
}

fn framehop_of(snapshot: &Snapshot) -> UnwinderX86_64<Vec<u8>> {
    let mut unwinder = UnwinderX86_64::new();
    for image in &snapshot.images {
        let Ok(file) = ObjectFile::open(&image.path, snapshot.cpu) else { continue };
        let section = |name: &str| {
            let section = file.section(name)?;
            let bytes = file.read(section.offset, section.size, 1 << 30).ok()?;
            Some((section.address..section.address + section.size, bytes))
        };
        let (eh_frame_svma, eh_frame) = section(".eh_frame").unzip();
        let (eh_frame_hdr_svma, eh_frame_hdr) = section(".eh_frame_hdr").unzip();
        let information = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: section(".text").map(|(range, _)| range),
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            ..Default::default()
        };
        let range = image.base..image.base + image.size;
        unwinder.add_module(Module::new(String::new(), range, image.bias, information));
    }
    unwinder
}

fn walk_by_framehop(snapshot: &Snapshot, unwinder: &UnwinderX86_64<Vec<u8>>, cache: &mut CacheX86_64) -> usize {
    let mut read = |address: u64| snapshot.memory.word(address).ok_or(());
    let mut frames = 0;
    for thread in &snapshot.threads {
        let Some(Registers::X86_64(r)) = &thread.state.registers else { continue };
        let registers = UnwindRegsX86_64::new(r.rip, r.rsp, r.rbp);
        let mut walk = unwinder.iter_frames(r.rip, registers, cache, &mut read);
        while let Ok(Some(frame)) = walk.next() {
            black_box(frame);
            frames += 1;
            if frames > 1 << 20 {
                break;
            }
        }
    }
    frames
}
