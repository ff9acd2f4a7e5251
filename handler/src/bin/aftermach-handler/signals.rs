//! SIGTERM and SIGINT, as something to wait for.

use std::io;
use std::ptr;
use std::thread;

/// The signals that end the service, blocked in every thread.
pub(crate) struct Ending(libc::sigset_t);

impl Ending {
    /// Blocks them in this thread, and so in those that it starts.
    pub(crate) fn block() -> Ending {
        // SAFETY: the set is initialised by sigemptyset before anything reads it; the other pointers are null or to it.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            Ending(set)
        }
    }

    /// Calls `stop` when one of them comes.
    pub(crate) fn then(self, stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let wait = move || {
            let mut signal = 0;
            // SAFETY: both point to values of this frame, and the set was initialised.
            if unsafe { libc::sigwait(&self.0, &mut signal) } == 0 {
                stop();
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(())
    }
}
