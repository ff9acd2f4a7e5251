//! No snapshot makes a dump that is wrong: it is written and read, or refused.

use std::collections::HashSet;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aftermach_handler::minidump::{Error, Extra, Unreadable, check, write, write_file};
use aftermach_handler::snapshot::*;
use aftermach_protocol::exception::{LinuxSignal, MachException};
use aftermach_protocol::platform::{Cpu, Os};
use minidump::{MinidumpException, MinidumpModuleList, MinidumpThreadList, MinidumpThreadNames, Module};

use crate::random::Random;
use crate::{dump_of, process, read, samples};

/// Nothing is known but that something died.
fn nothing(os: Os, cpu: Cpu) -> Snapshot {
    let exception = match os {
        Os::Linux => Exception::Linux(LinuxSignal { signal: 11, code: 1, address: None, sender: None }),
        Os::MacOs => Exception::Mach(MachException { kind: 10, codes: [0, 0] }),
    };
    let death =
        Death { pid: 0, thread: None, exception, signal: 0, time: SystemTime::UNIX_EPOCH, gathering: Duration::ZERO };
    Snapshot {
        os,
        cpu,
        system: System::default(),
        process: Process::default(),
        death,
        threads: Vec::new(),
        images: Vec::new(),
        shared_cache: None,
        regions: Vec::new(),
        memory: Memory::default(),
        annotations: Annotations::default(),
        gaps: Vec::new(),
        times: Times {
            died: SystemTime::UNIX_EPOCH,
            gathering: Duration::ZERO,
            copying: Duration::ZERO,
            held: Duration::ZERO,
        },
    }
}

#[test]
fn a_snapshot_of_nothing_is_a_dump_of_nothing() {
    for os in [Os::Linux, Os::MacOs] {
        for cpu in [Cpu::X86_64, Cpu::Arm64] {
            let bytes = dump_of(&nothing(os, cpu));
            let summary = check(&bytes).unwrap();
            assert_eq!((summary.threads, summary.modules.len()), (0, 0));
            assert_eq!(summary.notes, Vec::<String>::new());
            let (state, warnings) = process(&bytes);
            assert_eq!(warnings, "");
            assert_eq!(state.requesting_thread, None);
        }
    }
}

#[test]
fn a_dead_thread_that_is_not_listed_is_no_other_thread() {
    for (name, mut snapshot) in samples::all() {
        // Its low half is another thread's id.
        snapshot.death.thread = Some(0x55_0000_0000 | snapshot.threads[1].state.id & 0xffff_ffff);
        let bytes = dump_of(&snapshot);
        let dump = read(&bytes);
        let dead = dump.get_stream::<MinidumpException<'_>>().unwrap().raw;
        assert!(dump.get_stream::<MinidumpThreadList<'_>>().unwrap().get_thread(dead.thread_id).is_none(), "{name}");
        assert_eq!(dead.thread_context.data_size, 0, "{name}");
        let (state, _) = process(&bytes);
        assert_eq!((state.requesting_thread, state.threads.len()), (None, 3), "{name}");
    }
}

#[test]
fn a_thread_without_registers_or_stack_is_still_a_thread() {
    for (name, snapshot) in samples::all() {
        let (state, warnings) = process(&dump_of(&samples::unreadable(snapshot)));
        assert_eq!(warnings, "", "{name}");
        let frames: Vec<usize> = state.threads.iter().map(|thread| thread.frames.len()).collect();
        // Where a thread's record names no stack, the reader looks for its address in the memory list.
        assert_eq!(frames, [0, 2, 0], "{name}");
        assert_eq!(state.requesting_thread, Some(0), "{name}");
    }
}

#[test]
fn no_two_threads_share_an_id() {
    let (_, snapshot) = samples::all().pop().unwrap();
    // The same id twice, the same low halves, none at all, and the numbers that would be given next.
    let ids = [7, 7, 1 << 32 | 7, 2 << 32 | 7, 0, 1 << 32, 1, 2, u64::MAX, 0xffff_ffff];
    let mut odd = snapshot.clone();
    odd.threads = ids
        .iter()
        .map(|id| {
            let mut thread = snapshot.threads[1].clone();
            thread.state.id = *id;
            thread.state.name = format!("{id:#x}");
            thread
        })
        .collect();
    let bytes = dump_of(&odd);
    let dump = read(&bytes);
    let list = dump.get_stream::<MinidumpThreadList<'_>>().unwrap();
    let found: Vec<u32> = list.threads.iter().map(|thread| thread.raw.thread_id).collect();
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), ids.len(), "{found:?}");
    assert!(!found.contains(&0), "LLDB takes 0 for no thread");
    // Those that fit, and are free, are kept.
    assert_eq!((found[0], found[6], found[7], found[9]), (7, 1, 2, 0xffff_ffff));
    let names = dump.get_stream::<MinidumpThreadNames>().unwrap();
    for (id, found) in ids.iter().zip(&found) {
        assert_eq!(names.get_name(*found).as_deref(), Some(&*format!("{id:#x}")));
    }
}

