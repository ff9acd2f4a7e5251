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
