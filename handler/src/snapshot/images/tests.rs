//! ELF images and loaders' lists as they should be, and as a broken or hostile task has them.

use std::path::Path;

use super::super::test_task::{TestTask, gaps_of};
use super::super::{Image, ImageFile, ImageId, ImageKind, Limits, Snapshot};
use super::version;
use crate::host::ImageList;

const PROGRAM: u64 = 0x5555_0000_0000;
const LIBRARY: u64 = 0x7f00_0010_0000;
const OTHER: u64 = 0x7f00_0020_0000;
const LOADER: u64 = 0x7f00_0030_0000;
const VDSO: u64 = 0x7f00_0040_0000;
const HEAP: u64 = 0x7f00_1000_0000;

/// Offsets in each made-up image.
const NOTE: u64 = 0x300;
const FRAME_HEADER: u64 = 0x400;
const FRAMES: u64 = 0x440;
const DYNAMIC: u64 = 0x1000;

/// Program header types, as in `elf.h`.
const LOAD: u32 = 1;
const DYNAMIC_SECTION: u32 = 2;
const NOTES: u32 = 4;
const OWN_TABLE: u32 = 6;
const EH_FRAME: u32 = 0x6474_e550;

struct Elf {
    headers: Vec<(u32, u64, u64, u64)>,
    id: u8,
    debug: u64,
}

impl Elf {
    fn new(id: u8) -> Elf {
        let headers = vec![
            (OWN_TABLE, 64, 64, 56 * 6),
            (LOAD, 0, 0, 0x800),
            (LOAD, 0x1000, 0x1000, 0x2000),
            (DYNAMIC_SECTION, DYNAMIC, DYNAMIC, 0x100),
            (NOTES, NOTE, NOTE, 36),
            (EH_FRAME, FRAME_HEADER, FRAME_HEADER, 0x40),
        ];
        Elf { headers, id, debug: 0 }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 0x2000];
        put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
        put(&mut bytes, 32, &64_u64.to_le_bytes());
        put(&mut bytes, 54, &56_u16.to_le_bytes());
        put(&mut bytes, 56, &(self.headers.len() as u16).to_le_bytes());
        for (index, (kind, offset, address, size)) in self.headers.iter().enumerate() {
            let at = 64 + index * 56;
            put(&mut bytes, at, &kind.to_le_bytes());
            for (field, value) in [(8, *offset), (16, *address), (32, *size), (40, *size), (48, 4)] {
                put(&mut bytes, at + field, &value.to_le_bytes());
            }
        }
        put(&mut bytes, NOTE as usize, &[4_u32, 20, 3].map(u32::to_le_bytes).concat());
        put(&mut bytes, NOTE as usize + 12, b"GNU\0");
        put(&mut bytes, NOTE as usize + 16, &[self.id; 20]);
        put(&mut bytes, FRAME_HEADER as usize, &[1, 0x1b, 3, 0x3b]);
        put(&mut bytes, FRAME_HEADER as usize + 4, &((FRAMES - FRAME_HEADER - 4) as u32).to_le_bytes());
        put(&mut bytes, FRAMES as usize, &[self.id; 0x100]);
        put(&mut bytes, DYNAMIC as usize, &[1_u64, 77, 21, self.debug].map(u64::to_le_bytes).concat());
        bytes
    }

    fn map(&self, task: &mut TestTask, base: u64, path: Option<&str>) {
        let bytes = self.bytes();
        task.map(base, bytes[..0x1000].to_vec(), "r-x", path, 0);
        task.map(base + 0x1000, bytes[0x1000..].to_vec(), "rw-", path, 0x1000);
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The heap of a task: `r_debug` at its start, then whatever a test puts there.
struct Heap(Vec<u8>);

impl Heap {
    fn new() -> Heap {
        let mut heap = Heap(vec![0; 0x4000]);
        heap.words(0, &[1, HEAP + 0x100]);
        heap
    }

    fn words(&mut self, at: usize, words: &[u64]) {
        put(&mut self.0, at, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    }

    /// Adds a link_map at `at`: bias, name, dynamic section, next.
    fn node(&mut self, at: usize, bias: u64, name: u64, next: u64) {
        self.words(at, &[bias, name, bias + DYNAMIC, next, 0]);
    }
}

/// A program with a library, the loader and the vDSO, and the list that the loader keeps of them.
fn ordinary() -> (TestTask, Heap) {
    let mut task = TestTask::default();
    Elf { debug: HEAP, ..Elf::new(1) }.map(&mut task, PROGRAM, Some("/bin/program"));
    Elf::new(2).map(&mut task, LIBRARY, Some("/lib/libwork.so.1.2"));
    Elf::new(3).map(&mut task, LOADER, Some("/lib/ld.so"));
    task.map(VDSO, Elf::new(4).bytes()[..0x1000].to_vec(), "r-x", Some("[vdso]"), 0);
    let mut heap = Heap::new();
    heap.node(0x100, PROGRAM, 0, HEAP + 0x200);
    heap.node(0x200, VDSO, 0, HEAP + 0x300);
    heap.node(0x300, LIBRARY, 0, HEAP + 0x400);
    heap.node(0x400, LOADER, 0, 0);
    task.image_list = Some(ImageList::LinkMap {
        program_headers: PROGRAM + 64,
        count: 6,
        vdso: Some(VDSO),
        interpreter: Some(LOADER),
    });
    (task, heap)
}

fn capture((mut task, heap): (TestTask, Heap)) -> Snapshot {
    task.map(HEAP, heap.0, "rw-", None, 0);
    task.capture(&Limits::default())
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.images.iter().map(|image| image.path.to_str().unwrap()).collect()
}

fn image<'a>(snapshot: &'a Snapshot, path: &str) -> &'a Image {
    snapshot.images.iter().find(|image| image.path == Path::new(path)).unwrap()
}

