//! Real processes, dead and held.

use std::path::Path;

use super::victim::Held;
use crate::host::Task;
use crate::snapshot::{ImageFile, ImageId, ImageKind, LinuxFile};

#[test]
fn a_real_process_is_captured_whole() {
    let Some(held) = Held::new("null 3") else { return };
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);

    let mut names: Vec<_> = snapshot.threads.iter().map(|thread| thread.state.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names[2..], ["worker 0", "worker 1", "worker 2"]);
    for thread in &snapshot.threads {
        let registers = thread.state.registers.as_ref().unwrap();
        let stack = thread.stack.unwrap();
        assert!(
            stack.start + 128 <= registers.sp() && registers.sp() - stack.start < 144,
            "the red zone is in the copy"
        );
        assert_eq!((stack.end, stack.overflowed), (stack.limit, false));
        let length = (stack.end - stack.start) as usize;
        assert!(snapshot.memory.slice(stack.start, length).is_some());
        assert!(snapshot.memory.slice(registers.pc() - 128, 256).is_some());
    }

    assert_eq!(snapshot.images[0].path, std::env::current_exe().unwrap());
    assert_eq!(snapshot.images[0].kind, ImageKind::Executable);
    for (kind, count) in [(ImageKind::Executable, 1), (ImageKind::Loader, 1), (ImageKind::Vdso, 1)] {
        assert_eq!(snapshot.images.iter().filter(|image| image.kind == kind).count(), count, "{kind:?}");
    }
    for image in &snapshot.images {
        assert!(matches!(&image.id, ImageId::BuildId(id) if id.len() == 20), "{}", image.path.display());
        let same = if image.kind == ImageKind::Vdso { ImageFile::Unreachable } else { ImageFile::Same };
        assert_eq!(image.file, same);
        assert!(snapshot.regions.iter().any(|region| region.start == image.base));
    }
    let crashed = snapshot.threads.iter().find(|thread| thread.state.id == held.crashed as u64).unwrap();
    let pc = crashed.state.registers.as_ref().unwrap().pc();
    assert!(pc - snapshot.images[0].base < snapshot.images[0].size, "it died in its own code");

    assert_eq!((snapshot.process.pid, snapshot.process.parent), (held.pid, std::process::id() as i32));
    assert_eq!(snapshot.process.path, std::env::current_exe().unwrap());
    assert_eq!(snapshot.process.arguments[1], b"--exact");
    let file = |wanted: LinuxFile| snapshot.process.linux_files.iter().find(|(file, _)| *file == wanted);
    for wanted in [LinuxFile::Maps, LinuxFile::Status, LinuxFile::Auxv, LinuxFile::CpuInfo, LinuxFile::Limits] {
        assert!(file(wanted).is_some_and(|(_, bytes)| !bytes.is_empty()), "{wanted:?}");
    }
}

#[test]
fn an_overflowed_stack_is_the_one_above_the_guard() {
    let Some(held) = Held::new("overflow") else { return };
    let snapshot = held.capture();
    let crashed = snapshot.threads.iter().find(|thread| thread.state.id == held.crashed as u64).unwrap();
    let stack = crashed.stack.unwrap();
    let sp = crashed.state.registers.as_ref().unwrap().sp();
    assert!(stack.overflowed && sp < stack.start, "{sp:#x} {stack:x?}");
    assert_eq!(stack.end - stack.start, 1 << 20, "the limit keeps what is nearest the stack pointer");
    assert!(snapshot.gaps.iter().any(|gap| gap.part == "threads"));
}

#[test]
fn a_process_whose_first_thread_has_ended_is_captured_all_the_same() {
    let Some(held) = Held::new("leader") else { return };
    assert!(!held.tids.contains(&held.pid));
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);
    assert_eq!(snapshot.images[0].path, std::env::current_exe().unwrap());
    assert!(snapshot.images.iter().any(|image| image.kind == ImageKind::Loader));
    assert_eq!(snapshot.process.path, std::env::current_exe().unwrap());
    assert!(snapshot.threads[0].stack.is_some());
    assert_ne!(snapshot.process.name, "");
    assert!(snapshot.process.arguments.len() > 1);
    assert!(snapshot.process.path != Path::new(""));
}

#[test]
fn what_the_program_said_of_itself_is_read_from_its_memory() {
    let Some(held) = Held::new("annotated") else { return };
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);
    let values: Vec<_> =
        snapshot.annotations.values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(values, [("server", "192.0.2.7"), ("state", "connected")]);
    assert_eq!(snapshot.annotations.breadcrumbs.len(), 1);
    assert_eq!(snapshot.annotations.breadcrumbs[0].1, "handshake done");
    assert_eq!(snapshot.annotations.product, None, "it was never installed");
    assert!(snapshot.annotations.raw.starts_with(b"AFTMREC\0"));
}

/// Numbers, not a test: `cargo test --release -p aftermach-handler --lib measure -- --ignored --nocapture`.
#[test]
#[ignore = "prints how long captures take"]
fn measure() {
    super::warm_up();
    for count in [8, 98, 498] {
        let mut first = Vec::new();
        for round in 0..12 {
            let Some(held) = Held::new(&format!("null {count}")) else { return };
            let snapshot = held.capture();
            first.push(snapshot.times.copying);
            if round < 11 {
                continue;
            }
            println!("{} threads, {} bytes {:?}", snapshot.threads.len(), snapshot.memory.len(), snapshot.gaps);
            parts(&held);
        }
        first.sort();
        println!("{count}: least {:?}, median {:?}", first[0], first[5]);
    }
}

fn parts(held: &Held) {
    let (task, mut gaps) = (held.task(), Vec::new());
    let mut scratch = Default::default();
    clock("registers", || held.tids.iter().map(|tid| super::registers::read(*tid, &mut scratch)).collect::<Vec<_>>());
    let threads = task.threads.as_ref().as_ref().unwrap();
    clock("names", || {
        for tid in &held.tids {
            threads.read_once(&format!("{tid}/comm"), &mut [0; 64]).unwrap();
        }
    });
    clock("nice", || held.tids.iter().map(|tid| super::process::nice(*tid)).collect::<Vec<_>>());
    clock("threads", || task.threads(&mut gaps));
    clock("maps, raw", || task.file("maps", 1 << 24).unwrap());
    clock("regions", || task.regions(&mut gaps));
    clock("process", || task.process(&mut gaps));
    for name in ["stat", "status", "cmdline", "limits", "auxv"] {
        clock(name, || task.file(name, 1 << 16).unwrap());
    }
}

fn clock<T>(what: &str, work: impl FnOnce() -> T) {
    let start = std::time::Instant::now();
    let result = work();
    println!("    {what}: {:?}", start.elapsed());
    drop(result);
}
