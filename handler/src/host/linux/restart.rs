//! System calls that a stop of ours has interrupted.
//!
//! A thread that stops leaves the call in which it waited. Most calls are then made again by the kernel itself, or go on with the
//! time that was left, if no signal handler runs meanwhile. Some answer `EINTR` at once, whatever woke them (signal(7),
//! "Interruption of system calls and library functions by stop signals"), which a program that sends itself no signals never
//! expects. Where the register that holds the answer can still be changed, those are made to be called again as well.

use super::errno::Errno;

#[cfg_attr(target_arch = "x86_64", path = "restart_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "restart_aarch64.rs")]
mod cpu;

/// Has the call that thread `tid` was in made again, if our stop is why it failed. To be called in a stop of a thread that is on
/// its way back to its program: a signal-delivery-stop, or one that was asked for. If a signal handler runs first, the call
/// fails with `EINTR`, as it does without us.
pub(super) fn restart(tid: i32) -> Result<(), Errno> {
    cpu::restart(tid)
}
