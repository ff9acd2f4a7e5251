//! A program to run.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::{env, ptr};

use super::errno::Errno;

/// A program with its arguments, as `std::process::Command` describes one. Looked up in `PATH` as a shell does it.
#[derive(Debug)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    pub(super) streams: [Option<OwnedFd>; 3],
}

impl Program {
    /// The program `name`, without arguments.
    pub fn new(name: impl Into<OsString>) -> Program {
        Program {
            name: name.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            streams: Default::default(),
        }
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in the program's environment, which is this process's otherwise.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// The folder to start in; this process's otherwise.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Program {
        self.directory = Some(directory.into());
        self
    }

    /// Its standard input; this process's otherwise.
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<OwnedFd>) -> Program {
        self.streams[0] = Some(stream.into());
        self
    }

    /// Its standard output; this process's otherwise.
    #[must_use]
    pub fn stdout(mut self, stream: impl Into<OwnedFd>) -> Program {
        self.streams[1] = Some(stream.into());
        self
    }

    /// Its standard error; this process's otherwise.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<OwnedFd>) -> Program {
        self.streams[2] = Some(stream.into());
        self
    }
}

/// How a program is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Stand in the program's place for whoever started us: signals that processes send to us go to the program, and when it
    /// is stopped from the terminal we stop too. Signal handlers are the whole process's, so this is for a command's main
    /// thread, and one at a time.
    pub relay_signals: bool,
    /// Return when the program and all its descendants have ended, not when the program itself has. What is left otherwise
    /// runs on, traced no more.
    pub wait_for_descendants: bool,
}

/// Everything that the child needs, made before it is: between fork and exec nothing may be allocated.
pub(super) struct Recipe {
    pub(super) name: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: Option<CString>,
}

impl Recipe {
    pub(super) fn new(program: &Program) -> Result<Recipe, Errno> {
        let changed = |key: &OsStr| program.environment.iter().any(|(new, _)| new == key);
        let environment = env::vars_os()
            .filter(|(key, _)| !changed(key))
            .chain(program.environment.iter().cloned())
            .map(|(mut key, value)| {
                key.push("=");
                key.push(value);
                c_string(&key)
            })
            .collect::<Result<_, _>>()?;
        let words = [&program.name].into_iter().chain(&program.arguments);
        Ok(Recipe {
            name: c_string(&program.name)?,
            arguments: words.map(|word| c_string(word)).collect::<Result<_, _>>()?,
            environment,
            directory: program.directory.as_ref().map(|path| c_string(path.as_os_str())).transpose()?,
        })
    }
}

fn c_string(word: &OsStr) -> Result<CString, Errno> {
    CString::new(OsString::into_vec(word.to_owned())).map_err(|_| Errno(libc::EINVAL))
}

/// The words as exec takes them: pointers, then null.
pub(super) fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}
