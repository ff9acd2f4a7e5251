//! A service that answers as a test wants, and a reader of this process's own record.
#![allow(dead_code, reason = "each test program uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use aftermach_protocol::record::{Contents, Header};
use aftermach_protocol::session::{Request, Status, decode_request, encode_reply};

/// Tests of one program share its one client: they take turns.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The record as the handler would read it: header, then space, copied out of this process's memory while it may change.
pub(crate) fn own_record() -> (Header, Contents) {
    let header = Header::decode(&aftermach_client::header_bytes()).unwrap();
    let contents = Contents::decode(&header, &copy(header.space, header.space_size as usize));
    (header, contents)
}

/// Bytes of this process's memory, which other threads may be writing: read by the kernel, as the handler has it.
fn copy(address: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: size };
    let (reader, writer) = std::io::pipe().unwrap();
    // A pipe takes what the kernel copies from any readable memory of the process, and gives EFAULT for the rest.
    let mut done = 0;
    while done < size {
        let chunk = (size - done).min(4096);
        let from = (address as usize + done) as *const libc::c_void;
        use std::os::fd::AsRawFd;
        // SAFETY: the kernel checks the memory that it reads; `bytes` has room for `chunk` bytes at `done`.
        let moved = unsafe {
            let sent = libc::write(writer.as_raw_fd(), from, chunk);
            assert_eq!(sent, chunk as isize, "the record is readable");
            libc::read(reader.as_raw_fd(), local.iov_base.byte_add(done), chunk)
        };
        assert_eq!(moved, chunk as isize);
        done += chunk;
    }
    bytes
}

/// The value of an annotation.
pub(crate) fn value(contents: &Contents, key: &str) -> Option<String> {
    contents.annotations.iter().find(|annotation| annotation.key == key).map(|annotation| annotation.value.clone())
}

/// A folder that is deleted at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("aftermach-client-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a fake service answers one request.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Status(Status),
    Bytes(&'static [u8]),
    /// Reads the request and says nothing.
    Silence,
    /// Hangs up at once.
    HangUp,
}

/// Who asked, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) pid: i32,
    pub(crate) request: Request,
}

/// A service on a socket of its own. Connections that were answered stay open until it is dropped.
pub(crate) struct Service {
    pub(crate) asked: Receiver<Asked>,
    path: PathBuf,
    _folder: Folder,
}

impl Service {
    pub(crate) fn new(name: &str, answer: Answer) -> Service {
        let folder = Folder::new(name);
        let path = folder.path().join("s.sock");
        let asked = Service::listen(&path, answer);
        Service { asked, path, _folder: folder }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Listens at `path`; ends when the socket is removed and someone connects once more, or with the program.
    pub(crate) fn listen(path: &Path, answer: Answer) -> Receiver<Asked> {
        let listener = UnixListener::bind(path).unwrap();
        let (sender, receiver) = channel();
        let path = path.to_owned();
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if !path.exists() {
                    // Before the last connection, whose end tells `end` that it is done.
                    drop(std::mem::take(&mut open));
                    break;
                }
                if let Answer::HangUp = answer {
                    continue;
                }
                let mut bytes = [0; 16];
                if stream.read_exact(&mut bytes).is_err() {
                    continue;
                }
                let _ = sender.send(Asked { pid: peer_pid(&stream), request: decode_request(&bytes).unwrap() });
                let _ = match answer {
                    Answer::Status(status) => stream.write_all(&encode_reply(status)),
                    Answer::Bytes(bytes) => stream.write_all(bytes),
                    Answer::Silence | Answer::HangUp => Ok(()),
                };
                open.push(stream);
            }
        });
        receiver
    }

    /// Ends the service: nobody listens, every connection is closed.
    pub(crate) fn end(self) {
        // The connection wakes the thread, which sees that the socket has another name.
        let moved = self.path.with_extension("gone");
        std::fs::rename(&self.path, &moved).unwrap();
        let mut last = UnixStream::connect(&moved).unwrap();
        let _ = last.read(&mut [0]);
    }
}

fn peer_pid(stream: &UnixStream) -> i32 {
    use std::os::fd::AsRawFd;
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is a ucred and `length` its size.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &mut length)
    };
    assert_eq!(result, 0);
    peer.pid
}
