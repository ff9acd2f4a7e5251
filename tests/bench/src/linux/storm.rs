//! Victims that die at once, under one service.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aftermach_handler::host::Program;
use aftermach_handler::service::Made;

use super::ours;
use super::spread::{Spread, milliseconds};
use super::target::Target;
use super::victim::Folder;

/// The argument with which this program starts victims and kills them at once.
pub(crate) const CHILD: &str = "--storm-of";

const VICTIMS: usize = 100;
/// Threads that wait in each victim.
const THREADS_EACH: usize = 8;
/// Longest time that starting them may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The victims would end by themselves after this many milliseconds.
const NEVER: &str = "600000";

pub(crate) fn print(tool: &Path, _rounds: usize) -> anyhow::Result<()> {
    let folder = Folder::new("storm")?;
    let program = Program::new(std::env::current_exe()?)
        .args([CHILD.into(), tool.as_os_str().to_owned()])
        .stderr(File::create("/dev/null")?);
    let started = Instant::now();
    let made = ours::reports(program, folder.path())?;
    let took = started.elapsed();
    let partial = made.iter().filter(|made| is_partial(made)).count();
    let held = Spread::of(made.iter().map(|made| made.held));
    let total = Spread::of(made.iter().map(|made| made.total));
    let longest = |times: &mut dyn Iterator<Item = Duration>| milliseconds(times.max().unwrap_or_default());
    println!("a storm: {VICTIMS} victims of {} threads killed at once under one service", THREADS_EACH + 1);
    println!("reports: {}, partial: {partial}; with starting the victims {:.1} s", made.len(), took.as_secs_f64());
    println!("held:    {held} ms, longest {:.1} ms", longest(&mut made.iter().map(|made| made.held)));
    println!("report:  {total} ms, longest {:.1} ms after its death", longest(&mut made.iter().map(|made| made.total)));
    Target::AtLeast(VICTIMS as f64).print("whole reports,", [("there are".to_owned(), (made.len() - partial) as f64)]);
    anyhow::ensure!(made.len() == VICTIMS && partial == 0, "not every death has a whole report");
    Ok(())
}

/// Whether a report lacks something that every victim has.
fn is_partial(made: &Made) -> bool {
    let file = |name: &str| fs::metadata(made.folder.join(name)).is_ok_and(|file| file.len() > 0);
    let threads = &made.report.threads;
    let files = ["report.json", "report.txt", "minidump.dmp"].into_iter().all(file);
    !files || threads.len() != THREADS_EACH + 1 || threads.iter().any(|thread| thread.frames.len() < 2)
}

/// Starts the victims and kills all of them by one command.
pub(crate) fn child(arguments: &[String]) -> anyhow::Result<()> {
    let [tool] = arguments else { anyhow::bail!("the tool was expected") };
    let mut victims = Victims(Vec::new());
    for _ in 0..VICTIMS {
        let threads = THREADS_EACH.to_string();
        let mut victim = Command::new(tool);
        victim.args(["crash", "exit", "--threads", &threads, "--after", NEVER]);
        victims.0.push(victim.stdin(Stdio::null()).spawn()?);
    }
    let started = Instant::now();
    for victim in &victims.0 {
        let tasks = format!("/proc/{}/task", victim.id());
        while fs::read_dir(&tasks)?.count() <= THREADS_EACH {
            anyhow::ensure!(started.elapsed() < START_LIMIT, "a victim did not start its threads");
            thread::sleep(Duration::from_millis(5));
        }
    }
    let ids = victims.0.iter().map(|victim| victim.id().to_string());
    let killed = Command::new("kill").arg("-SEGV").args(ids).status()?;
    anyhow::ensure!(killed.success(), "kill failed");
    for victim in &mut victims.0 {
        victim.wait()?;
    }
    Ok(())
}

/// None of them outlives this.
struct Victims(Vec<Child>);

impl Drop for Victims {
    fn drop(&mut self) {
        for victim in &mut self.0 {
            let _ = victim.kill();
            let _ = victim.wait();
        }
    }
}
