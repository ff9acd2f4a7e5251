//! Installing the client and taking it back.

use core::cell::UnsafeCell;

use aftermach_protocol::product::{Fixed, ProductRef};
use aftermach_protocol::record::{Flags, IDENTITY_STRIDE, State};

use crate::Host;
use crate::error::Error;
use crate::options::{Identity, Options, Port};
use crate::record::{Header, IdentityString, SPACE, header, start_clock, store, wall_clock};
use crate::sync::{AtomicU32, Ordering, alone};

/// A service's name, or its socket's path.
pub(crate) type ServiceName = Fixed<128>;

/// What a system does for the client. `linux` and `macos` implement it.
pub(crate) trait Platform {
    /// Everything that undoing it takes. Plain data in static memory.
    type Registration: Copy + 'static;

    /// The service that the product's name leads to, or that the options name.
    fn service(product: &ProductRef<'_>, options: &Options<'_>) -> Result<ServiceName, Error>;
    /// Has the service take this process's crashes.
    fn register(request: &Request) -> Result<(Self::Registration, Installed), Error>;
    /// Puts everything back as it was.
    fn unregister(request: &Request, registration: &Self::Registration) -> Result<(), Error>;
    /// Renews the registration if the service it was made with is gone.
    fn renew(request: &Request, registration: &mut Self::Registration) -> Result<(), Error>;
    /// In a forked child: has the service leave the child alone. Async-signal-safe.
    fn detach(request: &Request, registration: &Self::Registration);
    /// Has the service report the process as it stands.
    fn dump(request: &Request, registration: &Self::Registration) -> Result<(), Error>;
}

/// What a registration is made from. Kept, to renew it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) service: ServiceName,
    pub(crate) crash_only: bool,
    pub(crate) identity: Identity,
    pub(crate) port: Port,
    pub(crate) timeout_ms: u32,
    /// Address of the record's header.
    pub(crate) record: u64,
}

/// How the client was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// How exception messages name the process: on macOS never [`Identity::Auto`], on Linux what was asked for.
    pub identity: Identity,
    /// Which port is registered: on macOS never [`Port::Auto`], on Linux what was asked for.
    pub port: Port,
    /// Others were registered before, and the service passes on to them what it has no use for (macOS).
    pub passes_on: bool,
    /// Only deaths are reported: asked for, or because a debugger needs the hardware exceptions.
    pub crash_only: bool,
    /// A debugger traces the process.
    pub debugged: bool,
    /// The exceptions registered for (`EXC_MASK_*`); 0 on Linux.
    pub exception_mask: u32,
    /// The behaviour registered with; 0 on Linux.
    pub exception_behaviour: u32,
}

impl Installed {
    /// Where nothing but being asked decides: on Linux.
    #[cfg_attr(target_os = "macos", allow(dead_code, reason = "macOS has exception ports to tell of"))]
    pub(crate) fn as_asked(request: &Request) -> Installed {
        Installed {
            identity: request.identity,
            port: request.port,
            passes_on: false,
            crash_only: request.crash_only,
            debugged: false,
            exception_mask: 0,
            exception_behaviour: 0,
        }
    }
}

const IDLE: u32 = 0;
const CHANGING: u32 = 1;
const INSTALLED: u32 = 2;

/// What is kept while the client is installed.
struct Kept {
    phase: AtomicU32,
    value: UnsafeCell<Option<(Request, <Host as Platform>::Registration)>>,
}

// SAFETY: `value` is written only by the thread that moved `phase` to CHANGING, and read by that thread or, while `phase` is
// INSTALLED, by those that move it to CHANGING or are in a forked child with no other thread.
unsafe impl Sync for Kept {}

static KEPT: Kept = Kept { phase: AtomicU32::new(IDLE), value: UnsafeCell::new(None) };

