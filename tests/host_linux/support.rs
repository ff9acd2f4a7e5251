//! Running the victim, traced and not.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fmt, thread};

use aftermach_handler::host::linux::{self, Ending, HostError, Options, Program};
use aftermach_handler::host::{Receiver, Task};
use aftermach_handler::snapshot::{Annotations, Death, Gap, Memory, Snapshot, ThreadState, Times};

/// One death as it was told.
pub(crate) struct Told {
    pub(crate) death: Death,
    pub(crate) threads: Vec<ThreadState>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) released: bool,
    pub(crate) is_client: Option<bool>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads: Vec<u64> = self.threads.iter().map(|thread| thread.id).collect();
        write!(f, "{:?} threads {threads:?} gaps {:?} released {}", self.death, self.gaps, self.released)
    }
}

/// A receiver that keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) told: Vec<Told>,
}

impl Receiver for Recorder {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        let mut gaps = Vec::new();
        let threads = task.threads(&mut gaps);
        let times =
            Times { died: death.time, gathering: death.gathering, copying: Duration::ZERO, held: Duration::ZERO };
        let snapshot = Snapshot {
            os: task.os(),
            cpu: task.cpu(),
            system: task.system(&mut gaps),
            process: task.process(&mut gaps),
            death: death.clone(),
            threads: Vec::new(),
            images: Vec::new(),
            shared_cache: None,
            regions: Vec::new(),
            memory: Memory::default(),
            annotations: Annotations::default(),
            gaps: Vec::new(),
            times,
        };
        self.told.push(Told { death, threads, gaps, released: false, is_client: task.is_client() });
        Some(Box::new(snapshot))
    }

    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration) {
        assert!(held >= snapshot.times.gathering);
        let told = self.told.iter_mut().find(|told| told.death.pid == snapshot.death.pid && !told.released);
        told.expect("it was told of this death, and of its release once").released = true;
    }
}

/// Whether tests can trace here; says so if not.
pub(crate) fn can_trace() -> bool {
    default_signals();
    match linux::probe() {
        Ok(()) => true,
        Err(refused) => {
            println!("SKIP: {refused}");
            false
        }
    }
}

/// Victims expect the dispositions that a terminal's shell gives. `nohup` and a script's `&` leave signals ignored, and every
/// program below inherits that.
fn default_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGTSTP, libc::SIGUSR1] {
            // SAFETY: a default disposition runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
}

/// The victim's path. Cargo builds examples along with tests.
pub(crate) fn victim() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let folder = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let victim = folder.join("examples/unwatched");
    assert!(victim.exists(), "{} is missing: cargo build -p aftermach-handler --examples", victim.display());
    victim
}

/// What can be seen of a run from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) output: String,
}

/// Runs the victim without a tracer.
pub(crate) fn untraced(arguments: &[&str]) -> Outcome {
    ended(Command::new(victim()).args(arguments))
}

/// Runs a command to its end, and keeps what it prints.
pub(crate) fn ended(command: &mut Command) -> Outcome {
    let output = command.stderr(Stdio::inherit()).output().expect("it can be started");
    Outcome {
        ending: Ending::from_raw(output.status.into_raw()),
        output: String::from_utf8(output.stdout).expect("it prints text"),
    }
}

/// Runs a program traced, and keeps what it prints.
pub(crate) fn trace(program: Program, options: Options) -> (Result<Ending, HostError>, String, Recorder) {
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let null = std::fs::File::options().write(true).open("/dev/null").expect("/dev/null");
    let program = program.stdout(write).stderr(null);
    let reader = thread::spawn(move || {
        let mut output = String::new();
        read.read_to_string(&mut output).expect("it prints text");
        output
    });
    let mut recorder = Recorder::default();
    let ending = linux::run(&program, &options, &mut recorder);
    drop(program);
    (ending, reader.join().expect("the reader ends"), recorder)
}

/// Runs the victim traced.
pub(crate) fn traced(arguments: &[&str]) -> (Outcome, Recorder) {
    traced_with(arguments, Options::default())
}

pub(crate) fn traced_with(arguments: &[&str], options: Options) -> (Outcome, Recorder) {
    let (ending, output, recorder) = trace(Program::new(victim()).args(arguments), options);
    let outcome = Outcome { ending: ending.expect("it runs"), output };
    assert!(recorder.told.iter().all(|told| told.released), "every death that is told is released: {recorder:?}");
    (outcome, recorder)
}
