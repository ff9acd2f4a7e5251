//! Clients that have a port of their own with us.
//!
//! Such a port is one of two things for its client: what it registered instead of the service's port, where the system takes
//! no service port as an exception port; or only a sign of life, for clients whose exceptions are passed on to whom they went
//! before. Either way it lives here, and dies with this process: so the service stays while there is one. The kernel tells when
//! the last sender of a port is gone: the client itself, and every descendant that inherited it.

use std::collections::HashMap;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{AuditToken, CheckIn, PREVIOUS_IN_PROCESS, PortName, Previous};

use super::first_chances::TaskId;
use super::kernel::Kernel;
use super::ports::{Group, Port, Right, Rights};

/// Clients with a port of their own, at most.
pub(super) const MAX_SESSIONS: usize = 1024;
/// Of them, those of one user: another's are left room.
pub(super) const MAX_SESSIONS_OF_USER: usize = 512;

/// `KERN_RESOURCE_SHORTAGE`: there are as many clients as are taken.
pub(super) const SHORTAGE: KernReturn = KernReturn(6);
/// `KERN_INVALID_CAPABILITY`: nobody says who asks.
const NOBODY: KernReturn = KernReturn(20);
/// `KERN_NOT_SUPPORTED`: there is no port set to receive on.
const NOT_SERVED: KernReturn = KernReturn(46);

/// Where some exceptions of a client went before it registered.
pub(super) struct Action {
    /// `EXC_MASK_*`.
    pub(super) mask: u32,
    pub(super) port: Port,
    pub(super) behaviour: u32,
    pub(super) flavor: i32,
    /// The client itself receives on the port.
    pub(super) in_process: bool,
}

/// A handler that an exception would have gone to.
pub(super) struct Earlier {
    pub(super) port: Port,
    pub(super) behaviour: u32,
    pub(super) flavor: i32,
    /// The process whose exception it is receives on the port itself.
    pub(super) in_process: bool,
}

/// One client's.
struct Session {
    port: Port,
    /// Send rights made so far (`ip_mscount`): a notice that counts fewer is out of date.
    made: u32,
    owner: AuditToken,
    previous: Vec<Action>,
}

/// All of them, by port.
pub(super) struct Sessions {
    rights: Rights,
    /// Where we receive; `None` while nobody may check in.
    set: Option<PortName>,
    open: HashMap<PortName, Session>,
}

impl Sessions {
    pub(super) fn new(rights: Rights) -> Sessions {
        Sessions { rights, set: None, open: HashMap::new() }
    }

