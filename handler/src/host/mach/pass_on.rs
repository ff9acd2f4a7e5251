//! Passing an exception on to the handler that was registered before our client.
//!
//! The kernel asks thread, task and host, one handler at each level. Ours took the place of an earlier one at the task's level,
//! another reporter or a runtime, perhaps inherited; where our answer is "ask the next", that one would have been asked. So we
//! ask it, in the form in which it was registered, and answer the kernel what it answers us. It hears from this process and not
//! from the kernel: a handler that looks at the sender's audit token, as this one does, refuses.
//!
//! Nobody waits here for an answer: it arrives as a message, on a port of its own, and at a deadline it is given up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{
    CodeWidth, Disposition, Header, MAX_STATE_WORDS, PortName, Received, Reply, Request, State, Subject,
};
use aftermach_protocol::reply::Occasion;

use super::first_chances::TaskId;
use super::incoming::{Carried, destroy_rest};
use super::kernel::{Kernel, TaskFlavor};
use super::pending::Pending;
use super::ports::{Group, Port, Right, Rights};
use super::sessions::Earlier;
use super::task;

/// Exceptions that wait for other handlers at a time.
pub(super) const MAX_WAITING: usize = 64;
/// Of them, those of one process.
pub(super) const MAX_WAITING_OF_ONE: usize = 8;
/// How long another handler may take. A process that dies can't be killed meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// `MACH_EXCEPTION_CODES`.
const CODES: u32 = 0x8000_0000;
/// The behaviours without their modifiers (`osfmk/mach/exception_types.h`).
const DEFAULT: u32 = 1;
const STATE: u32 = 2;
const STATE_IDENTITY: u32 = 3;
const IDENTITY_PROTECTED: u32 = 4;
const STATE_IDENTITY_PROTECTED: u32 = 5;

/// Why an exception was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotPassedOn {
    /// It would get the thread's state, and may answer with another. To set that, on a thread inside an exception, kills who
    /// tries where the process is hardened (`thread_set_state`, macOS 26).
    State,
    /// The process that dies receives on the port itself.
    InProcess,
    /// A behaviour that is not known here.
    Behaviour(u32),
    /// What the message must carry could not be had.
    Ports(KernReturn),
    /// Too many wait already.
    Busy,
    /// It could not be sent.
    Unreachable(KernReturn),
}

impl fmt::Display for NotPassedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotPassedOn::State => f.write_str("it may change the thread's state, which can't be done from here"),
            NotPassedOn::InProcess => f.write_str("it is the process itself, which is dead"),
            NotPassedOn::Behaviour(behaviour) => write!(f, "its behaviour {behaviour:#x} is not known here"),
            NotPassedOn::Ports(code) => write!(f, "there is no right to tell it of the task by: {code}"),
            NotPassedOn::Busy => f.write_str("too many others wait for such an answer"),
            NotPassedOn::Unreachable(code) => write!(f, "it can't be reached: {code}"),
        }
    }
}

/// An exception that we have no more use for.
pub(super) struct Leftover<'a> {
    pub(super) request: &'a Request,
    pub(super) occasion: Occasion,
    pub(super) carried: &'a Carried,
    pub(super) task: TaskId,
    pub(super) pending: &'a Pending,
    /// What to answer if the other handler does not handle it.
    pub(super) otherwise: KernReturn,
}

/// One that another handler has.
struct Waiting {
    /// Where its answer comes. Kept, since the port lives as long as its receive right.
    _answers: Port,
    pending: Pending,
    asked: i32,
    occasion: Occasion,
    otherwise: KernReturn,
    task: TaskId,
    until: Instant,
}

/// Those that other handlers have, by the port that the answer comes on.
#[derive(Default)]
pub(super) struct PassedOn(HashMap<PortName, Waiting>);

