//! A second thread that watches each capture.
//!
//! The wait of a dying process can't be interrupted: not even SIGKILL ends one whose handler hangs. So at the deadline the task
//! is let go, whatever is missing of it. And if the capture hangs even then (a page of a file on a server that is gone), the
//! next victims would wait behind it for good: then the service must end, and launchd starts another, which finds their
//! messages in the queue.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aftermach_protocol::exception::KernReturn;

use super::pending::Pending;

struct Watch {
    pending: Arc<Pending>,
    code: KernReturn,
    time: Duration,
    until: Instant,
    let_go: bool,
}

#[derive(Default)]
struct State {
    watch: Option<Watch>,
    over: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The thread.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// While it lives, a capture is watched.
pub(super) struct Watched<'a>(&'a Watchdog);

impl Watchdog {
    /// Starts the thread. It calls `stuck` if a capture goes on for as long again after its deadline.
    ///
    /// Errors: the system's, if it gives no thread.
    pub(super) fn start(stuck: impl Fn() + Send + 'static) -> io::Result<Watchdog> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("deadline".to_owned()).spawn(move || keep_watch(&watched, stuck))?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// Answers `pending` with `code` if it is still owed after `time`.
    pub(super) fn watch(&self, pending: &Arc<Pending>, time: Duration, code: KernReturn) -> Watched<'_> {
        let (pending, until) = (Arc::clone(pending), Instant::now() + time);
        self.change(|state| state.watch = Some(Watch { pending, code, time, until, let_go: false }));
        Watched(self)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_one();
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.watch = None);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.change(|state| state.over = true);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic; and if it did, there is nobody left to watch for.
            let _ = thread.join();
        }
    }
}

fn keep_watch(shared: &Shared, stuck: impl Fn()) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.over {
        let Some(watch) = &mut state.watch else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = watch.until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        if watch.let_go {
            state.watch = None;
            drop(state);
            stuck();
        } else {
            watch.let_go = true;
            watch.until += watch.time;
            let (pending, code) = (Arc::clone(&watch.pending), watch.code);
            drop(state);
            pending.send(code);
        }
        state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    }
}
