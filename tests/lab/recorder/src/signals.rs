//! Darwin's way into a signal handler and back.

use std::collections::HashSet;

/// Stack that belongs to the interrupted frame (Apple's arm64 ABI), which the kernel skips.
const RED_ZONE: u64 = 128;
/// `_STRUCT_MCONTEXT64`, `struct ucontext64`, `siginfo_t`.
const MACHINE: u64 = 816;
const CONTEXT: u64 = 56;
const INFORMATION: u64 = 104;
/// SIGUSR1 of Darwin's.
const SIGNAL: u64 = 30;
/// Signals within signals.
const DEPTH: usize = 2;

/// Where a signal victim's parts are.
pub(crate) struct Signals {
    /// Its trampolines, taken in turn.
    pub(crate) trampolines: Vec<u64>,
    /// Where it keeps its handler's address.
    pub(crate) handler: u64,
    /// What is interrupted: (address, end).
    pub(crate) code: Vec<(u64, u64)>,
    /// Each address once in each depth.
    done: HashSet<(u64, usize)>,
    /// How many callers there were when each signal came whose handler runs.
    pub(crate) interrupted: Vec<usize>,
}

/// How a handler's trampoline starts.
pub(crate) struct Start {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    /// x0 to x5.
    pub(crate) arguments: [u64; 6],
    /// What the kernel writes to the stack, and where.
    pub(crate) frame: (u64, Vec<u8>),
}

impl Signals {
    pub(crate) fn new(trampolines: Vec<u64>, handler: u64, code: Vec<(u64, u64)>) -> Signals {
        Signals { trampolines, handler, code, done: HashSet::new(), interrupted: Vec::new() }
    }

    /// Whether a signal comes before the instruction at `pc`. `handler` is what the victim calls for signals; 0 for nothing yet.
    pub(crate) fn comes(&mut self, pc: u64, handler: u64) -> bool {
        let inside = self.code.iter().any(|(start, end)| (*start..*end).contains(&pc));
        let depth = self.interrupted.len();
        inside && depth < DEPTH && handler != 0 && self.done.insert((pc, depth))
    }

    /// The start of the trampoline for a thread at `pc` with `registers` (x0 to x28, fp, lr, sp).
    pub(crate) fn start(&self, pc: u64, registers: &[u64; 32], handler: u64) -> Start {
        let machine = (registers[31] - RED_ZONE - MACHINE) & !15;
        let context = machine - CONTEXT;
        let information = context - INFORMATION;
        let mut bytes = vec![0; (machine + MACHINE - information) as usize];
        let mut put = |at: u64, value: u64| {
            let at = (at - information) as usize;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(information, SIGNAL);
        put(context + 40, MACHINE);
        put(context + 48, machine);
        for (index, value) in registers.iter().chain([&pc]).enumerate() {
            put(machine + 16 + index as u64 * 8, *value);
        }
        Start {
            pc: self.trampolines[self.done.len() % self.trampolines.len()],
            sp: information & !15,
            arguments: [handler, 1, SIGNAL, information, context, 0x7070],
            frame: (information, bytes),
        }
    }
}
