//! A kernel for tests: a few tasks in a table, a name space that refuses what the real one refuses, and a switch that makes
//! any one call fail, or the victim die at it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aftermach_protocol::dump_message;
use aftermach_protocol::exception::{KernReturn, MachException};
use aftermach_protocol::message::{
    CHECK_IN_VERSION, CheckIn, CodeWidth, Disposition, Header, MAX_PREVIOUS, Notification, PortName, Previous, Request,
    State, Subject, decode_check_in_reply,
};
use aftermach_protocol::platform::Cpu;

use super::kernel::{FileId, Kernel, RawAction, RawRegion, TaskFlavor};
use super::ports::PortSpace;
use super::ports::stand_in::{Entry, StandIn};

pub(super) const PAGE: u64 = 0x4000;
pub(super) const OURSELVES: i32 = 77;
const SEND_INVALID_DEST: KernReturn = KernReturn(0x1000_0003);
const SEND_TIMED_OUT: KernReturn = KernReturn(0x1000_0004);
const KERN_INVALID_ADDRESS: KernReturn = KernReturn(1);
const KERN_INVALID_ARGUMENT: KernReturn = KernReturn(4);
const KERN_INVALID_RIGHT: KernReturn = KernReturn(17);
const KERN_DENIED: KernReturn = KernReturn(53);

/// A task of the stand-in.
#[derive(Default, Clone)]
pub(super) struct FakeTask {
    /// 64-bit ids; their pc is the id times 0x1000.
    pub(super) threads: Vec<u64>,
    /// Whole pages.
    pub(super) memory: BTreeMap<u64, Vec<u8>>,
    /// Whether tokens of it convert to nothing but the name flavour.
    pub(super) closed: bool,
    pub(super) dyld: u64,
    /// Where its exceptions go.
    pub(super) actions: Vec<FakeAction>,
    /// Its signature's flags and its entitlements; `None` if nobody can tell.
    pub(super) signature: Option<(u32, &'static str)>,
    /// Whether it says that it changes its exception ports, and does not.
    pub(super) stubborn: bool,
}

/// Where some exceptions of a task go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FakeAction {
    pub(super) mask: u32,
    pub(super) to: To,
    pub(super) behaviour: u32,
    pub(super) flavor: i32,
}

/// Who receives on an exception port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The server, under this name.
    Ours(PortName),
    /// Somebody else.
    Object(u64),
}

/// The kernel.
#[derive(Default)]
pub(super) struct StandInKernel {
    pub(super) space: StandIn,
    pub(super) tasks: Mutex<BTreeMap<i32, FakeTask>>,
    /// Replies that arrived.
    pub(super) replies: Mutex<Vec<Vec<u8>>>,
    /// Ports that were made, by name.
    pub(super) made: Mutex<BTreeMap<u32, Made>>,
    /// Messages that were sent to other handlers: to which object, the port for the answer, the bytes.
    pub(super) sent_on: Mutex<Vec<(u64, PortName, Vec<u8>)>>,
    /// Whether other handlers' queues are full.
    pub(super) full: bool,
    /// Messages of the kernel's that wait to be received.
    pub(super) notices: Mutex<Vec<Vec<u8>>>,
    /// Calls made so far.
    pub(super) steps: AtomicUsize,
    /// The call that fails.
    pub(super) fails_at: Option<usize>,
    /// The call before which all tasks die.
    pub(super) dies_at: Option<usize>,
    /// Rights to what these lead to ([`THREADS`] and an index, …) are not taken back.
    pub(super) keeps: Option<u64>,
}

/// A port that the server made (`struct ipc_port`).
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Send rights ever made: `ip_mscount`.
    count: u32,
    /// Those that other tasks hold.
    outside: u32,
    /// Whether a notice is asked for: `ip_nsrequest`.
    asked: bool,
}

/// What objects ports lead to: a task's number times 1000, and one of these or a thread's index.
const TASK: u64 = 0;
const NAME: u64 = 1;
const TOKEN: u64 = 2;
pub(super) const THREADS: u64 = 10;
pub(super) const VOUCHER: u64 = 5;