impl Kept {
    /// Takes the right to change what is kept, which [`Kept::change`] gives back: from `from`, else the error that says why not.
    fn claim(&self, from: u32) -> Result<(), Error> {
        match self.phase.compare_exchange(from, CHANGING, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(INSTALLED) => Err(Error::AlreadyInstalled),
            Err(CHANGING) => Err(Error::InProgress),
            Err(_) => Err(Error::NotInstalled),
        }
    }

    /// Changes what is kept, by a right that was taken from `from`, and gives that back with the phase that is then right. (No
    /// `Drop` does: it would cost landing pads, for panics that there are none of.)
    fn change<R>(&self, from: u32, body: impl FnOnce(&mut Change<'_>) -> R) -> R {
        let mut change = Change { kept: self, next: from };
        let result = body(&mut change);
        self.phase.store(change.next, Ordering::Release);
        result
    }
}

/// The right to change what is kept.
struct Change<'k> {
    kept: &'k Kept,
    next: u32,
}

impl Change<'_> {
    /// Works on what is kept, where it is: copies of it cost more than all the rest here.
    fn with<R>(&mut self, work: impl FnOnce(&mut Option<(Request, <Host as Platform>::Registration)>) -> R) -> R {
        // SAFETY: this thread moved the phase to CHANGING, so nobody else reads or writes.
        alone(|| work(unsafe { &mut *self.kept.value.get() }))
    }

    fn set(&mut self, value: Option<(Request, <Host as Platform>::Registration)>) {
        self.next = if value.is_some() { INSTALLED } else { IDLE };
        self.with(|kept| *kept = value);
    }
}

/// Has the service report this process if it crashes. Call it once, early; where it fails the program goes on unreported.
///
/// Children inherit the registration on macOS, and the service leaves them alone, unless they install the client themselves.
///
/// # Errors
/// See [`Error`]. Nothing is changed then.
pub fn install(product: &ProductRef<'_>, options: &Options<'_>) -> Result<Installed, Error> {
    if options.version.len() >= IDENTITY_STRIDE {
        return Err(Error::Argument);
    }
    let header = header();
    match KEPT.claim(IDLE) {
        // A forked child inherits its parent's memory. It is to have a registration of its own.
        Err(Error::AlreadyInstalled) if header.pid.load(Ordering::Relaxed) != process_id() => {
            detach_for_child();
            KEPT.claim(IDLE)?;
        }
        other => other?,
    }
    KEPT.change(IDLE, |change| install_claimed(change, header, product, options))
}

#[inline]
fn install_claimed(
    change: &mut Change<'_>,
    header: &Header,
    product: &ProductRef<'_>,
    options: &Options<'_>,
) -> Result<Installed, Error> {
    let request = Request {
        service: Host::service(product, options)?,
        crash_only: options.crash_only,
        identity: options.identity,
        port: options.port,
        timeout_ms: options.timeout_ms,
        record: header.address(),
    };
    // The identity goes first: from the moment of registration on, the process may die.
    start_clock(header);
    let [group, name, channel] = [product.group(), product.name(), product.channel()].map(str::as_bytes);
    for (place, string) in SPACE.identity.iter().zip([group, name, channel, options.version]) {
        store_string(place, string);
    }
    header.pid.store(process_id(), Ordering::Relaxed);
    header.installed_at.store(wall_clock(), Ordering::Relaxed);
    set_state(header, State::Installed);
    match Host::register(&request) {
        Ok((registration, installed)) => {
            note(header, &installed);
            change.set(Some((request, registration)));
            Ok(installed)
        }
        Err(error) => {
            set_state(header, State::NotInstalled);
            change.set(None);
            Err(error)
        }
    }
}

