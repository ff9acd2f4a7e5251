//! x86-64: the answer stands in `rax`, the call's number in `orig_rax` (-1: the thread comes from no call).

use super::super::errno::Errno;
use super::super::ptrace;

/// "Make the call again, unless a handler is to run: then it is EINTR" (`include/linux/errno.h`). The kernel looks for it when
/// the thread goes on (`arch/x86/kernel/signal.c`, `arch_do_signal_or_restart` and `handle_signal`).
const ERESTARTNOHAND: i64 = 514;

/// `struct user_regs_struct` (`arch/x86/include/asm/user_64.h`): `rax` and `orig_rax`, in words.
const RAX: usize = 10;
const ORIG_RAX: usize = 15;

/// Calls that answer EINTR when nothing but a stop has woken them. Nothing was done then that doing it again would do twice. A
/// timeout that is given as a time span begins anew.
const CALLS: [libc::c_long; 23] = [
    // For sockets with SO_RCVTIMEO or SO_SNDTIMEO (net/core/sock.h, sock_intr_errno), and file systems that wait for a program.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    // fs/eventpoll.c, ep_poll
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // ipc/sem.c, __do_semtimedop
    libc::SYS_semop,
    libc::SYS_semtimedop,
    // kernel/signal.c, do_sigtimedwait
    libc::SYS_rt_sigtimedwait,
    // fs/aio.c
    libc::SYS_io_getevents,
    // io_uring/io_uring.c, io_cqring_wait: only where nothing was submitted.
    libc::SYS_io_uring_enter,
    // fs/read_write.c hands on what sockets and such file systems answer.
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_sendfile,
];

pub(super) fn restart(tid: i32) -> Result<(), Errno> {
    let mut general = [0; 8 * (ORIG_RAX + 1)];
    if ptrace::get_regset(tid, ptrace::NT_PRSTATUS, &mut general)? < general.len() {
        // A 32-bit program's registers are fewer.
        return Ok(());
    }
    let word = |index: usize| general[8 * index..].first_chunk().map_or(0, |bytes| i64::from_ne_bytes(*bytes));
    if word(RAX) == -i64::from(libc::EINTR) && CALLS.contains(&word(ORIG_RAX)) {
        ptrace::set_user_word(tid, 8 * RAX, -ERESTARTNOHAND as u64)?;
    }
    Ok(())
}