fn object(pid: i32, what: u64) -> u64 {
    pid as u64 * 1000 + what
}

impl StandInKernel {
    pub(super) fn with_task(self, pid: i32, task: FakeTask) -> StandInKernel {
        self.tasks.lock().unwrap().insert(pid, task);
        self
    }

    /// Another task gives back a send right to a port that the server made.
    pub(super) fn outside_drops(&self, port: PortName) {
        self.made.lock().unwrap().get_mut(&port.0).expect("a port that was made").outside -= 1;
        self.look_for_senders(port);
    }

    /// Sends the notice that is asked for if nobody can send any more (`ipc_port_release_send_and_unlock`).
    fn look_for_senders(&self, port: PortName) {
        let mut made = self.made.lock().unwrap();
        let Some(of_port) = made.get_mut(&port.0) else { return };
        let inside = self.space.census().get(&port.0).map_or(0, |entry| entry.send);
        if of_port.asked && of_port.outside + inside == 0 {
            of_port.asked = false;
            let notice = Notification::NoSenders(of_port.count).encode(port);
            self.notices.lock().unwrap().push(delivered(notice, 0));
        }
    }

    /// Counts a call, and lets it fail or the tasks die if it is its turn.
    fn step(&self) -> Result<(), KernReturn> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if self.dies_at == Some(step) {
            self.kill_all();
        }
        if self.fails_at == Some(step) { Err(KernReturn::FAILURE) } else { Ok(()) }
    }

    pub(super) fn kill_all(&self) {
        for (pid, task) in std::mem::take(&mut *self.tasks.lock().unwrap()) {
            for what in [TASK, NAME, TOKEN].into_iter().chain((0..task.threads.len() as u64).map(|i| THREADS + i)) {
                self.space.kill(object(pid, what));
            }
        }
    }

    fn task<T>(&self, port: PortName, read: impl FnOnce(i32, &FakeTask) -> Option<T>) -> Result<T, KernReturn> {
        self.step()?;
        let object = self.space.object(port).ok_or(KERN_INVALID_ARGUMENT)?;
        let pid = (object / 1000) as i32;
        let tasks = self.tasks.lock().unwrap();
        let task = tasks.get(&pid).filter(|_| object % 1000 == TASK).ok_or(KERN_INVALID_ARGUMENT)?;
        read(pid, task).ok_or(KERN_INVALID_ADDRESS)
    }

    fn thread(&self, port: PortName) -> Result<u64, KernReturn> {
        self.step()?;
        let object = self.space.object(port).ok_or(KERN_INVALID_ARGUMENT)?;
        let tasks = self.tasks.lock().unwrap();
        let task = tasks.get(&((object / 1000) as i32)).ok_or(KERN_INVALID_ARGUMENT)?;
        let index = (object % 1000).checked_sub(THREADS).ok_or(KERN_INVALID_ARGUMENT)?;
        task.threads.get(index as usize).copied().ok_or(KERN_INVALID_ARGUMENT)
    }

    /// A message as the kernel would send it for a thread of `pid`, with rights to all that it names.
    pub(super) fn message(&self, id: i32, pid: i32, thread: usize, exception: MachException) -> Message {
        let send = |what| self.space.give_send(object(pid, what));
        let state = State { flavor: 6, words: (0..68).collect() };
        let (subject, state) = match id {
            2405 | 2407 => {
                let subject = Subject::Ports { thread: send(THREADS + thread as u64), task: send(TASK) };
                (subject, (id == 2407).then_some(state))
            }
            2406 => (Subject::Nobody, Some(state)),
            2408 | 2410 => {
                let thread_id = self.tasks.lock().unwrap().get(&pid).map_or(0, |task| task.threads[thread]);
                (Subject::Identity { token: send(TOKEN), thread_id }, (id == 2410).then_some(state))
            }
            id => panic!("message {id}"),
        };
        let header = Header {
            bits: 0x0011_1112,
            remote: self.space.give_send_once(),
            voucher: self.space.give_send(VOUCHER),
            local: PortName(0x0B03),
            ..Header::default()
        };
        Message { request: Request { header, subject, exception, width: CodeWidth::Bits64, state }, sender: 0 }
    }
}

