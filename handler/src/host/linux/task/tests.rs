//! Real processes, dead and held.

use std::path::Path;

use minidump_writer::minidump_writer::MinidumpWriterConfig;

use object::{Object, ObjectSection};

use super::victim::{Held, Ready};
use crate::host::Task;
use crate::snapshot::{ImageFile, ImageId, ImageKind, LinuxFile, Registers};

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
    assert!(stack.overflowed && sp <= stack.start, "{sp:#x} {stack:x?}");
    assert!(stack.end - stack.start > 1 << 20 && stack.end == stack.limit, "the whole of it: {stack:x?}");
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

#[test]
fn a_handler_on_a_stack_of_its_own_leaves_the_interrupted_stack_in_the_copy() {
    let Some(held) = Held::new("alternative") else { return };
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);
    let crashed = snapshot.threads.iter().find(|thread| thread.state.id == held.crashed as u64).unwrap();
    let Some(Registers::X86_64(registers)) = &crashed.state.registers else {
        return println!("SKIP: signal frames are searched for on x86-64 only");
    };
    // The thread's own data lies at the upper end of its own stack (glibc's struct pthread, to which fs points).
    let own = snapshot.regions.iter().find(|region| (region.start..region.end).contains(&registers.fs_base)).unwrap();
    assert!(!(own.start..own.end).contains(&registers.rsp), "the handler has a stack of its own");
    assert!(snapshot.memory.slice(own.end - 0x800, 0x800).is_some());
}

#[test]
fn an_image_whose_file_was_replaced_brings_its_unwind_sections_along() {
    let path = std::env::temp_dir().join(format!("aftermach-replaced-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    let held = Ready::of(&path, "replaced").die();
    let _ = std::fs::remove_file(&path);
    let Some(held) = held else { return };
    let snapshot = held.capture();
    let image = &snapshot.images[0];
    assert_eq!((&image.path, image.file), (&path, ImageFile::Replaced));
    assert_eq!(snapshot.process.path, path);
    // What the file itself says of the section, which was copied to the end of its segment.
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let file = object::File::parse(&*file).unwrap();
    for name in [".eh_frame_hdr", ".eh_frame"] {
        let expected = file.section_by_name(name).unwrap();
        let section = image.sections.iter().find(|section| section.name == name).unwrap();
        assert_eq!(section.address, expected.address(), "{name}");
        let data = expected.data().unwrap();
        let copied = snapshot.memory.slice(image.bias + section.address, data.len());
        assert!(copied == Some(data), "{name} is not what the file holds");
    }
}

#[test]
fn a_program_that_died_before_its_loader_ran_has_its_images() {
    let Some(held) = Held::stillborn("/bin/cat") else { return };
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);
    let kinds: Vec<_> = snapshot.images.iter().map(|image| image.kind).collect();
    assert_eq!(kinds, [ImageKind::Executable, ImageKind::Loader, ImageKind::Vdso]);
    assert_eq!(snapshot.images[0].path, std::fs::canonicalize("/bin/cat").unwrap());
    assert!(snapshot.threads[0].stack.is_some());
}

#[test]
fn a_static_program_is_its_one_image_besides_the_vdso() {
    let Some(program) =
        ["/sbin/ldconfig", "/sbin/ldconfig.real", "/bin/busybox"].into_iter().find(|path| is_static(path))
    else {
        return println!("SKIP: no static program here");
    };
    let Some(held) = Held::stillborn(program) else { return };
    let snapshot = held.capture();
    assert_eq!(snapshot.gaps, []);
    let kinds: Vec<_> = snapshot.images.iter().map(|image| image.kind).collect();
    assert_eq!(kinds, [ImageKind::Executable, ImageKind::Vdso], "{:x?}", snapshot.images);
    let file = std::fs::read(program).unwrap();
    let file = object::File::parse(&*file).unwrap();
    let id = file.build_id().unwrap().map_or(ImageId::None, |id| ImageId::BuildId(id.to_vec()));
    assert_eq!(snapshot.images[0].id, id);
    let Some(Registers::X86_64(registers)) = &snapshot.threads[0].state.registers else { return };
    assert_eq!(registers.rip.wrapping_sub(snapshot.images[0].bias), file.entry(), "it died at its first instruction");
}

fn is_static(path: &str) -> bool {
    let Ok(file) = std::fs::read(path) else { return false };
    object::File::parse(&*file).is_ok_and(|file| file.section_by_name(".interp").is_none())
}

/// Numbers, not a test: `cargo test --release -p aftermach-handler --lib measure -- --ignored --nocapture`.
///
/// Each victim is dumped by minidump-writer while it lives, then dies and is captured.
#[test]
#[ignore = "prints how long captures take"]
fn measure() {
    super::warm_up();
    for count in [8, 98, 498] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..12 {
            let ready = Ready::new(&format!("null {count}"));
            let started = std::time::Instant::now();
            let writer = MinidumpWriterConfig::new(ready.pid, ready.pid);
            writer.write(&mut std::io::Cursor::new(Vec::new())).unwrap();
            theirs.push(started.elapsed());
            let Some(held) = ready.die() else { return };
            let snapshot = held.capture();
            ours.push(snapshot.times.copying);
            if round == 11 {
                println!("{} threads, {} bytes {:?}", snapshot.threads.len(), snapshot.memory.len(), snapshot.gaps);
                parts(&held);
            }
        }
        ours.sort();
        theirs.sort();
        println!("captured in {:?} (least), {:?} (median)", ours[0], ours[6]);
        println!("minidump-writer: {:?} (least), {:?} (median)", theirs[0], theirs[6]);
    }
}

fn parts(held: &Held) {
    let (task, mut gaps) = (held.task(), Vec::new());
    clock("registers", || super::registers::read_all(&held.tids));
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
