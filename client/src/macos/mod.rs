//! macOS: the kernel sends this task's exceptions to the service's port.

mod check_in;
mod dump;
mod exchange;
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
use mach2::kern_return::{
    KERN_DENIED, KERN_INVALID_ARGUMENT, KERN_INVALID_RIGHT, KERN_NO_ACCESS, KERN_SUCCESS, kern_return_t,
};
use mach2::port::{MACH_PORT_NULL, mach_port_t};

use crate::error::Error;
use crate::install::{Installed, Platform, Request, ServiceName};
use crate::options::{Identity, Options, Port};
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
    /// A port that the service made for this process: the one that is registered, or one to keep the service's memory of
    /// earlier handlers by, or null.
    own: mach_port_t,
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
        let service = look_up(&request.service)?;
        // A debugger is the task's exception server while it debugs: to take the hardware exceptions would take its
        // breakpoints from it. Deaths are free: it learns of those by wait.
        let debugged = facts::is_traced();
        let crash_only = request.crash_only || debugged;
        let mask = if crash_only { EXC_MASK_CRASH } else { EXC_MASK_CRASH | HARDWARE };
        let mut before = Table::new();
        let (mut port, mut kind) = (service, Port::Service);
        let mut identity = match request.port {
            Port::Own => Err(Error::PortRefused),
            Port::Auto | Port::Service => swap(mask, &port, request.identity, &mut before),
        };
        if identity == Err(Error::PortRefused) && request.port != Port::Service {
            ports::current(mask, &mut before)?;
            let own = check_in::ask(port.name(), &before, request.timeout_ms);
            before.release();
            (port, kind) = (own?, Port::Own);
            identity = swap(mask, &port, request.identity, &mut before);
        }
        let identity = identity?;
        let behaviour = behaviour(identity);
        // Not every system that answers "done" has done it.
        if ports::held(mask, port.name(), behaviour)?.ours != mask {
            before.restore(mask);
            before.release();
            return Err(Error::NotHonoured);
        }
        let mut own = MACH_PORT_NULL;
        let mut passes_on = before.elsewhere(port.name()).next().is_some();
        if kind == Port::Own {
            own = port.name();
        } else if passes_on {
            // Without it the service serves all the same, but passes nothing on.
            let asked = check_in::ask(port.name(), &before, request.timeout_ms);
            passes_on = asked.is_ok();
            own = asked.map_or(MACH_PORT_NULL, SendRight::into_name);
        }
        let installed = Installed {
            identity,
            port: kind,
            passes_on,
            crash_only,
            debugged,
            exception_mask: mask,
            exception_behaviour: behaviour,
        };
        Ok((Registration { port: port.into_name(), own, mask, behaviour, before }, installed))
    }

    fn unregister(_request: &Request, registration: &Registration) -> Result<(), Error> {
        // Who has registered since keeps what it has.
        let held = ports::held(registration.mask, registration.port, registration.behaviour)?;
        registration.before.restore(held.ours);
        registration.before.release();
        registration.release_own();
        drop(SendRight::from_name(registration.port));
        Ok(())
    }

    fn renew(request: &Request, registration: &mut Registration) -> Result<(), Error> {
        let own_died = ports::is_dead(registration.own);
        if !own_died && !ports::is_dead(registration.port) {
            return Ok(());
        }
        let mut port = look_up(&request.service)?;
        let is_own = registration.port == registration.own;
        if own_died {
            match check_in::ask(port.name(), &registration.before, request.timeout_ms) {
                Ok(own) if is_own => port = own,
                Ok(own) => {
                    registration.release_own();
                    registration.own = own.into_name();
                }
                Err(error) if is_own => return Err(error),
                // The next call tries again.
                Err(_) => {}
            }
        }
        if port.name() != registration.port {
            // Whoever registered since keeps what it has.
            let held = ports::held(registration.mask, registration.port, registration.behaviour)?;
            ports::set(registration.mask & !held.taken, port.name(), registration.behaviour).map_err(set_error)?;
        }
        drop(SendRight::from_name(registration.port));
        registration.port = port.into_name();
        if is_own {
            registration.own = registration.port;
        }
        Ok(())
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

impl Registration {
    /// Gives back the right to a port of our own that is not the registered one.
    fn release_own(&self) {
        if self.own != self.port {
            drop(SendRight::from_name(self.own));
        }
    }
}

/// Registers `port`, and says how. Whose place it takes stands in `before`.
#[inline(never)]
fn swap(mask: exception_mask_t, port: &SendRight, wanted: Identity, before: &mut Table) -> Result<Identity, Error> {
    let mut identity = choose(wanted)?;
    loop {
        match ports::swap(mask, port.name(), behaviour(identity), before) {
            KERN_SUCCESS => return Ok(identity),
            // A kernel that doesn't know the protected behaviour says so before it looks at anything else
            // (osfmk/kern/ipc_tt.c), and kills nobody for it.
            KERN_INVALID_ARGUMENT if wanted == Identity::Auto && identity == Identity::Protected => {
                identity = Identity::Classic;
            }
            other => return Err(set_error(other)),
        }
    }
}

#[inline(never)]
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
