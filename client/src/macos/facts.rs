//! What the running system can do, and what this process is.

use core::ffi::{c_int, c_void};

/// `PROC_FLAG_TRACED` (bsd/sys/proc_info.h).
const PROC_FLAG_TRACED: u32 = 2;

const _: () = assert!(size_of::<libc::proc_bsdinfo>() == 136, "PROC_PIDTBSDINFO_SIZE, bsd/sys/proc_info.h");

/// `task_create_identity_token(task, *token)` (osfmk/mach/task.defs, macOS 12).
pub(super) type CreateIdentityToken =
    unsafe extern "C" fn(mach2::port::mach_port_t, *mut mach2::port::mach_port_t) -> mach2::kern_return::kern_return_t;

/// The function that makes identity tokens, where the system has it: from the same release on it knows the protected
/// exception behaviours.
pub(super) fn create_identity_token() -> Option<CreateIdentityToken> {
    // SAFETY: the name is a C string; looking it up runs no code of the program's.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"task_create_identity_token".as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: libSystem's function of this name has this signature.
    Some(unsafe { core::mem::transmute::<*mut c_void, CreateIdentityToken>(address) })
}

/// macOS 12 and later.
pub(super) fn has_identity_tokens() -> bool {
    create_identity_token().is_some()
}

/// Whether a debugger is attached.
pub(super) fn is_traced() -> bool {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut info: libc::proc_bsdinfo = unsafe { core::mem::zeroed() };
    let size = size_of::<libc::proc_bsdinfo>() as c_int;
    // SAFETY: `info` has room for `size` bytes.
    let written = unsafe {
        libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast::<c_void>(), size)
    };
    written == size && info.pbi_flags & PROC_FLAG_TRACED != 0
}

unsafe extern "C" {
    /// What the kernel knows of a process's signature (bsd/sys/codesign.h; in libSystem, not in its public headers).
    fn csops(pid: libc::pid_t, operation: u32, buffer: *mut c_void, size: usize) -> c_int;
}

const CS_OPS_STATUS: u32 = 0;
const CS_OPS_ENTITLEMENTS_BLOB: u32 = 7;
/// `CS_PLATFORM_BINARY`: Apple's own.
const CS_PLATFORM_BINARY: u32 = 0x0400_0000;
/// Room for a process's entitlements as XML, in bytes: few have a tenth of it.
const ENTITLEMENTS: usize = 8192;

/// Part of the entitlements that forbid the classic exception behaviours: `…hardened-process…` (macOS 26) and those of browser
/// engines (macOS 15).
const HARDENED: [&[u8]; 3] = [b"hardened-process", b"only-one-exception-port", b"web-browser-engine"];

/// Whether this process may set exception ports with the classic behaviours. Where that can't be told the answer is no: it
/// would be killed for trying.
pub(super) fn may_be_classic() -> bool {
    let mut flags = 0_u32;
    // SAFETY: `flags` is the four bytes that the operation writes.
    let known = unsafe { csops(libc::getpid(), CS_OPS_STATUS, (&raw mut flags).cast(), size_of::<u32>()) };
    if known != 0 || flags & CS_PLATFORM_BINARY != 0 {
        return false;
    }
    let mut entitlements = [0_u8; ENTITLEMENTS];
    // SAFETY: the buffer is as large as said.
    let read = unsafe {
        csops(libc::getpid(), CS_OPS_ENTITLEMENTS_BLOB, entitlements.as_mut_ptr().cast(), entitlements.len())
    };
    if read != 0 {
        // SAFETY: the C library's own per-thread number.
        let error = unsafe { *libc::__error() };
        // It has none. (ERANGE: more than fit.)
        return error == libc::EINVAL;
    }
    !HARDENED.iter().any(|name| {
        // SAFETY: both are as long as said.
        let place =
            unsafe { libc::memmem(entitlements.as_ptr().cast(), ENTITLEMENTS, name.as_ptr().cast(), name.len()) };
        !place.is_null()
    })
}
