//! The C header agrees with the Rust behind it, and C programs use it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use aftermach_protocol::session::{Kind, Status};
use support::{Answer, Folder, Service};

/// A C program that fails to compile when a layout differs from Rust's.
fn assertions() -> String {
    let mut source = String::from("#include <stddef.h>\n#include \"aftermach.h\"\n");
    let layout = aftermach_client::c_api::options_layout();
    source += &format!("_Static_assert(sizeof(struct aftermach_options) == {}, \"size\");\n", layout.size);
    for (name, offset) in layout.offsets {
        source += &format!("_Static_assert(offsetof(struct aftermach_options, {name}) == {offset}, \"{name}\");\n");
    }
    source + "int main(void) { return 0; }\n"
}

/// A C compiler, or the remark that there is none.
fn compiler() -> Option<&'static str> {
    let found = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIP: no C compiler (cc)");
    }
    found.then_some("cc")
}

fn compile(compiler: &str, arguments: &[&str]) {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", include])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_headers_layouts_are_rusts() {
    let Some(compiler) = compiler() else { return };
    let folder = Folder::new("c-layout");
    let source = folder.path().join("layout.c");
    std::fs::write(&source, assertions()).unwrap();
    compile(compiler, &["-std=c11", "-fsyntax-only", source.to_str().unwrap()]);
    // C++ reads the header too.
    std::fs::write(folder.path().join("only.cc"), "#include \"aftermach.h\"\n").unwrap();
    compile(compiler, &["-x", "c++", "-fsyntax-only", folder.path().join("only.cc").to_str().unwrap()]);
}

/// The static library that was built with this test.
fn library() -> Option<PathBuf> {
    let programs = std::env::current_exe().unwrap();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libaftermach_client") && name.ends_with(".a")
    };
    let entries = std::fs::read_dir(programs.parent().unwrap()).unwrap();
    let libraries = entries.map(|entry| entry.unwrap().path()).filter(is_library);
    libraries.max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap())
}

#[test]
fn the_c_example_installs_the_client_and_goes_on_without_a_service() {
    let Some(compiler) = compiler() else { return };
    let Some(library) = library() else {
        println!("SKIP: no static library beside this test; cargo build -p aftermach-client makes one");
        return;
    };
    let folder = Folder::new("c-example");
    let program = folder.path().join("c-client");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/c-client/main.c");
    let (library, program) = (library.to_str().unwrap(), program.to_str().unwrap());
    compile(compiler, &["-std=c11", "-g", "-o", program, source, library, "-lpthread", "-ldl", "-lm"]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", folder.path()).args(arguments).output().unwrap()
    };
    let without = run(&["com.example", "Demo"]);
    assert_eq!((without.status.code(), without.stdout.as_slice()), (Some(0), b"5\n".as_slice()));
    assert_eq!(
        String::from_utf8_lossy(&without.stderr),
        "crashes will not be reported: the crash reporting service is not there\n"
    );
    let bad_name = run(&["com.example", "De mo"]);
    assert_eq!((bad_name.status.code(), bad_name.stdout.as_slice()), (Some(0), b"4\n".as_slice()));

    let asked = Service::listen(&folder.path().join("com.example.Demo.crashd.v1.sock"), Answer::Status(Status::Ok));
    let with = run(&["com.example", "Demo"]);
    assert_eq!((with.status.code(), with.stdout.as_slice()), (Some(0), b"0\n".as_slice()));
    assert_eq!(asked.recv().unwrap().request.kind, Kind::Attach);

    let dumped = run(&["com.example", "Demo", "dump"]);
    assert_eq!((dumped.status.code(), dumped.stdout.as_slice()), (Some(0), b"dump: done\n0\n".as_slice()));
    assert_eq!(asked.recv().unwrap().request.kind, Kind::Attach);
    let dump = asked.recv().unwrap();
    assert_eq!((dump.request.kind, dump.request.about), (Kind::Snapshot, dump.pid as u64), "the main thread asks");
}