/// Takes [`install`] back: what was set before is set again. Annotations and breadcrumbs stay.
///
/// # Errors
/// [`Error::NotInstalled`], [`Error::InProgress`]; or the system's own, and then the client stays installed.
pub fn uninstall() -> Result<(), Error> {
    KEPT.claim(INSTALLED)?;
    KEPT.change(INSTALLED, |change| {
        change.with(|kept| match kept {
            Some((request, registration)) => Host::unregister(request, registration),
            None => Ok(()),
        })?;
        set_state(header(), State::Detached);
        change.set(None);
        Ok(())
    })
}

/// Renews the registration if the service was replaced and no longer has it; cheap if it still does. For programs that
/// outlive an upgrade of the service: call it now and then, or when told of one.
///
/// # Errors
/// Those of [`install`], and [`Error::NotInstalled`]. The client stays installed, and may be armed again later.
pub fn rearm() -> Result<(), Error> {
    KEPT.claim(INSTALLED)?;
    KEPT.change(INSTALLED, |change| {
        change.with(|kept| match kept {
            Some((request, registration)) => Host::renew(request, registration),
            None => Ok(()),
        })
    })
}

/// In a forked child, before it execs or goes on as a program of its own: frees it from its parent's registration.
/// Async-signal-safe. Not after `vfork`, where parent and child share their memory.
pub fn detach_for_child() {
    let header = header();
    if header.pid.load(Ordering::Relaxed) == process_id() {
        return;
    }
    // Nobody else runs here, so the phase is what the forking moment left: only INSTALLED says that the value is whole.
    if KEPT.phase.swap(IDLE, Ordering::Acquire) == INSTALLED {
        // SAFETY: no other thread is in the child, and no thread was writing when the parent forked.
        if let Some((request, registration)) = unsafe { *KEPT.value.get() } {
            Host::detach(&request, &registration);
        }
        set_state(header, State::Detached);
    }
}

/// Has the service report the process as it stands now; it then goes on living. Returns once the snapshot is taken. Allocates
/// nothing; for a bug that was noticed without a crash.
///
/// # Errors
/// [`Error::NotInstalled`]: not installed, or (Linux) the service that it was installed with is gone, and [`rearm`] helps.
/// [`Error::ServiceBusy`]: the process has had ten of these at once, and may have one a minute. [`Error::InProgress`]: another
/// thread is asking. Or why the service could not be asked.
pub fn dump_without_crashing() -> Result<(), Error> {
    KEPT.claim(INSTALLED)?;
    KEPT.change(INSTALLED, |change| {
        change.with(|kept| match kept {
            Some((request, registration)) => Host::dump(request, registration),
            None => Err(Error::NotInstalled),
        })
    })
}

fn note(header: &Header, installed: &Installed) {
    let flags = if installed.crash_only { Flags::CRASH_ONLY.0 } else { 0 };
    header.flags.store(flags, Ordering::Relaxed);
    header.exception_mask.store(installed.exception_mask, Ordering::Relaxed);
    header.exception_behaviour.store(installed.exception_behaviour, Ordering::Relaxed);
}

fn set_state(header: &Header, state: State) {
    let number = match state {
        State::NotInstalled => 0,
        State::Installed => 1,
        State::Detached => 2,
        State::Unknown(number) => number,
    };
    header.state.store(number, Ordering::Release);
}

/// Length, then bytes.
#[inline(never)]
fn store_string(place: &IdentityString, string: &[u8]) {
    let mut bytes = [0; IDENTITY_STRIDE];
    if let Some((length, room)) = bytes.split_first_mut() {
        *length = string.len() as u8;
        for (to, from) in room.iter_mut().zip(string) {
            *to = *from;
        }
    }
    store(place, &bytes);
}

fn process_id() -> u32 {
    // SAFETY: getpid has no preconditions and can't fail.
    unsafe { libc::getpid() as u32 }
}

/// As if nothing had been installed yet.
#[cfg(aftermach_model)]
pub(crate) fn reset() {
    KEPT.phase.store(IDLE, Ordering::Relaxed);
    // SAFETY: no thread of the model runs.
    unsafe { *KEPT.value.get() = None };
}
