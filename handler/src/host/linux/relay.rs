//! Signals that this process gets while it stands between a program and whoever started it.
//!
//! What the terminal sends goes to the whole foreground group, so the program has it already: we only must not die of it.
//! What a process sends to us is meant for the program. And when the program is stopped from the terminal we stop as well,
//! or the shell would never get the terminal back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::errno::Errno;
use super::program::plain_action;
use super::tracer::Tracer;
use super::wakeup;

/// Signals that are passed on.
const RELAYED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Those by which a terminal stops a group.
const TERMINAL_STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

const NOTHING: i64 = -1;
const FROM_KERNEL: i64 = -2;

/// By signal number: from whom it came last (a process id), and [`NOTHING`] once that has been looked at.
static RECEIVED: [AtomicI64; 32] = [const { AtomicI64::new(NOTHING) }; 32];

/// The signals that have our handler, a bit each.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Held by the one relay that a process can have: signal handlers are the whole process's.
static ONE: Mutex<()> = Mutex::new(());

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: always valid; the interrupted code must find its errno as it was.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the location is the calling thread's own.
    let saved = unsafe { *errno };
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, and with these codes the sender is set.
    let sender = unsafe {
        match (*info).si_code {
            libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE => (*info).si_pid().into(),
            _ => FROM_KERNEL,
        }
    };
    if let Some(received) = RECEIVED.get(signal as usize) {
        received.store(sender, Ordering::Relaxed);
    }
    wakeup::ring();
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// In a forked child: gives the signals that have our handler back their default, which exec would do anyway, but too late
/// for a signal that comes before. Async-signal-safe.
pub(super) fn forget_handlers_in_child() {
    let handled = HANDLED.load(Ordering::Relaxed);
    let action = plain_action(libc::SIG_DFL);
    for signal in RELAYED.into_iter().filter(|signal| handled & (1 << signal) != 0) {
        // Fails for no signal of the list.
        let _ = wakeup::set_action(signal, &action);
    }
}

/// A signal that has come to us from a process.
struct Waiting {
    signal: i32,
    sender: i32,
    due: Instant,
}

/// How long a signal waits before it is passed on. One that was sent to the whole group reaches the program as well, before
/// us or after, and must not reach it twice.
const GROUP_TIME: Duration = Duration::from_millis(20);

/// Passes signals on while it lives.
pub(super) struct Relay {
    before: Vec<(i32, libc::sigaction)>,
    session_leader: bool,
    /// Signals from processes that go to the program unless it turns out to have got them itself.
    waiting: Vec<Waiting>,
    /// A terminal's stop that has come to us, and that the program may be about to obey.
    stop: Option<i32>,
    _one: std::sync::MutexGuard<'static, ()>,
}

impl Relay {
    /// Begins. Signals that are ignored (as under nohup) stay so.
    ///
    /// # Errors
    /// `EBUSY`: this process has a relay already. Whatever sigaction(2) says.
    pub(super) fn new() -> Result<Relay, Errno> {
        let one = match ONE.try_lock() {
            Ok(one) => one,
            // What it guards is only that there is one.
            Err(std::sync::TryLockError::Poisoned(one)) => one.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Err(Errno(libc::EBUSY)),
        };
        // SAFETY: no memory is involved.
        let session_leader = unsafe { libc::getsid(0) == libc::getpid() };
        let mut relay = Relay { before: Vec::new(), session_leader, waiting: Vec::new(), stop: None, _one: one };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
        for signal in RELAYED {
            RECEIVED[signal as usize].store(NOTHING, Ordering::Relaxed);
            let before = wakeup::set_handler(signal, handler as usize)?;
            if before.sa_sigaction == libc::SIG_IGN {
                wakeup::set_action(signal, &before)?;
            } else {
                HANDLED.fetch_or(1 << signal, Ordering::Relaxed);
                relay.before.push((signal, before));
            }
        }
        Ok(relay)
    }

    /// When [`Relay::work`] has something to do though nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    /// Passes on what has come, and stops this process if the program has been stopped from the terminal.
    pub(super) fn work(&mut self, tracer: &mut Tracer) {
        let Some(root) = tracer.tracees().root() else { return };
        for signal in RELAYED {
            let sender = RECEIVED[signal as usize].swap(NOTHING, Ordering::Relaxed);
            if sender == NOTHING {
                continue;
            }
            if TERMINAL_STOPS.contains(&signal) {
                self.stop = Some(signal);
            } else if signal == libc::SIGCONT {
                self.stop = None;
            }
            // A hang-up comes from the terminal to the leader of its session alone.
            let hang_up = sender == FROM_KERNEL && signal == libc::SIGHUP && self.session_leader;
            if hang_up {
                // SAFETY: the root has not been reaped, so the id is its.
                unsafe { libc::kill(root, signal) };
            }
            // A signal that the program sends to its own group is not meant for the program once more.
            let from_outside = |sender: &i32| *sender >= 0 && !tracer.tracees().has_process(*sender);
            if let Some(sender) = i32::try_from(sender).ok().filter(from_outside) {
                self.waiting.push(Waiting { signal, sender, due: Instant::now() + GROUP_TIME });
            }
        }
        self.waiting.retain(|waiting| {
            if tracer.root_has_seen(waiting.signal, waiting.sender) {
                return false;
            }
            let due = waiting.due <= Instant::now();
            if due {
                // SAFETY: as above.
                unsafe { libc::kill(root, waiting.signal) };
            }
            !due
        });
        if let (Some(_), Some(signal)) = (self.stop, tracer.root_stopped().filter(|s| TERMINAL_STOPS.contains(s))) {
            self.stop = None;
            stop_self(signal);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for (signal, action) in &self.before {
            let _ = wakeup::set_action(*signal, action);
            HANDLED.fetch_and(!(1 << signal), Ordering::Relaxed);
        }
    }
}

/// Stops this process as `signal` does by default, until it is continued. In an orphaned group nothing happens, as nothing
/// would to the program.
fn stop_self(signal: i32) {
    let default = plain_action(libc::SIG_DFL);
    let Ok(handler) = wakeup::set_action(signal, &default) else { return };
    let unblocked = wakeup::change_mask(libc::SIG_UNBLOCK, &wakeup::set_of(&[signal]));
    // To this thread: it is delivered, and all threads stop, before the call returns. One to the process could reach another
    // thread after the handler is back.
    // SAFETY: no memory is involved.
    unsafe { libc::raise(signal) };
    wakeup::change_mask(libc::SIG_SETMASK, &unblocked);
    let _ = wakeup::set_action(signal, &handler);
}
