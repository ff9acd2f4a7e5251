//! A directory of /proc, kept open: files in it are opened by short relative names, and it never comes to mean another
//! process, even if the process id is used again.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Device and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// `st_dev`.
    pub(super) device: u64,
    /// `st_ino`.
    pub(super) inode: u64,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory at `path`.
    pub(super) fn open(path: &str) -> io::Result<Directory> {
        open(libc::AT_FDCWD, path, libc::O_DIRECTORY | libc::O_PATH).map(Directory)
    }

    /// The first `limit` bytes of the file `name`.
    pub(super) fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(name, limit, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends the first `limit` bytes of the file `name` to `bytes`.
    pub(super) fn read_into(&self, name: &str, limit: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut file = File::from(open(self.0.as_raw_fd(), name, libc::O_RDONLY)?);
        // Files of /proc say they are empty, so the buffer is grown here; a page is what seq_file gives out at a time.
        let mut length = bytes.len();
        let limit = length.saturating_add(limit);
        loop {
            let room = limit.min(bytes.capacity().max(length + 4096));
            bytes.resize(room, 0);
            match file.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    bytes.truncate(length);
                    return Err(error);
                }
            }
        }
        bytes.truncate(length);
        Ok(())
    }

    /// What one read of the file `name` gives: all of it, for files of one line.
    pub(super) fn read_once(&self, name: &str, buffer: &mut [u8]) -> io::Result<usize> {
        File::from(open(self.0.as_raw_fd(), name, libc::O_RDONLY)?).read(buffer)
    }

    /// What the file `name` is, behind symbolic links.
    pub(super) fn identity(&self, name: &str) -> io::Result<Identity> {
        identity(self.0.as_raw_fd(), &c_string(name.as_bytes())?)
    }

    /// Where the symbolic link `name` points.
    pub(super) fn link(&self, name: &str) -> io::Result<Vec<u8>> {
        let name = c_string(name.as_bytes())?;
        let mut target = vec![0_u8; libc::PATH_MAX as usize];
        // SAFETY: `name` ends in NUL, and the length given is that of `target`.
        let length =
            unsafe { libc::readlinkat(self.0.as_raw_fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        target.truncate(length);
        Ok(target)
    }
}

/// What the file at `path` is, behind symbolic links.
pub(super) fn identity_of(path: &[u8]) -> io::Result<Identity> {
    identity(libc::AT_FDCWD, &c_string(path)?)
}

fn identity(directory: i32, name: &CString) -> io::Result<Identity> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` ends in NUL, and `status` has room for what is written.
    if unsafe { libc::fstatat(directory, name.as_ptr(), status.as_mut_ptr(), 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is filled in.
    let status = unsafe { status.assume_init() };
    Ok(Identity { device: status.st_dev, inode: status.st_ino })
}

fn open(directory: i32, name: &str, flags: i32) -> io::Result<OwnedFd> {
    let name = c_string(name.as_bytes())?;
    // SAFETY: `name` ends in NUL; no mode is needed, since nothing is created.
    let fd = unsafe { libc::openat(directory, name.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}
