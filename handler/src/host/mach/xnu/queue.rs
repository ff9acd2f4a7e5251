//! Receiving: the service's port, or a fresh one, and the port that ends the waiting.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{Header, PortName, RECEIVE_BUFFER_SIZE};
use mach2::bootstrap::{
    BOOTSTRAP_NOT_PRIVILEGED, BOOTSTRAP_SERVICE_ACTIVE, BOOTSTRAP_UNKNOWN_SERVICE, bootstrap_check_in, bootstrap_port,
};
use mach2::mach_port::{
    mach_port_allocate, mach_port_insert_right, mach_port_request_notification, mach_port_set_attributes,
};
use mach2::message::{
    MACH_MSG_SUCCESS, MACH_MSG_TYPE_COPY_SEND, MACH_MSG_TYPE_MAKE_SEND, MACH_MSG_TYPE_MAKE_SEND_ONCE, MACH_MSGH_BITS,
    MACH_RCV_INTERRUPTED, MACH_RCV_MSG, MACH_RCV_TIMED_OUT, MACH_RCV_TIMEOUT, MACH_RCV_TOO_LARGE,
    MACH_RCV_TRAILER_AUDIT, MACH_RCV_VOUCHER, MACH_SEND_MSG, MACH_SEND_TIMEOUT, mach_msg, mach_msg_header_t,
    mach_msg_option_t,
};
use mach2::notify::MACH_NOTIFY_NO_SENDERS;
use mach2::port::{
    MACH_PORT_LIMITS_INFO, MACH_PORT_NULL, MACH_PORT_QLIMIT_LARGE, MACH_PORT_RIGHT_PORT_SET, MACH_PORT_RIGHT_RECEIVE,
};

use super::super::ports::{Group, Port, Right, Rights};
use super::{Xnu, bootstrap_text, check, ffi, own_space, process_calls};

/// Why the service could not be had from launchd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckInError {
    /// launchd knows no such service in this domain: no job that names it is loaded, or this process is not that job.
    #[error("launchd knows no service {0} here: load its job first, and let launchd start this process")]
    Unknown(String),
    /// Another process has it.
    #[error("another process serves {0} already")]
    Active(String),
    /// A sandbox or the domain forbids it.
    #[error("{0} may not be served from here: a sandbox, or another user's or session's domain")]
    NotPrivileged(String),
    /// Something else.
    #[error("launchd does not hand out {service}: {why}")]
    Other {
        /// The service.
        service: String,
        /// launchd's reason.
        why: String,
    },
    /// The kernel gives no port.
    #[error("no port could be made: {0}")]
    NoPort(KernReturn),
}

/// Room for the largest message with the largest trailer.
pub struct Buffer(Vec<u64>);

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer(vec![0; RECEIVE_BUFFER_SIZE / 8])
    }
}

impl Buffer {
    /// The bytes: of a message and its trailer once one has been received.
    pub fn bytes(&mut self) -> &mut [u8] {
        process_calls::bytes_of(&mut self.0)
    }
}

/// What waiting brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A message is in the buffer.
    Message,
    /// The time is over.
    TimeOut,
    /// A [`Stopper`] said so.
    Stop,
}

/// A receive right, in a set with the port by which waiting is ended.
pub struct Queue {
    set: Port,
    main: Port,
    stopper: Stopper,
}

/// Ends the waiting on a queue, from any thread. Clones end the same one.
#[derive(Clone)]
pub struct Stopper(Arc<StopPort>);

/// A port that says nothing but "stop".
struct StopPort {
    /// Kept, since the port lives as long as its receive right.
    _receive: Port,
    send: Port,
}

impl Queue {
    /// Takes over launchd's receive right for a service. Messages that were sent before are in it.
    pub fn check_in(rights: &Rights, service: &str, stopper: &Stopper) -> Result<Queue, CheckInError> {
        let other = |why: String| CheckInError::Other { service: service.to_owned(), why };
        let name = CString::new(service).map_err(|_| other("its name has a NUL".to_owned()))?;
        let mut port = MACH_PORT_NULL;
        // SAFETY: a name that ends in NUL, and a port name to write to; libSystem sets the bootstrap port before main.
        let code = unsafe { bootstrap_check_in(bootstrap_port, name.as_ptr(), &mut port) };
        match code {
            0 => {}
            BOOTSTRAP_UNKNOWN_SERVICE => return Err(CheckInError::Unknown(service.to_owned())),
            BOOTSTRAP_SERVICE_ACTIVE => return Err(CheckInError::Active(service.to_owned())),
            BOOTSTRAP_NOT_PRIVILEGED => return Err(CheckInError::NotPrivileged(service.to_owned())),
            code => return Err(other(bootstrap_text(code))),
        }
        let main = rights.adopt(Group::Services, Right::Receive, PortName(port));
        Queue::around(rights, main.ok_or_else(|| other("it gave no port".to_owned()))?, stopper)
    }

    /// A queue of its own, for a program that is run or a single client.
    pub fn fresh(rights: &Rights, stopper: &Stopper) -> Result<Queue, CheckInError> {
        Queue::around(rights, allocate(rights, Group::ClientSessions)?, stopper)
    }

