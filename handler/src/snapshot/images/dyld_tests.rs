//! Mach-O images and dyld's list as they should be, and every lie that a broken or hostile task has told a crash reporter.

use aftermach_protocol::platform::Os;

use super::super::test_task::{TestTask, gaps_of};
use super::super::{Image, ImageFile, ImageId, ImageKind, Limits, SharedCache, Snapshot};
use crate::host::ImageList;

const PROGRAM: u64 = 0x1_0400_0000;
const LIBRARY: u64 = 0x1_8000_0000;
const OTHER: u64 = 0x1_9000_0000;
const DYLD: u64 = 0x1_a000_0000;
const HEAP: u64 = 0x6000_0000_0000;

/// Places on the heap: dyld's structure, its array, its list of UUIDs, strings.
const ARRAY: usize = 0x400;
const UUIDS: usize = 0x800;
const STRINGS: usize = 0x1000;

/// `filetype` of `<mach-o/loader.h>`.
const EXECUTE: u32 = 2;
const DYLIB: u32 = 6;
const DYLINKER: u32 = 7;
const BUNDLE: u32 = 8;

struct MachO {
    kind: u32,
    flags: u32,
    commands: Vec<Vec<u8>>,
    /// What the header claims, where it lies.
    count: Option<u32>,
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn quarters(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn command(kind: u32, contents: &[u8]) -> Vec<u8> {
    [quarters(&[kind, 8 + contents.len() as u32]), contents.to_vec()].concat()
}

/// `LC_SEGMENT_64` with sections of name, address and size.
fn segment(segment: &str, address: u64, size: u64, protection: u32, sections: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut bytes = name(segment).to_vec();
    bytes.extend(words(&[address, size, 0, size]));
    bytes.extend(quarters(&[protection, protection, sections.len() as u32, 0]));
    for (section, address, size) in sections {
        bytes.extend(name(section));
        bytes.extend(name(segment));
        bytes.extend(words(&[*address, *size]));
        bytes.extend([0; 32]);
    }
    command(0x19, &bytes)
}

fn uuid(byte: u8) -> Vec<u8> {
    command(0x1b, &[byte; 16])
}

/// A command with a string: `LC_ID_DYLIB` 0xd (with version 1.2.3), `LC_LOAD_DYLINKER` 0xe, `LC_ID_DYLINKER` 0xf.
fn named(kind: u32, text: &str) -> Vec<u8> {
    let fields = if kind == 0xd { vec![24, 2, 0x0001_0203, 0x0001_0000] } else { vec![12] };
    command(kind, &[quarters(&fields), text.as_bytes().to_vec(), vec![0; 8 - text.len() % 8]].concat())
}

impl MachO {
    /// An image linked to `address`, with code, compact unwind information, crash information and data.
    fn new(kind: u32, address: u64, id: u8) -> MachO {
        let text = [("__text", address + 0x1000, 0x800), ("__unwind_info", address + 0x1800, 0x100)];
        let data = [("__crash_info", address + 0x2000, 64), ("__aftermach", address + 0x2100, 128)];
        let mut commands = vec![
            segment("__TEXT", address, 0x2000, 5, &text),
            segment("__DATA", address + 0x2000, 0x1000, 3, &data),
            segment("__LINKEDIT", address + 0x3000, 0x800, 1, &[]),
            uuid(id),
        ];
        if kind == EXECUTE {
            commands.insert(0, segment("__PAGEZERO", 0, 0x1_0000_0000, 0, &[]));
        }
        MachO { kind, flags: 0, commands, count: None }
    }

    fn bytes(&self) -> Vec<u8> {
        let commands = self.commands.concat();
        let count = self.count.unwrap_or(self.commands.len() as u32);
        let header = [0xfeed_facf, 0x0100_000c, 0, self.kind, count, commands.len() as u32, self.flags, 0];
        let mut bytes = [quarters(&header), commands].concat();
        bytes.resize(0x3000, 0);
        bytes[0x1800..0x1900].fill(0xab);
        bytes
    }

    fn map(&self, task: &mut TestTask, base: u64) {
        let bytes = self.bytes();
        task.map(base, bytes[..0x2000].to_vec(), "r-x", None, 0);
        task.map(base + 0x2000, bytes[0x2000..].to_vec(), "rw-", None, 0);
    }
}

/// dyld's structure (version 15) with its array and strings.
struct Dyld {
    heap: Vec<u8>,
    count: usize,
    strings: usize,
}

impl Dyld {
    fn new() -> Dyld {
        let mut dyld = Dyld { heap: vec![0; 0x4000], count: 0, strings: STRINGS };
        dyld.put(0, &quarters(&[15, 0]));
        dyld.put(8, &words(&[HEAP + ARRAY as u64]));
        dyld.put(32, &words(&[DYLD]));
        dyld
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.heap[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn string(&mut self, text: &[u8]) -> u64 {
        let at = self.strings;
        self.put(at, text);
        self.strings += text.len() + 1;
        HEAP + at as u64
    }

    fn add(&mut self, base: u64, path: &str) {
        let path = if path.is_empty() { 0 } else { self.string(path.as_bytes()) };
        self.put(ARRAY + self.count * 24, &words(&[base, path, 0]));
        self.count += 1;
        self.put(4, &quarters(&[self.count as u32]));
    }

    fn capture(self, task: TestTask) -> Snapshot {
        self.capture_within(task, &Limits::default())
    }

    fn capture_within(self, mut task: TestTask, limits: &Limits) -> Snapshot {
        task.os = Os::MacOs;
        task.image_list = Some(ImageList::Dyld { all_image_infos: HEAP });
        task.map(HEAP, self.heap, "rw-", None, 0);
        task.capture(limits)
    }
}

/// A program, a library and dyld, with the list of the first two.
fn ordinary() -> (TestTask, Dyld) {
    let (mut task, mut dyld) = (TestTask::default(), Dyld::new());
    MachO::new(EXECUTE, 0x1_0000_0000, 1).map(&mut task, PROGRAM);
    MachO::new(DYLIB, 0, 2).map(&mut task, LIBRARY);
    MachO::new(DYLINKER, 0, 3).map(&mut task, DYLD);
    dyld.add(PROGRAM, "/Applications/A.app/Contents/MacOS/A");
    dyld.add(LIBRARY, "/usr/lib/libwork.dylib");
    (task, dyld)
}

fn shown(snapshot: &Snapshot) -> Vec<(u64, ImageKind, &str)> {
    snapshot.images.iter().map(|image| (image.base, image.kind, image.path.to_str().unwrap())).collect()
}

const ALL: [(u64, ImageKind, &str); 3] = [
    (PROGRAM, ImageKind::Executable, "/Applications/A.app/Contents/MacOS/A"),
    (LIBRARY, ImageKind::Library, "/usr/lib/libwork.dylib"),
    (DYLD, ImageKind::Loader, "/usr/lib/dyld"),
];

fn at(snapshot: &Snapshot, base: u64) -> &Image {
    snapshot.images.iter().find(|image| image.base == base).unwrap()
}

/// The trouble with the images; the annotations of these images are nobody's record.
fn trouble(snapshot: &Snapshot) -> String {
    gaps_of(snapshot, "images")
}

#[test]
fn dyld_s_list_is_read_and_dyld_itself_added() {
    let (task, dyld) = ordinary();
    let snapshot = dyld.capture(task);
    assert_eq!(trouble(&snapshot), "");
    assert_eq!(shown(&snapshot), ALL);
    let program = at(&snapshot, PROGRAM);
    assert_eq!((program.bias, program.size), (PROGRAM - 0x1_0000_0000, 0x3800));
    assert_eq!(program.id, ImageId::Uuid([1; 16]));
    let sections: Vec<_> = program.sections.iter().map(|section| (section.name.as_str(), section.address)).collect();
    let (text, unwind) = (0x1_0000_1000, 0x1_0000_1800);
    assert_eq!(sections, [("__TEXT", 0x1_0000_0000), ("__TEXT,__text", text), ("__TEXT,__unwind_info", unwind)]);
}

#[test]
fn the_executable_is_the_first_wherever_it_is_listed_and_a_bundle_is_none() {
    let (mut task, mut dyld) = (TestTask::default(), Dyld::new());
    MachO::new(BUNDLE, 0, 4).map(&mut task, OTHER);
    MachO::new(DYLIB, 0, 2).map(&mut task, LIBRARY);
    MachO::new(EXECUTE, 0x1_0000_0000, 1).map(&mut task, PROGRAM);
    MachO::new(DYLINKER, 0, 3).map(&mut task, DYLD);
    dyld.add(OTHER, "/plug-in.bundle");
    dyld.add(LIBRARY, "/usr/lib/libwork.dylib");
    dyld.add(PROGRAM, "/A");
    let snapshot = dyld.capture(task);
    let kinds: Vec<_> = shown(&snapshot).into_iter().map(|(base, kind, _)| (base, kind)).collect();
    let library = ImageKind::Library;
    assert_eq!(
        kinds,
        [(PROGRAM, ImageKind::Executable), (OTHER, library), (LIBRARY, library), (DYLD, ImageKind::Loader)]
    );
}

#[test]
fn two_executables_or_none_are_no_obstacle() {
    let (mut task, mut dyld) = ordinary();
    MachO::new(EXECUTE, 0, 5).map(&mut task, OTHER);
    dyld.add(OTHER, "/B");
    let snapshot = dyld.capture(task);
    assert_eq!(shown(&snapshot)[2], (OTHER, ImageKind::Library, "/B"));

    let (mut task, mut dyld) = (TestTask::default(), Dyld::new());
    MachO::new(DYLIB, 0, 2).map(&mut task, LIBRARY);
    dyld.add(LIBRARY, "/usr/lib/libwork.dylib");
    dyld.put(32, &words(&[0]));
    assert_eq!(shown(&dyld.capture(task)), ALL[1..2]);
}

#[test]
fn while_dyld_changes_its_list_images_are_found_by_uuid_list_and_headers() {
    let (task, mut dyld) = ordinary();
    dyld.put(8, &words(&[0]));
    dyld.put(88, &words(&[1, HEAP + UUIDS as u64]));
    dyld.put(UUIDS, &words(&[PROGRAM]));
    let snapshot = dyld.capture(task);
    let mut found: Vec<_> = shown(&snapshot).into_iter().map(|(base, kind, _)| (base, kind)).collect();
    assert_eq!(found[0], (PROGRAM, ImageKind::Executable));
    found.sort_unstable_by_key(|(base, _)| *base);
    assert_eq!(found[1..], [(LIBRARY, ImageKind::Library), (DYLD, ImageKind::Loader)]);
    assert_eq!(trouble(&snapshot), "dyld was changing its list when the task died");
}

#[test]
fn a_structure_that_cannot_be_read_leaves_what_is_mapped() {
    let (mut task, dyld) = ordinary();
    task.image_list = Some(ImageList::Dyld { all_image_infos: 0x10 });
    task.os = Os::MacOs;
    drop(dyld);
    let snapshot = task.capture(&Limits::default());
    assert_eq!(snapshot.images.len(), 3);
    assert!(trouble(&snapshot).contains("dyld's structure at 0x10 can't be read"));
}

#[test]
fn fields_that_a_version_does_not_have_are_not_read() {
    let (task, mut dyld) = ordinary();
    dyld.put(0, &quarters(&[1]));
    // Without dyld's own address it can't be listed.
    assert_eq!(shown(&dyld.capture(task)), ALL[..2]);
}

#[test]
fn an_absurd_count_is_cut_and_told() {
    let (task, mut dyld) = ordinary();
    dyld.put(4, &quarters(&[u32::MAX]));
    let snapshot = dyld.capture(task);
    assert_eq!(shown(&snapshot)[0], ALL[0]);
    assert!(snapshot.images.len() <= Limits::default().images);
    assert!(trouble(&snapshot).contains("dyld's list claims 4294967295 images; 4096 were read"));
}

#[test]
fn an_array_that_leads_nowhere_is_told() {
    for array in [0x10, u64::MAX - 8, HEAP + 0x3ff8] {
        let (task, mut dyld) = ordinary();
        dyld.put(8, &words(&[array]));
        let snapshot = dyld.capture(task);
        assert_eq!(snapshot.images.len(), 3, "found by their headers");
        assert!(trouble(&snapshot).contains("0 of 2 entries of dyld's list could be read"));
    }
}

#[test]
fn a_path_that_cannot_be_had_is_replaced_by_the_image_s_own_name() {
    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    image.commands.push(named(0xd, "/usr/lib/libown.1.dylib"));
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "");
    dyld.put(ARRAY + 2 * 24 + 8, &words(&[0x20]));
    let snapshot = dyld.capture(task);
    assert_eq!(at(&snapshot, OTHER).path.to_str(), Some("/usr/lib/libown.1.dylib"));
    assert_eq!(at(&snapshot, OTHER).version.as_deref(), Some("1.2.3"));
    assert!(trouble(&snapshot).contains("no end within 4096 bytes"));
}

#[test]
fn a_path_of_a_mebibyte_costs_the_path() {
    let (mut task, mut dyld) = ordinary();
    MachO::new(DYLIB, 0, 4).map(&mut task, OTHER);
    dyld.add(OTHER, "x");
    dyld.heap.truncate(STRINGS + 0x200);
    dyld.heap.resize(STRINGS + 0x200 + (1 << 20), b'x');
    dyld.put(ARRAY + 2 * 24 + 8, &words(&[HEAP + STRINGS as u64 + 0x200]));
    let snapshot = dyld.capture(task);
    assert_eq!(at(&snapshot, OTHER).path.to_str(), Some(""));
    assert_eq!(at(&snapshot, OTHER).id, ImageId::Uuid([4; 16]));
}

#[test]
fn dyld_s_path_comes_from_its_structure_else_from_the_executable_else_from_itself() {
    let (task, mut dyld) = ordinary();
    let path = dyld.string(b"/usr/lib/dyld_own");
    dyld.put(192, &words(&[path]));
    assert_eq!(at(&dyld.capture(task), DYLD).path.to_str(), Some("/usr/lib/dyld_own"));

    let (mut task, mut dyld) = (TestTask::default(), Dyld::new());
    let mut program = MachO::new(EXECUTE, 0x1_0000_0000, 1);
    program.commands.push(named(0xe, "/usr/lib/dyld_asked"));
    program.map(&mut task, PROGRAM);
    let mut loader = MachO::new(DYLINKER, 0, 3);
    loader.commands.push(named(0xf, "/usr/lib/dyld_itself"));
    loader.map(&mut task, DYLD);
    dyld.add(PROGRAM, "/A");
    assert_eq!(at(&dyld.capture(task), DYLD).path.to_str(), Some("/usr/lib/dyld_asked"));
}

#[test]
fn one_bad_load_command_never_costs_the_image() {
    let id = ImageId::Uuid([4; 16]);
    let good = MachO::new(DYLIB, 0, 4).commands;
    for (what, bad) in [
        ("size 0", quarters(&[0x26, 0])),
        ("size 7", quarters(&[0x26, 7])),
        ("size past the end", quarters(&[0x26, 0x10_0000])),
        ("size 2^32-1", quarters(&[0x19, u32::MAX])),
        ("a segment cut short", command(0x19, &[b'x'; 8])),
    ] {
        for position in 0..=good.len() {
            let (mut task, mut dyld) = ordinary();
            let mut commands = good.clone();
            commands.insert(position, bad.clone());
            MachO { kind: DYLIB, flags: 0, commands, count: None }.map(&mut task, OTHER);
            dyld.add(OTHER, "/usr/lib/libbad.dylib");
            let snapshot = dyld.capture(task);
            let image = at(&snapshot, OTHER);
            assert_eq!(image.path.to_str(), Some("/usr/lib/libbad.dylib"), "{what} at {position}");
            if position >= 1 {
                assert_eq!(image.bias, OTHER, "{what} at {position}");
            }
            if position == good.len() {
                assert_eq!(image.id, id, "{what} at {position}");
            }
        }
    }
}

#[test]
fn an_absurd_number_of_load_commands_ends_with_the_commands() {
    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    image.count = Some(u32::MAX);
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libbad.dylib");
    let snapshot = dyld.capture(task);
    assert_eq!(at(&snapshot, OTHER).id, ImageId::Uuid([4; 16]));
    assert!(trouble(&snapshot).contains("load command 4 of 4294967295 claims 0 bytes"));
}

#[test]
fn many_tiny_load_commands_are_cut_at_the_limit() {
    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    image.commands.extend(std::iter::repeat_n(command(0x26, &[]), 100));
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libbad.dylib");
    let snapshot = dyld.capture_within(task, &Limits { load_commands: 50, ..Limits::default() });
    assert!(trouble(&snapshot).contains("104 load commands; 50 were read"));
    assert_eq!(at(&snapshot, OTHER).id, ImageId::Uuid([4; 16]));
}

#[test]
fn without_a_text_segment_an_image_keeps_path_base_and_uuid_and_of_two_the_first_counts() {
    let (mut task, mut dyld) = ordinary();
    MachO { kind: DYLIB, flags: 0, commands: vec![uuid(4)], count: None }.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libbad.dylib");
    let snapshot = dyld.capture(task);
    assert_eq!((at(&snapshot, OTHER).size, &at(&snapshot, OTHER).id), (0, &ImageId::Uuid([4; 16])));
    assert!(trouble(&snapshot).contains("it has no __TEXT segment"));

    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    image.commands.push(segment("__TEXT", 0x5000_0000, 0x1000, 5, &[]));
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libbad.dylib");
    assert_eq!(at(&dyld.capture(task), OTHER).bias, OTHER);
}

#[test]
fn an_image_without_uuid_is_kept_and_dyld_s_own_list_may_know_it() {
    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    image.commands.retain(|command| command[0] != 0x1b);
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libold.dylib");
    assert_eq!(at(&dyld.capture(task), OTHER).id, ImageId::None);

    let (mut task, mut dyld) = ordinary();
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libold.dylib");
    dyld.put(88, &words(&[1, HEAP + UUIDS as u64]));
    dyld.put(UUIDS, &[words(&[OTHER]), vec![9; 16]].concat());
    assert_eq!(at(&dyld.capture(task), OTHER).id, ImageId::Uuid([9; 16]));
}

#[test]
fn an_address_without_an_image_keeps_its_path() {
    let (task, mut dyld) = ordinary();
    dyld.add(0x7777_0000, "/usr/lib/libgone.dylib");
    let snapshot = dyld.capture(task);
    assert_eq!(shown(&snapshot)[2], (0x7777_0000, ImageKind::Library, "/usr/lib/libgone.dylib"));
    assert!(trouble(&snapshot).contains("/usr/lib/libgone.dylib at 0x77770000: there is no Mach-O header"));
}

#[test]
fn in_the_shared_cache_an_image_is_as_large_as_its_text() {
    let (mut task, mut dyld) = ordinary();
    let mut image = MachO::new(DYLIB, 0, 4);
    // MH_DYLIB_IN_CACHE; its data lie far away, beyond other images.
    image.flags = 0x8000_0000;
    image.commands[1] = segment("__DATA", 0x4000_0000, 0x1000, 3, &[]);
    image.map(&mut task, OTHER);
    dyld.add(OTHER, "/usr/lib/libcached.dylib");
    assert_eq!(at(&dyld.capture(task), OTHER).size, 0x2000);
}

#[test]
fn what_lies_in_a_shared_cache_that_we_have_too_is_not_copied() {
    for (ours, file) in [(Some([7; 16]), ImageFile::SharedCache), (Some([8; 16]), ImageFile::Unreachable)] {
        let (mut task, mut dyld) = ordinary();
        task.shared_cache = ours;
        let mut image = MachO::new(DYLIB, 0, 4);
        image.flags = 0x8000_0000;
        image.map(&mut task, OTHER);
        task.thread(1, OTHER + 0x1010, 0);
        dyld.add(OTHER, "/usr/lib/libcached.dylib");
        dyld.put(160, &[7; 16]);
        dyld.put(176, &words(&[OTHER - 0x1_0000]));
        let snapshot = dyld.capture(task);
        assert_eq!(snapshot.shared_cache, Some(SharedCache { uuid: [7; 16], base: OTHER - 0x1_0000 }));
        assert_eq!(at(&snapshot, OTHER).file, file);
        // A library of the program's own is what it always was.
        assert_eq!(at(&snapshot, LIBRARY).file, ImageFile::Same);
        let copied = snapshot.memory.slice(OTHER + 0x1800, 0x100).is_some();
        assert_eq!(copied, file == ImageFile::Unreachable);
    }
}

#[test]
fn sizes_that_lie_do_not_reach_into_other_images() {
    for size in [u64::MAX, 1 << 63, 0x1000_0001] {
        let (mut task, mut dyld) = ordinary();
        let mut image = MachO::new(DYLIB, 0, 4);
        image.commands[1] = segment("__DATA", 0x2000, size, 3, &[]);
        image.map(&mut task, OTHER);
        dyld.add(OTHER, "/usr/lib/libbad.dylib");
        let snapshot = dyld.capture(task);
        assert!(at(&snapshot, OTHER).size <= DYLD - OTHER, "{size:#x}");
    }
}

#[test]
fn messages_for_the_crash_reporter_are_read_in_every_known_version() {
    for (version, expected) in [
        (3, &[][..]),
        (4, &["abort() called", "and more"]),
        (5, &["abort() called", "and more"]),
        (7, &["abort() called", "and more"]),
    ] {
        let (mut task, mut dyld) = ordinary();
        let [first, second] = [b"abort() called\n".as_slice(), b"and more"].map(|text| dyld.string(text));
        let info = words(&[version, first, 0, 0, second, 0, 0, 0]);
        let mut memory = super::super::Memory::default();
        memory.insert(LIBRARY + 0x2000, info);
        for block in task.memory.blocks() {
            memory.insert(block.address, block.bytes.to_vec());
        }
        task.memory = memory;
        let snapshot = dyld.capture(task);
        let messages: Vec<_> = snapshot.annotations.messages.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(messages, expected, "version {version}");
        assert!(snapshot.annotations.messages.iter().all(|(path, _)| path.ends_with("libwork.dylib")));
    }
}

#[test]
fn a_message_without_an_end_costs_itself() {
    let (mut task, mut dyld) = ordinary();
    let good = dyld.string(b"good");
    let mut memory = super::super::Memory::default();
    memory.insert(LIBRARY + 0x2000, words(&[5, 0x30, 0, 0, good]));
    for block in task.memory.blocks() {
        memory.insert(block.address, block.bytes.to_vec());
    }
    task.memory = memory;
    let snapshot = dyld.capture(task);
    assert_eq!(snapshot.annotations.messages.len(), 1);
    assert_eq!(snapshot.annotations.messages[0].1, "good");
    assert!(gaps_of(&snapshot, "annotations").contains("a message at 0x30 has no end"));
}

#[test]
fn dyld_s_own_error_is_a_message() {
    let (task, mut dyld) = ordinary();
    let error = dyld.string(b"Library not loaded: @rpath/libmissing.dylib");
    dyld.put(56, &words(&[error]));
    let snapshot = dyld.capture(task);
    let (path, message) = &snapshot.annotations.messages[0];
    assert_eq!(
        (path.to_str(), message.as_str()),
        (Some("/usr/lib/dyld"), "Library not loaded: @rpath/libmissing.dylib")
    );
}

#[test]
fn an_image_whose_file_is_out_of_reach_brings_its_unwind_information_along() {
    let (mut task, dyld) = ordinary();
    task.file = ImageFile::Unreachable;
    task.thread(1, LIBRARY + 0x1004, 0);
    let snapshot = dyld.capture(task);
    assert_eq!(snapshot.memory.slice(LIBRARY + 0x1800, 0x100), Some(&[0xab; 0x100][..]));
}
