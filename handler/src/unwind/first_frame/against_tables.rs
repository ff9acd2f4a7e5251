//! The pass against what compilers say: at every instruction of every function of a real image, the place of the CFA and of
//! the saved registers as its call frame information has them.

use std::path::PathBuf;

use super::flow::{Flow, Instructions, State, Value};
use super::{arm64, x86_64};
use crate::unwind::cfi::{Bases, Cfi, Place};
use crate::unwind::file::ObjectFile;
use addr2line::gimli::UnwindContext;
use aftermach_protocol::platform::Cpu;

#[derive(Debug, Default)]
struct Score {
    same: usize,
    unknown: usize,
    unreached: usize,
    different: usize,
    functions: usize,
    examples: Vec<String>,
}

fn compare(path: &std::path::Path, cpu: Cpu) -> Score {
    let file = ObjectFile::open(path, cpu).unwrap();
    let section = |name: &str| {
        let section = file.section(name)?;
        Some((file.read(section.offset, section.size, 64 << 20).unwrap(), section.address))
    };
    let (eh_frame, address) = section(".eh_frame").unwrap();
    let bases = Bases { eh_frame: address, ..Bases::default() };
    let cfi = Cfi::eh_frame(cpu, eh_frame, bases, None);
    let mut score = Score::default();
    let mut context = UnwindContext::new();
    for (start, end) in cfi.functions() {
        let mut bytes = vec![0; (end - start) as usize];
        if end - start > 64 << 10 || file.read_address(start, &mut bytes) != bytes.len() {
            continue;
        }
        // The part of a function that GCC moved out of the way starts with the frame of the other part.
        if !cfi.row(start, &mut context).is_some_and(|row| row.is_entry(cpu)) {
            continue;
        }
        score.functions += 1;
        match cpu {
            Cpu::X86_64 => function(&x86_64::Code::new(&bytes, start), start, &cfi, &mut score, cpu),
            Cpu::Arm64 => function(&arm64::Code::new(&bytes, start), start, &cfi, &mut score, cpu),
        }
    }
    score
}

fn function(code: &impl Instructions, start: u64, cfi: &Cfi, score: &mut Score, cpu: Cpu) {
    let mut context = UnwindContext::new();
    let mut flow = Flow::new(code, start);
    if flow.follow().is_err() {
        return;
    }
    let mut address = start;
    while address < code.end() {
        let state = flow.known_at(address);
        match (state, cfi.row(address, &mut context)) {
            (None, _) => score.unreached += 1,
            (Some(state), Some(row)) => {
                let mut places = row.places();
                places.retain(|place| {
                    matches!(place.register, 3 | 6 | 12..=15) && cpu == Cpu::X86_64
                        || matches!(place.register, 19..=30) && cpu == Cpu::Arm64
                });
                match verdict(&state, row.cfa_place(), &places, cpu) {
                    Some(true) => score.same += 1,
                    None => score.unknown += 1,
                    Some(false) => {
                        score.different += 1;
                        if score.examples.len() < 12 {
                            let (cfa, slots) = (row.cfa_place(), state.slots().collect::<Vec<_>>());
                            let held = cfa.map(|(register, _)| state.get(register));
                            score.examples.push(format!("{address:#x} in {start:#x}: {cfa:?} but {held:?} {slots:?}"));
                        }
                    }
                }
            }
            (Some(_), None) => {}
        }
        // The next instruction in memory, whatever it does.
        let mut scratch = code.entry();
        match code.run(address, &mut scratch) {
            Some((next, _)) => address = next,
            None => break,
        }
    }
}

/// Whether the state says what the row says; `None` if it does not know.
fn verdict(state: &State, cfa: Option<(u16, i64)>, saved: &[Place], cpu: Cpu) -> Option<bool> {
    let (register, offset) = cfa?;
    match state.get(register) {
        Value::Cfa(place) if place == -offset => {}
        Value::Cfa(_) => return Some(false),
        // It may be known from another register: then the two can't be compared.
        _ => return None,
    }
    let frame: u16 = if cpu == Cpu::X86_64 { 6 } else { 29 };
    let link: u16 = 30;
    for number in [frame, link].into_iter().filter(|number| *number == frame || cpu == Cpu::Arm64) {
        let table = saved.iter().find(|place| place.register == number).map(|place| place.offset);
        let held = state.get(number) == Value::Entry(number as u8);
        let slot = state.slots().find(|(_, value)| *value == Value::Entry(number as u8)).map(|(place, _)| place);
        match (table, held, slot) {
            // In an epilogue the register is back already, or still in its slot, or both.
            (_, true, _) | (None, false, None) => {}
            (Some(offset), false, Some(Value::Cfa(at))) if offset == at => {}
            (None, false, Some(_)) => {}
            _ => return Some(false),
        }
    }
    Some(true)
}

#[test]
fn the_c_library_is_described_as_its_compiler_describes_it() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(libc) = maps.split_whitespace().find(|word| word.contains("libc.so") || word.contains("libc-")) else {
        println!("SKIP: no libc is mapped");
        return;
    };
    let cpu = if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 };
    judge(PathBuf::from(libc), cpu);
}

/// For files elsewhere: `AFTERMACH_TABLES=x86_64:/path,arm64:/path`.
#[test]
fn named_files_are_described_as_their_compilers_describe_them() {
    for file in std::env::var("AFTERMACH_TABLES").unwrap_or_default().split_terminator(',') {
        let (cpu, path) = file.split_once(':').unwrap();
        judge(PathBuf::from(path), if cpu == "arm64" { Cpu::Arm64 } else { Cpu::X86_64 });
    }
}

fn judge(path: PathBuf, cpu: Cpu) {
    let score = compare(&path, cpu);
    let Score { same, unknown, unreached, different, functions, .. } = score;
    println!(
        "{}: {functions} functions, {same} same, {different} different, {unknown} unknown, {unreached} unreached",
        path.display()
    );
    for example in &score.examples {
        println!("  {}", &example[..example.len().min(200)]);
    }
    assert!(same > 10_000);
    // What differs is padding after a return, which nobody runs, and assembly whose author left the tables behind.
    assert!(different * 300 < same, "{different} of {same}");
}
