//! Truth, on arm64: every frame at every recorded instruction of every thread.

use std::path::Path;
use std::time::{Duration, SystemTime};

use aftermach_handler::snapshot::{
    Death, Exception, Image, ImageFile, ImageId, ImageKind, Memory, Process, Snapshot, System, Times,
};
use aftermach_protocol::exception::MachException;
use aftermach_protocol::platform::{Cpu, Os};

use super::trace::Replay;
use crate::dumps::{self, Dumps};
use crate::figures::Figures;
use crate::images::{ARM64, CXX, ImageBytes, RUST, SMALL, folder};
use crate::judge::Judge;

/// 47 bits of address, as on macOS; the rest of a signed return address is its signature.
const POINTER_MASK: u64 = (1 << 47) - 1;

fn torture(build: &str, times: u32) -> Figures {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/traces");
    let mut replay = Replay::read(&traces.join(format!("arm64-{build}.trace")));
    let mut judge = Judge::new(snapshot(build, &replay), times);
    while let Some(moment) = replay.next() {
        judge.judge(moment.registers(), moment.start, moment.bytes.to_vec(), moment.callers);
    }
    judge.figures
}

/// Leaves dumps of some moments of a build, each at a new address.
fn leave_moments(folder: &Path, build: &str) {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/traces");
    let mut replay = Replay::read(&traces.join(format!("arm64-{build}.trace")));
    let mut judge = Judge::new(snapshot(build, &replay), 1);
    let mut dumps = Dumps::new(folder, build);
    while let Some(moment) = replay.next() {
        if let Some(name) = dumps.wanted(moment.pc) {
            let truth: Vec<u64> = [moment.pc].into_iter().chain(moment.callers.iter().rev().copied()).collect();
            judge.stand(moment.registers(), moment.start, moment.bytes.to_vec());
            dumps.leave(&name, &judge.snapshot, &truth);
        }
    }
}

#[test]
#[ignore = "leaves dumps for other readers; tests/readers/lab_unwinders"]
fn dumps_of_some_moments_of_every_arm64_build_are_left() {
    let Some(folder) = dumps::folder() else { return };
    for build in ARM64.into_iter().chain(CXX).chain(SMALL).chain([RUST]) {
        leave_moments(&folder, build);
    }
}

/// The recorded program as a snapshot of it would be, but for threads and memory.
fn snapshot(build: &str, replay: &Replay) -> Snapshot {
    let image = |(index, (name, base)): (usize, &(String, u64))| {
        let path = folder("arm64", build).join(name);
        let bytes = ImageBytes::read(&path);
        let (text, _) = bytes.text_segment();
        Image {
            path,
            kind: if index == 0 { ImageKind::Executable } else { ImageKind::Library },
            base: *base,
            size: text.end - text.start,
            bias: base - text.start,
            id: ImageId::Uuid(bytes.uuid()),
            version: None,
            file: ImageFile::Unreachable,
            sections: Vec::new(),
        }
    };
    let died = SystemTime::now();
    Snapshot {
        os: Os::MacOs,
        cpu: Cpu::Arm64,
        system: System { pointer_mask: Some(POINTER_MASK), ..System::default() },
        process: Process::default(),
        death: Death {
            pid: 1,
            thread: Some(1),
            exception: Exception::Mach(MachException::new(6, 1, 0)),
            signal: 5,
            time: died,
            gathering: Duration::ZERO,
        },
        threads: Vec::new(),
        images: replay.images.iter().enumerate().map(image).collect(),
        shared_cache: None,
        regions: Vec::new(),
        memory: Memory::default(),
        annotations: Default::default(),
        gaps: Vec::new(),
        times: Times { died, gathering: Duration::ZERO, copying: Duration::ZERO, held: Duration::ZERO },
    }
}

fn check(builds: &[&str], times: u32) {
    println!("{}", Figures::HEADING);
    let mut wrong = 0;
    for build in builds {
        let figures = torture(build, times);
        println!("{}", figures.line(&format!("arm64 {build}")));
        for wrong in figures.wrong().take(100) {
            println!("    {}: {}", wrong.place, wrong.what);
        }
        assert!(figures.steps() > 400, "{build}: the tour is longer than that");
        wrong += figures.wrong_steps();
    }
    assert_eq!(wrong, 0, "moments at which a frame was wrong");
}

#[test]
fn every_frame_is_right_at_every_instruction_of_two_arm64_builds() {
    check(&["O2", "ptrauth"], 1);
}

#[test]
fn every_frame_is_right_at_every_instruction_of_arm64_exceptions_signals_and_lazy_binding() {
    check(&["cxx-O2", "signal", "lazy"], 1);
}

#[test]
#[ignore = "takes minutes without optimisation; docs/unwinding.md"]
fn every_frame_is_right_at_every_instruction_of_every_arm64_build() {
    check(&ARM64.into_iter().chain(CXX).chain(SMALL).chain([RUST]).collect::<Vec<_>>(), u32::MAX);
}