impl StandInKernel {
    /// A client's request to be reported, as it arrives from `sender`: about `pid`, by its token or its task port.
    pub(super) fn dump_message(&self, pid: i32, by_token: bool, sender: i32) -> Vec<u8> {
        let port = self.space.give_send(object(pid, if by_token { TOKEN } else { TASK })).0;
        let subject =
            if by_token { dump_message::Subject::IdentityToken(port) } else { dump_message::Subject::Task(port) };
        let request = dump_message::DumpRequest { subject, thread_id: 12, record: 0 };
        let mut bytes = dump_message::encode_request(0, 0, &request).to_vec();
        // What the kernel makes of it for the receiver: dispositions, and the sender's reply port as the remote one.
        bytes[..4].copy_from_slice(&0x8000_1112_u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.space.give_send_once().0.to_le_bytes());
        bytes[12..16].copy_from_slice(&0x0B03_u32.to_le_bytes());
        bytes[38] = 17;
        delivered(bytes, sender as u32)
    }
}

impl StandInKernel {
    /// A client's request for a port of its own, as it arrives from `sender`.
    pub(super) fn check_in_message(&self, sender: u32, previous: &[Previous]) -> Vec<u8> {
        let mut rows = [Previous::default(); MAX_PREVIOUS];
        rows[..previous.len()].copy_from_slice(previous);
        let request = CheckIn { version: CHECK_IN_VERSION, previous: rows };
        let mut bytes = request.encode(PortName(0x0B03), PortName::NULL);
        bytes[..4].copy_from_slice(&0x8000_1112_u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.space.give_send_once().0.to_le_bytes());
        bytes[12..16].copy_from_slice(&0x0B03_u32.to_le_bytes());
        for index in 0..MAX_PREVIOUS {
            bytes[38 + 12 * index] = Disposition::SEND.0;
        }
        delivered(bytes, sender)
    }
}

impl StandInKernel {
    /// A message to another handler: rights are copied, and one to answer by is made.
    fn send_on(&self, message: &mut [u8], header: Header) -> Result<(), KernReturn> {
        assert_eq!(header.local_disposition(), Disposition::MAKE_SEND_ONCE);
        assert!(self.made.lock().unwrap().contains_key(&header.local.0), "the answer's port is received on");
        let handler = self.space.object(header.remote).ok_or(SEND_INVALID_DEST)?;
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let count = if header.is_complex() { word(24) as usize } else { 0 };
        let carried: Vec<PortName> = (0..count).map(|index| PortName(word(28 + 12 * index))).collect();
        for (index, name) in carried.iter().enumerate() {
            assert_eq!(message[38 + 12 * index], Disposition::COPY_SEND.0);
            let census = self.space.census();
            assert!(census.get(&name.0).is_some_and(|entry| entry.send + entry.dead > 0), "a right of ours");
        }
        if !self.full {
            self.sent_on.lock().unwrap().push((handler, header.local, message.to_vec()));
            return Ok(());
        }
        // `ipc_kmsg_copyout_pseudo`: what was made for the message is the sender's.
        let back = Header {
            bits: header.bits & Header::COMPLEX | 0x1211,
            remote: self.space.give_send(handler),
            local: self.space.give_send_once(),
            ..header
        };
        message[..Header::SIZE].copy_from_slice(&back.encode());
        for (index, name) in carried.iter().enumerate() {
            // Whose port has died arrives as dead.
            let name = self.space.object(*name).map_or(PortName::DEAD, |object| self.space.give_send(object));
            message[28 + 12 * index..32 + 12 * index].copy_from_slice(&name.0.to_le_bytes());
            message[38 + 12 * index] = Disposition::SEND.0;
        }
        Err(SEND_TIMED_OUT)
    }
}

