//! A system in which registering always works, unless it is told otherwise, and that knows whether the process is registered.

use core::sync::atomic::{AtomicBool, Ordering};

use aftermach_protocol::product::ProductRef;

use super::explore::step;
use crate::error::Error;
use crate::install::{Installed, Platform, Request, ServiceName};
use crate::options::Options;

/// See the module.
#[derive(Debug)]
pub enum Model {}

static REGISTERED: AtomicBool = AtomicBool::new(false);
static FAILS: AtomicBool = AtomicBool::new(false);

/// Whether the service would report this process.
pub fn is_registered() -> bool {
    REGISTERED.load(Ordering::Relaxed)
}

/// The next attempt to register finds no service.
pub fn fail_next_registration() {
    FAILS.store(true, Ordering::Relaxed);
}

pub(super) fn reset() {
    REGISTERED.store(false, Ordering::Relaxed);
    FAILS.store(false, Ordering::Relaxed);
}

impl Platform for Model {
    type Registration = ();

    fn service(_: &ProductRef<'_>, _: &Options<'_>) -> Result<ServiceName, Error> {
        ServiceName::copied(b"model").ok_or(Error::Argument)
    }

    fn register(request: &Request) -> Result<((), Installed), Error> {
        step();
        if FAILS.swap(false, Ordering::Relaxed) {
            return Err(Error::NoService);
        }
        assert!(!REGISTERED.swap(true, Ordering::Relaxed), "registered twice");
        step();
        Ok(((), Installed::as_asked(request)))
    }

    fn unregister(_: &Request, (): &()) -> Result<(), Error> {
        step();
        assert!(REGISTERED.swap(false, Ordering::Relaxed), "taken back twice");
        step();
        Ok(())
    }

    fn renew(_: &Request, (): &mut ()) -> Result<(), Error> {
        step();
        assert!(is_registered(), "renewed what is not there");
        Ok(())
    }

    fn detach(_: &Request, (): &()) {
        REGISTERED.store(false, Ordering::Relaxed);
    }

    fn dump(_: &Request, (): &()) -> Result<(), Error> {
        step();
        assert!(is_registered(), "asked though not registered");
        step();
        Ok(())
    }
}
