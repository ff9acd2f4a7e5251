//! The service: exceptions of every task that registered launchd's port.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::server::{Policy, Server};
use super::super::told::Told;
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
    /// Note where each port right is taken, so that a report of one that was not given back names the place. For hunting a leak.
    pub note_places: bool,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions { policy: Policy::default(), idle: Some(Duration::from_secs(60)), note_places: false }
    }
}

/// Captures at a time. Each thread that receives is pushed to the priority of the victim that it serves, so a capture waits
/// neither behind a slow one nor behind a program that takes faults in its normal course.
const RECEIVERS: usize = 4;

/// Checks in with launchd for `service`, and handles the exceptions of its clients, several at a time. Whose deaths make a
/// report is `receiver`'s to decide: ports are inherited by children. Ends when `stop` says so, or when it was idle for too
/// long and no client has a port of its own; either way the service's port goes back to launchd with what waits in it, and the
/// clients that registered it stay armed.
///
/// # Errors
/// launchd does not hand out the port, or the system lacks something that is needed to begin.
pub fn serve<R: Receiver + Clone + Send>(
    service: &str,
    options: &ServeOptions,
    mut receiver: R,
    stop: &Stopper,
) -> Result<(), HostError> {
    let no_thread = |error: std::io::Error| HostError::Call { what: "start a thread", errno: error.into() };
    let (kernel, rights, facts) = Xnu::open();
    rights.ledger().note_places(options.note_places);
    let queue = Queue::check_in(&rights, service, stop)?;
    let first = Server::new(kernel, rights.clone(), facts, options.policy, end_stuck_service).map_err(no_thread)?;
    // One thread is enough to serve; fewer than wished only means fewer at a time.
    let others: Vec<Server> = (1..RECEIVERS).filter_map(|_| first.beside(end_stuck_service).ok()).collect();
    first.admit_clients(queue.set());
    let activity = Activity::new();
    let told = Told::first(&rights, &mut receiver);
    let staying = Mutex::new(None);
    let here = Here { queue: &queue, activity: &activity, told: &told, staying: &staying, stop, idle: options.idle };
    thread::scope(|scope| {
        for (index, server) in others.into_iter().enumerate() {
            let receiver = receiver.clone();
            let work = move || here.receive(server, receiver);
            let name = format!("receiver-{}", index + 1);
            // Without it the others do its work. What it could not receive, they can't either.
            let _ = thread::Builder::new().name(name).spawn_scoped(scope, work);
        }
        let result = here.receive(first, receiver);
        // Also after an error: the others would serve on, and nobody would know.
        stop.stop();
        result
    })
}

/// What the receiving threads share.
#[derive(Clone, Copy)]
struct Here<'a> {
    queue: &'a Queue,
    activity: &'a Activity,
    told: &'a Told,
    /// Open as long as there are clients with ports of their own, which would die with this process: launchd may end an idle
    /// one at once.
    staying: &'a Mutex<Option<Transaction>>,
    stop: &'a Stopper,
    idle: Option<Duration>,
}

impl Here<'_> {
    /// Receives and handles until told to end, or until no thread has had anything to do for too long. Each thread looks for
    /// that: the one that sees the last client with a port of its own end is the one that knows.
    fn receive<R: Receiver>(self, mut server: Server, mut receiver: R) -> Result<(), HostError> {
        let mut buffer = Buffer::default();
        let mut wait = self.idle;
        loop {
            let arrival = self.queue.receive(&mut buffer, wait);
            match arrival.map_err(|code| HostError::Mach { what: "receive a message", code })? {
                Arrival::Stop => {
                    self.say_what_ends(server.clients());
                    // One message wakes one thread: the next is told by this one.
                    self.stop.stop();
                    return Ok(());
                }
                Arrival::TimeOut if server.clients() > 0 || server.patience().is_some() => {
                    server.give_up();
                    wait = self.wait(&server);
                }
                Arrival::TimeOut => match self.idle.and_then(|idle| self.activity.left_of(idle)) {
                    None => {
                        self.stop.stop();
                        return Ok(());
                    }
                    left => wait = left,
                },
                Arrival::Message => {
                    let (_busy, _active) = (Transaction::begin(), self.activity.begin());
                    let handled = server.handle(buffer.bytes(), &mut receiver);
                    tracing::debug!(?handled, "a message was handled");
                    self.told.after(&handled, &mut receiver);
                    self.stay(&server);
                    wait = self.wait(&server);
                }
            }
        }
    }

    /// How long to wait for a message. The service does not end by itself while clients have ports of their own, and what it
    /// passed on must be answered in time.
    fn wait(self, server: &Server) -> Option<Duration> {
        let idle = self.idle.filter(|_| server.clients() == 0);
        idle.into_iter().chain(server.patience()).min()
    }

    /// Stays busy for launchd as long as there are clients because of which the service must not end.
    fn stay(self, server: &Server) {
        let mut staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner);
        match (server.clients(), &*staying) {
            (0, _) => *staying = None,
            (_, Some(_)) => {}
            (_, None) => {
                tracing::info!("a client has a port of its own: the service stays until it has ended, however idle");
                *staying = Some(Transaction::begin());
            }
        }
    }

    /// Once, whichever thread comes first.
    fn say_what_ends(self, clients: usize) {
        let staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner).take();
        if staying.is_some() {
            tracing::warn!(
                clients,
                "the service ends, and with it ports of clients' own, until those ask for new ones"
            );
        }
    }
}

/// When anything was done last.
struct Activity(Mutex<State>);

struct State {
    under_way: usize,
    last: Instant,
}

/// While one lives, something is under way.
struct Active<'a>(&'a Activity);

impl Activity {
    fn new() -> Activity {
        Activity(Mutex::new(State { under_way: 0, last: Instant::now() }))
    }

    fn begin(&self) -> Active<'_> {
        self.change(|state| state.under_way += 1);
        Active(self)
    }

    /// How long to wait yet before `idle` has gone by without anything done; `None` if it has.
    fn left_of(&self, idle: Duration) -> Option<Duration> {
        self.change(|state| match state.under_way {
            0 => idle.checked_sub(state.last.elapsed()).filter(|left| !left.is_zero()),
            _ => Some(idle),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.under_way -= 1;
            state.last = Instant::now();
        });
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
