//! What the ways to die need of signals and mappings.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;

use super::kinds::{self, Kind};

/// Takes the Rust runtime's stack-overflow handlers away, so that a fault here is what it would be in a C program. The kind
/// that is about that handler keeps it.
pub(super) fn default_fault_handlers(kind: Kind) {
    if kind != Kind::GuardedStackOverflow {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: setting a disposition to the default runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: `action` is initialised and the handler has the signature that goes without SA_SIGINFO.
    match unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[inline(never)]
extern "C" fn faulting_handler(_signal: c_int) {
    kinds::null_read();
}

#[inline(never)]
pub(super) fn fault_in_handler() -> io::Result<()> {
    handle(libc::SIGUSR1, faulting_handler)?;
    // SAFETY: raises a signal that has a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
    Ok(())
}

#[inline(never)]
extern "C" fn aborting_handler(_signal: c_int) {
    std::process::abort();
}

#[inline(never)]
pub(super) fn abort_in_handler() -> io::Result<()> {
    handle(libc::SIGSEGV, aborting_handler)?;
    kinds::null_write();
    Ok(())
}

pub(super) fn kill_self() {
    // SAFETY: ends this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Maps a new file at `path`, then cuts it to nothing: its pages are there, what they should hold is not. Returns their
/// address.
pub(super) fn map_then_cut(path: &Path) -> io::Result<usize> {
    const LENGTH: usize = 64 << 10;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    file.set_len(LENGTH as u64)?;
    // SAFETY: a new shared mapping at an address of the kernel's choice; nobody else uses it.
    let address =
        unsafe { libc::mmap(ptr::null_mut(), LENGTH, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    file.set_len(0)?;
    Ok(address as usize)
}
