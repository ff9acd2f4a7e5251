//! The service's socket: who asks for what. Nothing that a peer sends, or doesn't, makes anybody wait.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use aftermach_protocol::session::{self, REQUEST_SIZE, Request, SessionError, Status};

use super::errno::Errno;

/// Connections at a time: a client keeps one as long as it lives.
const CONNECTIONS: usize = 1024;
/// Connections of one process.
const CONNECTIONS_OF_ONE: usize = 4;
/// Connections that have not asked for anything yet. The oldest makes room.
const SILENT: usize = 64;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections taken in before tracees are looked after again.
const BATCH: usize = 64;
/// How long no connection is taken in when this process has no descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// The process at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) pid: i32,
    pub(super) uid: u32,
}

/// Answers requests.
pub(super) trait Answer {
    /// Whether `peer` may ask for anything.
    fn admits(&self, peer: Peer) -> bool;
    /// Does what `peer` asks for, or begins to: `None` if the answer comes later, by [`Door::reply`] with the same `connection`.
    fn answer(&mut self, peer: Peer, connection: u64, request: Request) -> Option<Status>;
}

/// The listening socket with its connections.
pub(super) struct Door {
    listener: UnixListener,
    connections: Vec<Connection>,
    /// Connections let in so far.
    count: u64,
    closed_until: Option<Instant>,
}

struct Connection {
    /// Never used again for another one.
    number: u64,
    stream: UnixStream,
    peer: Peer,
    bytes: [u8; REQUEST_SIZE],
    filled: usize,
    /// It has asked for something.
    known: bool,
    /// When a request that has begun, or the first, must be there.
    deadline: Option<Instant>,
}

impl Door {
    pub(super) fn new(listener: UnixListener) -> Result<Door, Errno> {
        listener.set_nonblocking(true)?;
        Ok(Door { listener, connections: Vec::new(), count: 0, closed_until: None })
    }

    /// What to wait for: the listener first, then every connection.
    pub(super) fn add_to(&self, fds: &mut Vec<libc::pollfd>) {
        // A negative descriptor is passed over (poll(2)).
        let listener = if self.closed_until.is_some() { -1 } else { self.listener.as_raw_fd() };
        fds.push(readable(listener));
        fds.extend(self.connections.iter().map(|connection| readable(connection.stream.as_raw_fd())));
    }

    /// When [`Door::work`] has something to do, though nothing is ready.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connections.iter().filter_map(|connection| connection.deadline).chain(self.closed_until).min()
    }

    /// Serves what is ready of `fds`, as they were added.
    pub(super) fn work(&mut self, fds: &[libc::pollfd], answer: &mut dyn Answer) {
        let now = Instant::now();
        let ready = |fd: &libc::pollfd| fd.revents != 0;
        let Some((listener, connections)) = fds.split_first() else { return };
        let mut each = connections.iter().map(ready);
        self.connections.retain_mut(|connection| {
            let ready = each.next().unwrap_or(false);
            let open = !ready || connection.serve(now, answer);
            open && connection.deadline.is_none_or(|deadline| now < deadline)
        });
        if self.closed_until.is_some_and(|until| now >= until) {
            self.closed_until = None;
        }
        if ready(listener) {
            self.let_in(now, answer);
        }
    }

    /// Gives a late answer, if who asked is still there.
    pub(super) fn reply(&mut self, connection: u64, status: Status) {
        if let Some(index) = self.connections.iter().position(|candidate| candidate.number == connection)
            && !reply(&self.connections[index].stream, status)
        {
            self.connections.remove(index);
        }
    }

    fn let_in(&mut self, now: Instant, answer: &mut dyn Answer) {
        for _ in 0..BATCH {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now, answer),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ECONNABORTED) => {}
                    Some(libc::EAGAIN) => return,
                    // Out of descriptors or memory: a silent one goes, and the rest waits in the socket's own queue.
                    _ => {
                        self.drop_silent(0);
                        self.closed_until = Some(now + BREATH);
                        return;
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: UnixStream, now: Instant, answer: &mut dyn Answer) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let Ok(peer) = peer_of(stream.as_raw_fd()) else { return };
        let of_this_one = self.connections.iter().filter(|connection| connection.peer.pid == peer.pid).count();
        if !answer.admits(peer) {
            reply(&stream, Status::NotPermitted);
        } else if self.connections.len() >= CONNECTIONS || of_this_one >= CONNECTIONS_OF_ONE {
            reply(&stream, Status::Busy);
        } else {
            self.drop_silent(SILENT - 1);
            self.count += 1;
            self.connections.push(Connection {
                number: self.count,
                stream,
                peer,
                bytes: [0; REQUEST_SIZE],
                filled: 0,
                known: false,
                deadline: Some(now + PATIENCE),
            });
        }
    }

    /// Closes the oldest of those that have asked for nothing yet, if they are more than `room`.
    fn drop_silent(&mut self, room: usize) {
        let silent = |connection: &Connection| !connection.known;
        if self.connections.iter().filter(|connection| silent(connection)).count() > room
            && let Some(oldest) = self.connections.iter().position(silent)
        {
            self.connections.remove(oldest);
        }
    }
}

impl Connection {
    /// Reads what is there and answers what is complete. Returns whether the connection stays.
    fn serve(&mut self, now: Instant, answer: &mut dyn Answer) -> bool {
        // One request a round: a peer that never stops asking gets its turn like everybody.
        match self.stream.read(&mut self.bytes[self.filled..]) {
            Ok(0) => return false,
            Ok(count) => self.filled += count,
            Err(error) => {
                return matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            }
        }
        if self.filled < REQUEST_SIZE {
            // From its first byte on, not from each.
            self.deadline = self.deadline.or(Some(now + PATIENCE));
            return true;
        }
        self.filled = 0;
        self.deadline = None;
        match session::decode_request(&self.bytes) {
            Ok(request) => {
                self.known = true;
                match answer.answer(self.peer, self.number, request) {
                    Some(status) => reply(&self.stream, status),
                    None => true,
                }
            }
            Err(SessionError::Version(_) | SessionError::Kind(_)) => {
                reply(&self.stream, Status::Unsupported);
                false
            }
            // Whoever that is, it does not speak our language.
            Err(_) => false,
        }
    }
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Returns whether it could be sent. A peer that does not read its answers is none.
fn reply(mut stream: &UnixStream, status: Status) -> bool {
    stream.write(&session::encode_reply(status)).is_ok_and(|count| count == session::REPLY_SIZE)
}

pub(super) fn peer_of(socket: RawFd) -> Result<Peer, Errno> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: both out-parameters are live, and the length is the structure's.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &mut length) };
    Errno::check(result.into())?;
    Ok(Peer { pid: peer.pid, uid: peer.uid })
}
