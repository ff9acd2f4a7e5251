//! Looking a service up, as a client does.

use std::ffi::CString;

use mach2::bootstrap::{BOOTSTRAP_NOT_PRIVILEGED, BOOTSTRAP_UNKNOWN_SERVICE, bootstrap_look_up, bootstrap_port};
use mach2::mach_port::mach_port_deallocate;
use mach2::port::MACH_PORT_NULL;

use super::{bootstrap_text, own_space};

/// What launchd answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The service is there. Its handler need not run.
    Found,
    /// No job of this process's domain, or of one above it, has the name.
    Unknown,
    /// A sandbox or the domain forbids it.
    NotPrivileged,
    /// Something else, in words.
    Other(String),
}

/// Looks `service` up in this process's domain. Nothing is sent to it, so no handler starts.
pub fn look_up(service: &str) -> Lookup {
    let Ok(name) = CString::new(service) else { return Lookup::Other("its name has a NUL".to_owned()) };
    let mut port = MACH_PORT_NULL;
    // SAFETY: a name that ends in NUL, and a port name to write to; libSystem sets the bootstrap port before main.
    let code = unsafe { bootstrap_look_up(bootstrap_port, name.as_ptr(), &mut port) };
    match code {
        0 if port != MACH_PORT_NULL => {
            // SAFETY: plain numbers. The send right is ours, from the line above.
            unsafe { mach_port_deallocate(own_space(), port) };
            Lookup::Found
        }
        0 | BOOTSTRAP_UNKNOWN_SERVICE => Lookup::Unknown,
        BOOTSTRAP_NOT_PRIVILEGED => Lookup::NotPrivileged,
        code => Lookup::Other(bootstrap_text(code)),
    }
}
