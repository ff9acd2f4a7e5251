//! Real victims: built with the system's C compiler, run by the Linux host, captured when they die.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aftermach_handler::host::linux::{self, Options, Program};
use aftermach_handler::host::{Receiver, Task};
use aftermach_handler::snapshot::{Death, Limits, Snapshot, capture};

/// Builds `source`, a file beside this one, with `flags` into a file of its own; `None`, with a line that says why, where
/// there is no compiler.
pub(crate) fn build(name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("victim-{name}-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/unwinding").join(source);
    let built = Command::new("cc").arg("-pthread").arg("-w").args(flags).arg("-o").arg(&output).arg(source).output();
    match built {
        Ok(built) if built.status.success() => Some(output),
        // No static libc here; any other error is one of the source.
        Ok(built) => {
            let errors = String::from_utf8_lossy(&built.stderr).into_owned();
            assert!(errors.contains("cannot find"), "cc {flags:?}: {errors}");
            println!("SKIP: cc {flags:?}: {errors}");
            None
        }
        Err(error) => {
            println!("SKIP: no C compiler: {error}");
            None
        }
    }
}

/// Limits that keep the whole of an 8 MiB stack.
pub(crate) fn whole() -> Limits {
    Limits { stack: 16 << 20, ..Limits::default() }
}

/// Runs `program` with `argument` until it dies and captures it; `None`, with a line that says why, where ptrace is refused.
pub(crate) fn crash(program: &Path, argument: &str, limits: Limits) -> Option<Snapshot> {
    run(program, argument, Catcher { limits, gone: None, caught: None })
}

/// The same, with the program's file deleted when it is captured.
pub(crate) fn crash_deleted(program: &Path, argument: &str) -> Option<Snapshot> {
    run(program, argument, Catcher { limits: whole(), gone: Some(program.to_owned()), caught: None })
}

fn run(program: &Path, argument: &str, mut catcher: Catcher) -> Option<Snapshot> {
    if let Err(refused) = linux::probe() {
        println!("SKIP: {refused}");
        return None;
    }
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    let program = Program::new(program).args([argument]).stdin(null()).stdout(null()).stderr(null());
    linux::run(&program, &Options::default(), &mut catcher).unwrap();
    Some(*catcher.caught.expect("the victim died"))
}

struct Catcher {
    limits: Limits,
    gone: Option<PathBuf>,
    caught: Option<Box<Snapshot>>,
}

impl Receiver for Catcher {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        if let Some(path) = &self.gone {
            std::fs::remove_file(path).unwrap();
        }
        Some(Box::new(capture(task, death, &self.limits)))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, _held: Duration) {
        self.caught = Some(snapshot);
    }
}
