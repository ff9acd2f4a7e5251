//! Running a program under the tracer, from its first instruction.

use std::thread;

use super::errno::Errno;
use super::error::HostError;
use super::program;
use super::relay::Relay;
use super::tracer::Tracer;
use super::wait::Ending;
use super::{probe, ptrace, wakeup};
use crate::host::{Options, Program, Receiver};

/// Runs `program` and tells `receiver`, on a thread of its own, of each crash of it and of its descendants. Returns how the
/// program ended.
///
/// If this process is killed, the program is killed too; its descendants are not.
///
/// # Errors
/// The program can't be executed, tracing is refused ([`probe`](super::probe::probe) says more), or the system lacks
/// something else.
pub fn run(program: &Program, options: &Options, receiver: &mut (dyn Receiver + Send)) -> Result<Ending, HostError> {
    on_own_thread(|mask| run_here(program, options, receiver, mask))
}

/// Traces on a thread of its own, with whose end the kernel lets everything go that could not be let go before. `body` gets
/// the caller's signal mask.
pub(super) fn on_own_thread<T: Send>(
    body: impl FnOnce(&libc::sigset_t) -> Result<T, HostError> + Send,
) -> Result<T, HostError> {
    // What is the same for every death is read before the first one, and nobody waits for it.
    let _ = thread::Builder::new().name("facts".to_owned()).spawn(super::task::warm_up);
    // The caller only waits here: it need not be woken to be told of each tracee.
    let mask = wakeup::change_mask(libc::SIG_BLOCK, &wakeup::set_of(&[libc::SIGCHLD]));
    let result = thread::scope(|scope| {
        let tracer = thread::Builder::new().name("tracer".to_owned()).spawn_scoped(scope, || body(&mask));
        match tracer {
            Ok(tracer) => tracer.join().unwrap_or(Err(HostError::Panicked)),
            Err(error) => Err(HostError::Call { what: "start a thread", errno: error.into() }),
        }
    });
    wakeup::change_mask(libc::SIG_SETMASK, &mask);
    result
}

fn run_here(
    program: &Program,
    options: &Options,
    receiver: &mut (dyn Receiver + Send),
    mask: &libc::sigset_t,
) -> Result<Ending, HostError> {
    probe::check_release()?;
    let call = |what| move |errno: Errno| HostError::Call { what, errno };
    let mut tracer = Tracer::new(receiver).map_err(call("prepare to trace"))?;
    let mut relay = match options.relay_signals {
        true => Some(Relay::new().map_err(call("handle signals"))?),
        false => None,
    };
    let trace = ptrace::FOLLOW | libc::PTRACE_O_EXITKILL;
    let mut started = program::start(program, trace, mask)?;
    tracer.adopt_root(started.pid, trace, relay.is_some());
    let ending = loop {
        if let Some(ending) = tracer.tracees().root_ending() {
            break ending;
        }
        if let Some(relay) = &mut relay {
            relay.work(&mut tracer);
        }
        tracer.step(&mut Vec::new(), relay.as_ref().and_then(Relay::deadline));
    };
    if let (false, Some(errno)) = (tracer.root_executed(), started.exec_failure()) {
        return Err(HostError::Exec { program: program.name(), errno });
    }
    // From here on nobody is left to pass signals on to, and whoever sends one means us.
    drop(relay);
    while options.wait_for_descendants && !tracer.tracees().is_empty() {
        tracer.step(&mut Vec::new(), None);
    }
    tracer.leave();
    Ok(ending)
}
