//! What happens to one message, from the receive buffer to the reply and the last right given back.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aftermach_protocol::exception::{Exception, KernReturn};
use aftermach_protocol::message::{Contents, Notification, PortName, State, Subject};
use aftermach_protocol::reply::{Answer, Captured, Case, Occasion, Sender, Whose, answer};

use super::first_chances::FirstChances;
use super::incoming::{Carried, Incoming};
use super::kernel::{Kernel, TaskFlavor};
use super::opened::Opened;
use super::pass_on::{self, Leftover, NotPassedOn, PassedOn};
use super::pending::Pending;
use super::ports::{Group, Outstanding, Port, Right, Rights};
use super::registers::{self, read_general};
use super::sessions::Sessions;
use super::system::Facts;
use super::task::{self, MachTask};
use super::unwatch::{Refusal, unwatch};
use super::watchdog::Watchdog;
use crate::host::Receiver;
use crate::snapshot::{Death, Fault, Gap, Snapshot};

/// How exceptions are answered.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long a dead task is kept waiting at most. Capturing ends before by its own limit
    /// ([`Limits::time`](crate::snapshot::Limits)); this is for when it hangs.
    pub deadline: Duration,
    /// Whether Apple's own report shall be made as well.
    pub system_report: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { deadline: Duration::from_secs(8), system_report: true }
    }
}

/// What became of a message.
#[derive(Debug)]
pub struct Handled {
    /// What it was.
    pub occasion: Occasion,
    /// The notification, if it was the kernel's.
    pub notification: Option<Notification>,
    /// The process that it was about, if one was found.
    pub pid: Option<i32>,
    /// What was answered; `None` if nobody waited, nobody could be reached any more, or another handler is to answer first.
    pub answered: Option<KernReturn>,
    /// Rights that it left behind: none, or there is a defect.
    pub outstanding: Vec<Outstanding>,
}

/// Handles messages one after the other. As many may serve one port as captures are wanted at a time: see [`Server::beside`].
pub struct Server {
    kernel: Arc<dyn Kernel>,
    rights: Rights,
    facts: Facts,
    policy: Policy,
    /// Of all servers of one port: a thread's fault and its death may be handled by two of them.
    faults: Arc<Mutex<FirstChances>>,
    /// Likewise.
    sessions: Arc<Mutex<Sessions>>,
    /// Likewise.
    passed_on: Arc<Mutex<PassedOn>>,
    watchdog: Watchdog,
}

/// A message about an exception, on its way through the server.
struct Crash<'a> {
    exception: Exception,
    thread_id: Option<u64>,
    state: Option<&'a State>,
    /// The port that the message came on.
    port: PortName,
    carried: &'a Carried,
    rights: &'a Rights,
    pending: &'a Arc<Pending>,
    received: Instant,
}

/// What came of a capture.
struct Outcome {
    whose: Whose,
    pid: Option<i32>,
    /// See [`Opened::version`].
    version: u32,
    snapshot: Option<Box<Snapshot>>,
    /// There is no snapshot because it asks for too many.
    too_often: bool,
}

