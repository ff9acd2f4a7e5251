//! macOS: the kernel sends this task's exceptions to the service's port.

mod dump;
mod facts;
mod ports;

use aftermach_protocol::product::{Fixed, ProductRef};
use mach2::bootstrap::{
    BOOTSTRAP_NOT_PRIVILEGED, BOOTSTRAP_SUCCESS, BOOTSTRAP_UNKNOWN_SERVICE, bootstrap_look_up, bootstrap_port,
};
use mach2::exception_types::{
    EXC_MASK_ARITHMETIC, EXC_MASK_BAD_ACCESS, EXC_MASK_BAD_INSTRUCTION, EXC_MASK_BREAKPOINT, EXC_MASK_CRASH,
    EXCEPTION_DEFAULT, EXCEPTION_STATE, MACH_EXCEPTION_CODES, exception_mask_t,
};
use mach2::kern_return::{KERN_DENIED, KERN_INVALID_ARGUMENT, KERN_INVALID_RIGHT, KERN_NO_ACCESS, kern_return_t};
use mach2::port::{MACH_PORT_NULL, mach_port_t};

use crate::error::Error;
use crate::install::{Installed, Platform, Request, ServiceName};
use crate::options::{Identity, Options};
use ports::{SendRight, Table};

/// Exceptions that the processor raises for what a thread did. Not EXC_GUARD: registering for it makes the kernel kill without
/// a crash (bsd/kern/kern_guarded.c). Not EXC_RESOURCE: release kernels never send it to a task (osfmk/kern/thread.c).
const HARDWARE: exception_mask_t =
    EXC_MASK_BAD_ACCESS | EXC_MASK_BAD_INSTRUCTION | EXC_MASK_ARITHMETIC | EXC_MASK_BREAKPOINT;

/// `EXCEPTION_IDENTITY_PROTECTED` (osfmk/mach/exception_types.h, macOS 12); mach2 doesn't have it.
const EXCEPTION_IDENTITY_PROTECTED: u32 = 4;

/// See the module.
pub(crate) enum MacOs {}

/// The exceptions that are ours, and whose they were before. The port names stand for rights that are owned until
/// [`Platform::unregister`] gives them back.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    port: mach_port_t,
    mask: exception_mask_t,
    behaviour: u32,
    before: Table,
}

impl Platform for MacOs {
    type Registration = Registration;

    fn service(product: &ProductRef<'_>, options: &Options<'_>) -> Result<ServiceName, Error> {
        match options.service {
            Some(name) => Fixed::copied(name).ok_or(Error::Argument),
            None => Ok(product.service()),
        }
    }

    fn register(request: &Request) -> Result<(Registration, Installed), Error> {
        let port = look_up(&request.service)?;
        // A debugger is the task's exception server while it debugs: to take the hardware exceptions would take its
        // breakpoints from it. Deaths are free: it learns of those by wait.
        let debugged = facts::is_traced();
        let crash_only = request.crash_only || debugged;
        let mask = if crash_only { EXC_MASK_CRASH } else { EXC_MASK_CRASH | HARDWARE };
        let identity = choose(request.identity)?;
        let (identity, before) = match (ports::swap(mask, &port, behaviour(identity)), request.identity) {
            (Ok(before), _) => (identity, before),
            // A kernel that doesn't know the protected behaviour says so before it looks at anything else
            // (osfmk/kern/ipc_tt.c), and kills nobody for it.
            (Err(KERN_INVALID_ARGUMENT), Identity::Auto) if identity == Identity::Protected => {
                let before = ports::swap(mask, &port, behaviour(Identity::Classic)).map_err(set_error)?;
                (Identity::Classic, before)
            }
            (Err(result), _) => return Err(set_error(result)),
        };
        let behaviour = behaviour(identity);
        // Not every system that answers "done" has done it.
        if ports::held_by(mask, &port, behaviour).map_err(set_error)? != mask {
            before.restore(mask);
            before.release();
            return Err(Error::NotHonoured);
        }
        let installed =
            Installed { identity, crash_only, debugged, exception_mask: mask, exception_behaviour: behaviour };
        Ok((Registration { port: port.into_name(), mask, behaviour, before }, installed))
    }

