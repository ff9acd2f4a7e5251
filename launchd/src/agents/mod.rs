//! One user's jobs: their definitions in `~/Library/LaunchAgents`, and launchd's `gui/<uid>` domain that loads them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aftermach_protocol::product::Product;

use crate::check::{MAX_BYTES, Problem, Program, arguments, check, program};
use crate::definition::{Definition, DefinitionError, EXIT_TIMEOUT};
use crate::launchctl::{Answer, Launchctl, Loaded, NO_SUCH_JOB};

/// How often launchd is asked whether a job that it was told to stop is gone.
const ASKING: Duration = Duration::from_millis(200);

/// How many times: as long as launchd lets a busy job finish, and some.
const ASKED: u32 = (EXIT_TIMEOUT + 5) * 5;

/// How many times a job is loaded again that launchd refused with EIO: for some seconds after a job has gone, its label can't be
/// loaded, whatever `launchctl print` says. Others had to wait up to three.
const LOADED: u32 = 25;

/// The jobs of one user.
#[derive(Debug)]
pub struct Agents<L> {
    folder: PathBuf,
    uid: u32,
    launchctl: L,
    asking: Duration,
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// Nothing: the same definition was there, and loaded.
    Already,
    /// The job was loaded. Whether another definition lay there before.
    Loaded {
        /// A file of another content was replaced.
        overwrote: bool,
    },
    /// A loaded job was stopped and removed first. Its clients' ports died.
    Replaced,
}

/// What a removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uninstalled {
    /// The job was loaded. Its clients' ports died.
    pub was_loaded: bool,
    /// Its definition was there.
    pub had_definition: bool,
}

/// How a product's job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where its definition belongs.
    pub path: PathBuf,
    /// Whether there is one.
    pub installed: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What launchd has loaded, if anything.
    pub loaded: Option<Loaded>,
    /// The definition changed since launchd loaded it: the handler is started with other arguments than it says.
    pub outdated: bool,
    /// Which program it starts: what launchd loaded if that is known, else what the definition says.
    pub program: Option<Program>,
    /// Why that program can't be started, if it can't.
    pub program_problem: Option<String>,
}

/// Why a job could not be installed, removed or described.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file could not be read or written.
    #[error("can't {what} {path}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The definition could not be written out.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The program that launchd would start can't be.
    #[error("the handler can't be started by launchd: {0}")]
    Program(String),
    /// A per-user job has no place with root.
    #[error("this is a job of one user, and root has no graphical session: run it without sudo")]
    Root,
    /// Another definition is loaded.
    #[error(
        "{0} is loaded with another definition. Programs that registered with it would lose their handler, without notice and \
         until they start again: end them first, then repeat this with --replace"
    )]
    OtherLoaded(String),
    /// launchctl could not be run.
    #[error("can't run launchctl {command}")]
    NotRun {
        /// Its arguments.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// launchctl failed.
    #[error("launchctl {command} failed with {}: {}", status_text(*status), errors.trim())]
    Refused {
        /// Its arguments.
        command: String,
        /// Its exit status.
        status: Option<i32>,
        /// What it complained of.
        errors: String,
    },
    /// The job did not end in time.
    #[error("{0} was told to stop and is still there: see `launchctl print` of it, and repeat this when it is gone")]
    StillThere(String),
}

fn status_text(status: Option<i32>) -> String {
    status.map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"))
}

impl<L: Launchctl> Agents<L> {
    /// The jobs of the user `uid`, whose home folder is `home`.
    pub fn new(home: &Path, uid: u32, launchctl: L) -> Result<Agents<L>, AgentError> {
        if uid == 0 {
            return Err(AgentError::Root);
        }
        Ok(Agents { folder: home.join("Library/LaunchAgents"), uid, launchctl, asking: ASKING })
    }

    /// Where a product's definition belongs.
    pub fn path(&self, product: &Product) -> PathBuf {
        self.folder.join(format!("{}.plist", product.label()))
    }

    /// Writes the definition and has launchd load it. With `replace`, a job that is loaded with another one is stopped and
    /// removed first.
    ///
    /// If launchd refuses to load it, the definition stays: launchd reads it again when the user logs in next.
    pub fn install(&mut self, definition: &Definition, replace: bool) -> Result<Installed, AgentError> {
        let xml = definition.to_xml()?;
        if let Some(problem) = program_problem(definition.handler()) {
            return Err(AgentError::Program(problem));
        }
        let product = definition.product();
        let path = self.path(product);
        let before = read(&path)?;
        let same_file = before.as_deref() == Some(xml.as_slice());
        let loaded = self.loaded(product)?;
        if let Some(loaded) = &loaded {
            // What launchd has is what it read when it loaded; the file may have changed since.
            let same_job = loaded.arguments.as_ref().is_none_or(|arguments| *arguments == definition.arguments());
            if same_file && same_job {
                return Ok(Installed::Already);
            }
            if !replace {
                return Err(AgentError::OtherLoaded(self.target(product)));
            }
            self.bootout(product)?;
        }
        if !same_file {
            self.write(&path, &xml)?;
        }
        let domain = self.domain();
        self.bootstrap(&[OsStr::new("bootstrap"), OsStr::new(&domain), path.as_os_str()])?;
        if loaded.is_some() {
            return Ok(Installed::Replaced);
        }
        Ok(Installed::Loaded { overwrote: before.is_some() && !same_file })
    }

