//! What a collector is sent may be anything.

use std::time::Instant;

use aftermach_handler::minidump::check;

use crate::random::Random;
use crate::{dump_of, samples};

/// Rounds for each kind of dump; `AFTERMACH_FUZZ_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("AFTERMACH_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1500)
}

#[test]
fn a_dump_that_was_changed_anywhere_is_read_or_refused() {
    let mut random = Random(2);
    let (mut read, mut slowest) = (0, 0);
    for (_, snapshot) in samples::all() {
        let whole = dump_of(&snapshot);
        // The directory is at the end, and with it the lists.
        let directory = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
        for _ in 0..rounds() {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(8) {
                let at = match random.below(4) {
                    0 => random.below(32),
                    1 => directory + random.below(bytes.len() - directory),
                    2 => bytes.len() / 2 + random.below(bytes.len() / 2),
                    _ => random.below(bytes.len()),
                };
                let value = random.number() as u32;
                let size = random.pick(&[1, 2, 4]).min(bytes.len() - at);
                bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            if random.one_in(10) {
                let length = random.below(bytes.len());
                bytes.truncate(length);
            }
            let started = Instant::now();
            read += usize::from(check(&bytes).is_ok());
            slowest = slowest.max(started.elapsed().as_millis());
        }
    }
    println!("{read} of {} were read; the slowest took {slowest} ms", 4 * rounds());
    assert!(read > 0, "changes that matter to nobody leave a dump readable");
}

#[test]
fn the_other_byte_order_is_read_as_well() {
    // The header's numbers turned round, and nothing else: a directory that is not there.
    let mut bytes = dump_of(&samples::all()[0].1);
    for number in bytes[..24].chunks_exact_mut(4) {
        number.reverse();
    }
    assert!(check(&bytes).is_err());
}