const ALL: [&str; 4] = ["/bin/program", "[vdso]", "/lib/libwork.so.1.2", "/lib/ld.so"];

#[test]
fn the_loader_s_list_is_followed() {
    let snapshot = capture(ordinary());
    assert_eq!(snapshot.gaps, []);
    assert_eq!(paths(&snapshot), ALL);
    let kinds: Vec<_> = snapshot.images.iter().map(|image| image.kind).collect();
    assert_eq!(kinds, [ImageKind::Executable, ImageKind::Vdso, ImageKind::Library, ImageKind::Loader]);
    let library = image(&snapshot, "/lib/libwork.so.1.2");
    assert_eq!((library.base, library.bias, library.size), (LIBRARY, LIBRARY, 0x3000));
    assert_eq!(library.id, ImageId::BuildId(vec![2; 20]));
    assert_eq!(library.version.as_deref(), Some("1.2"));
    assert_eq!(library.sections, []);
}

#[test]
fn an_image_linked_to_an_address_of_its_own_has_a_smaller_bias() {
    let (mut task, heap) = (TestTask::default(), Heap::new());
    let mut elf = Elf::new(1);
    for header in &mut elf.headers {
        header.2 += 0x40_0000;
    }
    elf.map(&mut task, 0x40_0000, Some("/bin/static"));
    // A static program: no loader's list, and here no PT_PHDR either.
    elf.headers.remove(0);
    let list = |task: &mut TestTask| {
        task.image_list =
            Some(ImageList::LinkMap { program_headers: 0x40_0040, count: 6, vdso: None, interpreter: None });
    };
    list(&mut task);
    let snapshot = capture((task, heap));
    assert_eq!((snapshot.images.len(), snapshot.images[0].base, snapshot.images[0].bias), (1, 0x40_0000, 0));

    let mut task = TestTask::default();
    elf.map(&mut task, 0x40_0000, Some("/bin/static"));
    list(&mut task);
    let snapshot = capture((task, Heap::new()));
    assert_eq!((snapshot.images.len(), snapshot.images[0].base, snapshot.images[0].bias), (1, 0x40_0000, 0));
    assert_eq!((snapshot.images[0].kind, snapshot.images[0].size), (ImageKind::Executable, 0x3000));
}