    /// Whether launchd has the product's job.
    pub fn is_loaded(&mut self, product: &Product) -> Result<bool, AgentError> {
        Ok(self.loaded(product)?.is_some())
    }

    /// Stops the job, has launchd forget it, and deletes its definition.
    pub fn uninstall(&mut self, product: &Product) -> Result<Uninstalled, AgentError> {
        let was_loaded = self.is_loaded(product)?;
        if was_loaded {
            self.bootout(product)?;
        }
        let path = self.path(product);
        let had_definition = match fs::remove_file(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(AgentError::File { what: "delete", path, source }),
        };
        Ok(Uninstalled { was_loaded, had_definition })
    }

    /// How the product's job stands.
    pub fn status(&mut self, product: &Product) -> Result<Status, AgentError> {
        let path = self.path(product);
        let definition = read(&path)?;
        let loaded = self.loaded(product)?;
        let started = loaded.as_ref().and_then(|loaded| loaded.arguments.as_ref());
        let says = definition.as_deref().and_then(arguments);
        let outdated = started.zip(says).is_some_and(|(started, says)| *started != says);
        let program = match (started.and_then(|arguments| arguments.first()), &definition) {
            (Some(path), _) if Path::new(path).is_absolute() => Some(Program::At(path.into())),
            (_, Some(definition)) => program(definition),
            _ => None,
        };
        let program_problem = match &program {
            Some(Program::At(path)) => program_problem(path),
            _ => None,
        };
        Ok(Status {
            path,
            installed: definition.is_some(),
            problems: definition.map(|definition| check(&definition, product)).unwrap_or_default(),
            outdated,
            loaded,
            program,
            program_problem,
        })
    }

    fn domain(&self) -> String {
        format!("gui/{}", self.uid)
    }

    fn target(&self, product: &Product) -> String {
        format!("{}/{}", self.domain(), product.label())
    }

    fn loaded(&mut self, product: &Product) -> Result<Option<Loaded>, AgentError> {
        let target = self.target(product);
        let command = [OsStr::new("print"), OsStr::new(&target)];
        let answer = self.call(&command)?;
        match answer.status {
            Some(0) => Ok(Some(Loaded::read(&answer.output))),
            Some(NO_SUCH_JOB) => Ok(None),
            _ => Err(refused(&command, answer)),
        }
    }

    /// Has launchd forget the job, and waits until it has: it lets a busy handler finish its reports.
    fn bootout(&mut self, product: &Product) -> Result<(), AgentError> {
        let target = self.target(product);
        let command = [OsStr::new("bootout"), OsStr::new(&target)];
        let answer = self.call(&command)?;
        // It also fails where the job takes its time ("Operation now in progress"), so what counts is whether the job goes.
        let failed = answer.status != Some(0);
        for asked in 0..ASKED {
            if !self.is_loaded(product)? {
                return Ok(());
            }
            // EINPROGRESS (36 on macOS, sys/errno.h) is the one failure that is worth waiting for.
            if failed && answer.status != Some(36) && asked > 0 {
                return Err(refused(&command, answer));
            }
            thread::sleep(self.asking);
        }
        Err(AgentError::StillThere(target))
    }

    fn call(&mut self, command: &[&OsStr]) -> Result<Answer, AgentError> {
        self.launchctl.call(command).map_err(|source| AgentError::NotRun { command: text(command), source })
    }

    /// Has launchd load a job. "Input/output error" (EIO, 5) stands for much: a definition that it does not like, a job that was
    /// switched off (`launchctl disable`), and an earlier job of that label which is still going. Only the last passes.
    fn bootstrap(&mut self, command: &[&OsStr]) -> Result<(), AgentError> {
        let mut answer = self.call(command)?;
        for _ in 0..LOADED {
            if answer.status != Some(5) {
                break;
            }
            thread::sleep(self.asking);
            answer = self.call(command)?;
        }
        if answer.status == Some(0) { Ok(()) } else { Err(refused(command, answer)) }
    }

    /// Aside first, then renamed: launchd, which reads the folder at login, never finds half of one.
    fn write(&self, path: &Path, xml: &[u8]) -> Result<(), AgentError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| AgentError::File { what, path, source }
        };
        fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        // Without ".plist" at its end, launchd leaves it alone.
        let mut aside = OsString::from(path);
        aside.push(format!(".new-{}", std::process::id()));
        let aside = PathBuf::from(aside);
        let write = || -> io::Result<()> {
            // launchd takes no definition that others may write.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&aside)?;
            file.write_all(xml)?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        write().map_err(|error| {
            // Nothing to be done if even that fails.
            let _ = fs::remove_file(&aside);
            failed("write", path)(error)
        })
    }
}

fn refused(command: &[&OsStr], answer: Answer) -> AgentError {
    AgentError::Refused { command: text(command), status: answer.status, errors: answer.errors }
}

fn text(command: &[&OsStr]) -> String {
    command.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A definition's bytes, one more than [`MAX_BYTES`] at most; none if there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, AgentError> {
    let failed = |source| AgentError::File { what: "read", path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        // A pipe would be waited for.
        Ok(metadata) if !metadata.is_file() => {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Why a program can't be started, as far as its file shows.
fn program_problem(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => Some(format!("{shown}: {error}")),
        Ok(metadata) if !metadata.is_file() => Some(format!("{shown} is not a file")),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Some(format!("{shown} is not executable")),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests;
