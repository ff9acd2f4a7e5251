//! Mapping, fixing up, and the jump.

use std::arch::asm;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::ptr;

use anyhow::{Context, Result, ensure};

use super::image::{Image, Target};

/// Where the program lies at least, and each further image 256 MiB after the one before; below a random slide of 128 MiB.
const BASE: u64 = 0x1_0000_0000;
const APART: u64 = 0x1000_0000;
const SLIDES: u64 = 0x800_0000;
const PAGE: u64 = 0x1000;

/// `<mach/machine.h>`.
const CPU_TYPE_X86_64: u32 = 0x0100_0007;

/// The main thread's stack, as large as on macOS, with a guard page.
const STACK: usize = 8 << 20;

/// An image in memory.
struct Loaded {
    image: Image,
    /// Where its first byte is.
    base: u64,
}

pub(crate) fn run(arguments: &[String], stop: bool) -> Result<()> {
    let path = arguments.first().context("usage: macho_loader [--stop] MAIN [ARGUMENT ...]")?;
    let path = Path::new(path).canonicalize().with_context(|| format!("find {path}"))?;
    let folder = path.parent().context("a file is in a folder")?;
    let mut images = vec![map(Image::read(&path, CPU_TYPE_X86_64)?, 0)?];
    let mut index = 0;
    while index < images.len() {
        for library in images[index].image.libraries.clone() {
            let path = folder.join(library);
            if !images.iter().any(|loaded| loaded.image.path == path) {
                let count = images.len() as u64;
                images.push(map(Image::read(&path, CPU_TYPE_X86_64)?, count)?);
            }
        }
        index += 1;
    }
    for loaded in &images {
        fix_up(loaded, &images)?;
        prepare_lazy(loaded, &images)?;
        protect(loaded)?;
    }
    publish(&images)?;

    let entry = images[0].image.entry.context("no LC_MAIN")? + images[0].base;
    let start = find(&images, "__start_main")?;
    let arguments: Vec<CString> =
        arguments.iter().map(|argument| CString::new(&**argument)).collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const i8> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let top = anonymous(None, STACK)? + STACK as u64;
    check(mprotect(top - STACK as u64, PAGE as usize, libc::PROT_NONE), "guard the stack")?;
    // Rust's runtime has set handlers that tell of an overflowed stack; a program on macOS starts with none.
    for number in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: restores the default action; no handler of ours is involved.
        ensure!(unsafe { libc::signal(number, libc::SIG_DFL) } != libc::SIG_ERR, "reset signal {number}");
    }
    if stop {
        // SAFETY: traps; a tracer lets us go on behind it.
        unsafe { asm!("int3") };
    }
    // SAFETY: the image at `start` has been mapped and fixed up whole; it takes argc, argv and main, never returns, and has
    // a stack of its own. What it is given lives as long as the process, since this function never goes on.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "jmp {start}",
            top = in(reg) top,
            start = in(reg) start,
            in("rdi") arguments.len(),
            in("rsi") pointers.as_ptr(),
            in("rdx") entry,
            options(noreturn),
        )
    }
}

/// Maps an image's segments from its file, all of them writable for now.
fn map(image: Image, index: u64) -> Result<Loaded> {
    let mut random = [0_u8; 8];
    // SAFETY: the length is that of the buffer.
    ensure!(unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) } == 8, "no random numbers");
    let base = BASE + index * APART + u64::from_le_bytes(random) % SLIDES / PAGE * PAGE;
    let file = File::open(&image.path)?;
    for segment in &image.segments {
        let address = segment.address - image.base() + base;
        let whole = segment.size.next_multiple_of(PAGE) as usize;
        if whole == 0 {
            continue;
        }
        anonymous(Some(address), whole)?;
        let in_file = segment.file_size.next_multiple_of(PAGE) as usize;
        if in_file > 0 {
            mmap_fixed(address, in_file, file.as_raw_fd(), segment.offset)
                .with_context(|| format!("map {} of {}", segment.name, image.path.display()))?;
            // The rest of the last page is zero, not what follows in the file.
            let rest = in_file - segment.file_size as usize;
            if segment.protection & libc::PROT_WRITE != 0 {
                let end = ptr::with_exposed_provenance_mut::<u8>((address + segment.file_size) as usize);
                // SAFETY: the bytes lie in the page mapped above, privately and writable.
                unsafe { ptr::write_bytes(end, 0, rest) };
            }
        }
    }
    Ok(Loaded { image, base })
}

fn fix_up(loaded: &Loaded, images: &[Loaded]) -> Result<()> {
    for fixup in loaded.image.fixups()? {
        let value = match &fixup.target {
            Target::Own(offset) => loaded.base + offset,
            Target::Symbol(name, addend) => find(images, name)? + addend,
        };
        let place = ptr::with_exposed_provenance_mut::<u64>((loaded.base + fixup.offset) as usize);
        // SAFETY: `Image::fixups` has found the place inside a segment's file part, which is mapped and writable.
        unsafe { place.write_unaligned(value) };
    }
    Ok(())
}

