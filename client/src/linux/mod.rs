//! Linux: the service watches by ptrace, and is asked to over its Unix socket.

mod socket;

use aftermach_protocol::product::ProductRef;
use aftermach_protocol::session::Kind;

use crate::error::Error;
use crate::install::{Installed, Platform, Request, ServiceName};
use crate::options::Options;
use socket::Connection;

/// See the module.
pub(crate) enum Linux {}

/// The connection whose end tells the service that this process is gone. A plain number: it lives in static memory.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    descriptor: i32,
}

impl Platform for Linux {
    type Registration = Registration;

    fn service(product: &ProductRef<'_>, options: &Options<'_>) -> Result<ServiceName, Error> {
        let own;
        let path = match options.service {
            Some(path) => path,
            None => {
                own = socket::default_path(product)?;
                own.as_bytes()
            }
        };
        let path = ServiceName::copied(path);
        // sockaddr_un holds 107 bytes and a NUL; a path that can't be connected to is no path.
        path.filter(|path| path.len() <= aftermach_protocol::product::MAX_SOCKET_PATH).ok_or(Error::Argument)
    }

    fn register(request: &Request) -> Result<(Registration, Installed), Error> {
        let connection = Connection::open(&request.service, request.timeout_ms)?;
        connection.permit();
        if let Err(error) = connection.ask(Kind::Attach, request.record, request.timeout_ms) {
            socket::close(connection.descriptor);
            return Err(error);
        }
        Ok((Registration { descriptor: connection.descriptor }, Installed::as_asked(request)))
    }

    fn unregister(request: &Request, registration: &Registration) -> Result<(), Error> {
        // Asked on a connection of its own, so that no late answer to an earlier request is taken for this one's. A service
        // that is gone watches nobody.
        match socket::ask_once(&request.service, Kind::Release, request.record, request.timeout_ms) {
            Ok(()) | Err(Error::NoService) => {
                socket::close(registration.descriptor);
                socket::permit_nobody();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn renew(request: &Request, registration: &mut Registration) -> Result<(), Error> {
        if socket::is_open(registration.descriptor) {
            return Ok(());
        }
        let (renewed, _) = Linux::register(request)?;
        socket::close(registration.descriptor);
        *registration = renewed;
        Ok(())
    }

    fn detach(request: &Request, registration: &Registration) {
        // Closing does not end the connection: the parent holds it too.
        socket::close(registration.descriptor);
        socket::permit_nobody();
        // Who asks is known by its process id: the child's. A service that doesn't watch the child has nothing to release.
        let _ = socket::ask_once(&request.service, Kind::Release, request.record, request.timeout_ms);
    }

    fn dump(request: &Request, _registration: &Registration) -> Result<(), Error> {
        // SAFETY: no memory is involved. The C library's own function is younger (glibc 2.30).
        let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
        let timeout_ms = request.timeout_ms.max(socket::DUMP_TIMEOUT_MS);
        socket::ask_once(&request.service, Kind::Snapshot, thread, timeout_ms)
    }
}
