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
use aftermach_handler::snapshot::{Exception, ImageId, Snapshot};
use aftermach_protocol::exception::MachException;
use aftermach_protocol::platform::{Cpu, Os};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("which folder?"))?);
    fs::create_dir_all(&folder)?;
    for (name, snapshot) in samples::all() {
        write(&folder, name, &snapshot)?;
        write(&folder, &format!("{name}-abort"), &samples::aborted(snapshot.os, snapshot.cpu))?;
        write(&folder, &format!("{name}-odd"), &samples::unreadable(snapshot))?;
    }
    // Killed from outside, a guard, a general protection fault.
    let deaths = [("signal", 10, 0x0b00_0000), ("guard", 12, 0x4000_0001_0000_0003), ("gpf", 10, 0x0b10_000d)];
    for (name, kind, code) in deaths {
        let mut snapshot = samples::sample(Os::MacOs, Cpu::X86_64);
        snapshot.death.exception = Exception::Mach(MachException { kind, codes: [code, 0] });
        write(&folder, &format!("macos-{name}"), &snapshot)?;
    }
    Ok(())
}

/// The dump, and the parts of report.json that tests/readers/lldb_check compares.
fn write(folder: &Path, name: &str, snapshot: &Snapshot) -> anyhow::Result<()> {
    write_file(snapshot, &Extra::default(), &File::create(folder.join(format!("{name}.dmp")))?)?;
    let hex = |value: u64| format!("{value:#x}");
    let threads = snapshot.threads.iter().map(|thread| {
        let registers = thread.state.registers.iter().flat_map(|registers| registers.general());
        let registers: serde_json::Map<_, _> =
            registers.map(|(name, value)| (name.to_owned(), json!(hex(value)))).collect();
        let crashed = Some(thread.state.id) == snapshot.death.thread;
        // One caller for each stack: the frame pointer leads to it.
        let pc = thread.state.registers.as_ref().map(|registers| registers.pc());
        let caller = thread.stack.and(pc).map(|_| samples::layout(snapshot.os, snapshot.cpu).program + 0x1200);
        let frames: Vec<_> = pc.into_iter().chain(caller).map(|address| json!({ "address": hex(address) })).collect();
        json!({ "id": thread.state.id, "crashed": crashed, "registers": registers, "frames": frames })
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
    let signal = if snapshot.death.signal == 11 { "SIGSEGV" } else { "SIGABRT" };
    let kind = match snapshot.death.exception {
        Exception::Mach(MachException { kind: 12, .. }) => "EXC_GUARD",
        Exception::Mach(MachException { codes: [code, _], .. }) if code >> 20 & 0xf == 1 => "EXC_BAD_ACCESS",
        _ => "EXC_CRASH",
    };
    let report = json!({
        "threads": threads.collect::<Vec<_>>(),
        "images": images.collect::<Vec<_>>(),
        "exception": match snapshot.os {
            Os::Linux => json!({ "type": signal, "signal": { "name": signal } }),
            Os::MacOs => json!({ "type": kind, "signal": { "name": signal } }),
        },
    });
    fs::write(folder.join(format!("{name}.json")), format!("{report:#}\n"))?;
    Ok(())
}