    fn unregister(_request: &Request, registration: &Registration) -> Result<(), Error> {
        let port = SendRight::from_name(registration.port);
        // Who has registered since keeps what it has.
        match ports::held_by(registration.mask, &port, registration.behaviour) {
            Ok(ours) => {
                registration.before.restore(ours);
                registration.before.release();
                Ok(())
            }
            Err(result) => {
                let _still_owned = port.into_name();
                Err(set_error(result))
            }
        }
    }

    fn renew(request: &Request, registration: &Registration) -> Result<Registration, Error> {
        let port = look_up(&request.service)?;
        // The service's old port may be dead, and whoever registered since keeps what it has.
        let free = ports::free_for(registration.mask, registration.port).map_err(set_error)?;
        ports::set(free, port.name(), registration.behaviour).map_err(set_error)?;
        drop(SendRight::from_name(registration.port));
        Ok(Registration { port: port.into_name(), ..*registration })
    }

    fn detach(_request: &Request, registration: &Registration) {
        // The kernel copied the registration, but the child's port space is its own and empty: the names of the ports from
        // before mean nothing here. Without a port of its own the task falls to the system's.
        let _ = ports::set(registration.mask, MACH_PORT_NULL, registration.behaviour);
    }

    fn dump(request: &Request, registration: &Registration) -> Result<(), Error> {
        dump::ask(registration.port, request)
    }
}

fn look_up(service: &ServiceName) -> Result<SendRight, Error> {
    let mut port = MACH_PORT_NULL;
    // SAFETY: the name ends with a NUL within the 128 bytes of a name_t; `port` is a port name to write to.
    let result = unsafe { bootstrap_look_up(bootstrap_port, service.with_nul().as_ptr().cast(), &mut port) };
    match result {
        BOOTSTRAP_SUCCESS if port != MACH_PORT_NULL => Ok(SendRight::from_name(port)),
        BOOTSTRAP_SUCCESS | BOOTSTRAP_UNKNOWN_SERVICE => Err(Error::NoService),
        BOOTSTRAP_NOT_PRIVILEGED => Err(Error::RefusedBySandbox),
        other => Err(Error::System(other)),
    }
}

/// Decided before the first try: in a hardened process or platform binary the wrong one is a guard violation, which kills the
/// caller (osfmk/kern/ipc_tt.c, set_exception_behavior_allowed).
fn choose(wanted: Identity) -> Result<Identity, Error> {
    match (wanted, facts::has_identity_tokens()) {
        (Identity::Auto | Identity::Protected, true) => Ok(Identity::Protected),
        (Identity::Auto | Identity::Classic, _) => Ok(Identity::Classic),
        (Identity::Protected, false) => Err(Error::Incompatible),
    }
}

/// Always with 64-bit codes: the kernel panics when it delivers a protected exception without (osfmk/kern/exception.c).
const fn behaviour(identity: Identity) -> u32 {
    match identity {
        Identity::Classic => EXCEPTION_DEFAULT | MACH_EXCEPTION_CODES,
        Identity::Auto | Identity::Protected => EXCEPTION_IDENTITY_PROTECTED | MACH_EXCEPTION_CODES,
    }
}

/// Whether hardened processes may use it: 4 and 5, `EXCEPTION_STATE_IDENTITY_PROTECTED` (macOS 15), and 2, `EXCEPTION_STATE`.
const fn is_protected(behaviour: u32) -> bool {
    matches!(behaviour & 0xff, EXCEPTION_STATE | EXCEPTION_IDENTITY_PROTECTED | 5)
}

fn set_error(result: kern_return_t) -> Error {
    match result {
        KERN_DENIED => Error::Hardened,
        KERN_NO_ACCESS => Error::RefusedBySandbox,
        KERN_INVALID_RIGHT => Error::PortRefused,
        other => Error::System(other),
    }
}