#[test]
fn any_name_is_read_as_it_was() {
    let names = ["a\0b", "\u{fffe}\u{ffff}", "🦀", "\u{10ffff}", " ", &"ü".repeat(1 << 20)];
    let (_, snapshot) = samples::all().swap_remove(0);
    let mut odd = snapshot.clone();
    odd.threads = names
        .iter()
        .zip(1..)
        .map(|(name, id)| {
            let mut thread = snapshot.threads[1].clone();
            (thread.state.id, thread.state.name) = (id, (*name).to_owned());
            thread
        })
        .collect();
    let bytes = dump_of(&odd);
    let found = read(&bytes).get_stream::<MinidumpThreadNames>().unwrap();
    for (name, id) in names.iter().zip(1..) {
        assert_eq!(found.get_name(id).as_deref(), Some(*name));
    }
}

#[test]
fn a_path_that_is_no_text_is_still_a_module() {
    let (_, mut snapshot) = samples::all().swap_remove(0);
    snapshot.images[0].path = PathBuf::from(std::ffi::OsString::from_vec(b"/opt/\xff\xfe/x".to_vec()));
    let bytes = dump_of(&snapshot);
    let list = read(&bytes).get_stream::<MinidumpModuleList>().unwrap();
    assert_eq!(list.main_module().unwrap().code_file(), "/opt/\u{fffd}\u{fffd}/x");
}

#[test]
fn modules_that_the_format_can_t_hold_cost_no_other_module() {
    let (_, mut snapshot) = samples::all().pop().unwrap();
    let image = snapshot.images[1].clone();
    let at = |base, size| Image { base, size, ..image.clone() };
    snapshot.images = vec![
        at(0x1000, 0),
        // Larger than 32 bits can say: what fits.
        at(0x1_0000_0000, 5 << 30),
        // Runs past the end of the address space: up to it.
        at(u64::MAX - 0x1000, 0x2000),
        at(u64::MAX, 0x1000),
        at(0x10_0000_0000, 0x1000),
    ];
    let bytes = dump_of(&snapshot);
    let (state, warnings) = process(&bytes);
    assert_eq!(warnings, "");
    let found: Vec<(u64, u64)> = state.modules.iter().map(|module| (module.base_address(), module.size())).collect();
    assert_eq!(found, [(0x1_0000_0000, 0xffff_ffff), (u64::MAX - 0x1000, 0x1000), (0x10_0000_0000, 0x1000)]);
    assert_eq!(state.soft_errors.unwrap().as_array().unwrap().len(), 3, "one of the snapshot, two of the modules");
}