impl PassedOn {
    /// How long the next of them may yet take.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.0.values().map(|waiting| waiting.until.saturating_duration_since(Instant::now())).min()
    }

    /// Asks another handler. `rights` counts what outlives the message, `crash` what does not; answers are received with `set`.
    ///
    /// Errors: why it was not asked. The answer is still owed then.
    pub(super) fn ask(
        &mut self,
        kernel: &Arc<dyn Kernel>,
        (rights, crash): (&Rights, &Rights),
        set: PortName,
        earlier: &Earlier,
        leftover: &Leftover<'_>,
    ) -> Result<(), NotPassedOn> {
        let of_one = self.0.values().filter(|waiting| waiting.task == leftover.task).count();
        if self.0.len() >= MAX_WAITING || of_one >= MAX_WAITING_OF_ONE {
            return Err(NotPassedOn::Busy);
        }
        let kernel = &**kernel;
        // Until the message is sent, which copies them.
        let mut owned = Vec::new();
        let request = translate(kernel, crash, earlier, leftover, &mut owned)?;
        let (name, answers) = answer_port(kernel, rights, set).map_err(NotPassedOn::Ports)?;
        let (asked, bytes) = (request.id(), request.encode_to(earlier.port.name(), name));
        let (Some(asked), Some(mut bytes)) = (asked, bytes) else {
            return Err(NotPassedOn::Behaviour(earlier.behaviour));
        };
        if let Err(code) = kernel.send(&mut bytes) {
            take_back(kernel, crash, &mut bytes);
            return Err(NotPassedOn::Unreachable(code));
        }
        let Leftover { occasion, otherwise, task, .. } = *leftover;
        let (pending, until) = (leftover.pending.hand_over(rights), Instant::now() + PATIENCE);
        self.0.insert(name, Waiting { _answers: answers, pending, asked, occasion, otherwise, task, until });
        Ok(())
    }

    /// Whether a message that came on `port` is an answer, or the notice that there will be none. If so the kernel is answered;
    /// what was answered, for which process.
    pub(super) fn answered(&mut self, port: PortName, reply: Option<Reply>) -> Option<(Option<KernReturn>, i32)> {
        let waiting = self.0.remove(&port)?;
        let reply = reply.filter(|reply| reply.request == waiting.asked);
        let code = match (reply.map(|reply| reply.code), waiting.occasion) {
            (Some(KernReturn::SUCCESS), _) => KernReturn::SUCCESS,
            // To a first chance it would make the thread fault again for ever.
            (Some(KernReturn::RCV_PORT_DIED), Occasion::Death) => KernReturn::RCV_PORT_DIED,
            _ => waiting.otherwise,
        };
        Some((waiting.pending.send(code).map(|(code, _)| code), waiting.task.0))
    }

    /// Gives up those whose time is over: the kernel is answered as if there were no other handler.
    pub(super) fn give_up(&mut self, now: Instant) {
        for (_, waiting) in self.0.extract_if(|_, waiting| waiting.until <= now) {
            waiting.pending.send(waiting.otherwise);
        }
    }
}

/// The reply in a receive buffer, if it is one.
pub(super) fn reply_in(buffer: &[u8]) -> Option<Reply> {
    Reply::decode(Received::split(buffer).ok()?.message).ok()
}

fn answer_port(kernel: &dyn Kernel, rights: &Rights, set: PortName) -> Result<(PortName, Port), KernReturn> {
    let name = kernel.allocate_receive()?;
    let port = rights.adopt(Group::ClientSessions, Right::Receive, name).ok_or(KernReturn::FAILURE)?;
    kernel.insert_member(name, set)?;
    Ok((name, port))
}

/// A message that could not be sent may have come back, with rights that the kernel had made for it: the dispositions in it are
/// then those of rights that we own.
fn take_back(kernel: &dyn Kernel, rights: &Rights, bytes: &mut [u8]) {
    let Ok(header) = Header::decode(bytes) else { return };
    if header.remote_disposition() != Disposition::SEND {
        return;
    }
    drop(rights.adopt(Group::Messages, Right::Send, header.remote));
    if header.local_disposition() == Disposition::SEND_ONCE {
        drop(rights.adopt(Group::Messages, Right::SendOnce, header.local));
    }
    destroy_rest(kernel, header, bytes);
}

