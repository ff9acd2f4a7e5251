//! Sleeping until a tracee stops, or something else happens.
//!
//! `SIGCHLD` goes to the process, not to the thread that traces, and signalfd(2) loses it to any other thread that does not
//! block it. So a handler rings every tracer's eventfd, in whichever thread it runs; and while a tracer is busy it blocks the
//! signal in its own thread, so as not to be interrupted for what it is about to look at anyway.

use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Instant;
use std::{mem, ptr};

use super::errno::Errno;

/// Tracers that one process can have at a time.
const MAX_TRACERS: usize = 64;

/// A tracer's bell. Its eventfd is never closed but used again: a handler that is just running in another thread must not
/// write to what has become another file.
struct Bell {
    taken: AtomicBool,
    event: AtomicI32,
}

static BELLS: [Bell; MAX_TRACERS] =
    [const { Bell { taken: AtomicBool::new(false), event: AtomicI32::new(-1) } }; MAX_TRACERS];

/// The `SIGCHLD` handler that was there before ours, 0 if none: it is called as well.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);

/// Wakes every tracer. Async-signal-safe.
pub(super) fn ring() {
    for bell in BELLS.iter().filter(|bell| bell.taken.load(Ordering::Relaxed)) {
        ring_one(bell.event.load(Ordering::Relaxed));
    }
}

fn ring_one(event: RawFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight readable bytes. A full counter fails with EAGAIN, and then the bell is ringing already.
    unsafe { libc::write(event, one.as_ptr().cast(), one.len()) };
}

extern "C" fn on_child(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: always valid; the interrupted code must find its errno as it was.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the location is the calling thread's own.
    let saved = unsafe { *errno };
    ring();
    let previous = PREVIOUS.load(Ordering::Relaxed);
    if previous != 0 {
        // SAFETY: it was a signal handler's address, and both kinds of handler can be called with three arguments in the
        // C ABIs of Linux: one that takes a single one ignores the others.
        let previous: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = unsafe { mem::transmute(previous) };
        previous(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Sets `handler` for `signal` and returns what was there before.
pub(super) fn set_handler(signal: i32, handler: usize) -> Result<libc::sigaction, Errno> {
    // SAFETY: sigaction is plain data for which all zeroes is a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    set_action(signal, &action)
}

/// Sets `action` for `signal` and returns what was there before.
pub(super) fn set_action(signal: i32, action: &libc::sigaction) -> Result<libc::sigaction, Errno> {
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: both structures are live; handlers set through here are async-signal-safe.
    Errno::check(unsafe { libc::sigaction(signal, action, &mut before) }.into())?;
    Ok(before)
}

/// A taken bell, for the thread that made it. Until it is dropped, that thread has `SIGCHLD` blocked but in [`Wakeup::sleep`].
pub(super) struct Wakeup {
    bell: &'static Bell,
    mask_before: libc::sigset_t,
    mask_asleep: libc::sigset_t,
}

impl Wakeup {
    /// Takes a bell.
    ///
    /// # Errors
    /// `EAGAIN`: this process has 64 tracers already. Whatever eventfd(2) says.
    pub(super) fn new() -> Result<Wakeup, Errno> {
        static INSTALLED: Once = Once::new();
        let mut installed = Ok(());
        INSTALLED.call_once(|| installed = install());
        installed?;
        let free = |bell: &&Bell| !bell.taken.swap(true, Ordering::AcqRel);
        let bell = BELLS.iter().find(free).ok_or(Errno(libc::EAGAIN))?;
        if bell.event.load(Ordering::Relaxed) == -1 {
            // SAFETY: no memory is involved.
            match Errno::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into()) {
                Ok(event) => bell.event.store(event as i32, Ordering::Relaxed),
                Err(errno) => {
                    bell.taken.store(false, Ordering::Release);
                    return Err(errno);
                }
            }
        }
        let mask_before = change_mask(libc::SIG_BLOCK, &set_of(&[libc::SIGCHLD]));
        let mut mask_asleep = mask_before;
        // SAFETY: a live signal set and a valid signal.
        unsafe { libc::sigdelset(&mut mask_asleep, libc::SIGCHLD) };
        Ok(Wakeup { bell, mask_before, mask_asleep })
    }

    /// Sleeps until a tracee may have stopped, one of `others` is ready, or `until` has come. What was rung before and not
    /// slept for counts.
    pub(super) fn sleep(&self, others: &mut Vec<libc::pollfd>, until: Option<Instant>) {
        let event = self.bell.event.load(Ordering::Relaxed);
        others.push(libc::pollfd { fd: event, events: libc::POLLIN, revents: 0 });
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() }
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the vector's elements and the other two are live for the call. Interrupted or refused: the caller looks
        // for itself in any case, which is all that a wake-up asks for.
        let result =
            unsafe { libc::ppoll(others.as_mut_ptr(), others.len() as libc::nfds_t, timeout, &self.mask_asleep) };
        others.pop();
        if result < 0 {
            others.iter_mut().for_each(|other| other.revents = 0);
        }
        let mut counter = [0; 8];
        // SAFETY: eight writable bytes. EAGAIN: nobody rang.
        unsafe { libc::read(event, counter.as_mut_ptr().cast(), counter.len()) };
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, &self.mask_before);
        self.bell.taken.store(false, Ordering::Release);
    }
}

fn install() -> Result<(), Errno> {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_child;
    let before = set_handler(libc::SIGCHLD, handler as usize)?;
    let is_function = before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN;
    PREVIOUS.store(if is_function { before.sa_sigaction } else { 0 }, Ordering::Relaxed);
    IGNORED_BEFORE.store(before.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    Ok(())
}

static IGNORED_BEFORE: AtomicBool = AtomicBool::new(false);

/// Whether this process was started with `SIGCHLD` ignored: a program that is started here must find it so.
pub(super) fn child_signal_was_ignored() -> bool {
    IGNORED_BEFORE.load(Ordering::Relaxed)
}

/// A set of signals.
pub(super) fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset makes it a valid set, whatever it held.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: a live set.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        // SAFETY: a live set; a signal that is none is refused.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

/// Changes the calling thread's mask as `how` says, and returns the one before.
pub(super) fn change_mask(how: i32, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = set_of(&[]);
    // SAFETY: both sets are live. It can't fail: `how` is one of the three that there are.
    unsafe { libc::pthread_sigmask(how, set, &mut before) };
    before
}
