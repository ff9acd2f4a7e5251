//! The service's socket: where it is, who is behind it, and one request on it. Only async-signal-safe calls (signal-safety(7))
//! except in [`default_path`].

use core::ffi::{CStr, c_char, c_int, c_void};

use aftermach_protocol::product::{ProductRef, SocketPath};
use aftermach_protocol::session::{Kind, REPLY_SIZE, Request, Status, decode_reply, encode_request};

use crate::error::Error;
use crate::install::ServiceName;
use crate::record::monotonic;

/// How long a snapshot may take, in milliseconds: several times what a process of 10,000 threads needs.
pub(super) const DUMP_TIMEOUT_MS: u32 = 10_000;

unsafe extern "C" {
    // glibc 2.17, musl 1.1.24; not in the libc crate. Null in programs that run with another user's rights.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// The product's own socket. Reads the environment, so it belongs at the start of a program.
pub(super) fn default_path(product: &ProductRef<'_>) -> Result<SocketPath, Error> {
    // SAFETY: geteuid can't fail.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: the name is a C string; the answer is null or a C string, which is copied before anything can change it.
    let directory = unsafe {
        let value = secure_getenv(c"XDG_RUNTIME_DIR".as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value).to_bytes()) }
    };
    // As `socket_path` does: a relative one is none.
    let directory = directory.filter(|directory| directory.first() == Some(&b'/'));
    let path = product.socket_path(directory, uid).ok_or(Error::Argument)?;
    match path.as_bytes().iter().rposition(|&byte| byte == b'/') {
        // Under /tmp anyone may make a directory of that name.
        Some(end) if directory.is_none() => check_owner(&path, end, uid).map(|()| path),
        _ => Ok(path),
    }
}

/// Whether the directory that `path` names up to `end` is the user's own and no other's to write.
fn check_owner(path: &SocketPath, end: usize, uid: u32) -> Result<(), Error> {
    let directory = path.as_bytes().get(..end).and_then(SocketPath::copied).ok_or(Error::Argument)?;
    // SAFETY: `stat` is plain numbers, for which all zeros is a value.
    let mut status: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the path ends with a NUL, and `status` is a stat to write to.
    if unsafe { libc::lstat(directory.with_nul().as_ptr().cast(), &mut status) } != 0 {
        return Err(last_error());
    }
    let own = status.st_uid == uid && status.st_mode & libc::S_IFMT == libc::S_IFDIR && status.st_mode & 0o022 == 0;
    if own { Ok(()) } else { Err(Error::Impostor) }
}

/// An open connection to the service. Closed by whoever opened it: a `Drop` would cost landing pads wherever one is held, for
/// panics that there are none of.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    /// Its number, for [`close`].
    pub(super) descriptor: c_int,
    /// The service's process id.
    service: i32,
}

/// One request on a connection of its own.
#[inline(never)]
pub(super) fn ask_once(path: &ServiceName, kind: Kind, about: u64, timeout_ms: u32) -> Result<(), Error> {
    let connection = Connection::open(path, timeout_ms)?;
    let answer = connection.ask(kind, about, timeout_ms);
    close(connection.descriptor);
    answer
}

impl Connection {
    /// Connects, and makes sure that who answers is this user or root: only they may watch this process.
    pub(super) fn open(path: &ServiceName, timeout_ms: u32) -> Result<Connection, Error> {
        let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
        for (to, from) in address.sun_path.iter_mut().zip(path.as_bytes()) {
            *to = *from as c_char;
        }
        // SAFETY: plain numbers.
        let descriptor =
            unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if descriptor < 0 {
            return Err(last_error());
        }
        let service = Connection::reach(descriptor, &address, timeout_ms);
        if service.is_err() {
            close(descriptor);
        }
        Ok(Connection { descriptor, service: service? })
    }