    fn around(rights: &Rights, main: Port, stopper: &Stopper) -> Result<Queue, CheckInError> {
        let mut set = MACH_PORT_NULL;
        // SAFETY: a name to write to.
        check(unsafe { mach_port_allocate(own_space(), MACH_PORT_RIGHT_PORT_SET, &mut set) })
            .map_err(CheckInError::NoPort)?;
        let set = rights.adopt(Group::Services, Right::PortSet, PortName(set));
        let set = set.ok_or(CheckInError::NoPort(KernReturn::FAILURE))?;
        for port in [main.name(), stopper.name()] {
            // SAFETY: plain numbers.
            check(unsafe { ffi::mach_port_insert_member(own_space(), port.0, set.name().0) })
                .map_err(CheckInError::NoPort)?;
        }
        let mut limit = MACH_PORT_QLIMIT_LARGE as i32;
        // Five messages are the default; the kernel ignores the limit, clients that ask for something wait at it.
        // SAFETY: a structure of one word, the limit.
        let _refused = check(unsafe {
            mach_port_set_attributes(own_space(), main.name().0, MACH_PORT_LIMITS_INFO, &mut limit, 1)
        });
        Ok(Queue { set, main, stopper: stopper.clone() })
    }

    /// The port that exceptions arrive on.
    pub fn name(&self) -> PortName {
        self.main.name()
    }

    /// The set that everything is received with. Other ports may be put into it.
    pub fn set(&self) -> PortName {
        self.set.name()
    }

    /// A send right to the queue.
    pub fn send_right(&self, rights: &Rights) -> Result<Port, CheckInError> {
        send_right(rights, &self.main)
    }

    /// Asks for a notice when the last send right is gone: every task that had the port registered has ended.
    pub fn notify_of_no_senders(&self) -> Result<(), KernReturn> {
        let mut previous = MACH_PORT_NULL;
        let name = self.main.name().0;
        // SAFETY: plain numbers; the notice comes to the port itself. There was no earlier request to give back.
        check(unsafe {
            mach_port_request_notification(
                own_space(),
                name,
                MACH_NOTIFY_NO_SENDERS,
                0,
                name,
                MACH_MSG_TYPE_MAKE_SEND_ONCE,
                &mut previous,
            )
        })
    }

    /// Waits for a message: for ever without `time`.
    ///
    /// Errors: the kernel's, of which none is expected.
    pub fn receive(&self, buffer: &mut Buffer, time: Option<Duration>) -> Result<Arrival, KernReturn> {
        // Trailer format 0, with the sender's audit token (osfmk/mach/message.h, MACH_RCV_TRAILER_*). With the voucher: without,
        // the importance that it lends ends at once.
        let trailer = (MACH_RCV_TRAILER_AUDIT << 24) as mach_msg_option_t;
        let timeout = if time.is_some() { MACH_RCV_TIMEOUT } else { 0 };
        let options = MACH_RCV_MSG | MACH_RCV_VOUCHER | trailer | timeout;
        let milliseconds = time.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        loop {
            let bytes = buffer.bytes();
            let size = bytes.len() as u32;
            let header = bytes.as_mut_ptr().cast::<mach_msg_header_t>();
            // SAFETY: the buffer has `size` bytes, and is aligned to eight.
            let code = unsafe { mach_msg(header, options, 0, size, self.set.name().0, milliseconds, MACH_PORT_NULL) };
            match code {
                MACH_MSG_SUCCESS => break,
                MACH_RCV_TIMED_OUT => return Ok(Arrival::TimeOut),
                // Larger than any exception: the kernel has destroyed it with all its rights.
                MACH_RCV_INTERRUPTED | MACH_RCV_TOO_LARGE => {}
                code => return Err(KernReturn(code)),
            }
        }
        match Header::decode(buffer.bytes()) {
            Ok(header) if header.local == self.stopper.name() => Ok(Arrival::Stop),
            _ => Ok(Arrival::Message),
        }
    }
}

impl Stopper {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gives no port.
    pub fn new() -> Result<Stopper, CheckInError> {
        let (_, rights, _) = Xnu::open();
        let receive = allocate(&rights, Group::Services)?;
        let send = send_right(&rights, &receive)?;
        Ok(Stopper(Arc::new(StopPort { _receive: receive, send })))
    }

    fn name(&self) -> PortName {
        self.0.send.name()
    }

    /// Ends the waiting: now, or as soon as it begins. Async-signal-safe.
    pub fn stop(&self) {
        let mut header = mach_msg_header_t {
            msgh_bits: MACH_MSGH_BITS(MACH_MSG_TYPE_COPY_SEND, 0),
            msgh_size: Header::SIZE as u32,
            msgh_remote_port: self.name().0,
            ..mach_msg_header_t::default()
        };
        // It fails only if the queue is full, and so has been told, or is gone.
        // SAFETY: a message of one header; nothing is received.
        unsafe {
            let options = MACH_SEND_MSG | MACH_SEND_TIMEOUT;
            mach_msg(&mut header, options, Header::SIZE as u32, 0, MACH_PORT_NULL, 0, MACH_PORT_NULL)
        };
    }
}

fn allocate(rights: &Rights, group: Group) -> Result<Port, CheckInError> {
    let mut name = MACH_PORT_NULL;
    // SAFETY: a name to write to.
    check(unsafe { mach_port_allocate(own_space(), MACH_PORT_RIGHT_RECEIVE, &mut name) })
        .map_err(CheckInError::NoPort)?;
    rights.adopt(group, Right::Receive, PortName(name)).ok_or(CheckInError::NoPort(KernReturn::FAILURE))
}

/// A new send right to a port that we receive on.
fn send_right(rights: &Rights, port: &Port) -> Result<Port, CheckInError> {
    let name = port.name().0;
    // SAFETY: plain numbers.
    check(unsafe { mach_port_insert_right(own_space(), name, name, MACH_MSG_TYPE_MAKE_SEND) })
        .map_err(CheckInError::NoPort)?;
    rights.adopt(Group::Services, Right::Send, port.name()).ok_or(CheckInError::NoPort(KernReturn::FAILURE))
}
