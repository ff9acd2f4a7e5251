//! `aftermach-lab-recorder MAIN ARGUMENT OUT`: runs an arm64 victim in an emulator and records each moment of each thread.
//!
//! Threads run one after the other: a new one runs to its end before the one that made it goes on.

mod emulator;
#[path = "../../../victims/macho_loader/image.rs"]
#[allow(dead_code, reason = "the loader uses the rest")]
mod image;
mod signals;
mod trace;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [main, argument, out] = &arguments[..] else { bail!("usage: aftermach-lab-recorder MAIN ARGUMENT OUT") };
    let (trace, printed) = emulator::run(Path::new(main), argument)?;
    std::io::stderr().write_all(&printed)?;
    let moments = trace.moments;
    let mut compressed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    compressed.write_all(&trace.finish())?;
    let compressed = compressed.finish()?;
    std::fs::write(out, &compressed).with_context(|| format!("write {out}"))?;
    println!("{out}: {moments} moments, {} bytes", compressed.len());
    Ok(())
}
