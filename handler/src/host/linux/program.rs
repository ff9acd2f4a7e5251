//! How a program is started so that nothing of it runs untraced.

use std::io::Read;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fs, io, ptr};

use super::errno::Errno;
use super::error::HostError;
use super::ptrace;
use super::wakeup;
use crate::host::program::{Program, Recipe, pointers};

/// A program that has been started and is traced.
pub(super) struct Started {
    /// Its process id.
    pub(super) pid: i32,
    /// Where the child says why it could not execute the program; a pipe that exec closes.
    failure: fs::File,
}

impl Started {
    /// The error for which the program could not be executed; to be asked once the child is known to have exited without.
    pub(super) fn exec_failure(&mut self) -> Option<Errno> {
        let mut errno = [0; 4];
        self.failure.read_exact(&mut errno).ok()?;
        Some(Errno(i32::from_ne_bytes(errno)))
    }
}

/// Starts `program` as a child that is traced with `options` before it executes. Must be called on the tracer's thread;
/// `mask` is the signal mask to start it with.
pub(super) fn start(program: &Program, options: i32, mask: &libc::sigset_t) -> Result<Started, HostError> {
    let recipe = Recipe::new(program).map_err(|errno| HostError::Exec { program: program.name(), errno })?;
    let call = |what| move |error: io::Error| HostError::Call { what, errno: error.into() };
    let (go_read, go_write) = io::pipe().map_err(call("pipe"))?;
    let (failure_read, failure_write) = io::pipe().map_err(call("pipe"))?;
    let child = Child {
        name: recipe.name.as_ptr(),
        arguments: pointers(&recipe.arguments),
        environment: pointers(&recipe.environment),
        directory: recipe.directory.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
        streams: [0, 1, 2].map(|stream| program.streams[stream].as_ref().map_or(-1, |fd| fd.as_raw_fd())),
        go: go_read.as_raw_fd(),
        go_write: go_write.as_raw_fd(),
        failure: failure_write.as_raw_fd(),
        mask: *mask,
        ignore_child: wakeup::child_signal_was_ignored(),
    };
    // No signal may run one of this process's handlers in the child.
    let mut all = wakeup::set_of(&[]);
    // SAFETY: a live set.
    unsafe { libc::sigfillset(&mut all) };
    let before = wakeup::change_mask(libc::SIG_BLOCK, &all);
    // SAFETY: the child calls nothing but async-signal-safe functions until it executes or exits.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // SAFETY: this is the child of a fork, and `recipe` lives on in it.
        unsafe { child.execute() }
    }
    wakeup::change_mask(libc::SIG_SETMASK, &before);
    let pid = Errno::check(forked.into()).map_err(|errno| HostError::Call { what: "fork", errno })? as i32;
    drop((go_read, failure_write));
    if let Err(errno) = ptrace::seize(pid, options) {
        // SAFETY: the child has not been waited for, so the id is its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let _ = super::wait::block(pid);
        return Err(super::probe::refusal(errno).into());
    }
    // One byte into an empty pipe whose other end the child holds: it neither blocks nor fails while the child lives, and a
    // child that was killed is told by wait.
    let _ = io::Write::write(&mut &go_write, b"!");
    Ok(Started { pid, failure: OwnedFd::from(failure_read).into() })
}

/// What the child works with: plain pointers and numbers.
struct Child {
    name: *const libc::c_char,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    directory: *const libc::c_char,
    streams: [i32; 3],
    go: i32,
    go_write: i32,
    failure: i32,
    mask: libc::sigset_t,
    ignore_child: bool,
}

impl Child {
    /// Waits for the tracer, puts the process in the state that a shell would start a program in, and executes.
    ///
    /// # Safety
    /// Only in the child of a fork, with the pointers still valid.
    unsafe fn execute(&self) -> ! {
        // Else the pipe would have a writer for ever, and a child whose tracer is gone wait for ever.
        // SAFETY: the child's own copy of the descriptor, which nothing else here uses.
        unsafe { libc::close(self.go_write) };
        let mut byte = 0_u8;
        let told = loop {
            // SAFETY: one writable byte.
            let count = unsafe { libc::read(self.go, (&raw mut byte).cast(), 1) };
            if count != -1 || Errno::last() != Errno(libc::EINTR) {
                break count;
            }
        };
        if told != 1 {
            // SAFETY: ends the process without running anything of the parent's.
            unsafe { libc::_exit(125) };
        }
        // SAFETY: as this function's.
        let errno = unsafe { self.try_execute() };
        let bytes = errno.0.to_ne_bytes();
        // SAFETY: four readable bytes.
        unsafe { libc::write(self.failure, bytes.as_ptr().cast(), bytes.len()) };
        // SAFETY: as above. The status is a shell's for a program that is not there, or can't be executed.
        unsafe { libc::_exit(super::error::exec_status(errno).into()) }
    }

    unsafe fn try_execute(&self) -> Errno {
        for (stream, &fd) in (0..).zip(&self.streams) {
            // SAFETY: no memory is involved. dup2 onto itself would leave close-on-exec set.
            let result = unsafe {
                if fd == -1 {
                    0
                } else if fd == stream {
                    libc::fcntl(fd, libc::F_SETFD, 0)
                } else {
                    libc::dup2(fd, stream)
                }
            };
            if result == -1 {
                return Errno::last();
            }
        }
        // SAFETY: a path that ends in NUL, if it is none.
        if !self.directory.is_null() && unsafe { libc::chdir(self.directory) } == -1 {
            return Errno::last();
        }
        limit_core_to_one(0);
        // Rust's runtime ignores SIGPIPE; programs expect the default, as from std::process::Command. Handlers are reset by
        // exec itself, before which no signal may run them: so the mask comes last.
        let mut action: libc::sigaction = plain_action(libc::SIG_DFL);
        // SAFETY: live structures.
        unsafe { libc::sigaction(libc::SIGPIPE, &action, ptr::null_mut()) };
        action.sa_sigaction = if self.ignore_child { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: as above.
        unsafe { libc::sigaction(libc::SIGCHLD, &action, ptr::null_mut()) };
        super::relay::forget_handlers_in_child();
        // SAFETY: as above.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.mask, ptr::null_mut()) };
        // SAFETY: the name and both vectors end in NUL and null, and live on in the child.
        unsafe { libc::execvpe(self.name, self.arguments.as_ptr(), self.environment.as_ptr()) };
        Errno::last()
    }
}

/// An action without flags.
pub(super) fn plain_action(handler: usize) -> libc::sigaction {
    // SAFETY: sigaction is plain data for which all zeroes is a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action
}

/// Sets process `pid`'s (0: this one's) soft limit on core files to one byte, the kernel's own mark for "no pipe either"
/// (`fs/coredump.c`, `do_coredump`: a helper like systemd-coredump runs even at limit 0, and before any exit stop). Returns
/// what it was; `None` if it could not be changed, which only costs time when the process dies. Async-signal-safe.
pub(super) fn limit_core_to_one(pid: i32) -> Option<u64> {
    set_core_limit(pid, 1)
}

/// Sets the soft limit on core files, as far as the hard one allows, and returns what it was.
pub(super) fn set_core_limit(pid: i32, bytes: u64) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: live structures.
    unsafe {
        if libc::prlimit(pid, libc::RLIMIT_CORE, ptr::null(), &mut limit) != 0 {
            return None;
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max.min(bytes);
        (libc::prlimit(pid, libc::RLIMIT_CORE, &limit, ptr::null_mut()) == 0).then_some(before)
    }
}