#[test]
fn a_list_that_comes_back_to_itself_ends() {
    let (task, mut heap) = ordinary();
    heap.node(0x400, LOADER, 0, HEAP + 0x200);
    let snapshot = capture((task, heap));
    assert_eq!(paths(&snapshot), ALL);
    assert_eq!(gaps_of(&snapshot, "images"), format!("the loader's list comes back to {:#x}", HEAP + 0x200));
}

#[test]
fn a_list_of_absurd_length_is_cut() {
    let (mut task, mut heap) = ordinary();
    heap.0.resize(0x4000 + 48 * 5000, 0);
    heap.node(0x400, LOADER, 0, HEAP + 0x4000);
    for index in 0..4999 {
        heap.node(0x4000 + index * 48, LIBRARY, 0, HEAP + 0x4000 + (index as u64 + 1) * 48);
    }
    task.map(HEAP, heap.0, "rw-", None, 0);
    let snapshot = task.capture(&Limits::default());
    assert_eq!(paths(&snapshot), ALL);
    assert_eq!(gaps_of(&snapshot, "images"), "the loader's list is longer than the 4096 images read of it");
}

#[test]
fn more_images_than_the_limit_are_left_out_and_it_is_told() {
    let (mut task, heap) = ordinary();
    task.map(HEAP, heap.0, "rw-", None, 0);
    let snapshot = task.capture(&Limits { images: 4, ..Limits::default() });
    assert_eq!((snapshot.images.len(), gaps_of(&snapshot, "images").as_str()), (4, ""));
    let snapshot = task.capture(&Limits { images: 2, ..Limits::default() });
    assert_eq!(paths(&snapshot), ALL[..2]);
    assert!(gaps_of(&snapshot, "images").contains("left out, there are 2 already"));
}

#[test]
fn a_list_that_leads_nowhere_leaves_what_is_mapped_to_be_executed() {
    for (name, next) in [("unmapped", 0x1000), ("end of memory", u64::MAX - 8), ("end of the heap", HEAP + 0x3ff0)] {
        let (task, mut heap) = ordinary();
        heap.node(0x100, PROGRAM, 0, next);
        let snapshot = capture((task, heap));
        let mut found = paths(&snapshot);
        assert_eq!(found[0], ALL[0], "{name}");
        found.sort_unstable();
        assert_eq!(found, ["/bin/program", "/lib/ld.so", "/lib/libwork.so.1.2", "[vdso]"], "{name}");
        assert!(gaps_of(&snapshot, "images").contains("which can't be read"), "{name}");
    }
}

#[test]
fn before_the_loader_has_started_there_is_no_list_but_there_are_images() {
    let (mut task, heap) = ordinary();
    task.memory = Default::default();
    task.regions.clear();
    Elf::new(1).map(&mut task, PROGRAM, Some("/bin/program"));
    Elf::new(3).map(&mut task, LOADER, Some("/lib/ld.so"));
    let snapshot = capture((task, heap));
    assert_eq!(paths(&snapshot), ["/bin/program", "/lib/ld.so"]);
    assert_eq!(snapshot.gaps, []);
}

#[test]
fn entries_that_lead_to_no_image_are_counted_and_cost_themselves() {
    let (task, mut heap) = ordinary();
    heap.node(0x200, HEAP, 0, HEAP + 0x300);
    heap.node(0x400, 0x1234_5678_9000, 0, 0);
    let snapshot = capture((task, heap));
    assert_eq!(gaps_of(&snapshot, "images"), "2 entries of the loader's list lead to no image");
    assert_eq!(snapshot.images.len(), 4, "the mappings still tell of them");
}

#[test]
fn an_image_from_no_file_bears_the_name_that_the_loader_gives_it() {
    let (mut task, mut heap) = ordinary();
    Elf::new(5).map(&mut task, OTHER, None);
    heap.node(0x400, LOADER, 0, HEAP + 0x500);
    heap.node(0x500, OTHER, HEAP + 0x600, 0);
    put(&mut heap.0, 0x600, b"generated.so\0");
    assert_eq!(paths(&capture((task, heap)))[4], "generated.so");
}