/// Leaves, for `lazy_bind` of tests/lab/victims/binder.c, a table of the pointers that are bound when they are first used.
fn prepare_lazy(loaded: &Loaded, images: &[Loaded]) -> Result<()> {
    let Some(private) = loaded.image.dyld_private() else { return Ok(()) };
    let mut table = Vec::new();
    for bind in loaded.image.lazy_binds()? {
        table.extend([bind.start, loaded.base + bind.offset, find(images, &bind.name)? + bind.addend]);
    }
    table.push(u64::MAX);
    let address = table.leak().as_ptr().expose_provenance() as u64;
    let place = ptr::with_exposed_provenance_mut::<u64>((loaded.base + private) as usize);
    // SAFETY: a symbol of the image's data, which is mapped and writable.
    unsafe { place.write_unaligned(address) };
    Ok(())
}

fn protect(loaded: &Loaded) -> Result<()> {
    for segment in loaded.image.segments.iter().filter(|segment| segment.size > 0) {
        let address = segment.address - loaded.image.base() + loaded.base;
        let length = segment.size.next_multiple_of(PAGE) as usize;
        // ld64.lld marks __DATA_CONST to be made read-only by dyld (SG_READ_ONLY).
        let read_only = if segment.name == "__DATA_CONST" { libc::PROT_READ } else { segment.protection };
        check(mprotect(address, length, read_only), "protect a segment")?;
    }
    Ok(())
}

fn find(images: &[Loaded], name: &str) -> Result<u64> {
    let found = images.iter().find_map(|loaded| {
        let address = loaded.image.symbol(name)?;
        Some(address - loaded.image.base() + loaded.base)
    });
    found.with_context(|| format!("nothing defines {name}"))
}

/// Writes `struct dyld_all_image_infos`, version 16 (`<mach-o/dyld_images.h>`), with its tables and paths behind it.
fn publish(images: &[Loaded]) -> Result<()> {
    const LENGTH: usize = 1 << 16;
    const ENTRIES: usize = 512;
    let mut bytes = vec![0_u8; LENGTH];
    let name = c"dyld_all_image_infos";
    // SAFETY: the name ends in NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    ensure!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: no memory is involved.
    check(unsafe { libc::ftruncate(fd, LENGTH as libc::off_t) }, "size the list of images")?;
    let address = map_anywhere(LENGTH, libc::MAP_SHARED, fd)?;

    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let uuids = ENTRIES + images.len() * 24;
    let mut text = uuids + images.len() * 24;
    for (index, loaded) in images.iter().enumerate() {
        let path = CString::new(loaded.image.path.as_os_str().as_encoded_bytes())?;
        let (entry, uuid) = (ENTRIES + index * 24, uuids + index * 24);
        put(entry, &loaded.base.to_le_bytes());
        put(entry + 8, &(address + text as u64).to_le_bytes());
        put(uuid, &loaded.base.to_le_bytes());
        put(uuid + 8, &loaded.image.uuid);
        put(text, path.as_bytes_with_nul());
        text += path.as_bytes_with_nul().len();
    }
    put(0, &16_u32.to_le_bytes());
    put(4, &(images.len() as u32).to_le_bytes());
    put(8, &(address + ENTRIES as u64).to_le_bytes());
    // libSystemInitialized.
    put(25, &[1]);
    put(88, &(images.len() as u64).to_le_bytes());
    put(96, &(address + uuids as u64).to_le_bytes());
    put(104, &address.to_le_bytes());
    put(112, &(images.len() as u64).to_le_bytes());
    // PLATFORM_MACOS.
    put(320, &1_u32.to_le_bytes());
    // SAFETY: the mapping has that length, is writable, and nobody else refers to it.
    unsafe {
        ptr::with_exposed_provenance_mut::<u8>(address as usize).copy_from_nonoverlapping(bytes.as_ptr(), LENGTH)
    };
    Ok(())
}

fn anonymous(address: Option<u64>, length: usize) -> Result<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let Some(address) = address else { return map_anywhere(length, flags, -1) };
    let wanted = ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: a new mapping; one that is there already is not replaced.
    let got = unsafe {
        libc::mmap(wanted, length, libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_FIXED_NOREPLACE, -1, 0)
    };
    ensure!(got == wanted, "{address:#x} is taken");
    Ok(address)
}

fn map_anywhere(length: usize, flags: i32, fd: RawFd) -> Result<u64> {
    // SAFETY: a new mapping where there is none.
    let got = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    ensure!(got != libc::MAP_FAILED, "no memory: {}", std::io::Error::last_os_error());
    Ok(got.expose_provenance() as u64)
}

/// Maps a file over an anonymous mapping made for it.
fn mmap_fixed(address: u64, length: usize, fd: RawFd, offset: u64) -> Result<()> {
    let wanted = ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: what is replaced is the mapping that the caller has just made there.
    let got = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        libc::mmap(wanted, length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset as libc::off_t)
    };
    ensure!(got == wanted, "{}", std::io::Error::last_os_error());
    Ok(())
}

fn mprotect(address: u64, length: usize, protection: i32) -> i32 {
    // SAFETY: the range is a mapping of this loader's, and no Rust object lies in it.
    unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(address as usize), length, protection) }
}

fn check(result: i32, what: &str) -> Result<()> {
    ensure!(result == 0, "{what}: {}", std::io::Error::last_os_error());
    Ok(())
}
