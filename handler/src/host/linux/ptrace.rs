//! ptrace(2), one function a request.
//!
//! Every call must come from the thread that seized the tracee, and (but for [`seize`] and [`interrupt`]) find it in a
//! ptrace-stop. A tracee may be killed in any stop, so `ESRCH` is an answer that each caller must expect: the tracee is gone
//! or on its way out, and wait(2) will say so.

use std::{mem, ptr};

use aftermach_protocol::exception::{LinuxSignal, linux::Sender};

use super::errno::Errno;

/// Options: follow threads, children and execs, and stop at exit.
pub const FOLLOW: i32 = libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT;

/// Register set: general registers (`struct user_regs_struct`, on ARM64 `struct user_pt_regs`). `elf.h`, as all below.
pub const NT_PRSTATUS: u32 = 1;
/// Register set: floating point. x86-64: the 512-byte `FXSAVE` area; ARM64: `struct user_fpsimd_state`, 528 bytes.
pub const NT_PRFPREG: u32 = 2;
/// Register set: x86-64's `XSAVE` area in the standard form.
pub const NT_X86_XSTATE: u32 = 0x202;
/// Register set: ARM64's thread pointer, 8 bytes (16 with TPIDR2).
pub const NT_ARM_TLS: u32 = 0x401;
/// Register set: the system call that an ARM64 thread is in, 4 bytes.
pub const NT_ARM_SYSTEM_CALL: u32 = 0x404;
/// Register set: ARM64's pointer authentication masks, data then instructions, 8 bytes each; bits set are not address.
pub const NT_ARM_PAC_MASK: u32 = 0x406;

fn request(request: libc::c_uint, tid: i32, address: usize, data: usize) -> Result<libc::c_long, Errno> {
    // SAFETY: none of the requests made through here has the kernel write to this process's memory except at `data`, which
    // each caller takes from a live, exclusive borrow of the size the request fills.
    Errno::check(unsafe { libc::ptrace(request as _, tid, address, data) })
}

/// Becomes the tracer of thread `tid` without stopping it.
///
/// # Errors
/// `EPERM`: not allowed, or traced already. `ESRCH`: no such thread, or it is exiting.
pub fn seize(tid: i32, options: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, 0, options as usize).map(drop)
}

/// Replaces the options of a stopped tracee.
///
/// # Errors
/// `ESRCH`: gone, or not stopped.
pub fn set_options(tid: i32, options: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SETOPTIONS, tid, 0, options as usize).map(drop)
}

/// Lets a stopped tracee go on, with `signal` delivered to it (0: none; heeded in signal-delivery-stops only).
///
/// # Errors
/// `ESRCH`: gone, or not stopped.
pub fn resume(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, 0, signal as usize).map(drop)
}

/// Leaves a tracee in its group-stop, but has it report what comes next (`SIGCONT`).
///
/// # Errors
/// `ESRCH`: gone, or not stopped. `EIO`: not in a group-stop any more.
pub fn listen(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Has a running tracee stop ([`super::wait::Stop::Trap`]).
///
/// # Errors
/// `ESRCH`: gone.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped tracee go for good; `signal` as in [`resume`]. A group-stop goes on without us.
///
/// # Errors
/// `ESRCH`: gone, or not stopped.
pub fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize).map(drop)
}

/// What the last event was about: the new thread's or child's id, the former tid at exec, the wait status at exit.
///
/// # Errors
/// `ESRCH`: gone, or not stopped.
pub fn event_message(tid: i32) -> Result<u64, Errno> {
    let mut message: libc::c_ulong = 0;
    request(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message as usize)?;
    Ok(message)
}

/// The signal of a signal-delivery-stop.
///
/// # Errors
/// `ESRCH`: gone, or not stopped. `EINVAL`: in a group-stop.
pub fn signal(tid: i32) -> Result<LinuxSignal, Errno> {
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    request(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info as usize)?;
    Ok(decode_signal(&info))
}

/// What a `siginfo_t` says, by the rules of sigaction(2): which of its overlapping fields count depends on the code.
pub fn decode_signal(info: &libc::siginfo_t) -> LinuxSignal {
    let (signal, code) = (info.si_signo, info.si_code);
    let fault = LinuxSignal { signal, code, address: None, sender: None }.is_hardware_fault();
    // SI_KERNEL (0x80): the processor said no address (x86 #GP), or the signal is the terminal's; SI_TIMER, SI_MESGQ, … have
    // other fields in the place of the sender.
    let (named, sent) = (fault && code != 0x80, matches!(code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE));
    LinuxSignal {
        signal,
        code,
        // SAFETY: with a fault's code the union's `_sigfault` member is the one that is set.
        address: named.then(|| unsafe { info.si_addr() } as u64),
        // SAFETY: with these three codes `si_pid` and `si_uid` are set.
        sender: sent.then(|| unsafe { Sender { pid: info.si_pid(), uid: info.si_uid() } }),
    }
}

/// Reads a stopped tracee's register set `note` (`NT_…`) into `buffer` and returns how many bytes it has, at most the
/// buffer's length.
///
/// # Errors
/// `ESRCH`: gone, or not stopped. `EINVAL`, `ENODEV`: this processor or kernel has no such set.
pub fn get_regset(tid: i32, note: u32, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    request(libc::PTRACE_GETREGSET, tid, note as usize, &raw mut vector as usize)?;
    Ok(vector.iov_len.min(buffer.len()))
}

/// Changes a word of a stopped tracee's `struct user` (`sys/user.h`), which begins with its general registers.
///
/// # Errors
/// `ESRCH`: gone, or not stopped. `EIO`: there is no such word, or it may not have that value.
pub fn set_user_word(tid: i32, offset: usize, word: u64) -> Result<(), Errno> {
    request(libc::PTRACE_POKEUSER, tid, offset, word as usize).map(drop)
}

/// Whether thread `tid` belongs to process `pid`.
pub fn is_thread_of(tid: i32, pid: i32) -> bool {
    // SAFETY: signal 0 is never sent; the call only looks the thread up (kill(2)).
    Errno::check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) }).is_ok()
}

/// Reads `buffer.len()` bytes at `address` of process `pid`; less where the range runs into what can't be read.
///
/// # Errors
/// `EPERM`, `ESRCH`; `EFAULT` where the first byte can't be read.
pub fn read_memory(pid: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `buffer.len()` bytes, into `buffer`, which is borrowed exclusively; it checks the
    // other process's addresses itself.
    Errno::check(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) } as libc::c_long).map(|n| n as usize)
}

/// Ranges that [`read_ranges`] takes at most (`UIO_MAXIOV`).
pub const MOST_RANGES: usize = 1024;

/// Reads `ranges` (address and length) of process `pid`, one after the other, into `buffer`, and returns how many bytes of all
/// of them together were read before what can't be.
///
/// # Errors
/// `EPERM`, `ESRCH`; `EFAULT` where the first byte can't be read; `EINVAL` for more ranges than [`MOST_RANGES`].
pub fn read_ranges(pid: i32, ranges: &[(u64, usize)], buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = |(address, length): &(u64, usize)| libc::iovec {
        iov_base: ptr::without_provenance_mut(*address as usize),
        iov_len: *length,
    };
    let remote: Vec<libc::iovec> = ranges.iter().map(remote).collect();
    // SAFETY: the kernel writes at most `buffer.len()` bytes, into `buffer`, which is borrowed exclusively, and reads as many
    // elements of `remote` as are named; it checks the other process's addresses itself.
    let read = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0) };
    Errno::check(read as libc::c_long).map(|n| n as usize)
}