    /// Connects a socket to an address; who listens there.
    fn reach(descriptor: c_int, address: &libc::sockaddr_un, timeout_ms: u32) -> Result<i32, Error> {
        let deadline = Deadline::after(timeout_ms);
        loop {
            // SAFETY: `address` is a sockaddr_un of the length given.
            let result = unsafe {
                libc::connect(
                    descriptor,
                    core::ptr::from_ref(address).cast(),
                    size_of::<libc::sockaddr_un>() as libc::socklen_t,
                )
            };
            match if result == 0 { 0 } else { errno() } {
                0 => break,
                libc::EINTR => {}
                // The service's queue of connections is full (unix(7)): a storm of clients.
                libc::EAGAIN => deadline.pause()?,
                _ => return Err(last_error()),
            }
        }
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: `peer` is a ucred and `length` says its size.
        let result = unsafe {
            libc::getsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast::<c_void>(),
                &mut length,
            )
        };
        if result != 0 {
            return Err(last_error());
        }
        // SAFETY: geteuid can't fail.
        if peer.uid != 0 && peer.uid != unsafe { libc::geteuid() } {
            return Err(Error::Impostor);
        }
        Ok(peer.pid)
    }

    /// Lets the service trace this process where Yama otherwise lets only ancestors do so
    /// (Documentation/admin-guide/LSM/Yama.rst). Elsewhere the call does nothing.
    pub(super) fn permit(&self) {
        if self.service > 0 {
            // SAFETY: plain numbers.
            unsafe { libc::prctl(libc::PR_SET_PTRACER, self.service as libc::c_ulong, 0, 0, 0) };
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, kind: Kind, about: u64, timeout_ms: u32) -> Result<(), Error> {
        let deadline = Deadline::after(timeout_ms);
        let request = encode_request(&Request { kind, about });
        let mut sent = 0;
        while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
            // SAFETY: `rest` is as long as said.
            let count = unsafe { libc::send(self.descriptor, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
            match count {
                1.. => sent += count as usize,
                _ => self.wait(libc::POLLOUT, &deadline)?,
            }
        }
        let mut reply = [0_u8; REPLY_SIZE];
        let mut received = 0;
        while let Some(rest) = reply.get_mut(received..).filter(|rest| !rest.is_empty()) {
            // SAFETY: `rest` is as long as said.
            let count = unsafe { libc::recv(self.descriptor, rest.as_mut_ptr().cast(), rest.len(), 0) };
            match count {
                1.. => received += count as usize,
                // The service hung up without an answer.
                0 => return Err(Error::NoService),
                _ => self.wait(libc::POLLIN, &deadline)?,
            }
        }
        match decode_reply(&reply) {
            Ok(Status::Ok) => Ok(()),
            Ok(Status::RefusedBySystem) => Err(Error::RefusedBySystem),
            Ok(Status::AlreadyTraced) => Err(Error::AlreadyTraced),
            Ok(Status::Busy) => Err(Error::ServiceBusy),
            Ok(Status::NotPermitted) => Err(Error::NotPermitted),
            Ok(Status::AlreadyAttached) => Err(Error::AlreadyInstalled),
            Ok(Status::NotAttached) => Err(Error::NotInstalled),
            Ok(Status::Unsupported) | Err(_) => Err(Error::Incompatible),
        }
    }

    /// After a call that did nothing: waits until it may be tried again.
    fn wait(&self, events: i16, deadline: &Deadline) -> Result<(), Error> {
        match errno() {
            libc::EAGAIN => {}
            // The service's own stopping of this thread interrupts calls too.
            libc::EINTR => return Ok(()),
            _ => return Err(last_error()),
        }
        let mut poll = libc::pollfd { fd: self.descriptor, events, revents: 0 };
        // SAFETY: one pollfd.
        match unsafe { libc::poll(&mut poll, 1, deadline.left_ms()?) } {
            0 => Err(Error::Timeout),
            _ => Ok(()),
        }
    }
}

/// Whether the service still holds the other end.
pub(super) fn is_open(descriptor: c_int) -> bool {
    let mut byte = 0_u8;
    // SAFETY: one byte to write to; with MSG_PEEK nothing is taken.
    let count = unsafe { libc::recv(descriptor, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    count > 0 || (count < 0 && matches!(errno(), libc::EAGAIN | libc::EINTR))
}

/// Closes a kept connection.
pub(super) fn close(descriptor: c_int) {
    // SAFETY: the descriptor is this module's own. EINTR closes it too (close(2)).
    unsafe { libc::close(descriptor) };
}

/// Takes back what [`Connection::permit`] gave.
pub(super) fn permit_nobody() {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, 0, 0, 0, 0) };
}

/// A moment after which waiting ends.
struct Deadline(u64);

impl Deadline {
    fn after(timeout_ms: u32) -> Deadline {
        Deadline(monotonic().saturating_add(u64::from(timeout_ms) * 1_000_000))
    }

    /// Milliseconds that are left, at least one.
    fn left_ms(&self) -> Result<c_int, Error> {
        match self.0.saturating_sub(monotonic()) {
            0 => Err(Error::Timeout),
            left => Ok((left / 1_000_000 + 1).min(c_int::MAX as u64) as c_int),
        }
    }

    /// A millisecond's rest.
    fn pause(&self) -> Result<(), Error> {
        self.left_ms()?;
        // SAFETY: no descriptors at all.
        unsafe { libc::poll(core::ptr::null_mut(), 0, 1) };
        Ok(())
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's own per-thread number.
    unsafe { *libc::__errno_location() }
}

fn last_error() -> Error {
    match errno() {
        libc::ENOENT | libc::ECONNREFUSED | libc::EPIPE | libc::ECONNRESET | libc::ENOTDIR => Error::NoService,
        libc::EACCES | libc::EPERM => Error::RefusedBySandbox,
        number => Error::System(number),
    }
}