#[test]
fn a_name_without_an_end_costs_the_name() {
    for length in [5000, 1 << 20] {
        let (mut task, mut heap) = ordinary();
        Elf::new(5).map(&mut task, OTHER, None);
        heap.node(0x400, LOADER, 0, HEAP + 0x500);
        heap.node(0x500, OTHER, HEAP + 0x4000, 0);
        heap.0.resize(0x4000 + length, b'x');
        let snapshot = capture((task, heap));
        assert_eq!((paths(&snapshot)[4], snapshot.images[4].base), ("", OTHER));
        assert!(gaps_of(&snapshot, "images").contains("no end within 4096 bytes"));
    }
}

#[test]
fn a_namespace_s_own_list_is_followed_too() {
    let (mut task, mut heap) = ordinary();
    Elf::new(5).map(&mut task, OTHER, None);
    heap.words(0, &[2, HEAP + 0x100, 0, 0, 0, HEAP + 0x800]);
    heap.words(0x800, &[2, HEAP + 0x900, 0, 0, 0, HEAP + 0x800]);
    heap.node(0x900, OTHER, 0, 0);
    let snapshot = capture((task, heap));
    assert_eq!((snapshot.images.len(), snapshot.images[4].base), (5, OTHER));
    assert_eq!(snapshot.gaps, []);
}

#[test]
fn a_list_that_was_being_changed_says_so() {
    let (task, mut heap) = ordinary();
    heap.words(24, &[1]);
    let snapshot = capture((task, heap));
    assert_eq!(paths(&snapshot), ALL);
    assert_eq!(gaps_of(&snapshot, "images"), "the loader was changing its list when the task died");
}

#[test]
fn headers_that_lie_about_sizes_do_not_reach_into_other_images() {
    for size in [0x1_0000_0000_0000, u64::MAX, u64::MAX - LIBRARY, 0x10_0001] {
        let (mut task, heap) = ordinary();
        let mut elf = Elf::new(2);
        elf.headers[2].3 = size;
        task.regions.retain(|region| region.start & !0xffff != LIBRARY);
        task.memory = Default::default();
        let (fresh, _) = ordinary();
        for block in fresh.memory.blocks().iter().filter(|block| block.address & !0xffff != LIBRARY) {
            task.memory.insert(block.address, block.bytes.to_vec());
        }
        elf.map(&mut task, LIBRARY, Some("/lib/libwork.so.1.2"));
        let snapshot = capture((task, heap));
        let library = image(&snapshot, "/lib/libwork.so.1.2");
        assert!(library.size <= LOADER - LIBRARY, "{size:#x}: {:#x}", library.size);
        assert_eq!(library.id, ImageId::BuildId(vec![2; 20]));
    }
}

#[test]
fn an_absurd_number_of_program_headers_is_cut_and_told() {
    let (mut task, heap) = ordinary();
    task.image_list =
        Some(ImageList::LinkMap { program_headers: PROGRAM + 64, count: u64::MAX, vdso: None, interpreter: None });
    let snapshot = capture((task, heap));
    assert_eq!(paths(&snapshot)[0], "/bin/program");
    assert!(gaps_of(&snapshot, "images").contains("more headers than are read"));
}