#[test]
fn annotations_of_any_size_are_taken() {
    let (_, mut snapshot) = samples::all().swap_remove(0);
    let values = (0..512).map(|n| (format!("key {n}"), "é".repeat(10_240)));
    snapshot.annotations.values = values.chain([("empty".to_owned(), String::new())]).collect();
    let summary = check(&dump_of(&snapshot)).unwrap();
    assert_eq!(summary.notes, Vec::<String>::new());
    assert_eq!(summary.annotation("key 511").map(str::len), Some(20_480));
    assert_eq!(summary.annotation("empty"), None);
}

/// Takes `room` bytes, then is full.
struct Disk {
    file: Cursor<Vec<u8>>,
    room: u64,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.saturating_sub(self.file.position());
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(&bytes[..bytes.len().min(room as usize)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_dump() {
    let (_, snapshot) = samples::all().pop().unwrap();
    let size = dump_of(&snapshot).len() as u64;
    for room in (0..size).step_by(97).chain([size - 1]) {
        let mut disk = Disk { file: Cursor::new(Vec::new()), room };
        let error = write(&snapshot, &Extra::default(), &mut disk).unwrap_err();
        let Error::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("bytes"), "{error}");
        assert_eq!(check(disk.file.get_ref()), Err(Unreadable::NotADump), "with room for {room} of {size} bytes");
    }
}

/// Remembers each write, in order.
#[derive(Default)]
struct Log {
    position: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.push((self.position, bytes.to_vec()));
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Log {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self.position.checked_add_signed(by).unwrap(),
            SeekFrom::End(_) => panic!("the size is not known"),
        };
        Ok(self.position)
    }
}

#[test]
fn a_dump_becomes_one_with_its_very_last_write() {
    let (_, mut snapshot) = samples::all().pop().unwrap();
    // So much that it goes out in many writes.
    snapshot.memory.insert(0x5_0000_0000, vec![0x5a; 1 << 20]);
    let mut log = Log::default();
    write(&snapshot, &Extra::default(), &mut log).unwrap();
    let mut file = Cursor::new(Vec::new());
    let (last, before) = log.writes.split_last().unwrap();
    for (position, bytes) in before {
        file.seek(SeekFrom::Start(*position)).unwrap();
        file.write_all(bytes).unwrap();
        assert_eq!(check(file.get_ref()), Err(Unreadable::NotADump));
    }
    assert_eq!(last, &(0, b"MDMP".to_vec()));
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&last.1).unwrap();
    assert_eq!(file.into_inner(), dump_of(&snapshot));
}

#[test]
fn a_file_holds_what_memory_would() {
    let path = std::env::temp_dir().join(format!("aftermach-minidump-{}", std::process::id()));
    let (_, snapshot) = samples::all().pop().unwrap();
    let file = std::fs::File::create_new(&path).unwrap();
    let written = write_file(&snapshot, &Extra::default(), &file).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(bytes, dump_of(&snapshot));
}

#[test]
fn any_snapshot_is_written_and_read() {
    let mut random = Random(1);
    for round in 0..150 {
        let snapshot = odd_snapshot(&mut random);
        let bytes = dump_of(&snapshot);
        let summary = check(&bytes).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(summary.notes, Vec::<String>::new(), "round {round}");
        assert_eq!(summary.threads, snapshot.threads.len(), "round {round}");
        let has_extent = |image: &&Image| image.size.min(u64::MAX - image.base) > 0;
        assert_eq!(summary.modules.len(), snapshot.images.iter().filter(has_extent).count(), "round {round}");
        let (state, _) = process(&bytes);
        assert_eq!(state.threads.len(), snapshot.threads.len(), "round {round}");
        let dump = read(&bytes);
        let memory = dump.get_memory().unwrap();
        for block in snapshot.memory.blocks() {
            assert_eq!(memory.memory_at_address(block.address).map(|found| found.bytes()), Some(&*block.bytes));
        }
    }
}

