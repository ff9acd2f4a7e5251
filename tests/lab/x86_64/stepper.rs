//! Runs a victim instruction by instruction under ptrace, and knows each thread's callers from its calls and returns alone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;

use aftermach_handler::host::linux::{LinuxTask, ptrace, wait};
use aftermach_handler::snapshot::{Death, Exception, Limits, Registers, Snapshot, X86_64Registers, capture};
use aftermach_protocol::exception::MachException;

use super::darwin::DarwinTask;
use super::signals::Signals;
use crate::images::ImageBytes;

/// Stack below the stack pointer that belongs to the frame (System V psABI 3.2.2).
const RED_ZONE: u64 = 128;

/// A thread's state between two instructions.
pub(crate) struct Moment<'a> {
    pub(crate) registers: &'a libc::user_regs_struct,
    /// Its return addresses, the outermost first.
    pub(crate) callers: &'a [u64],
    /// Where the stack bytes begin.
    pub(crate) start: u64,
    /// From below the red zone to the stack's end.
    pub(crate) bytes: Vec<u8>,
}

/// A victim that stands before its first instruction.
pub(crate) struct Stepper {
    child: Child,
    pid: i32,
    threads: HashMap<i32, Thread>,
    /// Where threads begin: nobody called what runs there.
    starts: Vec<u64>,
    text: Vec<(u64, Vec<u8>)>,
    /// Where a C++ victim goes to its landing pads.
    install: Option<Range<u64>>,
    signals: Option<Signals>,
}

#[derive(Default)]
struct Thread {
    /// It has come to where threads begin.
    begun: bool,
    callers: Vec<u64>,
    /// Where each of them stands on the stack.
    slots: Vec<u64>,
    /// How many callers there were when each signal came whose handler runs.
    interrupted: Vec<usize>,
    last: Last,
    stack_end: u64,
}

/// What the instruction does that is being executed.
#[derive(Default, Clone, Copy)]
enum Last {
    Call,
    Return,
    /// Moves the stack pointer to where a landing pad is to find it: whatever was called below is gone.
    Unwind,
    #[default]
    Other,
}

impl Stepper {
    /// Starts `main` under `loader`, up to where the loader jumps, and captures it there.
    pub(crate) fn start(loader: &Path, main: &Path, argument: &str) -> (Stepper, Snapshot) {
        let mut command = Command::new(loader);
        command.arg("--stop").arg(main).arg(argument).stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: one async-signal-safe system call between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap();
        let pid = child.id() as i32;
        // At exec, then at the loader's int3.
        assert_eq!(wait::block(pid).unwrap().1, wait::Status::Stopped(wait::Stop::Signal(libc::SIGTRAP)));
        ptrace::set_options(pid, libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL).unwrap();
        ptrace::resume(pid, 0).unwrap();
        assert_eq!(wait::block(pid).unwrap().1, wait::Status::Stopped(wait::Stop::Signal(libc::SIGTRAP)));

        let now = std::time::SystemTime::now();
        let death = Death {
            pid,
            thread: Some(pid as u64),
            exception: Exception::Mach(MachException::new(6, 2, 0)),
            signal: libc::SIGTRAP,
            time: now,
            gathering: std::time::Duration::ZERO,
        };
        let task = LinuxTask::new(pid, vec![pid], HashMap::new());
        let snapshot = capture(&DarwinTask(&task), death, &Limits::default());
        let mut starts = Vec::new();
        let mut text = Vec::new();
        let mut named: HashMap<String, Range<u64>> = HashMap::new();
        for image in &snapshot.images {
            let file = ImageBytes::read(&image.path);
            let first = file.functions.iter().filter(|(_, name)| name == "start_main" || name == "thread_entry");
            starts.extend(first.map(|(address, _)| address.wrapping_add(image.bias)));
            let ends = file.functions.iter().skip(1).map(|(address, _)| *address).chain([image.base + image.size]);
            for ((start, name), end) in file.functions.iter().zip(ends) {
                named.insert(name.clone(), start.wrapping_add(image.bias)..end.wrapping_add(image.bias));
            }
            text.push((image.base, file.text_segment().1));
        }
        assert_eq!(starts.len(), 2, "libsys has two starts; images {:?}", snapshot.images);
        let threads = HashMap::from([(pid, Thread::default())]);
        let signals = named.get("sigreturn").map(|back| Signals {
            pid,
            trampolines: ["sigtramp", "sigtramp_described", "sigtramp_exact"].map(|name| named[name].start).to_vec(),
            handler: data(&snapshot, "platform_handler"),
            // mov eax, 0x20000b8; mov r10, rcx; syscall
            back: back.start + 8,
            code: snapshot.images.iter().map(|image| (image.base, image.base + image.size)).collect(),
            done: HashSet::new(),
        });
        let install = named.remove("cxx_install");
        (Stepper { child, pid, threads, starts, text, install, signals }, snapshot)
    }

