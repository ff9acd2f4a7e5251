//! A process stopped at arbitrary instants, read from outside by way of its loaded notes alone.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use aftermach_client::{breadcrumb, set};
use aftermach_protocol::record::{Contents, Damage, Header};

/// Addresses of this program's records, found as a reader of any process finds them: through its PT_NOTE segments (elf(5)).
fn records() -> Vec<u64> {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, found: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the loader's own table, and the vector passed below.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<u64>>()) };
        for index in 0..usize::from(info.dlpi_phnum) {
            // SAFETY: `dlpi_phnum` headers.
            let header = unsafe { &*info.dlpi_phdr.add(index) };
            if header.p_type != libc::PT_NOTE {
                continue;
            }
            let (start, size) = (info.dlpi_addr + header.p_vaddr, header.p_memsz as usize);
            // SAFETY: a loaded segment; the record's own atomics are not read through this.
            let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, size.min(24)) };
            // Name size 10, descriptor size 128, type 1, "Aftermach\0", padding.
            if bytes == b"\x0a\0\0\0\x80\0\0\0\x01\0\0\0Aftermach\0\0\0" {
                found.push(start + 24);
            }
        }
        0
    }
    let mut found: Vec<u64> = Vec::new();
    // SAFETY: `visit` takes this vector.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// Ends the child however the test ends.
struct Child(libc::pid_t);

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: this test's own child, not yet waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[test]
fn a_process_stopped_at_any_instant_has_whole_annotations_and_at_most_the_breadcrumb_it_was_writing_torn() {
    let records = records();
    let [address] = records[..] else { panic!("one record, found through the notes: {records:?}") };

    // SAFETY: the child only calls what may be called after a fork, until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let letters: [[u8; 200]; 16] = std::array::from_fn(|index| [b'a' + index as u8; 200]);
        let mut round = 0_usize;
        loop {
            let text = str::from_utf8(&letters[round % 16]).unwrap_or_default();
            let _ = set("first", text);
            let _ = set("second", text);
            breadcrumb(text);
            round = round.wrapping_add(1);
        }
    }
    assert!(child > 0);
    let _ended = Child(child);
    let memory = match File::open(format!("/proc/{child}/mem")) {
        Ok(memory) => memory,
        Err(error) => {
            println!("SKIP: a child's memory can't be read here: {error}");
            return;
        }
    };
    let (mut read, mut superseded, mut torn) = (0, 0, 0);
    // On a busy machine many stops find the child where the last one left it.
    let enough = |read: u32, superseded: usize, torn: usize| read >= 2_000 && superseded > 0 && torn > 0;
    while !enough(read, superseded, torn) && read < 200_000 {
        // So that it gets somewhere, and not always as far.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(read % 64)));
        let mut status = 0;
        // SAFETY: the child above.
        unsafe {
            libc::kill(child, libc::SIGSTOP);
            libc::waitpid(child, &mut status, libc::WUNTRACED);
        }
        assert!(libc::WIFSTOPPED(status), "the child runs until it is stopped");
        let mut bytes = [0; 128];
        memory.read_exact_at(&mut bytes, address).unwrap();
        let header = Header::decode(&bytes).unwrap();
        let mut space = vec![0; header.space_size as usize];
        memory.read_exact_at(&mut space, header.space).unwrap();
        let contents = Contents::decode(&header, &space);
        // SAFETY: the child above.
        unsafe { libc::kill(child, libc::SIGCONT) };

        assert!(contents.damage.len() <= 1, "{:?}", contents.damage);
        assert!(contents.damage.iter().all(|damage| matches!(damage, Damage::Breadcrumb(_))), "{:?}", contents.damage);
        torn += contents.damage.len();
        for annotation in &contents.annotations {
            assert!(annotation.value.len() == 200, "{annotation:?}");
            assert!(annotation.value.bytes().all(|byte| byte == annotation.value.as_bytes()[0]), "{annotation:?}");
            superseded += usize::from(annotation.superseded);
        }
        if let [first, second] = &contents.annotations[..] {
            // The two are set in turn, so the later is never more than one round behind.
            let (a, b) = (first.value.as_bytes()[0] - b'a', second.value.as_bytes()[0] - b'a');
            assert!(a == b || (a + 1) % 16 == b, "{first:?} {second:?}");
            read += 1;
        }
    }
    println!("{read} stops: {superseded} in a write of an annotation, {torn} in one of a breadcrumb");
    assert!(superseded > 0 && torn > 0, "no stop fell into a write");
}
