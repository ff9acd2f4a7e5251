//! What the end-to-end tests share: the tool, a folder of their own, the reports in it.
#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aftermach_protocol::report::{Report, Thread};

/// The tool.
pub(crate) fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aftermach"))
}

/// A program built as an example of the handler.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_aftermach")).with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

/// Whether ptrace can be used here. Says SKIP and why, if not.
pub(crate) fn ptrace_works(test: &str) -> bool {
    match aftermach_handler::host::probe() {
        Ok(()) => true,
        Err(refused) => {
            println!("SKIP {test}: {refused}");
            false
        }
    }
}

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("aftermach-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// None at all, to be left in another's place.
    pub(crate) fn none() -> Folder {
        Folder(PathBuf::new())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The reports in the store that this folder is, each with its own folder.
    pub(crate) fn reports(&self) -> Vec<(PathBuf, Report)> {
        reports_in(self.path())
    }

    /// The one report there is.
    pub(crate) fn only_report(&self) -> (PathBuf, Report) {
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1, "one report was expected");
        reports.remove(0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The reports in a store, each with its folder.
pub(crate) fn reports_in(store: &Path) -> Vec<(PathBuf, Report)> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let reports = folders(store).into_iter().flat_map(|product| folders(&product));
    reports
        .map(|folder| {
            let bytes = fs::read(folder.join("report.json")).unwrap();
            (folder, Report::from_bytes(&bytes).unwrap())
        })
        .collect()
}

/// Runs `program` under `aftermach run` with `store` as its store.
pub(crate) fn run_under(store: &Path, program: &Path, arguments: &[&str]) -> Output {
    let mut command = tool();
    command.arg("run").arg("--store").arg(store).arg("--").arg(program).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

/// The thread that died.
pub(crate) fn crashed(report: &Report) -> &Thread {
    let mut crashed = report.threads.iter().filter(|thread| thread.crashed);
    let thread = crashed.next().expect("a crashed thread");
    assert!(crashed.next().is_none(), "one crashed thread");
    thread
}

/// The names of a thread's functions, innermost first; "?" where there is none.
pub(crate) fn functions(thread: &Thread) -> Vec<&str> {
    thread.frames.iter().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

/// Asserts that each of `expected` is part of a function's name in `thread`, in this order, others between them allowed.
pub(crate) fn assert_functions(thread: &Thread, expected: &[&str]) {
    let names = functions(thread);
    let mut rest = names.iter();
    for wanted in expected {
        assert!(rest.any(|name| name.contains(wanted)), "{wanted:?} is missing, or out of order, in {names:#?}");
    }
}