/// A message on its way.
pub(super) struct Message {
    pub(super) request: Request,
    /// Process id in the audit trailer; 0 is the kernel.
    pub(super) sender: u32,
}

impl Message {
    pub(super) fn sent_by(mut self, pid: i32) -> Message {
        self.sender = pid as u32;
        self
    }

    /// The receive buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        delivered(self.request.encode().unwrap(), self.sender)
    }
}

/// A message's bytes with an audit trailer behind them.
pub(super) fn delivered(mut bytes: Vec<u8>, sender: u32) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut trailer = [0u32; 13];
    trailer[1] = 52;
    trailer[10] = sender;
    bytes.extend(trailer.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

impl PortSpace for StandInKernel {
    fn deallocate(&self, name: PortName) -> Result<(), KernReturn> {
        if self.keeps.is_some() && self.space.object(name).map(|object| object % 1000) == self.keeps {
            return Err(KERN_INVALID_RIGHT);
        }
        self.space.deallocate(name)?;
        self.look_for_senders(name);
        Ok(())
    }

    fn destroy_receive(&self, name: PortName) -> Result<(), KernReturn> {
        self.made.lock().unwrap().remove(&name.0);
        self.space.destroy_receive(name)
    }

    fn destroy_set(&self, name: PortName) -> Result<(), KernReturn> {
        self.space.destroy_set(name)
    }

    fn retain_send(&self, name: PortName) -> Result<(), KernReturn> {
        self.space.retain_send(name)
    }
}

fn fill(room: &mut [u32], words: &[u32]) -> usize {
    let count = room.len().min(words.len());
    room[..count].copy_from_slice(&words[..count]);
    count
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

impl Kernel for StandInKernel {
    fn cpu(&self) -> Cpu {
        Cpu::Arm64
    }

    fn own_pid(&self) -> i32 {
        OURSELVES
    }

    fn page_size(&self) -> u64 {
        PAGE
    }

    fn send(&self, message: &mut [u8]) -> Result<(), KernReturn> {
        self.step().map_err(|_| SEND_INVALID_DEST)?;
        let header = Header::decode(message).unwrap();
        if header.remote_disposition() == Disposition::COPY_SEND {
            return self.send_on(message, header);
        }
        assert_eq!(header.remote_disposition(), Disposition::SEND_ONCE);
        self.space.take_send_once(header.remote)?;
        if let Ok(Ok(port)) = decode_check_in_reply(message) {
            self.made.lock().unwrap().get_mut(&port.0).expect("a port that was made").outside += 1;
            self.deallocate(port)?;
        }
        self.replies.lock().unwrap().push(message.to_vec());
        Ok(())
    }

    fn destroy_message(&self, message: &mut [u8]) {
        let header = Header::decode(message).unwrap();
        assert_eq!((header.remote, header.voucher), (PortName::NULL, PortName::NULL));
        if !header.is_complex() {
            return;
        }
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        for index in 0..word(24) as usize {
            let name = PortName(word(28 + 12 * index));
            if name.is_valid() {
                self.space.deallocate(name).unwrap();
            }
        }
    }

    fn allocate_receive(&self) -> Result<PortName, KernReturn> {
        self.step()?;
        let name = self.space.give_receive();
        self.made.lock().unwrap().insert(name.0, Made::default());
        Ok(name)
    }

    fn insert_member(&self, port: PortName, set: PortName) -> Result<(), KernReturn> {
        self.step()?;
        let census = self.space.census();
        let is = |name: PortName, what: fn(&Entry) -> bool| census.get(&name.0).is_some_and(what);
        let right = is(port, |entry| entry.receive) && is(set, |entry| entry.set);
        if right { Ok(()) } else { Err(KERN_INVALID_RIGHT) }
    }

    fn make_send(&self, port: PortName) -> Result<(), KernReturn> {
        self.step()?;
        self.made.lock().unwrap().get_mut(&port.0).ok_or(KERN_INVALID_RIGHT)?.count += 1;
        self.space.make_send(port)
    }

    fn notify_no_senders(&self, port: PortName, count: u32) -> Result<PortName, KernReturn> {
        self.step()?;
        let mut made = self.made.lock().unwrap();
        let of_port = made.get_mut(&port.0).ok_or(KERN_INVALID_RIGHT)?;
        let earlier = if of_port.asked { self.space.give_send_once() } else { PortName::NULL };
        of_port.asked = true;
        // `ipc_port_nsrequest`: not before as many have been made.
        let due = count <= of_port.count;
        drop(made);
        if due {
            self.look_for_senders(port);
        }
        Ok(earlier)
    }

    fn is_received_here(&self, port: PortName) -> bool {
        self.step().is_ok() && self.space.census().get(&port.0).is_some_and(|entry| entry.receive)
    }

    fn is_kernel_object(&self, port: PortName) -> bool {
        let object = self.space.object(port);
        let pid = object.map(|object| (object / 1000) as i32);
        self.step().is_err() || pid.is_some_and(|pid| self.tasks.lock().unwrap().contains_key(&pid))
    }

    fn task_of_identity(&self, token: PortName, flavor: TaskFlavor) -> Result<PortName, KernReturn> {
        self.step()?;
        let token = self.space.object(token).filter(|object| object % 1000 == TOKEN).ok_or(KERN_INVALID_ARGUMENT)?;
        let pid = (token / 1000) as i32;
        let closed = self.tasks.lock().unwrap().get(&pid).ok_or(KernReturn(56))?.closed;
        match flavor {
            TaskFlavor::Name => Ok(self.space.give_send(object(pid, NAME))),
            _ if closed => Err(KERN_DENIED),
            _ => Ok(self.space.give_send(object(pid, TASK))),
        }
    }

    fn suspend(&self, task: PortName) -> Result<PortName, KernReturn> {
        self.task(task, |_, _| Some(()))?;
        Ok(self.space.give_send_once())
    }

    fn pid(&self, task: PortName) -> Result<i32, KernReturn> {
        self.step()?;
        let object = self.space.object(task).ok_or(KERN_INVALID_ARGUMENT)?;
        Ok((object / 1000) as i32)
    }

    fn task_info(&self, task: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn> {
        match flavor {
            15 => self.task(task, |pid, _| Some(fill(info, &[0, 501, 20, 501, 20, pid as u32, 0, 1]))),
            17 => self.task(task, |_, task| {
                let [low, high] = halves(task.dyld);
                Some(fill(info, &[low, high, 368, 0, 1]))
            }),
            _ => Err(KERN_INVALID_ARGUMENT),
        }
    }

    fn task_role(&self, task: PortName) -> Result<i32, KernReturn> {
        self.task(task, |_, _| Some(1))
    }

    fn threads(&self, task: PortName) -> Result<Vec<PortName>, KernReturn> {
        let (pid, count) = self.task(task, |pid, task| Some((pid, task.threads.len() as u64)))?;
        Ok((0..count).map(|index| self.space.give_send(object(pid, THREADS + index))).collect())
    }

    fn thread_info(&self, thread: PortName, flavor: u32, info: &mut [u32]) -> Result<usize, KernReturn> {
        let id = self.thread(thread)?;
        let mut words = [0; 28];
        match flavor {
            4 => words[..2].copy_from_slice(&halves(id)),
            5 => {
                words[10] = 31;
                words[12] = u32::from_le_bytes(*b"work");
            }
            _ => return Err(KERN_INVALID_ARGUMENT),
        }
        Ok(fill(info, &words))
    }

    fn thread_state(&self, thread: PortName, flavor: u32, state: &mut [u32]) -> Result<usize, KernReturn> {
        let id = self.thread(thread)?;
        let mut words = [0; 132];
        if flavor == 6 {
            words[64..66].copy_from_slice(&halves(id * 0x1000));
        }
        Ok(fill(state, &words))
    }

    fn read(&self, task: PortName, address: u64, buffer: &mut [u8]) -> Result<(), KernReturn> {
        self.task(task, |_, task| {
            for (index, byte) in buffer.iter_mut().enumerate() {
                let at = address.checked_add(index as u64)?;
                *byte = *task.memory.get(&(at / PAGE * PAGE))?.get((at % PAGE) as usize)?;
            }
            Some(())
        })
    }

    fn region(&self, task: PortName, address: u64, words: usize) -> Result<RawRegion, KernReturn> {
        self.task(task, |_, task| {
            let (address, bytes) = task.memory.range(address..).next()?;
            Some(RawRegion { address: *address, size: bytes.len() as u64, info: vec![3; words] })
        })
    }

    fn exception_ports(&self, task: PortName, mask: u32) -> Result<Vec<RawAction>, KernReturn> {
        let actions = self.task(task, |_, task| Some(task.actions.clone()))?;
        let of_mask = actions.into_iter().filter(|action| action.mask & mask != 0);
        let answer = |action: FakeAction| {
            let port = match action.to {
                To::Ours(name) => {
                    self.space.make_send(name).unwrap();
                    name
                }
                To::Object(object) => self.space.give_send(object),
            };
            RawAction { mask: action.mask & mask, port, behaviour: action.behaviour, flavor: action.flavor }
        };
        Ok(of_mask.map(answer).collect())
    }

    fn set_exception_ports(&self, task: PortName, action: &RawAction) -> Result<(), KernReturn> {
        let pid = self.task(task, |pid, _| Some(pid))?;
        let to = match action.port {
            PortName::NULL => None,
            port if self.space.census().get(&port.0).is_some_and(|entry| entry.receive) => Some(To::Ours(port)),
            port => Some(To::Object(self.space.object(port).ok_or(KERN_INVALID_RIGHT)?)),
        };
        let mut tasks = self.tasks.lock().unwrap();
        let task = tasks.get_mut(&pid).ok_or(KERN_INVALID_ARGUMENT)?;
        // `set_exception_behavior_allowed`: the caller would be killed.
        let classic = matches!(action.behaviour & 0xFF, 1 | 3);
        assert!(!classic || task.signature.is_some_and(|(flags, names)| flags == 0 && !names.contains("hardened")));
        if task.stubborn {
            return Ok(());
        }
        for before in &mut task.actions {
            before.mask &= !action.mask;
        }
        task.actions.retain(|action| action.mask != 0);
        let RawAction { mask, behaviour, flavor, .. } = *action;
        task.actions.extend(to.map(|to| FakeAction { mask, to, behaviour, flavor }));
        Ok(())
    }

    fn signature_flags(&self, pid: i32) -> Option<u32> {
        self.step().ok()?;
        self.tasks.lock().unwrap().get(&pid)?.signature.map(|(flags, _)| flags)
    }

    fn entitlements(&self, pid: i32) -> Option<Vec<u8>> {
        self.step().ok()?;
        self.tasks.lock().unwrap().get(&pid)?.signature.map(|(_, names)| names.as_bytes().to_vec())
    }

    fn process_info(&self, pid: i32, flavor: i32, info: &mut [u8]) -> usize {
        if flavor != 13 || !self.tasks.lock().unwrap().contains_key(&pid) {
            return 0;
        }
        info[16..22].copy_from_slice(b"victim");
        info.len()
    }

    fn process_times(&self, _pid: i32) -> Option<(u64, u64)> {
        Some((1_000, 2_000))
    }

    fn process_path(&self, _pid: i32) -> Option<PathBuf> {
        Some(PathBuf::from("/usr/local/bin/victim"))
    }

    fn process_arguments(&self, _pid: i32) -> Option<Vec<u8>> {
        None
    }

    fn mapped_file(&self, _pid: i32, _address: u64) -> Option<FileId> {
        None
    }

    fn sysctl(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "kern.osproductversion" => Some(b"15.4.1\0".to_vec()),
            "hw.activecpu" => Some(vec![8, 0, 0, 0]),
            _ => None,
        }
    }

    fn own_shared_cache(&self) -> Option<[u8; 16]> {
        None
    }

    fn dispatch_queue_offsets(&self) -> Option<Vec<u16>> {
        Some(vec![6, 72, 8])
    }
}
