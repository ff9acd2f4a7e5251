//! Standing in a program's place for whoever started us: signals that processes send to us go to the program.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// The program; 0 while there is none.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

/// Signals that are handed on. Not those of job control: the program is in our process group, and is stopped and continued
/// with us.
const SIGNALS: [c_int; 7] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGALRM, libc::SIGUSR1, libc::SIGUSR2];

/// `SI_USER` of macOS (`sys/signal.h`): a process sent it. The terminal's own signals reach the whole group.
const SI_USER: c_int = 0x10001;

/// While it lives, signals are handed on. For one program at a time: handlers are the whole process's.
pub(super) struct Relay([libc::sigaction; SIGNALS.len()]);

impl Relay {
    /// Hands signals on to process `pid`.
    pub(super) fn to(pid: c_int) -> Relay {
        PROGRAM.store(pid, Ordering::Relaxed);
        // SAFETY: all zeros is an action: the default one.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = hand_on as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        Relay(SIGNALS.map(|signal| {
            let mut before = action;
            // SAFETY: live actions; the handler is async-signal-safe.
            unsafe { libc::sigaction(signal, &action, &mut before) };
            before
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        PROGRAM.store(0, Ordering::Relaxed);
        for (signal, before) in SIGNALS.into_iter().zip(&self.0) {
            // SAFETY: a live action, which was in force before.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        }
    }
}

extern "C" fn hand_on(signal: c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let pid = PROGRAM.load(Ordering::Relaxed);
    // SAFETY: with SA_SIGINFO the kernel passes a structure.
    let sent = unsafe { info.as_ref() }.is_some_and(|info| info.si_code == SI_USER);
    if pid > 0 && sent {
        // SAFETY: async-signal-safe, and no memory is involved.
        unsafe { libc::kill(pid, signal) };
    }
}