impl Server {
    /// A server that counts its rights in `rights`. `stuck` is called, on another thread, when a capture hangs for as long
    /// again after its deadline: everyone after it waits, and whoever can start another server should end this one.
    ///
    /// Errors: the system's, if it gives no thread for the deadline.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        rights: Rights,
        facts: Facts,
        policy: Policy,
        stuck: impl Fn() + Send + 'static,
    ) -> io::Result<Server> {
        let (faults, watchdog) = (Arc::default(), Watchdog::start(stuck)?);
        let sessions = Arc::new(Mutex::new(Sessions::new(rights.clone())));
        let passed_on = Arc::default();
        Ok(Server { kernel, rights, facts, policy, faults, sessions, passed_on, watchdog })
    }

    /// Another server of the same port, for another thread.
    ///
    /// Errors: the system's, if it gives no thread for the deadline.
    pub fn beside(&self, stuck: impl Fn() + Send + 'static) -> io::Result<Server> {
        let (kernel, rights, facts) = (Arc::clone(&self.kernel), self.rights.clone(), self.facts.clone());
        let (faults, sessions) = (Arc::clone(&self.faults), Arc::clone(&self.sessions));
        let (policy, passed_on) = (self.policy, Arc::clone(&self.passed_on));
        let watchdog = Watchdog::start(stuck)?;
        Ok(Server { kernel, rights, facts, policy, faults, sessions, passed_on, watchdog })
    }

    /// Lets clients ask for ports of their own, which are received on with the port set `set`. Until then they are refused.
    pub fn admit_clients(&self, set: PortName) {
        self.sessions().admit(set);
    }

    /// Clients with a port of their own. It dies with this process: while there is one, there is a reason to stay.
    pub fn clients(&self) -> usize {
        self.sessions().len()
    }

    fn faults(&self) -> MutexGuard<'_, FirstChances> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for a message at most before [`Server::give_up`]: other handlers were asked, and are to answer.
    pub fn patience(&self) -> Option<Duration> {
        self.passed_on().patience()
    }

    /// Answers in place of other handlers that have not answered in time.
    pub fn give_up(&self) {
        self.passed_on().give_up(Instant::now());
    }

    pub(super) fn passed_on(&self) -> MutexGuard<'_, PassedOn> {
        self.passed_on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles the message in a receive buffer, trailer included: reads the task if it is dead, answers, gives every right
    /// back, and only then tells `receiver` that the task was let go. The sender's importance is ours until this returns.
    pub fn handle(&mut self, buffer: &mut [u8], receiver: &mut dyn Receiver) -> Handled {
        let received = Instant::now();
        let rights = self.rights.scope();
        let reply_in_it = pass_on::reply_in(buffer);
        let incoming = match Incoming::take(&*self.kernel, &self.rights, &rights, buffer) {
            Ok(incoming) => incoming,
            Err(refusal) => {
                let occasion = Occasion::Malformed(refusal);
                return Handled {
                    occasion,
                    notification: None,
                    pid: None,
                    answered: None,
                    outstanding: rights.ledger().outstanding(),
                };
            }
        };
        let Incoming { header, trailer, contents, reply, voucher, mut carried } = incoming;
        let sender = if trailer.from_kernel() { Sender::Kernel } else { Sender::Process };
        // A process that waits has made a right to send once. Any other may lead to an object of the kernel's.
        let reply = reply.filter(|reply| sender == Sender::Kernel || reply.right() == Right::SendOnce);
        let notification = match &contents {
            Ok(Contents::Notification(notification)) if sender == Sender::Kernel => Some(*notification),
            _ => None,
        };
        if let Some(Notification::NoSenders(count)) = notification {
            self.sessions().no_senders(&*self.kernel, header.local, count);
        }
        if let Some((answered, pid)) = self.passed_on().answered(header.local, reply_in_it) {
            drop((reply, carried, voucher));
            let outstanding = rights.ledger().outstanding();
            return Handled { occasion: Occasion::PassedOn, notification, pid: Some(pid), answered, outstanding };
        }
        let pending = Arc::new(Pending::new(Arc::clone(&self.kernel), reply, header, &contents));
        let mut client_port = Err(KernReturn::FAILURE);
        let (occasion, outcome) = match &contents {
            Err(refusal) => (Occasion::Malformed(*refusal), Outcome::nothing()),
            Ok(Contents::Notification(_)) => (Occasion::Notification, Outcome::nothing()),
            Ok(Contents::Exception(request)) => {
                let occasion = Occasion::of(&request.exception);
                let thread_id = match request.subject {
                    Subject::Identity { thread_id, .. } => Some(thread_id),
                    Subject::Nobody | Subject::Ports { .. } => None,
                };
                let state = request.state.as_ref();
                let (exception, carried) = (Exception::Mach(request.exception), &carried);
                let (port, rights, pending) = (header.local, &rights, &pending);
                let crash = Crash { exception, thread_id, state, port, carried, rights, pending, received };
                let outcome = match (occasion, sender) {
                    (Occasion::FirstChance, Sender::Kernel) => self.first_chance(&crash),
                    (Occasion::Death, Sender::Kernel) => self.death(&crash, receiver),
                    _ => Outcome::nothing(),
                };
                (occasion, outcome)
            }
            Ok(Contents::Dump(request)) => {
                let (exception, thread_id, carried) = (Exception::Simulated, Some(request.thread_id), &carried);
                let (port, rights, pending) = (header.local, &rights, &pending);
                let crash = Crash { exception, thread_id, state: None, port, carried, rights, pending, received };
                let asker = trailer.audit.map(|token| token.pid());
                let outcome = match sender {
                    Sender::Process => self.simulated(&crash, asker, receiver),
                    Sender::Kernel => Outcome::nothing(),
                };
                (Occasion::Simulated, outcome)
            }
            Ok(Contents::CheckIn(request)) => {
                if sender == Sender::Process {
                    let previous = mem::take(&mut carried.previous);
                    client_port = self.sessions().check_in(&*self.kernel, request, previous, trailer.audit);
                }
                let pid = trailer.audit.map(|token| token.pid());
                (Occasion::CheckIn, Outcome { pid, ..Outcome::nothing() })
            }
        };
        let Outcome { whose, pid, version, mut snapshot, too_often } = outcome;
        let captured = match snapshot {
            Some(_) => Captured::Whole,
            None if too_often => Captured::TooOften,
            None => Captured::Nothing,
        };
        let system_report = self.policy.system_report;
        let mut passed_on = None;
        let sent = match answer(&Case { occasion, sender, whose, captured, system_report }) {
            Answer::Reply(code) => {
                let leftover = match (&contents, pid) {
                    (Ok(Contents::Exception(request)), Some(pid)) if sender == Sender::Kernel => {
                        let (carried, pending, task) = (&carried, &*pending, (pid, version));
                        Some(Leftover { request, occasion, carried, task, pending, otherwise: code })
                    }
                    _ => None,
                };
                passed_on = leftover.and_then(|leftover| self.pass_on(&leftover, whose, header.local, &rights));
                match passed_on {
                    Some(Ok(())) => None,
                    _ => pending.send(code).map(|(sent, at)| (sent, at, sent != code)),
                }
            }
            Answer::Port => match client_port {
                Ok(right) => pending.send_port(&header, right),
                Err(code) => pending.send(code),
            }
            .map(|(sent, at)| (sent, at, false)),
            Answer::None => None,
        };
        let held = sent.map_or(received.elapsed(), |(_, at, _)| at.duration_since(received));
        let unreachable = pending.failure();
        // From here on the task is gone.
        drop((carried, pending));
        let outstanding = rights.ledger().outstanding();
        if let Some(snapshot) = &mut snapshot {
            let late = sent.is_some_and(|(_, _, late)| late);
            snapshot.gaps.extend(self.closing_gaps(late, unreachable, &outstanding));
            snapshot.gaps.extend(passed_on.map(|result| {
                Gap::new(
                    "handlers",
                    match result {
                        Ok(()) => "the handler that was registered before was asked too, and decided what became of it"
                            .to_owned(),
                        Err(reason) => format!("the handler that was registered before was not asked: {reason}"),
                    },
                )
            }));
        }
        if let Some(snapshot) = snapshot {
            receiver.released(snapshot, held);
        }
        drop(voucher);
        Handled { occasion, notification, pid, answered: sent.map(|(code, ..)| code), outstanding }
    }

    /// Asks the handler whose place ours took, if the kernel would have asked it had we not been there. `None` if there is none.
    fn pass_on(
        &self,
        leftover: &Leftover<'_>,
        whose: Whose,
        port: PortName,
        rights: &Rights,
    ) -> Option<Result<(), NotPassedOn>> {
        // A death is ours alone if nobody else is to hear of it.
        let is_over = leftover.otherwise == KernReturn::SUCCESS || whose == Whose::Ourselves;
        if is_over || !leftover.pending.is_owed() {
            return None;
        }
        let (set, earlier) = {
            let sessions = self.sessions();
            (sessions.set()?, sessions.earlier(port, leftover.task, leftover.request.exception.kind)?)
        };
        let result = self.passed_on().ask(&self.kernel, (&self.rights, rights), set, &earlier, leftover);
        if let (Occasion::FirstChance, Err(reason)) = (leftover.occasion, result) {
            self.faults().not_passed_on(leftover.task, reason);
        }
        Some(result)
    }

    fn closing_gaps(&self, late: bool, unreachable: Option<KernReturn>, outstanding: &[Outstanding]) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if late {
            let deadline = self.policy.deadline;
            let what = format!("the task was let go at the deadline of {deadline:?}, before everything was copied");
            gaps.push(Gap::new("capture", what));
        }
        if let Some(code) = unreachable {
            gaps.push(Gap::new("capture", format!("the task was killed while it was read (reply: {code})")));
        }
        gaps.extend(outstanding.iter().map(|group| Gap::new("ports", group.to_string())));
        gaps
    }

    /// The thread waits for the answer, and nothing else of the task is of interest yet: nothing is suspended.
    fn first_chance(&self, crash: &Crash<'_>) -> Outcome {
        let opened = crash.open(&*self.kernel);
        let (Some(pid), Some(thread)) = (opened.pid, opened.thread) else { return Outcome::nothing() };
        if pid == self.kernel.own_pid() {
            return Outcome::of(Whose::Ourselves, &opened);
        }
        let registers = self.registers_of(crash, &opened, thread);
        let exception = crash.exception;
        let (pc, sp) = registers.map_or((0, 0), |registers| (registers.pc(), registers.sp()));
        let task = (pid, opened.version);
        if self.faults().note(task, thread, Fault { exception, pc, sp, time: SystemTime::now() }) {
            let result = self.unwatch(crash, &opened, pid);
            tracing::info!(
                pid,
                ?result,
                "a task meets hardware exceptions so often that they are not watched any more"
            );
            self.faults().decided(task, result);
        }
        Outcome::of(Whose::Client, &opened)
    }

    /// Takes the hardware exceptions off a task. The port in a classic message, or one from an identity token.
    fn unwatch(&self, crash: &Crash<'_>, opened: &Opened, pid: i32) -> Result<(), Refusal> {
        let kernel = &*self.kernel;
        let carried = crash.carried.task.as_ref().map(Port::name);
        let made = match &crash.carried.token {
            Some(token) if carried.is_none() => {
                let made = kernel.task_of_identity(token.name(), TaskFlavor::Control).map_err(Refusal::NoControl)?;
                crash.rights.adopt(Group::Tasks, Right::Send, made)
            }
            _ => None,
        };
        let control = made.as_ref().map(Port::name).or(carried).ok_or(Refusal::NoControl(KernReturn::FAILURE))?;
        let sessions = self.sessions();
        let previous = sessions.previous(crash.port, (pid, opened.version));
        unwatch(kernel, crash.rights, (control, pid), crash.port, previous)
    }

    /// The general registers of the thread that met the exception. A protected message names it by number only, so it is
    /// looked for among the task's threads.
    fn registers_of(&self, crash: &Crash<'_>, opened: &Opened, thread: u64) -> Option<crate::snapshot::Registers> {
        let kernel = &*self.kernel;
        let read = |port: &Port| {
            let get = |flavor| task::thread_state(kernel, port.name(), flavor);
            read_general(kernel.cpu(), get).ok()
        };
        if let Some(port) = &crash.carried.thread {
            return read(port);
        }
        let names = kernel.threads(opened.port()?).ok()?;
        let adopt = |name: &_| crash.rights.adopt(Group::Threads, Right::Send, *name);
        let ports: Vec<Port> = names.iter().filter_map(adopt).collect();
        read(ports.iter().find(|port| task::thread_id(kernel, port.name()) == Ok(thread))?)
    }

    fn death(&self, crash: &Crash<'_>, receiver: &mut dyn Receiver) -> Outcome {
        let opened = crash.open(&*self.kernel);
        if opened.pid == Some(self.kernel.own_pid()) {
            return Outcome::of(Whose::Ourselves, &opened);
        }
        self.capture(crash, &opened, None, receiver)
    }

    /// The sender asks for itself, and for nobody else: whoever holds a task's port can send it anywhere.
    fn simulated(&self, crash: &Crash<'_>, sender: Option<i32>, receiver: &mut dyn Receiver) -> Outcome {
        let opened = crash.open(&*self.kernel);
        let (Some(port), Some(pid)) = (opened.port(), opened.pid.filter(|_| opened.pid == sender)) else {
            return Outcome::of(Whose::Stranger, &opened);
        };
        if pid == self.kernel.own_pid() {
            return Outcome::of(Whose::Ourselves, &opened);
        }
        if !receiver.may_ask(pid) {
            return Outcome { too_often: true, ..Outcome::of(Whose::Client, &opened) };
        }
        // The sender waits for the answer, but its other threads run.
        let suspension = self.kernel.suspend(port);
        let gap = suspension.err().map(|code| Gap::new("capture", format!("the task could not be suspended: {code}")));
        let suspension = suspension.ok().and_then(|name| crash.rights.adopt(Group::Suspensions, Right::SendOnce, name));
        let outcome = self.capture(crash, &opened, gap, receiver);
        drop(suspension);
        outcome
    }

    fn capture(&self, crash: &Crash<'_>, opened: &Opened, gap: Option<Gap>, receiver: &mut dyn Receiver) -> Outcome {
        let simulated = crash.exception == Exception::Simulated;
        // At the deadline nobody has the snapshot yet: Apple's report must not be lost with ours.
        let at_deadline = if simulated { KernReturn::FAILURE } else { KernReturn::RCV_PORT_DIED };
        let _watched = self.watchdog.watch(crash.pending, self.policy.deadline, at_deadline);
        let kernel = &*self.kernel;
        let pid = opened.pid.unwrap_or(0);
        let exception = crash.exception;
        let task = (pid, opened.version);
        let (faults, unwatched) = if simulated { self.faults().of(task) } else { self.faults().take(task) };
        let task = MachTask::new(kernel, crash.rights, &self.facts, opened.port(), pid)
            .with_thread(opened.thread, crash.state.and_then(|state| registers::of_message(kernel.cpu(), state)))
            .with_faults(faults);
        let death = Death {
            pid,
            thread: opened.thread,
            exception,
            signal: match exception {
                Exception::Mach(exception) => exception.signal(kernel.cpu()).unwrap_or(0),
                Exception::Linux(_) | Exception::Simulated => 0,
            },
            time: SystemTime::now() - crash.received.elapsed(),
            gathering: crash.received.elapsed(),
        };
        let mut snapshot = receiver.death(death, &task);
        if let Some(snapshot) = &mut snapshot {
            snapshot.gaps.extend(gap.into_iter().chain(unwatched));
            if let Some(code) = opened.refusal {
                snapshot.gaps.push(Gap::new("task", format!("its identity token gave no port to read it by: {code}")));
            }
        }
        let whose = if snapshot.is_some() { Whose::Client } else { Whose::Stranger };
        Outcome { snapshot, ..Outcome::of(whose, opened) }
    }
}

impl Crash<'_> {
    fn open(&self, kernel: &dyn Kernel) -> Opened {
        Opened::open(kernel, self.rights, self.carried, self.thread_id)
    }
}

impl Outcome {
    fn nothing() -> Outcome {
        Outcome { whose: Whose::Stranger, pid: None, version: 0, snapshot: None, too_often: false }
    }

    fn of(whose: Whose, opened: &Opened) -> Outcome {
        Outcome { whose, pid: opened.pid, version: opened.version, ..Outcome::nothing() }
    }
}
