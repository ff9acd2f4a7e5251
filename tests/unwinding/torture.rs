//! The truth at every instruction: a program is run one instruction at a time beside a shadow stack, and its stack is walked
//! before each.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aftermach_handler::snapshot::{Memory, Registers, Snapshot, X86_64Registers};
use aftermach_handler::unwind::{Limits, Sections, Stop, Trace, unwind};

use crate::harness::{build, crash, whole};

/// Instructions that are run at most.
const STEPS: usize = 200_000;

/// What came of one build.
#[derive(Debug, Default)]
struct Score {
    steps: usize,
    exact: usize,
    /// Exact without the pass over the function's instructions.
    exact_by_tables: usize,
    /// Address of each instruction and whether every walk from it was exact.
    addresses: BTreeMap<u64, bool>,
    first_wrong: Vec<String>,
}

/// Set to anything to run all builds rather than some.
const ALL: &str = "AFTERMACH_TORTURE";

#[test]
fn every_stack_is_exact_at_every_instruction() {
    // Without tables the pass over the instructions does all the work; with them it is out of the way.
    let tables: [(&str, &[&str]); 2] =
        [("tables", &[]), ("none", &["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"])];
    let layouts: [(&str, &[&str]); 6] = [
        ("O0", &["-O0"]),
        ("O1", &["-O1"]),
        ("O2", &["-O2"]),
        ("Os", &["-Os"]),
        ("O2-fp", &["-O2", "-fno-omit-frame-pointer"]),
        ("O3-probes", &["-O3", "-fstack-clash-protection"]),
    ];
    let mut wrong = 0;
    let some = std::env::var_os(ALL).is_none();
    for (layout, layout_flags) in layouts {
        if some && !matches!(layout, "O2" | "O2-fp") {
            continue;
        }
        for (tables, table_flags) in tables {
            let name = format!("torture-{layout}-{tables}");
            let always: &[&str] =
                &["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none", "-no-pie"];
            let flags = [always, layout_flags, table_flags].concat();
            let Some(program) = build(&name, "torture.c", &flags) else { return };
            let Some(score) = torture(&program) else { return };
            let right = score.addresses.values().filter(|right| **right).count();
            println!(
                "{name}: {}/{} steps exact ({:.3} %), {right}/{} addresses; {:.3} % by tables and frame pointers alone",
                score.exact,
                score.steps,
                score.exact as f64 * 100.0 / score.steps as f64,
                score.addresses.len(),
                score.exact_by_tables as f64 * 100.0 / score.steps as f64,
            );
            for line in &score.first_wrong {
                println!("  {line}");
            }
            assert!(score.steps > 1000, "{score:?}");
            wrong += score.steps - score.exact;
            std::fs::remove_file(program).unwrap();
        }
    }
    assert_eq!(wrong, 0, "steps whose stack was not exact");
}

fn torture(program: &Path) -> Option<Score> {
    // Where images and code are: the same in each run, since the program is at a fixed place.
    let mut snapshot = crash(program, "", whole())?;
    let victim = Victim::start(program)?;
    snapshot.regions.retain(|region| region.path.as_deref().is_some_and(Path::is_absolute));
    let sections = Sections::new(&snapshot);

    let mut score = Score::default();
    let mut shadow: Vec<u64> = Vec::new();
    let mut registers = victim.registers();
    while score.steps < STEPS {
        walk(&mut snapshot, &sections, &victim, &registers, &shadow, &mut score);
        if !victim.step() {
            break;
        }
        let next = victim.registers();
        let top = victim.word(next.rsp);
        let length = top.wrapping_sub(registers.rip);
        if next.rsp == registers.rsp.wrapping_sub(8) && (2..=7).contains(&length) && next.rip != top {
            shadow.push(top);
        } else if next.rsp > registers.rsp && victim.word(registers.rsp) == next.rip && shadow.last() == Some(&next.rip)
        {
            shadow.pop();
        }
        registers = next;
    }
    victim.end();
    Some(score)
}

