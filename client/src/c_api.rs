//! The functions that `include/aftermach.h` declares. cbindgen makes the header of this file and `codes.rs`, comments included:
//! they speak to C programmers. See `tests/header.rs`.
#![allow(rustdoc::broken_intra_doc_links, reason = "the header's marks in brackets are no links")]

use core::ffi::{CStr, c_char, c_int};

use crate::codes::{
    AFTERMACH_CLASSIC, AFTERMACH_CRASH_ONLY, AFTERMACH_OWN_PORT, AFTERMACH_PROTECTED, AFTERMACH_SERVICE_PORT,
};
use crate::error::{Error, message};
use crate::install::install;
use crate::options::{Identity, Options, Port};
use crate::{Dropped, ProductRef, annotations, breadcrumbs};

/// Optional. Set it to zeros, then size, then what is wanted. It only grows at its end.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct COptions {
    /// sizeof(struct aftermach_options)
    size: u32,
    /// AFTERMACH_CRASH_ONLY and the other flags
    flags: u32,
    /// of the product, at most 63 bytes; may be NULL
    version: *const c_char,
    /// another service: Mach service name, or socket path on Linux; may be NULL
    service: *const c_char,
    /// for the service's answers; 0 for the default, 2000
    timeout_ms: u32,
    /// 0
    reserved: u32,
}

/// What the header must say of `struct aftermach_options`, for the test that compares them.
#[doc(hidden)]
#[derive(Debug)]
pub struct OptionsLayout {
    /// `sizeof`.
    pub size: usize,
    /// Fields with their `offsetof`.
    pub offsets: [(&'static str, usize); 6],
}

/// See [`OptionsLayout`].
#[doc(hidden)]
pub const fn options_layout() -> OptionsLayout {
    use core::mem::offset_of;
    OptionsLayout {
        size: size_of::<COptions>(),
        offsets: [
            ("size", offset_of!(COptions, size)),
            ("flags", offset_of!(COptions, flags)),
            ("version", offset_of!(COptions, version)),
            ("service", offset_of!(COptions, service)),
            ("timeout_ms", offset_of!(COptions, timeout_ms)),
            ("reserved", offset_of!(COptions, reserved)),
        ],
    }
}

/// The text at a pointer; `None` for null.
///
/// # Safety
/// `text` is null or a C string that stays as it is for as long as the answer is used.
unsafe fn bytes<'t>(text: *const c_char) -> Option<&'t [u8]> {
    // SAFETY: not null, so a C string.
    if text.is_null() { None } else { Some(unsafe { CStr::from_ptr(text) }.to_bytes()) }
}

/// The part of a product's name at a pointer; empty for null. A product's parts are ASCII.
///
/// # Safety
/// As for [`bytes`].
unsafe fn part<'t>(text: *const c_char) -> Result<&'t str, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(text) }.unwrap_or_default();
    if bytes.iter().all(|byte| byte.is_ascii()) {
        // SAFETY: ASCII is UTF-8. (The checked conversion would bring its tables along.)
        Ok(unsafe { core::str::from_utf8_unchecked(bytes) })
    } else {
        Err(Error::Argument)
    }
}

fn code(result: Result<(), Error>) -> c_int {
    result.map_or_else(Error::code, |()| 0)
}

fn dropped_code(result: Result<(), Dropped>) -> c_int {
    result.map_or_else(Dropped::code, |()| 0)
}

/// Has this process's crashes reported. `group`: app group or reverse domain ("TEAMID.com.example"); `name`: the product;
/// `channel`: the release channel, NULL or "" for stable. Where it fails nothing is changed, and the program goes on unreported.
///
/// # Safety
/// Strings are NULL or end in NUL; `options` is NULL or points at `options->size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aftermach_install(
    group: *const c_char,
    name: *const c_char,
    channel: *const c_char,
    options: *const COptions,
) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { install_from_c(group, name, channel, options) };
    code(result)
}