fn odd_snapshot(random: &mut Random) -> Snapshot {
    let (os, cpu) = (random.pick(&[Os::Linux, Os::MacOs]), random.pick(&[Cpu::X86_64, Cpu::Arm64]));
    let mut snapshot = if random.one_in(2) { nothing(os, cpu) } else { samples::sample(os, cpu) };
    for _ in 0..random.below(5) {
        let length = random.below(10_000);
        snapshot.memory.insert(random.number(), vec![0x77; length]);
    }
    let (start, end) = (random.number(), random.number());
    for _ in 0..random.below(20) {
        // Of the other processor as well: a snapshot that contradicts itself.
        let registers = samples::sample(os, random.pick(&[Cpu::X86_64, Cpu::Arm64])).threads[0].state.registers.clone();
        let state = ThreadState {
            id: random.number(),
            name: odd_text(random),
            registers: registers.filter(|_| !random.one_in(3)),
            priority: random.pick(&[None, Some(i32::MIN), Some(i32::MAX)]),
            queue: Some(odd_text(random)),
            first_chance: None,
        };
        let near = snapshot.memory.blocks().first().map_or(0, |block| block.address.saturating_add(3));
        let stack = Stack { start: random.pick(&[start, near]), end, limit: end, overflowed: random.one_in(2) };
        snapshot.threads.push(Thread { state, stack: Some(stack).filter(|_| !random.one_in(3)) });
    }
    for _ in 0..random.below(20) {
        let bytes = random.below(100);
        snapshot.images.push(Image {
            path: PathBuf::from(odd_text(random)),
            kind: ImageKind::Library,
            base: random.number(),
            size: random.number(),
            bias: random.number(),
            id: random.pick(&[ImageId::None, ImageId::Uuid([0; 16]), ImageId::BuildId(vec![0xcc; bytes])]),
            version: Some(odd_text(random)).filter(|_| random.one_in(2)),
            file: ImageFile::Unreachable,
            sections: Vec::new(),
        });
        snapshot.regions.push(Region {
            start: random.number(),
            end: random.number(),
            protection: Protection { read: random.one_in(2), write: random.one_in(2), execute: random.one_in(2) },
            shared: random.one_in(2),
            tag: 0,
            offset: random.number(),
            path: None,
        });
        snapshot.gaps.push(Gap::new("threads", odd_text(random)));
        snapshot.annotations.values.push((odd_text(random), odd_text(random)));
        snapshot.annotations.messages.push((PathBuf::from(odd_text(random)), odd_text(random)));
    }
    let after_1970 = SystemTime::UNIX_EPOCH + Duration::from_secs(random.number() >> 30);
    snapshot.death.time = random.pick(&[after_1970, SystemTime::UNIX_EPOCH - Duration::from_secs(1)]);
    snapshot.death.thread = Some(random.number()).filter(|_| random.one_in(2));
    snapshot.death.exception = match os {
        Os::Linux => {
            let (signal, code) = (random.number() as i32, random.number() as i32);
            Exception::Linux(LinuxSignal { signal, code, address: Some(random.number()), sender: None })
        }
        Os::MacOs => {
            let kind = random.pick(&[1, 5, 10, 11, 12, 13, u32::MAX]);
            Exception::Mach(MachException { kind, codes: [random.number(), random.number()] })
        }
    };
    snapshot.process.started = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(random.number() >> 30));
    snapshot.process.cpu_time = Some((Duration::MAX, Duration::ZERO));
    snapshot.process.linux_files.push((LinuxFile::Auxv, vec![0; random.below(100)]));
    snapshot.system.version = odd_text(random);
    snapshot.system.pointer_mask = Some(random.number()).filter(|_| random.one_in(2));
    snapshot
}

fn odd_text(random: &mut Random) -> String {
    let characters = ['a', '/', '.', '9', '\0', '"', '\n', 'ü', '\u{ffff}', '🦀', '\u{202e}'];
    let length = if random.one_in(20) { 20_000 } else { random.below(30) };
    (0..length).map(|_| random.pick(&characters)).collect()
}
