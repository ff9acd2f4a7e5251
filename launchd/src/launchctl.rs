//! launchd, by its tool: launchctl(1). Its output is for people and changes between releases, so it is read as far as it can be.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// Most bytes that are read of each of launchctl's outputs. A job's description has a few thousand.
pub const MAX_OUTPUT: u64 = 256 << 10;

/// Most arguments that are read of a job.
pub const MAX_ARGUMENTS: usize = 256;

/// What launchctl exits with if there is no such job ("Could not find service", `launchctl error 113`).
pub const NO_SUCH_JOB: i32 = 113;

/// Somebody who carries commands to launchd.
pub trait Launchctl {
    /// Runs one command to its end.
    fn call(&mut self, arguments: &[&OsStr]) -> io::Result<Answer>;
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote, up to [`MAX_OUTPUT`] bytes.
    pub output: String,
    /// What it complained of, up to [`MAX_OUTPUT`] bytes.
    pub errors: String,
}

/// The system's own launchctl.
#[derive(Debug, Clone)]
pub struct SystemLaunchctl {
    program: PathBuf,
}

impl SystemLaunchctl {
    /// The one that macOS has at `/bin/launchctl`.
    pub fn new() -> SystemLaunchctl {
        SystemLaunchctl::at("/bin/launchctl")
    }

    /// Another one.
    pub fn at(program: impl Into<PathBuf>) -> SystemLaunchctl {
        SystemLaunchctl { program: program.into() }
    }
}

impl Default for SystemLaunchctl {
    fn default() -> SystemLaunchctl {
        SystemLaunchctl::new()
    }
}

impl Launchctl for SystemLaunchctl {
    fn call(&mut self, arguments: &[&OsStr]) -> io::Result<Answer> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Both at once, so that it never waits for the one that nobody reads.
        let (output, errors) = thread::scope(|scope| {
            let errors = scope.spawn(|| read(stderr));
            (read(stdout), errors.join().unwrap_or_default())
        });
        Ok(Answer { status: child.wait()?.code(), output, errors })
    }
}

/// What can be read, up to the limit. The rest is left to a closed pipe.
fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is what there is.
        let _ = from.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A job that launchd has loaded, as far as `launchctl print` told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// "running", "not running", "waiting" ...
    pub state: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Where its definition was read from.
    pub path: Option<PathBuf>,
    /// What its program is started with.
    pub arguments: Option<Vec<String>>,
    /// How it ended last, in launchctl's words.
    pub last_exit: Option<String>,
}

impl Loaded {
    /// Reads the output of `launchctl print DOMAIN/LABEL`.
    ///
    /// Fields stand one tab deep as `key = value`; blocks open with `key = {` and close with `}` on a line of its own.
    pub fn read(output: &str) -> Loaded {
        let mut loaded = Loaded::default();
        let mut lines = output.lines();
        let mut depth = 0_usize;
        while let Some(line) = lines.next() {
            let line = line.trim();
            if line == "}" {
                depth = depth.saturating_sub(1);
                continue;
            }
            let Some((key, value)) = line.split_once(" = ") else { continue };
            if value == "{" {
                if depth == 1 && key == "arguments" {
                    loaded.arguments = arguments(&mut lines);
                } else {
                    depth += 1;
                }
            } else if depth == 1 {
                let text = || Some(value.to_owned());
                match key {
                    "state" => loaded.state = text(),
                    "pid" => loaded.pid = value.parse().ok(),
                    "path" => loaded.path = Some(value.into()),
                    "last exit code" => loaded.last_exit = text(),
                    _ => {}
                }
            }
        }
        loaded
    }
}

/// One a line, two tabs deep. None if they don't end.
fn arguments<'o>(lines: &mut impl Iterator<Item = &'o str>) -> Option<Vec<String>> {
    let mut arguments = Vec::new();
    for line in lines.by_ref().take(MAX_ARGUMENTS) {
        let argument = line.trim_start_matches('\t');
        if argument == "}" {
            return Some(arguments);
        }
        arguments.push(argument.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // The shape that macOS 11 to 15 print, as public bug reports show it.
    const RUNNING: &str = "gui/501/com.example.Tunnel.crashd = {
\tactive count = 1
\tpath = /Users/ana/Library/LaunchAgents/com.example.Tunnel.crashd.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /opt/hand ler
\targuments = {
\t\t/opt/hand ler
\t\tserve
\t\t--store
\t\t
\t}

\tdefault environment = {
\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin
\t}

\tdomain = gui/501 [100005]
\tminimum runtime = 10
\texit timeout = 30
\truns = 1
\tpid = 4711
\tlast exit code = (never exited)

\tendpoints = {
\t\t\"com.example.Tunnel.crashd.v1\" = {
\t\t\tport = 0x1f8b3
\t\t\tstate = decoy
\t\t\tpid = 1
\t\t}
\t}

\tspawn type = interactive (4)
}
";

    #[test]
    fn a_running_job_is_read() {
        let loaded = Loaded::read(RUNNING);
        assert_eq!(loaded.state.as_deref(), Some("running"));
        assert_eq!(loaded.pid, Some(4711));
        assert_eq!(loaded.path, Some(PathBuf::from("/Users/ana/Library/LaunchAgents/com.example.Tunnel.crashd.plist")));
        assert_eq!(loaded.arguments.unwrap(), ["/opt/hand ler", "serve", "--store", ""]);
        assert_eq!(loaded.last_exit.as_deref(), Some("(never exited)"));
    }

    #[test]
    fn an_output_of_another_shape_is_a_job_of_which_nothing_is_known() {
        for output in ["", "{}", "} } }\n}\n}", "state = running", "a = {\n\tpid = many\n", "\0 = \0"] {
            assert_eq!(Loaded::read(output), Loaded::default(), "{output:?}");
        }
    }

    #[test]
    fn arguments_without_an_end_are_not_taken() {
        let open = format!("job = {{\n\targuments = {{\n{}", "\t\tx\n".repeat(MAX_ARGUMENTS * 2));
        assert_eq!(Loaded::read(&open).arguments, None);
    }

    #[test]
    fn a_tool_that_writes_without_end_is_cut_off() {
        let mut tool = SystemLaunchctl::at("/bin/sh");
        let script = OsStr::new("echo oops >&2; exec yes");
        let answer = tool.call(&[OsStr::new("-c"), script]).unwrap();
        assert_eq!(answer.output.len() as u64, MAX_OUTPUT);
        assert_eq!(answer.errors, "oops\n");
    }

    #[test]
    fn a_tool_that_is_not_there_is_an_error() {
        let mut tool = SystemLaunchctl::at("/nonexistent/launchctl");
        assert_eq!(tool.call(&[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
