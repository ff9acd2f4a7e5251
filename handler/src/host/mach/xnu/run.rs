//! Running a program as its exception server, from its first instruction.

use std::ffi::c_int;
use std::thread;

use aftermach_protocol::message::Notification;

use super::super::ports::Rights;
use super::super::server::{Policy, Server};
use super::super::told::Told;
use super::registration::{self, Inherited};
use super::relay::Relay;
use super::{Arrival, Buffer, HostError, Queue, Stopper, Xnu, spawn};
use crate::host::errno::Errno;
use crate::host::{Ending, Options, Program, Receiver};

/// Runs `program` and tells `receiver` of each crash of it and of its descendants. Returns how the program ended.
///
/// The program need not link the client. Its descendants inherit the port, as far as the system lets them: across a change of
/// team identifier it does not.
///
/// # Errors
/// The program can't be executed, or its exceptions would not come to us.
pub fn run(program: &Program, options: &Options, receiver: &mut (dyn Receiver + Send)) -> Result<Ending, HostError> {
    let stopper = Stopper::new()?;
    let (kernel, rights, facts) = Xnu::open();
    let queue = Queue::fresh(&rights, &stopper)?;
    // Nobody would start another server for the program's descendants.
    let server = Server::new(kernel.clone(), rights.clone(), facts, Policy::default(), || {});
    let mut server = server.map_err(|error| HostError::Call { what: "start a thread", errno: error.into() })?;
    let sender = queue.send_right(&rights)?;
    let pid = spawn::start(&kernel, &rights, program, sender.name())?;
    // From here on the port has no senders but the program and its descendants.
    drop(sender);
    let _relay = options.relay_signals.then(|| Relay::to(pid));
    if options.wait_for_descendants {
        queue.notify_of_no_senders().map_err(|code| HostError::Mach { what: "ask for a notification", code })?;
    }
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let ending = wait_for(pid);
            if !options.wait_for_descendants {
                stopper.stop();
            }
            ending
        });
        spawn::resume(pid);
        receive(queue, &mut server, &rights, options, receiver);
        let call = |errno| HostError::Call { what: "wait for the program", errno };
        waiter.join().unwrap_or(Err(Errno(libc::ECHILD))).map_err(call)
    })
}

/// Handles what arrives until it is over. The port goes with the queue: whoever still has it registered is sent to the next
/// handler from then on, and never waits for an answer that nobody gives.
fn receive(
    queue: Queue,
    server: &mut Server,
    rights: &Rights,
    options: &Options,
    receiver: &mut (dyn Receiver + Send),
) {
    let mut buffer = Buffer::default();
    let told = Told::first(rights, receiver);
    // An error means that the program runs on without us.
    while let Ok(Arrival::Message) = queue.receive(&mut buffer, None) {
        let handled = server.handle(buffer.bytes(), receiver);
        told.after(&handled, receiver);
        let last = matches!(handled.notification, Some(Notification::NoSenders(_)));
        if last && options.wait_for_descendants {
            return;
        }
    }
}

/// Whether this system lets us be an exception server at all: makes a port, and has this task's own exceptions sent to it for
/// a moment, as [`run`] does.
///
/// # Errors
/// Why that is refused.
pub fn probe() -> Result<(), HostError> {
    let (kernel, rights, _) = Xnu::open();
    let queue = Queue::fresh(&rights, &Stopper::new()?)?;
    let sender = queue.send_right(&rights)?;
    let behavior = registration::behavior(kernel.has_identity_tokens());
    let inherited = Inherited::set(&rights, sender.name(), behavior);
    inherited.map(drop).map_err(|code| HostError::Mach { what: "register the exception port", code })
}

/// Waits for our child's end. It can't be reaped before its last exception has been answered.
fn wait_for(pid: c_int) -> Result<Ending, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: our own child, and a number to write to.
        match Errno::check(unsafe { libc::waitpid(pid, &mut status, 0) }.into()) {
            Ok(_) => return Ok(Ending::from_raw(status)),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}