/// # Safety
/// As for [`aftermach_install`].
unsafe fn install_from_c(
    group: *const c_char,
    name: *const c_char,
    channel: *const c_char,
    options: *const COptions,
) -> Result<(), Error> {
    // SAFETY: the caller's promise, here and for the strings below.
    let (group, name, channel) = unsafe { (part(group)?, part(name)?, part(channel)?) };
    let product = ProductRef::new(group, name, channel).map_err(|_| Error::Argument)?;
    let mut chosen = Options::new();
    if !options.is_null() {
        // SAFETY: not null, so its size can be read. A smaller one is an older caller's; none was smaller than this yet.
        if unsafe { (*options).size } < size_of::<COptions>() as u32 {
            return Err(Error::Argument);
        }
        // SAFETY: it is at least as large as COptions.
        let given = unsafe { *options };
        // SAFETY: the caller's promise.
        let (version, service) = unsafe { (bytes(given.version), bytes(given.service)) };
        chosen.version = version.unwrap_or_default();
        chosen.service = service;
        chosen.crash_only = given.flags & AFTERMACH_CRASH_ONLY != 0;
        chosen.identity = match given.flags & (AFTERMACH_PROTECTED | AFTERMACH_CLASSIC) {
            0 => Identity::Auto,
            AFTERMACH_PROTECTED => Identity::Protected,
            AFTERMACH_CLASSIC => Identity::Classic,
            _ => return Err(Error::Argument),
        };
        chosen.port = match given.flags & (AFTERMACH_SERVICE_PORT | AFTERMACH_OWN_PORT) {
            0 => Port::Auto,
            AFTERMACH_SERVICE_PORT => Port::Service,
            AFTERMACH_OWN_PORT => Port::Own,
            _ => return Err(Error::Argument),
        };
        if given.timeout_ms != 0 {
            chosen.timeout_ms = given.timeout_ms;
        }
    }
    install(&product, &chosen).map(|_| ())
}

/// Takes aftermach_install back; what was set before is set again. Annotations stay.
#[unsafe(no_mangle)]
pub extern "C" fn aftermach_uninstall() -> c_int {
    code(crate::uninstall())
}

/// Renews the registration if the service was replaced; cheap if it was not.
#[unsafe(no_mangle)]
pub extern "C" fn aftermach_rearm() -> c_int {
    code(crate::rearm())
}

/// In the child of a fork, before exec: frees it from its parent's registration. Not after vfork. [signal]
#[unsafe(no_mangle)]
pub extern "C" fn aftermach_detach_for_child() {
    crate::detach_for_child();
}

/// Has the process reported as it stands; it goes on living. Returns when the snapshot is taken. A process may have ten of these at
/// once, and then one a minute: AFTERMACH_SERVICE_BUSY.
#[unsafe(no_mangle)]
pub extern "C" fn aftermach_dump_without_crashing() -> c_int {
    code(crate::dump_without_crashing())
}

/// Sets a key (64 bytes at most) to a value (cut after 432 bytes) for the report; NULL removes it. Works before
/// aftermach_install too. [signal]
///
/// # Safety
/// Both are NULL or end in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aftermach_set(key: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let (key, value) = unsafe { (bytes(key), bytes(value)) };
    dropped_code(match value {
        Some(value) => annotations::set_bytes(key.unwrap_or_default(), value),
        None => annotations::remove_bytes(key.unwrap_or_default()),
    })
}

/// Removes a key; that it is not set is no error. [signal]
///
/// # Safety
/// The key is NULL or ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aftermach_remove(key: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    dropped_code(annotations::remove_bytes(unsafe { bytes(key) }.unwrap_or_default()))
}

/// Leaves a line (cut after 224 bytes) for the report, which shows the last 64. [signal]
///
/// # Safety
/// The text is NULL or ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aftermach_breadcrumb(text: *const c_char) {
    // SAFETY: the caller's promise.
    if let Some(text) = unsafe { bytes(text) } {
        breadcrumbs::breadcrumb_bytes(text);
    }
}

/// What a returned number means, in English. [signal]
#[unsafe(no_mangle)]
pub extern "C" fn aftermach_message(code: c_int) -> *const c_char {
    message(code).as_ptr()
}
