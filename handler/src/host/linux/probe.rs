//! Whether this system lets us trace at all, and if not, why.

use std::os::unix::fs::FileExt;
use std::{fmt, fs};

use super::errno::Errno;
use super::wait::{self, Ending, Status, Stop};
use super::{ptrace, wakeup};

/// Why tracing is refused, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The Yama security module forbids it; the value of `kernel.yama.ptrace_scope`.
    Yama(u8),
    /// A system call filter forbids ptrace(2) or process_vm_readv(2).
    Filter(Errno),
    /// Something else does.
    Other {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        errno: Errno,
    },
    /// The kernel parks a dying process's threads in an order that does not let all of them be held.
    Kernel(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Yama(scope @ 3..) => write!(
                f,
                "ptrace is refused: kernel.yama.ptrace_scope is {scope}, which forbids it until the next boot; \
                 start the system with kernel.yama.ptrace_scope=1 in /etc/sysctl.d"
            ),
            Refused::Yama(scope) => write!(
                f,
                "ptrace is refused: kernel.yama.ptrace_scope is {scope}; allow it with \
                 `sysctl kernel.yama.ptrace_scope=1`, or run with the capability CAP_SYS_PTRACE"
            ),
            Refused::Filter(errno) => write!(
                f,
                "ptrace is refused ({errno}): a seccomp filter is in force, usually a container's; start it with \
                 `--cap-add=SYS_PTRACE` (docker, podman) or a profile that allows ptrace and process_vm_readv"
            ),
            Refused::Other { what, errno } => write!(
                f,
                "ptrace is refused: {what}: {errno}; a security policy (SELinux deny_ptrace, AppArmor) or a missing \
                 capability (CAP_SYS_PTRACE) forbids it"
            ),
            Refused::Kernel(release) => {
                write!(f, "Linux {release} can't hold all threads of a dying process; Linux 5.16 or later is needed")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Traces a child to its death and reads from it.
///
/// # Errors
/// Why that is refused.
pub fn probe() -> Result<(), Refused> {
    check_release()?;
    // A thread of its own, so that a tracee which can't be let go is let go by the thread's end.
    std::thread::scope(|scope| scope.spawn(try_tracing).join())
        .unwrap_or(Err(Refused::Other { what: "the probe's thread", errno: Errno(libc::EIO) }))
}

/// Since 5.16 a thread reaches its exit stop *after* it has waited for a core dump to be over (`kernel/exit.c`, `do_exit`:
/// `coredump_task_exit` before `ptrace_event`). Before, the crashing thread waits in `coredump_wait` for the others to pass
/// their exit stops, so that they can't all be held at one time.
pub(super) fn check_release() -> Result<(), Refused> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match version(&release) {
        Some(version) if version < (5, 16) => Err(Refused::Kernel(release.trim().to_owned())),
        _ => Ok(()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What the child's memory is read for.
static MARK: u64 = 0x4146_5445_524d_4143;

fn try_tracing() -> Result<(), Refused> {
    let mut all = wakeup::set_of(&[]);
    // SAFETY: a live set.
    unsafe { libc::sigfillset(&mut all) };
    let before = wakeup::change_mask(libc::SIG_BLOCK, &all);
    // SAFETY: the child calls nothing but pause, which is async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: always safe.
            unsafe { libc::pause() };
        }
    }
    wakeup::change_mask(libc::SIG_SETMASK, &before);
    let child = Errno::check(child.into()).map_err(|errno| Refused::Other { what: "fork", errno })? as i32;
    let seized = ptrace::seize(child, ptrace::FOLLOW | libc::PTRACE_O_EXITKILL);
    // SAFETY: the child is ours and has not been waited for: the id is its.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let result = match seized {
        Ok(()) => read_at_exit(child),
        Err(errno) => Err(refusal(errno)),
    };
    // Its last stop is over, or it was never traced: it is on its way out.
    let _ = ptrace::resume(child, 0);
    while let Ok((_, Status::Stopped(_))) = wait::block(child) {
        let _ = ptrace::resume(child, 0);
    }
    result
}

fn read_at_exit(child: i32) -> Result<(), Refused> {
    let other = |what| move |errno| Refused::Other { what, errno };
    let (_, status) = wait::block(child).map_err(other("wait for the exit stop"))?;
    if status != Status::Stopped(Stop::Exit) {
        return Err(Refused::Other { what: "wait for the exit stop", errno: Errno(libc::EPROTO) });
    }
    let message = ptrace::event_message(child).map_err(other("PTRACE_GETEVENTMSG"))?;
    if Ending::from_raw(message as i32) != Ending::Killed(libc::SIGKILL) {
        return Err(Refused::Other { what: "read the exit stop's message", errno: Errno(libc::EPROTO) });
    }
    let address = &raw const MARK as u64;
    let mut bytes = [0; 8];
    if let Err(errno) = ptrace::read_memory(child, address, &mut bytes) {
        // Some filters allow ptrace but not this call; the file does as well.
        let file = fs::File::open(format!("/proc/{child}/mem"));
        if file.and_then(|file| file.read_exact_at(&mut bytes, address)).is_err() {
            return Err(refusal(errno));
        }
    }
    match bytes == MARK.to_ne_bytes() {
        true => Ok(()),
        false => Err(Refused::Other { what: "read a child's memory", errno: Errno(libc::EFAULT) }),
    }
}

/// Why `errno` came, as far as the system says.
pub(super) fn refusal(errno: Errno) -> Refused {
    explain(
        errno,
        fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().as_deref(),
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
    )
}

fn explain(errno: Errno, yama: Option<&str>, status: &str) -> Refused {
    // Scope 1 allows one's own children, which is all that is tried; so it is to blame from 2 on.
    let scope = yama.and_then(|scope| scope.trim().parse().ok()).filter(|scope| *scope >= 2);
    let filtered = status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    match scope {
        Some(scope) => Refused::Yama(scope),
        None if filtered => Refused::Filter(errno),
        None => Refused::Other { what: "trace a child", errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_what_forbids_it() {
        let eperm = Errno(libc::EPERM);
        let filtered = "Name:\tx\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let free = "Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n";
        assert_eq!(explain(eperm, Some("2\n"), filtered), Refused::Yama(2));
        assert_eq!(explain(eperm, Some("3\n"), free), Refused::Yama(3));
        assert_eq!(explain(eperm, Some("1\n"), filtered), Refused::Filter(eperm));
        assert_eq!(explain(eperm, None, filtered), Refused::Filter(eperm));
        assert_eq!(explain(eperm, Some("0\n"), free), Refused::Other { what: "trace a child", errno: eperm });
    }

    #[test]
    fn every_refusal_says_what_to_change() {
        for (refused, word) in [
            (Refused::Yama(2), "sysctl kernel.yama.ptrace_scope=1"),
            (Refused::Yama(3), "boot"),
            (Refused::Filter(Errno(libc::EPERM)), "SYS_PTRACE"),
            (Refused::Other { what: "trace a child", errno: Errno(libc::EPERM) }, "CAP_SYS_PTRACE"),
            (Refused::Kernel("5.10.0-30-amd64".to_owned()), "5.16"),
        ] {
            assert!(refused.to_string().contains(word), "{refused}");
        }
    }

    #[test]
    fn a_release_is_read_as_distributions_write_it() {
        assert_eq!(version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version(""), None);
    }
}
