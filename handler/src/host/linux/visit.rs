//! Asking a service whether it is there, as a client would.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use aftermach_protocol::session::{self, Kind, REPLY_SIZE, Request, Status};

use super::door::peer_of;

/// How long an answer may take: a service looks at its socket between two captures.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who answered at a socket, and how.
#[derive(Debug)]
pub struct Visit {
    /// The process that listens.
    pub pid: i32,
    /// The user that it runs as.
    pub uid: u32,
    /// What it answered, or why it did not.
    pub answer: io::Result<Status>,
}

/// Asks whoever listens at `path` for something that changes nothing: to be let go, without having been held.
///
/// # Errors
/// There is no socket, nobody listens, or the connection is refused.
pub fn visit(path: &Path) -> io::Result<Visit> {
    let mut stream = UnixStream::connect(path)?;
    let peer = peer_of(stream.as_raw_fd())?;
    let mut ask = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // Whoever is not admitted is told so without having asked, and then can't.
        let asked = stream.write_all(&session::encode_request(&Request { kind: Kind::Release, about: 0 }));
        let mut reply = [0; REPLY_SIZE];
        stream.read_exact(&mut reply).map_err(|error| asked.err().unwrap_or(error))?;
        session::decode_reply(&reply).map_err(|error| io::Error::other(error.to_string()))
    };
    Ok(Visit { pid: peer.pid, uid: peer.uid, answer: ask() })
}
