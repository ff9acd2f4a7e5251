//! Watching programs that ask for it, over the service's socket.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use aftermach_protocol::session::{Kind, Request, Status};

use super::door::{Answer, Door, Peer};
use super::errno::Errno;
use super::error::HostError;
use super::probe;
use super::run::on_own_thread;
use super::tracer::Tracer;
use crate::host::Receiver;

/// Whom the service serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeOptions {
    /// Clients of every user, not only of the one that the service runs as and of root. For a service that runs as root.
    pub every_user: bool,
}

/// Ends a [`serve`], from any thread. Clones end the same one.
#[derive(Debug, Clone)]
pub struct Stopper {
    event: Arc<OwnedFd>,
}

impl Stopper {
    /// A new one.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new() -> Result<Stopper, Errno> {
        // SAFETY: no memory is involved.
        let event = Errno::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())?;
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Stopper { event: Arc::new(unsafe { OwnedFd::from_raw_fd(event as i32) }) })
    }

    /// Ends it: now, or as soon as it begins. Async-signal-safe.
    pub fn stop(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes. It can only fail where it was told so often that it knows.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// Watches every client that asks for it on `listener`, with all that it starts, and tells `receiver` of each crash, on a
/// thread of its own. Whose deaths make a report is the receiver's to decide
/// ([`triage::whose`](crate::triage::whose)): a client's descendants are watched too. Ends when `stop` says so; clients then
/// run on, as they do if this process is killed.
///
/// # Errors
/// The system lacks something that it needs to begin.
pub fn serve(
    listener: UnixListener,
    options: &ServeOptions,
    receiver: &mut (dyn Receiver + Send),
    stop: &Stopper,
) -> Result<(), HostError> {
    on_own_thread(|_| serve_here(listener, options, receiver, stop))
}

fn serve_here(
    listener: UnixListener,
    options: &ServeOptions,
    receiver: &mut (dyn Receiver + Send),
    stop: &Stopper,
) -> Result<(), HostError> {
    probe::check_release()?;
    let call = |what| move |errno: Errno| HostError::Call { what, errno };
    let tracer = Tracer::new(receiver).map_err(call("prepare to trace"))?;
    let mut door = Door::new(listener).map_err(call("listen"))?;
    // SAFETY: no memory is involved.
    let mut service = Service { tracer, options: *options, uid: unsafe { libc::geteuid() } };
    let mut fds = Vec::new();
    loop {
        for (connection, status) in service.tracer.answers.drain(..) {
            door.reply(connection, status);
        }
        fds.clear();
        fds.push(libc::pollfd { fd: stop.event.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        door.add_to(&mut fds);
        service.tracer.step(&mut fds, door.deadline());
        if fds[0].revents != 0 {
            break;
        }
        door.work(&fds[1..], &mut service);
    }
    service.tracer.leave();
    Ok(())
}

struct Service<'a> {
    tracer: Tracer<'a>,
    options: ServeOptions,
    uid: u32,
}

impl Answer for Service<'_> {
    fn admits(&self, peer: Peer) -> bool {
        // A process of another pid namespace has no number here.
        peer.pid > 0 && (self.options.every_user || peer.uid == self.uid || peer.uid == 0)
    }

    fn answer(&mut self, peer: Peer, connection: u64, request: Request) -> Option<Status> {
        match request.kind {
            Kind::Attach => Some(self.tracer.attach(peer.pid, peer.uid)),
            Kind::Release => Some(self.tracer.detach_client(peer.pid)),
            Kind::Snapshot => self.tracer.begin_snapshot(peer.pid, request.about, connection).err(),
        }
    }
}
