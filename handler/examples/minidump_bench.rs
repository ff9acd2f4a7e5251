//! How long a dump of 10, 100 and 500 threads takes to write, to memory-backed and real files.
//!
//!     cargo run --release --example minidump_bench

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/minidump/samples.rs"]
mod samples;

use std::fs::OpenOptions;
use std::io::Sink;
use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use aftermach_handler::minidump::{Extra, write};
use aftermach_handler::snapshot::{Snapshot, Stack};
use aftermach_protocol::platform::{Cpu, Os};

/// Takes everything: what is left is the work of laying out.
struct Nowhere(Sink, u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += bytes.len() as u64;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let SeekFrom::Start(position) = to {
            self.1 = position;
        }
        Ok(self.1)
    }
}

/// A sample with so many threads, each with 12 KiB of stack, and 60 images and 400 mappings.
fn snapshot(threads: u64) -> Snapshot {
    let mut snapshot = samples::sample(Os::Linux, Cpu::X86_64);
    let thread = snapshot.threads[1].clone();
    for n in 3..threads {
        let start = 0x7f00_0000_0000 + n * 0x80_0000;
        snapshot.memory.insert(start, vec![n as u8; 12 << 10]);
        let mut thread = thread.clone();
        thread.state.id = 5000 + n;
        thread.stack = Some(Stack { start, end: start + (12 << 10), limit: start + 0x80_0000, overflowed: false });
        snapshot.threads.push(thread);
    }
    let image = snapshot.images[1].clone();
    for n in 0..60 {
        let mut image = image.clone();
        image.base = 0x7e00_0000_0000 + n * 0x100_0000;
        snapshot.images.push(image);
    }
    let region = snapshot.regions[0].clone();
    for n in 0..400 {
        let mut region = region.clone();
        (region.start, region.end) = (0x7d00_0000_0000 + n * 0x2000, 0x7d00_0000_1000 + n * 0x2000);
        snapshot.regions.push(region);
    }
    snapshot
}

fn main() -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("aftermach-bench-{}.dmp", std::process::id()));
    println!("{:>8} {:>10} {:>24} {:>24}", "threads", "bytes", "laid out (min, median)", "in a file (min, median)");
    for threads in [10, 100, 500] {
        let snapshot = snapshot(threads);
        let mut bytes = 0;
        let laid_out = times(|| {
            bytes = write(&snapshot, &Extra::default(), &mut Nowhere(io::sink(), 0))?.bytes;
            Ok(())
        })?;
        let in_a_file = times(|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            write(&snapshot, &Extra::default(), &mut file)?;
            Ok(())
        })?;
        println!("{threads:>8} {bytes:>10} {:>24} {:>24}", shown(laid_out), shown(in_a_file));
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

fn shown((least, median): (Duration, Duration)) -> String {
    format!("{:.3} ms, {:.3} ms", least.as_secs_f64() * 1e3, median.as_secs_f64() * 1e3)
}

/// The least and the median of 31 runs; one before them does not count.
fn times(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<(Duration, Duration)> {
    run()?;
    let mut all = Vec::new();
    for _ in 0..31 {
        let started = Instant::now();
        run()?;
        all.push(started.elapsed());
    }
    all.sort();
    Ok((all[0], all[15]))
}