    /// Runs the victim to its end and tells `each` of every moment of every thread.
    pub(crate) fn run(mut self, mut each: impl FnMut(Moment<'_>)) {
        step(self.pid);
        loop {
            let (tid, status) = wait::block(-1).unwrap();
            match status {
                wait::Status::Gone(ending) if tid == self.pid => {
                    assert_eq!(ending, wait::Ending::Exited(0), "the tour ends well");
                    break;
                }
                wait::Status::Gone(_) => _ = self.threads.remove(&tid),
                wait::Status::Stopped(wait::Stop::Signal(libc::SIGTRAP)) => {
                    self.moment(tid, &mut each);
                    step(tid);
                }
                // A new thread stops first, or its parent for having made it.
                wait::Status::Stopped(wait::Stop::Signal(libc::SIGSTOP) | wait::Stop::NewTracee) => step(tid),
                other => panic!("thread {tid}: {other:?}"),
            }
        }
        let _ = self.child.wait();
    }

    fn moment(&mut self, tid: i32, each: &mut impl FnMut(Moment<'_>)) {
        let mut registers = registers(tid);
        let mut thread = self.threads.remove(&tid).unwrap_or_default();
        match thread.last {
            Last::Call => thread.push(word(self.pid, registers.rsp), registers.rsp),
            Last::Return => {
                thread.slots.pop();
                assert_eq!(thread.callers.pop(), Some(registers.rip), "a return goes where it was called from")
            }
            Last::Unwind => {
                let kept = thread.slots.partition_point(|slot| *slot > registers.rsp);
                thread.truncate(kept);
                // It is about to be pushed.
                thread.push(registers.rax, registers.rsp - 8);
            }
            Last::Other => {}
        }
        if !thread.begun && self.starts.contains(&registers.rip) {
            thread.begun = true;
            thread.stack_end = mapping_end(self.pid, registers.rsp);
        }
        while thread.begun {
            let start = (registers.rsp - RED_ZONE) & !7;
            let mut bytes = vec![0; (thread.stack_end - start) as usize];
            let length = ptrace::read_memory(self.pid, start, &mut bytes).unwrap();
            assert_eq!(length, bytes.len());
            each(Moment { registers: &registers, callers: &thread.callers, start, bytes });
            match self.signal(&mut thread, &registers) {
                Some(other) => registers = other,
                None => break,
            }
            set_registers(tid, &registers);
        }
        thread.last =
            match self.text.iter().find(|(base, text)| (*base..base + text.len() as u64).contains(&registers.rip)) {
                Some((base, text)) if thread.begun => {
                    let code = &text[(registers.rip - base) as usize..];
                    let unwinds = self.install.as_ref().is_some_and(|install| install.contains(&registers.rip));
                    // mov rsp, rdx
                    if unwinds && code.starts_with(&[0x48, 0x89, 0xd4]) { Last::Unwind } else { kind(code) }
                }
                _ => Last::Other,
            };
        self.threads.insert(tid, thread);
    }

    /// What the kernel makes of the registers, where a signal comes or a handler has ended.
    fn signal(&mut self, thread: &mut Thread, registers: &libc::user_regs_struct) -> Option<libc::user_regs_struct> {
        let signals = self.signals.as_mut()?;
        if let Some(back) = signals.go_back(registers) {
            let kept = thread.interrupted.pop().unwrap();
            thread.truncate(kept);
            return Some(back);
        }
        let trampoline = signals.interrupt(registers, thread.interrupted.len())?;
        thread.interrupted.push(thread.callers.len());
        // Called by nobody, the trampoline has the interrupted instruction for a caller.
        thread.push(registers.rip, registers.rsp);
        Some(trampoline)
    }
}

impl Thread {
    fn push(&mut self, caller: u64, slot: u64) {
        self.callers.push(caller);
        self.slots.push(slot);
    }

    fn truncate(&mut self, kept: usize) {
        self.callers.truncate(kept);
        self.slots.truncate(kept);
    }
}

/// The address of a variable of one of the images.
fn data(snapshot: &Snapshot, name: &str) -> u64 {
    let found = snapshot.images.iter().find_map(|image| {
        let address = ImageBytes::read(&image.path).variable(name)?;
        Some(address.wrapping_add(image.bias))
    });
    found.unwrap_or_else(|| panic!("nothing defines {name}"))
}

/// Calls and returns in the forms that compilers emit (Intel SDM 2): E8, FF /2; C3, C2, with prefixes before them.
fn kind(code: &[u8]) -> Last {
    let code = &code[code.iter().take_while(|byte| matches!(byte, 0x40..=0x4f | 0xf2 | 0xf3 | 0x66)).count()..];
    match code {
        [0xe8, ..] => Last::Call,
        [0xff, modrm, ..] if modrm >> 3 & 7 == 2 => Last::Call,
        [0xc3 | 0xc2, ..] => Last::Return,
        _ => Last::Other,
    }
}

/// The snapshot's form of a thread's registers.
pub(crate) fn converted(r: &libc::user_regs_struct) -> Registers {
    Registers::X86_64(Box::new(X86_64Registers {
        rax: r.rax,
        rbx: r.rbx,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rbp: r.rbp,
        rsp: r.rsp,
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        rip: r.rip,
        rflags: r.eflags,
        ..X86_64Registers::default()
    }))
}

fn step(tid: i32) {
    // SAFETY: no memory of ours is involved. A thread that is gone is told of by wait(2).
    unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, tid, 0, 0) };
}

fn registers(tid: i32) -> libc::user_regs_struct {
    // SAFETY: plain data, for which all zeroes is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills the structure that it is given.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, ptr::null_mut::<u8>(), &raw mut registers) };
    assert_eq!(result, 0);
    registers
}

fn set_registers(tid: i32, registers: &libc::user_regs_struct) {
    let registers = ptr::from_ref(registers).cast_mut();
    // SAFETY: the request reads the structure that it is given.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, ptr::null_mut::<u8>(), registers) };
    assert_eq!(result, 0);
}

pub(super) fn word(pid: i32, address: u64) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(ptrace::read_memory(pid, address, &mut bytes).unwrap(), 8);
    u64::from_le_bytes(bytes)
}

/// Where the mapping ends that holds `address`, or ends there.
fn mapping_end(pid: i32, address: u64) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let ranges = maps.lines().map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap())
    });
    ranges.into_iter().find(|(start, end)| *start < address && address <= *end).unwrap().1
}