#[test]
fn an_image_whose_file_is_gone_has_its_unwind_sections_in_the_copy() {
    let (mut task, heap) = ordinary();
    task.file = ImageFile::Replaced;
    task.map(HEAP, heap.0, "rw-", None, 0);
    task.thread(1, LIBRARY + 0x900, 0);
    let snapshot = task.capture(&Limits::default());
    let library = image(&snapshot, "/lib/libwork.so.1.2");
    let sections: Vec<_> = library.sections.iter().map(|section| (section.name.as_str(), section.address)).collect();
    assert_eq!(sections, [(".eh_frame_hdr", FRAME_HEADER), (".eh_frame", FRAMES)]);
    assert_eq!(library.sections[1].size, 0x800 - FRAMES);
    assert_eq!(snapshot.memory.slice(LIBRARY + FRAMES, 0x100), Some(&[2; 0x100][..]));
    assert_eq!(gaps_of(&snapshot, "images"), "");

    let snapshot = task.capture(&Limits { unwind_section: 0x80, ..Limits::default() });
    assert_eq!(snapshot.memory.slice(LIBRARY + FRAMES, 0x80), Some(&[2; 0x80][..]));
    assert_eq!(snapshot.memory.slice(LIBRARY + FRAMES, 0x81), None);
    assert!(gaps_of(&snapshot, "images").contains("128 of 960 bytes of .eh_frame copied"));

    let snapshot = task.capture(&Limits { unwind_sections: 0, ..Limits::default() });
    assert_eq!(snapshot.memory.slice(LIBRARY + FRAMES, 1), None);
}

#[test]
fn only_images_that_a_thread_may_have_a_frame_in_bring_unwind_sections() {
    const STACK: u64 = HEAP + 0x10_0000;
    let (mut task, heap) = ordinary();
    task.file = ImageFile::Unreachable;
    task.map(HEAP, heap.0, "rw-", None, 0);
    let mut stack = vec![0; 0x1000];
    // A signed return address, as on arm64.
    put(&mut stack, 0x808, &((LOADER + 0x400) | 0xbf00_0000_0000_0000).to_le_bytes());
    task.map(STACK, stack, "rw-", None, 0);
    task.thread(1, 0, STACK + 0x800);
    let snapshot = task.capture(&Limits::default());
    assert_eq!(snapshot.memory.slice(LOADER + FRAMES, 0x100), Some(&[3; 0x100][..]));
    assert_eq!(snapshot.memory.slice(LIBRARY + FRAMES, 1), None);
    assert_eq!(snapshot.memory.slice(PROGRAM + FRAMES, 1), None);
    assert_eq!(image(&snapshot, "/lib/libwork.so.1.2").sections.len(), 2, "they are listed all the same");
}

#[test]
fn the_vdso_is_copied_whole_and_has_sections() {
    let snapshot = capture(ordinary());
    let vdso = image(&snapshot, "[vdso]");
    assert_eq!(vdso.file, ImageFile::Unreachable);
    assert_eq!(snapshot.memory.slice(VDSO, 0x1000), Some(&Elf::new(4).bytes()[..0x1000]));
    assert_eq!(vdso.sections.len(), 2);
}

#[test]
fn a_deleted_file_is_named_as_it_was() {
    let (mut task, heap) = ordinary();
    Elf::new(5).map(&mut task, OTHER, Some("/lib/libold.so (deleted)"));
    assert_eq!(paths(&capture((task, heap)))[4], "/lib/libold.so");
}

#[test]
fn thousands_of_mappings_are_kept_up_to_the_limit() {
    let (mut task, heap) = ordinary();
    for index in 0..5000 {
        task.regions.push(super::Region {
            start: HEAP + 0x100_0000 + index * 0x2000,
            end: HEAP + 0x100_1000 + index * 0x2000,
            ..task.regions[0].clone()
        });
    }
    task.map(HEAP, heap.0, "rw-", None, 0);
    let snapshot = task.capture(&Limits { regions: 5000, ..Limits::default() });
    assert_eq!(snapshot.regions.len(), 5000);
    assert_eq!(gaps_of(&snapshot, "regions"), "5008 mappings; the first 5000 were kept");
    assert_eq!(paths(&snapshot)[0], "/bin/program");
}

#[test]
fn a_library_s_version_is_what_follows_so() {
    let version = |path: &str| version(Path::new(path));
    assert_eq!(version("/lib/libc.so.6").as_deref(), Some("6"));
    assert_eq!(version("libssl.so.1.1").as_deref(), Some("1.1"));
    assert_eq!(version("/bin/ls"), None);
    assert_eq!(version("/lib/libx.so.old"), None);
    assert_eq!(version("/lib/libx.so"), None);
}
