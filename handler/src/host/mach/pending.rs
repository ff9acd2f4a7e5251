//! A reply that is owed, and the watchdog that sends it if nobody else does.
//!
//! The wait of a dying process can't be interrupted: not even SIGKILL ends one whose handler hangs. So a second thread
//! watches each capture, and at its deadline lets the task go.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{Contents, Header, PortName, Refusal, Reply, Request};

use super::kernel::Kernel;
use super::ports::Port;

/// What a reply answers.
enum To {
    Request(Request),
    Header(Header),
}

/// A reply that is owed. It is sent once, by whoever comes first; unsent, the right is given back, and the kernel asks the
/// next handler.
pub(super) struct Pending {
    kernel: Arc<dyn Kernel>,
    state: Mutex<State>,
}

struct State {
    port: Option<Port>,
    to: To,
    sent: Option<(KernReturn, Instant)>,
    failed: Option<KernReturn>,
}

impl Pending {
    pub(super) fn new(
        kernel: Arc<dyn Kernel>,
        port: Option<Port>,
        header: Header,
        contents: &Result<Contents, Refusal>,
    ) -> Pending {
        let to = match contents {
            Ok(Contents::Exception(request)) => To::Request(request.clone()),
            _ => To::Header(header),
        };
        Pending { kernel, state: Mutex::new(State { port, to, sent: None, failed: None }) }
    }

    /// Sends `code` unless a reply has gone out already; says what was answered, and when. `None` if nobody waits, or nobody
    /// can be reached any more: the victim was killed meanwhile.
    pub(super) fn send(&self, code: KernReturn) -> Option<(KernReturn, Instant)> {
        let mut state = self.lock();
        let Some(port) = state.port.take() else { return state.sent };
        let mut bytes = match &state.to {
            To::Request(request) => Reply::to(request, code).encode(),
            To::Header(header) => Reply::to_header(header, code).encode(),
        };
        match self.kernel.send(&mut bytes) {
            Ok(()) => {
                let PortName(_) = port.give_away();
                state.sent = Some((code, Instant::now()));
            }
            // The right is still ours, and dropping the port returns it. The kernel hands a message back that it can't send; a
            // right that it had moved into the message already may have another name now.
            Err(code) => {
                state.failed = Some(code);
                if let Ok(header) = Header::decode(&bytes)
                    && header.remote != port.name()
                {
                    drop(port.renamed(header.remote));
                }
            }
        }
        state.sent
    }

    /// Why the reply could not be sent.
    pub(super) fn failure(&self) -> Option<KernReturn> {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watch {
    pending: Arc<Pending>,
    until: Instant,
    code: KernReturn,
}

#[derive(Default)]
struct Shared {
    watch: Mutex<(Option<Watch>, bool)>,
    changed: Condvar,
}

/// A thread that sends a reply at its deadline.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// While it lives, a reply is watched.
pub(super) struct Watched<'a>(&'a Watchdog);

impl Watchdog {
    /// Starts the thread.
    ///
    /// Errors: the system's, if it gives no thread.
    pub(super) fn start() -> std::io::Result<Watchdog> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("deadline".to_owned()).spawn(move || keep_watch(&watched))?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// Answers `pending` with `code` if it is still owed after `time`.
    pub(super) fn watch(&self, pending: &Arc<Pending>, time: Duration, code: KernReturn) -> Watched<'_> {
        let watch = Watch { pending: Arc::clone(pending), until: Instant::now() + time, code };
        self.change(|state| state.0 = Some(watch));
        Watched(self)
    }

    fn change(&self, change: impl FnOnce(&mut (Option<Watch>, bool))) {
        change(&mut self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_one();
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.0 = None);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.change(|state| state.1 = true);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic; and if it did, there is nobody left to watch for.
            let _ = thread.join();
        }
    }
}

fn keep_watch(shared: &Shared) {
    let mut state = shared.watch.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.1 {
        let Some(watch) = &state.0 else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = watch.until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let (pending, code) = (Arc::clone(&watch.pending), watch.code);
        state.0 = None;
        drop(state);
        pending.send(code);
        state = shared.watch.lock().unwrap_or_else(PoisonError::into_inner);
    }
}
