//! Starting a program whose exceptions come to us from its first instruction on.

use std::ffi::{c_int, c_short};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use aftermach_protocol::message::PortName;

use super::super::ports::Rights;
use super::error::HostError;
use super::registration::{self, Inherited, MASK, NO_FLAVOR};
use super::{Xnu, ffi};
use crate::host::errno::Errno;
use crate::host::program::{Program, Recipe, pointers};

/// Starts `program`, suspended, so that its exceptions go to `port`.
///
/// Twice, since not every system honours each way: the port is this task's own while the child is made, for the child to
/// inherit, and it is among the attributes of the spawn. Where the system lets us look, what came of it is checked.
pub(super) fn start(kernel: &Xnu, rights: &Rights, program: &Program, port: PortName) -> Result<c_int, HostError> {
    let behavior = registration::behavior(kernel.has_identity_tokens());
    let exec = |errno| HostError::Exec { program: program.name(), errno };
    let recipe = Recipe::new(program).map_err(exec)?;
    let inherited = Inherited::set(rights, port, behavior)
        .map_err(|code| HostError::Mach { what: "register the exception port", code })?;
    let mut pid = spawn(program, &recipe, Some((port, behavior)));
    if pid == Err(Errno(libc::EINVAL)) {
        // The attribute was refused. The child may still inherit the port.
        pid = spawn(program, &recipe, None);
    }
    drop(inherited);
    let pid = pid.map_err(exec)?;
    if let Some(task) = registration::control_port(rights, pid) {
        let seen = || registration::goes_to(rights, task.name(), port).unwrap_or(false);
        let ours = seen() || (registration::set_for(task.name(), port, behavior).is_ok() && seen());
        if !ours {
            // SAFETY: our own child, which has not run yet and has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            return Err(HostError::NotHonoured { program: program.name() });
        }
    }
    Ok(pid)
}

/// Lets the program that [`start`] made run.
pub(super) fn resume(pid: c_int) {
    // SAFETY: our own child, which has not been waited for.
    unsafe { libc::kill(pid, libc::SIGCONT) };
}

fn spawn(program: &Program, recipe: &Recipe, port: Option<(PortName, c_int)>) -> Result<c_int, Errno> {
    let mut attributes = Attributes::new()?;
    if let Some((port, behavior)) = port {
        attributes.set_exception_port(port, behavior)?;
    }
    let mut actions = Actions::new()?;
    for (stream, fd) in (0..).zip(&program.streams) {
        if let Some(fd) = fd {
            actions.duplicate(fd.as_raw_fd(), stream)?;
        }
    }
    if let Some(directory) = &recipe.directory {
        // SAFETY: live actions, and a path that ends in NUL.
        result(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut actions.0, directory.as_ptr()) })?;
    }
    let (arguments, environment) = (pointers(&recipe.arguments), pointers(&recipe.environment));
    let mut pid = 0;
    // SAFETY: strings that end in NUL, arrays that end in null, live attributes and actions.
    result(unsafe {
        libc::posix_spawnp(
            &mut pid,
            recipe.name.as_ptr(),
            &actions.0,
            &attributes.0,
            arguments.as_ptr().cast(),
            environment.as_ptr().cast(),
        )
    })?;
    Ok(pid)
}

/// posix_spawn(2) and its helpers return their error.
fn result(error: c_int) -> Result<(), Errno> {
    if error == 0 { Ok(()) } else { Err(Errno(error)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> Result<Attributes, Errno> {
        let mut attributes = MaybeUninit::zeroed();
        // SAFETY: room for attributes.
        result(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised.
        let mut attributes = Attributes(unsafe { attributes.assume_init() });
        let mut defaults = MaybeUninit::<libc::sigset_t>::zeroed();
        // Rust's runtime ignores SIGPIPE; programs expect the default, as from std::process::Command.
        // SAFETY: live sets and attributes.
        unsafe {
            libc::sigemptyset(defaults.as_mut_ptr());
            libc::sigaddset(defaults.as_mut_ptr(), libc::SIGPIPE);
            result(libc::posix_spawnattr_setsigdefault(&mut attributes.0, defaults.as_ptr()))?;
        }
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_START_SUSPENDED;
        // SAFETY: live attributes.
        result(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags as c_short) })?;
        Ok(attributes)
    }

    fn set_exception_port(&mut self, port: PortName, behavior: c_int) -> Result<(), Errno> {
        // SAFETY: live attributes; the port's right is copied at the spawn.
        result(unsafe { ffi::posix_spawnattr_setexceptionports_np(&mut self.0, MASK, port.0, behavior, NO_FLAVOR) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> Result<Actions, Errno> {
        let mut actions = ptr::null_mut();
        // SAFETY: room for actions.
        result(unsafe { libc::posix_spawn_file_actions_init(&mut actions) })?;
        Ok(Actions(actions))
    }

    /// A descriptor that is already the stream loses its close-on-exec flag by it.
    fn duplicate(&mut self, fd: c_int, stream: c_int) -> Result<(), Errno> {
        // SAFETY: live actions.
        result(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, fd, stream) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}
