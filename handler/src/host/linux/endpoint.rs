//! The service's socket: made where its clients look, owned by nobody else, removed when the service ends.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use aftermach_protocol::product::Product;

use crate::host::user_id;

/// A socket that is listened on. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Endpoint {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of the file: another service may have put its own in place since.
    file: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another service answers there.
    #[error("another service already listens on {}", .0.display())]
    Taken(PathBuf),
    /// Something is there that is no socket.
    #[error("{} is there, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The folder belongs to somebody else, or others may write to it.
    #[error("{} is not this user's own folder", .0.display())]
    ForeignFolder(PathBuf),
    /// A name that is too long for a socket's address.
    #[error("the product's socket has too long a path; name another with --socket")]
    TooLong,
    /// The system refused.
    #[error("can't {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EndpointError + use<'a> {
    move |source| EndpointError::Io { doing, path: path.to_owned(), source }
}

impl Endpoint {
    /// The socket where `product`'s clients look: in `$XDG_RUNTIME_DIR`, or in a folder under /tmp that is made if need be.
    pub fn of(product: &Product) -> Result<Endpoint, EndpointError> {
        let path = Endpoint::place(product)?;
        if let (None, Some(folder)) = (runtime_directory(), path.parent()) {
            own_folder(folder, user_id())?;
        }
        Endpoint::at(&path)
    }

    /// Where `product`'s clients look.
    ///
    /// # Errors
    /// [`EndpointError::TooLong`]
    pub fn place(product: &Product) -> Result<PathBuf, EndpointError> {
        let directory = runtime_directory();
        let directory = directory.as_ref().map(|directory| directory.as_bytes());
        let path = product.borrowed().socket_path(directory, user_id()).ok_or(EndpointError::TooLong)?;
        Ok(PathBuf::from(path.as_str()))
    }

    /// A socket at `path`. One that nobody listens on any more is replaced.
    pub fn at(path: &Path) -> Result<Endpoint, EndpointError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", path)(error)),
            Ok(there) if !there.file_type().is_socket() => return Err(EndpointError::NoSocket(path.to_owned())),
            // A service that was killed leaves its socket. Two that start at this very moment may both get here; the one
            // that binds first is then found by nobody, and told so by its file being another one's.
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(EndpointError::Taken(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed("remove the old socket", path))?;
                }
                Err(error) => return Err(failed("connect to", path)(error)),
            },
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
        // Other users are told apart by their credentials, not by the file: a service for every user must be reachable.
        fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed("open up", path))?;
        let file = fs::symlink_metadata(path).map_err(failed("look at", path))?;
        Ok(Endpoint { path: path.to_owned(), listener, file: (file.dev(), file.ino()) })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to accept connections from.
    pub fn listener(&self) -> Result<UnixListener, EndpointError> {
        self.listener.try_clone().map_err(failed("listen on", &self.path))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let own = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn runtime_directory() -> Option<OsString> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| Path::new(directory).is_absolute())
}

/// Makes `folder` if it is not there, and sees that it is the user's own: under /tmp anybody may have made it before.
fn own_folder(folder: &Path, uid: u32) -> Result<(), EndpointError> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", folder)(error)),
        _ => {}
    }
    let there = fs::symlink_metadata(folder).map_err(failed("look at", folder))?;
    let own = there.is_dir() && there.uid() == uid && there.mode() & 0o022 == 0;
    if own { Ok(()) } else { Err(EndpointError::ForeignFolder(folder.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("aftermach-endpoint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_socket_that_somebody_listens_on_is_left_alone() {
        let folder = folder("taken");
        let path = folder.join("s");
        let first = Endpoint::at(&path).unwrap();
        assert!(matches!(Endpoint::at(&path), Err(EndpointError::Taken(_))));
        drop(first);
        assert!(!path.exists(), "it goes with its service");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_socket_that_a_killed_service_left_is_replaced() {
        let folder = folder("left");
        let path = folder.join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let endpoint = Endpoint::at(&path).unwrap();
        UnixStream::connect(endpoint.path()).unwrap();
        drop(endpoint);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let folder = folder("file");
        let path = folder.join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Endpoint::at(&path), Err(EndpointError::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = folder("folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        // SAFETY: no memory is involved.
        let uid = unsafe { libc::geteuid() };
        assert!(matches!(own_folder(&folder, uid), Err(EndpointError::ForeignFolder(_))));
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        own_folder(&folder, uid).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