/// The message in the form in which the other handler was registered.
fn translate(
    kernel: &dyn Kernel,
    rights: &Rights,
    earlier: &Earlier,
    leftover: &Leftover<'_>,
    owned: &mut Vec<Port>,
) -> Result<Request, NotPassedOn> {
    let dead = leftover.occasion == Occasion::Death;
    if dead && earlier.in_process {
        return Err(NotPassedOn::InProcess);
    }
    let width = if earlier.behaviour & CODES != 0 { CodeWidth::Bits64 } else { CodeWidth::Bits32 };
    let form = earlier.behaviour & 0xFF;
    let (subject, with_state) = match form {
        DEFAULT | STATE_IDENTITY => (ports(kernel, rights, leftover, owned)?, form == STATE_IDENTITY),
        STATE => (Subject::Nobody, true),
        IDENTITY_PROTECTED | STATE_IDENTITY_PROTECTED if width == CodeWidth::Bits64 => {
            (identity(leftover)?, form == STATE_IDENTITY_PROTECTED)
        }
        _ => return Err(NotPassedOn::Behaviour(earlier.behaviour)),
    };
    let state = match (with_state, dead) {
        (false, _) => None,
        (true, false) => return Err(NotPassedOn::State),
        // What comes back changes nothing any more.
        (true, true) => Some(state(kernel, rights, earlier.flavor, leftover, owned)?),
    };
    Ok(Request { header: Header::default(), subject, exception: leftover.request.exception, width, state })
}

const NO_RIGHT: NotPassedOn = NotPassedOn::Ports(KernReturn::FAILURE);

fn identity(leftover: &Leftover<'_>) -> Result<Subject, NotPassedOn> {
    match (&leftover.carried.token, leftover.request.subject) {
        (Some(token), Subject::Identity { thread_id, .. }) => Ok(Subject::Identity { token: token.name(), thread_id }),
        _ => Err(NO_RIGHT),
    }
}

/// Thread and task: as the kernel sent them, or made from the identity token. Control ports as the kernel sends them, read ports
/// where those are refused: the kernel sends such itself where no developer mode is on (`osfmk/kern/exception.c`).
fn ports(
    kernel: &dyn Kernel,
    rights: &Rights,
    leftover: &Leftover<'_>,
    owned: &mut Vec<Port>,
) -> Result<Subject, NotPassedOn> {
    if let (Some(thread), Some(task)) = (&leftover.carried.thread, &leftover.carried.task) {
        return Ok(Subject::Ports { thread: thread.name(), task: task.name() });
    }
    let (Some(token), Subject::Identity { thread_id, .. }) = (&leftover.carried.token, leftover.request.subject) else {
        return Err(NO_RIGHT);
    };
    let task = kernel.task_of_identity(token.name(), TaskFlavor::Control);
    let task = task.or_else(|_| kernel.task_of_identity(token.name(), TaskFlavor::Read));
    let task = rights.adopt(Group::Tasks, Right::Send, task.map_err(NotPassedOn::Ports)?).ok_or(NO_RIGHT)?;
    let names = kernel.threads(task.name()).map_err(NotPassedOn::Ports)?;
    let threads = names.iter().filter_map(|name| rights.adopt(Group::Threads, Right::Send, *name));
    // All of them, so that each is given back.
    let threads: Vec<Port> = threads.collect();
    let thread =
        threads.into_iter().find(|port| task::thread_id(kernel, port.name()) == Ok(thread_id)).ok_or(NO_RIGHT)?;
    let subject = Subject::Ports { thread: thread.name(), task: task.name() };
    owned.extend([thread, task]);
    Ok(subject)
}

fn state(
    kernel: &dyn Kernel,
    rights: &Rights,
    flavor: i32,
    leftover: &Leftover<'_>,
    owned: &mut Vec<Port>,
) -> Result<State, NotPassedOn> {
    let Subject::Ports { thread, .. } = ports(kernel, rights, leftover, owned)? else { return Err(NO_RIGHT) };
    let number = u32::try_from(flavor).map_err(|_| NO_RIGHT)?;
    let mut words = vec![0; MAX_STATE_WORDS as usize];
    let filled = kernel.thread_state(thread, number, &mut words).map_err(NotPassedOn::Ports)?;
    words.truncate(filled);
    Ok(State { flavor, words })
}