    /// Lets clients check in: their ports go into `set`.
    pub(super) fn admit(&mut self, set: PortName) {
        self.set = Some(set);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Gives a client its port: a send right, to be sent to it. One process has one port, however often it asks: what it says
    /// of earlier handlers replaces what it said before.
    ///
    /// Errors: there are too many, nobody may check in, or the kernel's.
    pub(super) fn check_in(
        &mut self,
        kernel: &dyn Kernel,
        request: &CheckIn,
        previous: Vec<Option<Port>>,
        owner: Option<AuditToken>,
    ) -> Result<Port, KernReturn> {
        let owner = owner.ok_or(NOBODY)?;
        let (set, previous) = (self.set.ok_or(NOT_SERVED)?, actions(kernel, request, previous));
        let known = self.open.values_mut().find(|session| is(&session.owner, (owner.pid(), owner.pid_version())));
        if let Some(session) = known {
            let right = make_send(kernel, &self.rights, &session.port)?;
            session.made = session.made.wrapping_add(1);
            session.previous = previous;
            return Ok(right);
        }
        let of_user = self.open.values().filter(|session| session.owner.effective_uid() == owner.effective_uid());
        if self.open.len() >= MAX_SESSIONS || of_user.count() >= MAX_SESSIONS_OF_USER {
            return Err(SHORTAGE);
        }
        let name = kernel.allocate_receive()?;
        let port = self.rights.adopt(Group::ClientSessions, Right::Receive, name).ok_or(KernReturn::FAILURE)?;
        kernel.insert_member(name, set)?;
        let right = make_send(kernel, &self.rights, &port)?;
        // With the number of rights made: the kernel would answer at once if there were none, and fewer made.
        ask_for_notice(kernel, &self.rights, name, 1)?;
        self.open.insert(name, Session { port, made: 1, owner, previous });
        Ok(right)
    }

    /// The kernel says that nobody can send to `port` any more, of which it had made `count` rights then. A right made
    /// since, for a client that checked in again meanwhile, is waited for anew.
    pub(super) fn no_senders(&mut self, kernel: &dyn Kernel, port: PortName, count: u32) {
        let Some(session) = self.open.get(&port) else { return };
        let is_over = count >= session.made || ask_for_notice(kernel, &self.rights, port, session.made).is_err();
        if is_over {
            self.open.remove(&port);
        }
    }

    /// Where exceptions that arrived on `port`, of this process, went before. By port, since descendants inherit a port of the
    /// client's own; clients that registered the service's port are known by what they are.
    pub(super) fn previous(&self, port: PortName, task: TaskId) -> &[Action] {
        self.session(port, task).map_or(&[], |session| &session.previous)
    }

    /// Who would have been asked of an exception of this type of a process that arrived on `port`. `None` for nobody, also if
    /// its port has died.
    pub(super) fn earlier(&self, port: PortName, task: TaskId, kind: u32) -> Option<Earlier> {
        let session = self.session(port, task)?;
        let bit = 1u32.checked_shl(kind)?;
        let action = session.previous.iter().find(|action| action.mask & bit != 0)?;
        let port = action.port.duplicate(Group::ClientSessions).ok()?;
        // A descendant's exceptions can well be received by the client.
        let in_process = action.in_process && is(&session.owner, task);
        Some(Earlier { port, behaviour: action.behaviour, flavor: action.flavor, in_process })
    }

    /// Where answers are received; `None` while nobody may check in.
    pub(super) fn set(&self) -> Option<PortName> {
        self.set
    }

    fn session(&self, port: PortName, task: TaskId) -> Option<&Session> {
        self.open.get(&port).or_else(|| self.open.values().find(|session| is(&session.owner, task)))
    }
}

/// By number and version: numbers are used again, and who comes after a client must not have its exceptions told to those that
/// the client named. A program that is executed in a process's place asks for itself.
fn is(owner: &AuditToken, task: TaskId) -> bool {
    (owner.pid(), owner.pid_version()) == task
}

fn make_send(kernel: &dyn Kernel, rights: &Rights, port: &Port) -> Result<Port, KernReturn> {
    kernel.make_send(port.name())?;
    rights.adopt(Group::ClientSessions, Right::Send, port.name()).ok_or(KernReturn::FAILURE)
}

fn ask_for_notice(kernel: &dyn Kernel, rights: &Rights, port: PortName, made: u32) -> Result<(), KernReturn> {
    let earlier = kernel.notify_no_senders(port, made)?;
    drop(rights.adopt(Group::Notifications, Right::SendOnce, earlier));
    Ok(())
}

/// The rows that lead anywhere. A port that we receive on ourselves leads nowhere but back, and one of the kernel's to our end.
fn actions(kernel: &dyn Kernel, request: &CheckIn, ports: Vec<Option<Port>>) -> Vec<Action> {
    let rows = request.previous.iter().zip(ports);
    let action = |(row, port): (&Previous, Option<Port>)| {
        let is_queue = |port: &Port| !kernel.is_received_here(port.name()) && !kernel.is_kernel_object(port.name());
        let port = port.filter(|port| row.mask != 0 && is_queue(port))?;
        let in_process = row.flags & PREVIOUS_IN_PROCESS != 0;
        Some(Action { mask: row.mask, port, behaviour: row.behaviour, flavor: row.flavor, in_process })
    };
    rows.filter_map(action).collect()
}
