//! The task that an exception message is about.

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{AuditToken, PortName};

use super::incoming::Carried;
use super::kernel::{Kernel, TaskFlavor};
use super::ports::{Group, Port, Right, Rights};
use super::task;

/// `TASK_AUDIT_TOKEN`: eight words.
const TASK_AUDIT_TOKEN: (u32, usize) = (15, 8);

/// Who the message is about, and what can be had of it.
#[derive(Default)]
pub(super) struct Opened {
    /// A control or read port made from an identity token; the ones that came in the message are owned with the message.
    from_token: Option<Port>,
    from_message: Option<PortName>,
    /// Tells processes with the same number apart; 0 if it can't be told.
    pub(super) version: u32,
    /// The process; `None` if the task is gone or nobody says.
    pub(super) pid: Option<i32>,
    /// The thread's 64-bit id.
    pub(super) thread: Option<u64>,
    /// Why no port could be had.
    pub(super) refusal: Option<KernReturn>,
}

impl Opened {
    /// Finds the task. Identity comes from the port itself, never from what a message says; only the thread is known by a
    /// number, if the message names one.
    pub(super) fn open(kernel: &dyn Kernel, rights: &Rights, carried: &Carried, thread_id: Option<u64>) -> Opened {
        let mut opened = Opened { thread: thread_id, ..Opened::default() };
        if let Some(token) = &carried.token {
            opened.resolve(kernel, rights, token.name());
        }
        if let Some(task) = &carried.task {
            opened.from_message = Some(task.name());
            opened.found(identity(kernel, task.name()));
        }
        if let Some(thread) = &carried.thread {
            opened.thread = task::thread_id(kernel, thread.name()).ok();
        }
        opened
    }

    /// A read port is enough; a corpse's token converts to the control flavour only; and where a security policy refuses both,
    /// the name port still says which process it is (`osfmk/kern/task_ident.c`).
    fn resolve(&mut self, kernel: &dyn Kernel, rights: &Rights, token: PortName) {
        for flavor in [TaskFlavor::Read, TaskFlavor::Control] {
            match kernel.task_of_identity(token, flavor) {
                Ok(name) => {
                    self.from_token = rights.adopt(Group::Tasks, Right::Send, name);
                    self.found(identity(kernel, name));
                    self.refusal = None;
                    return;
                }
                Err(code) => {
                    self.refusal.get_or_insert(code);
                }
            }
        }
        if let Ok(name) = kernel.task_of_identity(token, TaskFlavor::Name) {
            let name_port = rights.adopt(Group::Tasks, Right::Send, name);
            self.found(name_port.and_then(|port| identity(kernel, port.name())));
        }
    }

    fn found(&mut self, identity: Option<(i32, u32)>) {
        self.pid = identity.map(|(pid, _)| pid);
        self.version = identity.map_or(0, |(_, version)| version);
    }

    /// The port to read the task by.
    pub(super) fn port(&self) -> Option<PortName> {
        self.from_token.as_ref().map(Port::name).or(self.from_message)
    }
}

/// The process behind any task port, and its version.
fn identity(kernel: &dyn Kernel, task: PortName) -> Option<(i32, u32)> {
    let mut words = [0; TASK_AUDIT_TOKEN.1];
    match kernel.task_info(task, TASK_AUDIT_TOKEN.0, &mut words) {
        Ok(filled) if filled == words.len() => Some((AuditToken(words).pid(), AuditToken(words).pid_version())),
        _ => kernel.pid(task).ok().map(|pid| (pid, 0)),
    }
    .filter(|(pid, _)| *pid > 0)
}
