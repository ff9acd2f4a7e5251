//! Darwin's way into a signal handler and back, done for a victim that is run instruction by instruction.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use libc::user_regs_struct;

use super::stepper::word;

/// Stack that belongs to the interrupted frame (System V psABI 3.2.2), which the kernel skips (`C_64_REDZONE_LEN`).
const RED_ZONE: u64 = 128;
/// `_STRUCT_MCONTEXT64`, `struct ucontext64`, `siginfo_t`.
const MACHINE: u64 = 712;
const CONTEXT: u64 = 56;
const INFORMATION: u64 = 104;
/// SIGUSR1 of Darwin's.
const SIGNAL: u64 = 30;
/// Signals within signals.
const DEPTH: usize = 2;

/// Where a signal victim's parts are.
pub(crate) struct Signals {
    pub(crate) pid: i32,
    /// Its trampolines, taken in turn.
    pub(crate) trampolines: Vec<u64>,
    /// Where it keeps its handler's address.
    pub(crate) handler: u64,
    /// The instruction that asks the kernel to go back.
    pub(crate) back: u64,
    /// What is interrupted: (address, end).
    pub(crate) code: Vec<(u64, u64)>,
    /// Each address once in each depth.
    pub(crate) done: HashSet<(u64, usize)>,
}

impl Signals {
    /// The registers with which the handler's trampoline starts, if a signal comes before the instruction at `registers`.
    pub(crate) fn interrupt(&mut self, registers: &user_regs_struct, depth: usize) -> Option<user_regs_struct> {
        let inside = self.code.iter().any(|(start, end)| (*start..*end).contains(&registers.rip));
        let handler = word(self.pid, self.handler);
        if !inside || depth >= DEPTH || handler == 0 || !self.done.insert((registers.rip, depth)) {
            return None;
        }
        let machine = (registers.rsp - RED_ZONE - MACHINE) & !15;
        let context = machine - CONTEXT;
        let information = context - INFORMATION;
        // Room for the return address that a function expects, which the kernel leaves as it is.
        let sp = (information & !15) - 8;

        let mut bytes = vec![0; (machine + MACHINE - information) as usize];
        let mut put = |at: u64, value: u64| {
            let at = (at - information) as usize;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(information, SIGNAL);
        put(context + 40, MACHINE - 4);
        put(context + 48, machine);
        for (index, value) in saved(registers).into_iter().enumerate() {
            put(machine + 16 + index as u64 * 8, value);
        }
        let memory = File::options().write(true).open(format!("/proc/{}/mem", self.pid)).unwrap();
        memory.write_all_at(&bytes, information).unwrap();
        Some(user_regs_struct {
            rip: self.trampolines[self.done.len() % self.trampolines.len()],
            rsp: sp,
            rdi: handler,
            rsi: 1,
            rdx: SIGNAL,
            rcx: information,
            r8: context,
            r9: 0x7070,
            orig_rax: u64::MAX,
            ..*registers
        })
    }

    /// The registers that a handler's trampoline goes back to.
    pub(crate) fn go_back(&self, registers: &user_regs_struct) -> Option<user_regs_struct> {
        if registers.rip != self.back {
            return None;
        }
        let machine = word(self.pid, registers.rdi + 48) + 16;
        let at = |index: u64| word(self.pid, machine + index * 8);
        Some(user_regs_struct {
            rax: at(0),
            rbx: at(1),
            rcx: at(2),
            rdx: at(3),
            rdi: at(4),
            rsi: at(5),
            rbp: at(6),
            rsp: at(7),
            r8: at(8),
            r9: at(9),
            r10: at(10),
            r11: at(11),
            r12: at(12),
            r13: at(13),
            r14: at(14),
            r15: at(15),
            rip: at(16),
            eflags: at(17),
            orig_rax: u64::MAX,
            ..*registers
        })
    }
}

/// `x86_thread_state64` (<mach/i386/_structs.h>), up to rflags.
fn saved(r: &user_regs_struct) -> [u64; 18] {
    [
        r.rax, r.rbx, r.rcx, r.rdx, r.rdi, r.rsi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
        r.rip, r.eflags,
    ]
}
