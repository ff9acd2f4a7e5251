//! Writes dumps of snapshots made by hand into a folder, each with what a reader should find in it, for
//! tests/readers/lldb_check.
//!
//!     cargo run --example synthetic_dumps -- FOLDER

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/minidump/samples.rs"]
mod samples;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aftermach_handler::minidump::{Extra, write_file};
use aftermach_handler::snapshot::{ImageId, Snapshot};
use aftermach_protocol::platform::{Cpu, Os};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("which folder?"))?);
    fs::create_dir_all(&folder)?;
    for (name, snapshot) in samples::all() {
        let reason = match snapshot.os {
            Os::Linux => "signal SIGSEGV",
            Os::MacOs => "EXC_BAD_ACCESS (code=1, address=0x10)",
        };
        write(&folder, name, &snapshot, reason)?;
    }
    for (os, cpu, name) in [(Os::Linux, Cpu::X86_64, "linux-abort"), (Os::MacOs, Cpu::Arm64, "macos-abort")] {
        let reason = if os == Os::Linux { "signal SIGABRT" } else { "EXC_SOFTWARE (code=65538" };
        write(&folder, name, &samples::aborted(os, cpu), reason)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, snapshot: &Snapshot, reason: &str) -> anyhow::Result<()> {
    write_file(snapshot, &Extra::default(), &File::create(folder.join(format!("{name}.dmp")))?)?;
    let hex = |value: u64| format!("{value:#x}");
    let threads = snapshot.threads.iter().map(|thread| match &thread.state.registers {
        Some(registers) => json!({ "pc": hex(registers.pc()), "sp": hex(registers.sp()) }),
        None => json!({}),
    });
    let images = snapshot.images.iter().map(|image| {
        let id = match &image.id {
            ImageId::BuildId(id) => id.as_slice(),
            ImageId::Uuid(id) => id.as_slice(),
            ImageId::None => &[],
        };
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "path": image.path, "base": hex(image.base), "id": id })
    });
    let crashed = snapshot.threads.iter().position(|thread| Some(thread.state.id) == snapshot.death.thread);
    let expected = json!({
        "threads": threads.collect::<Vec<_>>(),
        "images": images.collect::<Vec<_>>(),
        "crashed": crashed,
        "reason": reason,
    });
    fs::write(folder.join(format!("{name}.json")), format!("{expected:#}\n"))?;
    Ok(())
}
