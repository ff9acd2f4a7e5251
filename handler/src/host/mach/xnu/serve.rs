//! The service: exceptions of every task that registered launchd's port.

use std::time::Duration;

use super::super::server::{Policy, Server};
use super::error::HostError;
use super::{Arrival, Buffer, Queue, Stopper, Transaction, Xnu};
use crate::host::Receiver;

/// How the service is served.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// How exceptions are answered.
    pub policy: Policy,
    /// End after so long without a message: launchd keeps the port and starts the service again when one comes. Longer than
    /// launchd's throttle (`ThrottleInterval`, ten seconds), so that the second crash of a loop need not wait for it. `None`:
    /// never.
    pub idle: Option<Duration>,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions { policy: Policy::default(), idle: Some(Duration::from_secs(60)) }
    }
}

/// Checks in with launchd for `service`, and handles the exceptions of its clients, one after the other, on this thread: each
/// waits in the queue until it is its turn. Whose deaths make a report is `receiver`'s to decide: ports are inherited by
/// children. Ends when `stop` says so, or when it was idle for too long; either way the port goes back to launchd, and clients
/// stay armed.
///
/// # Errors
/// launchd does not hand out the port, or the system lacks something that is needed to begin.
pub fn serve(
    service: &str,
    options: &ServeOptions,
    receiver: &mut (dyn Receiver + Send),
    stop: &Stopper,
) -> Result<(), HostError> {
    let (kernel, rights, facts) = Xnu::open();
    let queue = Queue::check_in(&rights, service, stop)?;
    let server = Server::new(kernel, rights.clone(), facts, options.policy, end_stuck_service);
    let mut server = server.map_err(|error| HostError::Call { what: "start a thread", errno: error.into() })?;
    let mut buffer = Buffer::default();
    loop {
        let arrival = queue.receive(&mut buffer, options.idle);
        match arrival.map_err(|code| HostError::Mach { what: "receive a message", code })? {
            Arrival::Stop | Arrival::TimeOut => return Ok(()),
            Arrival::Message => {
                let busy = Transaction::begin();
                let handled = server.handle(buffer.bytes(), receiver);
                tracing::debug!(?handled, "a message was handled");
                drop(busy);
            }
        }
    }
}

/// The port goes back to launchd with all that waits in it.
fn end_stuck_service() {
    tracing::error!(
        "a capture hangs beyond its deadline: the service ends, and launchd starts another for those who wait"
    );
    /// `EX_SOFTWARE` of sysexits.h.
    const INTERNAL: i32 = 70;
    // SAFETY: ends the process without running anything, which might wait for the stuck thread.
    unsafe { libc::_exit(INTERNAL) }
}
