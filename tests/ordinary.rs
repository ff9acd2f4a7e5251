//! Ordinary programs under `aftermach run`: nothing was built for us, nothing links us.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aftermach_protocol::report::ExceptionKind;
use support::{Folder, assert_functions, crashed, ptrace_works, run_under, tool};

/// Whether `program` can be found. Says SKIP, if not.
fn there_is(test: &str, program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| folder.join(program).exists());
    if !found {
        println!("SKIP {test}: there is no {program} here");
    }
    found
}

/// Compiles `source` with `compiler`.
fn compile(folder: &Folder, compiler: &str, suffix: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
    let (file, program) = (folder.path().join(format!("victim.{suffix}")), folder.path().join("victim"));
    fs::write(&file, source).unwrap();
    let output = Command::new(compiler).args(options).arg("-o").arg(&program).arg(&file).output().unwrap();
    if !output.status.success() {
        println!("SKIP: {compiler} {options:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(program)
}

#[test]
fn python_that_reads_a_null_pointer_through_ctypes() {
    let test = "python_that_reads_a_null_pointer_through_ctypes";
    if !ptrace_works(test) || !there_is(test, "python3") {
        return;
    }
    let store = Folder::new("python");
    let output = run_under(store.path(), Path::new("python3"), &["-c", "import ctypes; ctypes.string_at(0)"]);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    // A python3 that is a script around the real one has descendants; the crash is the real one's.
    let (_, report) = store.only_report();
    assert_eq!(report.exception.kind, ExceptionKind::NullPointer);
    assert!(report.process.name.starts_with("python"), "{}", report.process.name);
    assert!(crashed(&report).frames.len() > 5);
}

#[test]
fn a_cxx_program_that_throws_where_nobody_catches() {
    let test = "a_cxx_program_that_throws_where_nobody_catches";
    if !ptrace_works(test) || !there_is(test, "c++") {
        return;
    }
    let store = Folder::new("cxx");
    let source = "#include <stdexcept>\n#include <string>\n\
        namespace parser { struct Header { __attribute__((noinline)) int read(const std::string &text) {\n\
        if (text.size() < 4) throw std::runtime_error(\"short header\"); return text[3]; } }; }\n\
        int main(int count, char **) { parser::Header header; return header.read(std::string(count, 'x')); }\n";
    let sources = Folder::new("cxx-source");
    let Some(program) = compile(&sources, "c++", "cc", source, &["-g", "-O1"]) else { return };
    let output = run_under(store.path(), &program, &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    let (_, report) = store.only_report();
    assert_functions(crashed(&report), &["abort", "parser::Header::read", "main"]);
    let frame = crashed(&report)
        .frames
        .iter()
        .find(|frame| frame.function.as_deref().is_some_and(|name| name.contains("parser::Header::read")));
    assert_eq!(frame.unwrap().line, Some(4), "the line that throws");
}

#[test]
fn a_static_program_without_symbols() {
    let test = "a_static_program_without_symbols";
    if !ptrace_works(test) || !there_is(test, "cc") {
        return;
    }
    let store = Folder::new("static");
    let source = "__attribute__((noinline)) int inner(int *p) { return *p + 1; }\n\
        __attribute__((noinline)) int middle(int *p) { return inner(p) * 2; }\n\
        int main(int count, char **v) { (void)v; return middle((int *)(long)(count - 1)) + 3; }\n";
    let sources = Folder::new("static-source");
    let Some(program) = compile(&sources, "cc", "c", source, &["-O1", "-static", "-s"]) else { return };
    let output = run_under(store.path(), &program, &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
    let (_, report) = store.only_report();
    assert_eq!(report.exception.kind, ExceptionKind::NullPointer);
    // No names, but all frames: inner, middle, main, and the C library's start.
    let frames = &crashed(&report).frames;
    assert!(frames.len() >= 4, "{frames:#?}");
    assert!(frames.iter().take(4).all(|frame| frame.image == Some(0) && frame.offset.is_some()), "{frames:#?}");
}

#[test]
fn threads_that_wait_for_a_vforked_child_and_in_a_handler_on_another_stack() {
    let test = "threads_that_wait_for_a_vforked_child_and_in_a_handler_on_another_stack";
    if !ptrace_works(test) || !there_is(test, "cc") {
        return;
    }
    let sources = Folder::new("waits-source");
    let headers = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../tests/readers/ordinary/c");
    let source = include_str!("readers/ordinary/c/waits.c");
    let Some(program) = compile(&sources, "cc", "c", source, &["-w", "-g", "-O2", headers]) else { return };
    // The stacks that stand in the source.
    let waits: [(&str, &[&str]); 2] = [
        ("vfork", &["vfork", "wait_vfork", "thread"]),
        ("in-handler-on-other-stack", &["pause", "raise", "wait_in_handler_on_other_stack", "thread"]),
    ];
    for (wait, expected) in waits {
        let store = Folder::new(wait);
        let output = run_under(store.path(), &program, &[wait]);
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
        let (_, report) = store.only_report();
        let waiting: Vec<_> = report.threads.iter().filter(|thread| !thread.crashed).collect();
        assert_eq!(waiting.len(), 1, "{wait}");
        assert_functions(waiting[0], expected);
    }
}

#[test]
fn a_pipeline_whose_third_process_dies() {
    let test = "a_pipeline_whose_third_process_dies";
    if !ptrace_works(test) || !there_is(test, "sh") {
        return;
    }
    let store = Folder::new("pipeline");
    let program = tool().get_program().to_str().unwrap().to_owned();
    let pipeline = format!("printf 'a\\nb\\n' | cat | {program} crash null-write --after 20 | cat; echo done");
    let output = run_under(store.path(), Path::new("sh"), &["-c", &pipeline]);
    assert_eq!(output.status.code(), Some(0), "the shell goes on");
    assert_eq!(output.stdout, b"done\n");
    let (_, report) = store.only_report();
    assert_eq!(report.process.name, "aftermach");
    assert_functions(crashed(&report), &["kinds::null_write"]);
}

#[test]
fn a_program_that_another_process_kills_with_a_crash_signal_says_who_did_it() {
    let test = "a_program_that_another_process_kills_with_a_crash_signal_says_who_did_it";
    if !ptrace_works(test) || !there_is(test, "sh") {
        return;
    }
    let store = Folder::new("killed");
    let output = run_under(store.path(), Path::new("sh"), &["-c", "sleep 60 & kill -SEGV $!; wait $!"]);
    assert_eq!(output.status.code(), Some(128 + libc::SIGSEGV));
    let (_, report) = store.only_report();
    assert_eq!(report.exception.kind, ExceptionKind::Killed);
    let sender = report.exception.sender.as_ref().expect("who sent it");
    assert_eq!(Some(sender.pid), report.process.parent);
}

#[test]
fn what_can_not_be_run_is_told_as_a_shell_would() {
    let test = "what_can_not_be_run_is_told_as_a_shell_would";
    if !ptrace_works(test) {
        return;
    }
    let store = Folder::new("not-run");
    let missing = run_under(store.path(), Path::new("/no/such/program"), &[]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/program"), "{missing:?}");
    let plain = store.path().join("plain-file");
    fs::write(&plain, "text").unwrap();
    let not_executable = run_under(store.path(), &plain, &[]);
    assert_eq!(not_executable.status.code(), Some(126));
    assert!(store.reports().is_empty());
}

#[test]
fn a_store_that_can_not_be_written_is_an_error_before_the_program_runs() {
    let test = "a_store_that_can_not_be_written_is_an_error_before_the_program_runs";
    if !ptrace_works(test) {
        return;
    }
    let folder = Folder::new("no-store");
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let marker = folder.path().join("ran");
    let output = run_under(&file, Path::new("touch"), &[marker.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(125));
    assert!(!output.stderr.is_empty());
    assert!(!marker.exists(), "the program did not run");
}

#[test]
fn the_dump_that_curl_posts_is_the_dump_that_we_post() {
    let test = "the_dump_that_curl_posts_is_the_dump_that_we_post";
    if !ptrace_works(test) || !there_is(test, "curl") {
        return;
    }
    let folder = Folder::new("curl");
    let store = folder.path().join("reports");
    run_under(&store, tool().get_program().as_ref(), &["crash", "null-read"]);
    let exported = folder.path().join("exported.dmp");
    let export = tool().args(["export", "latest", "--store"]).arg(&store).arg("-o").arg(&exported).output().unwrap();
    assert!(export.status.success(), "{export:?}");

    let config = aftermach_handler::collector::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        store: folder.path().join("collector"),
        allow_remote: false,
        limits: aftermach_handler::collector::Limits::default(),
    };
    let collector = aftermach_handler::collector::start(config).unwrap();
    let form = format!("upload_file_minidump=@{}", exported.display());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-F", &form, "-F", "prod=curl"]).arg(collector.submit_url());
    let posted = curl.stdin(Stdio::null()).output().unwrap();
    assert!(posted.status.success(), "{posted:?}");
    let ours = tool()
        .args(["upload", "latest", "--yes", "--store"])
        .arg(&store)
        .args(["--to", &collector.submit_url()])
        .output()
        .unwrap();
    assert!(ours.status.success(), "{ours:?}");
    collector.stop();

    let dumps = dumps_under(&folder.path().join("collector"));
    assert_eq!(dumps.len(), 2, "{dumps:?}");
    let expected = fs::read(&exported).unwrap();
    for dump in dumps {
        assert!(fs::read(&dump).unwrap() == expected, "{} is another file", dump.display());
    }
}

fn dumps_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(dumps_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "dmp") {
            found.push(path);
        }
    }
    found
}