fn walk(
    snapshot: &mut Snapshot,
    sections: &Sections,
    victim: &Victim,
    registers: &X86_64Registers,
    shadow: &[u64],
    score: &mut Score,
) {
    let mut memory = Memory::default();
    let start = registers.rsp - 256;
    memory.insert(start, victim.read(start, victim.stack_end - start));
    snapshot.memory = memory;
    snapshot.threads.truncate(1);
    snapshot.threads[0].state.registers = Some(Registers::X86_64(Box::new(registers.clone())));
    let expected: Vec<u64> = [registers.rip].iter().chain(shadow.iter().rev()).copied().collect();
    // At the program's first instructions nothing says that there is no caller.
    let is_exact = |trace: &Trace| {
        let same = trace.frames.iter().map(|frame| frame.address).eq(expected.iter().copied());
        same && (trace.stop == Stop::Root || shadow.is_empty())
    };
    let trace = unwind(snapshot, sections, &Limits::default()).remove(0);
    let by_tables = unwind(snapshot, sections, &Limits { function: 0, ..Limits::default() }).remove(0);
    let exact = is_exact(&trace);
    score.steps += 1;
    score.exact += usize::from(exact);
    score.exact_by_tables += usize::from(is_exact(&by_tables));
    *score.addresses.entry(registers.rip).or_insert(true) &= exact;
    if !exact && score.first_wrong.len() < 8 {
        let found: Vec<u64> = trace.frames.iter().map(|frame| frame.address).collect();
        let trusts: Vec<_> = trace.frames.iter().map(|frame| frame.trust).collect();
        score.first_wrong.push(format!("expected {expected:x?}, found {found:x?} {trusts:?} {:x?}", trace.stop));
    }
}

/// A process that is run one instruction at a time.
struct Victim {
    pid: i32,
    memory: File,
    stack_end: u64,
}

impl Victim {
    fn start(program: &Path) -> Option<Victim> {
        let path = CString::new(program.to_str().unwrap()).unwrap();
        let arguments = [path.as_ptr(), std::ptr::null()];
        // SAFETY: between fork and exec the child calls async-signal-safe functions only; the strings outlive both.
        let pid = unsafe {
            match libc::fork() {
                0 => {
                    libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                    libc::execv(path.as_ptr(), arguments.as_ptr());
                    libc::_exit(99)
                }
                pid => pid,
            }
        };
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: waits for our own child; the status is a local.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        if !libc::WIFSTOPPED(status) {
            println!("SKIP: ptrace is refused here");
            return None;
        }
        // SAFETY: the child is stopped by us; option bits are data, not a pointer.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL) };
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
        let end = stack.split(['-', ' ']).nth(1).unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        Some(Victim { pid, memory, stack_end: u64::from_str_radix(end, 16).unwrap() })
    }

    /// Runs one instruction; false when that ended it.
    fn step(&self) -> bool {
        let mut status = 0;
        // SAFETY: the child is stopped by us; the status is a local.
        unsafe {
            libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0);
            libc::waitpid(self.pid, &mut status, 0);
        }
        libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP
    }

    fn registers(&self) -> X86_64Registers {
        // SAFETY: all zeroes are a valid user_regs_struct; the child is stopped by us and the kernel fills it.
        let user = unsafe {
            let mut user: libc::user_regs_struct = std::mem::zeroed();
            libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &mut user);
            user
        };
        X86_64Registers {
            rax: user.rax,
            rbx: user.rbx,
            rcx: user.rcx,
            rdx: user.rdx,
            rsi: user.rsi,
            rdi: user.rdi,
            rbp: user.rbp,
            rsp: user.rsp,
            r8: user.r8,
            r9: user.r9,
            r10: user.r10,
            r11: user.r11,
            r12: user.r12,
            r13: user.r13,
            r14: user.r14,
            r15: user.r15,
            rip: user.rip,
            ..X86_64Registers::default()
        }
    }

    fn read(&self, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        let read = self.memory.read_at(&mut bytes, address).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    fn word(&self, address: u64) -> u64 {
        self.read(address, 8).try_into().map_or(0, u64::from_le_bytes)
    }

    fn end(&self) {
        let mut status = 0;
        // SAFETY: kills and reaps our own child.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, &mut status, 0);
        }
    }
}
