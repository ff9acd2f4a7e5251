//! Reads what `tests/lab/recorder` has recorded; its `trace.rs` describes the form.

use std::io::Read;
use std::path::Path;

use aftermach_handler::snapshot::{Arm64Registers, Registers};

/// A recording that is being replayed.
pub(crate) struct Replay {
    bytes: Vec<u8>,
    at: usize,
    /// File names of the images, and where each lies.
    pub(crate) images: Vec<(String, u64)>,
    stacks: Vec<Stack>,
    threads: Vec<Thread>,
    running: usize,
    moments: u64,
}

struct Stack {
    start: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct Thread {
    pc: u64,
    registers: [u64; 32],
    callers: Vec<u64>,
}

/// A thread's state between two instructions.
pub(crate) struct Moment<'a> {
    pub(crate) pc: u64,
    /// x0 to x28, fp, lr, sp.
    pub(crate) registers: &'a [u64; 32],
    /// Its return addresses, the outermost first.
    pub(crate) callers: &'a [u64],
    /// Where the stack bytes begin.
    pub(crate) start: u64,
    /// From below the stack pointer to the stack's end.
    pub(crate) bytes: &'a [u8],
}

impl Moment<'_> {
    /// The snapshot's form of the registers.
    pub(crate) fn registers(&self) -> Registers {
        let [x @ .., fp, lr, sp] = *self.registers;
        Registers::Arm64(Box::new(Arm64Registers { x, fp, lr, sp, pc: self.pc, ..Arm64Registers::default() }))
    }
}

/// Stack below the stack pointer that belongs to the frame (Apple's arm64 ABI).
const RED_ZONE: u64 = 128;

impl Replay {
    pub(crate) fn read(path: &Path) -> Replay {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&*std::fs::read(path).unwrap()).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[..8], *b"AMLT\x01\0\0\0");
        let mut replay = Replay {
            bytes,
            at: 8,
            images: Vec::new(),
            stacks: Vec::new(),
            threads: Vec::new(),
            running: 0,
            moments: 0,
        };
        for _ in 0..replay.number(4) {
            let length = replay.number(2) as usize;
            let name = String::from_utf8(replay.take(length).to_vec()).unwrap();
            let base = replay.number(8);
            replay.images.push((name, base));
        }
        for _ in 0..replay.number(4) {
            let (start, end) = (replay.number(8), replay.number(8));
            replay.stacks.push(Stack { start, bytes: vec![0; (end - start) as usize] });
        }
        replay.threads.resize(replay.stacks.len(), Thread::default());
        replay.moments = replay.number(8);
        replay
    }

    /// The next moment, until there are no more.
    pub(crate) fn next(&mut self) -> Option<Moment<'_>> {
        self.moments = self.moments.checked_sub(1)?;
        let flags = self.number(1);
        if flags & 4 != 0 {
            self.running = self.number(1) as usize;
        }
        let mut thread = std::mem::take(&mut self.threads[self.running]);
        match flags & 3 {
            0 => {}
            1 => thread.callers.push(thread.pc + 4),
            2 => _ = thread.callers.pop().unwrap(),
            _ => {
                let gone = self.unsigned() as usize;
                thread.callers.truncate(thread.callers.len() - gone);
                for _ in 0..self.unsigned() {
                    thread.callers.push(self.number(8));
                }
            }
        }
        thread.pc = thread.pc.wrapping_add(4).wrapping_add(self.signed());
        let changed = self.unsigned();
        for index in (0..32).filter(|index| changed >> index & 1 == 1) {
            thread.registers[index] = thread.registers[index].wrapping_add(self.signed());
        }
        let sp = thread.registers[31];
        for _ in 0..self.unsigned() {
            let address = sp.wrapping_add(self.signed());
            let length = self.unsigned() as usize;
            let bytes = self.take(length).to_vec();
            let stack = self.stacks.iter_mut().find(|stack| stack.holds(address)).unwrap();
            let at = (address - stack.start) as usize;
            stack.bytes[at..at + length].copy_from_slice(&bytes);
        }
        self.threads[self.running] = thread;
        let (thread, stack) = (&self.threads[self.running], &self.stacks[self.running]);
        let start = (sp - RED_ZONE).max(stack.start);
        Some(Moment {
            pc: thread.pc,
            registers: &thread.registers,
            callers: &thread.callers,
            start,
            bytes: &stack.bytes[(start - stack.start) as usize..],
        })
    }

    fn take(&mut self, length: usize) -> &[u8] {
        self.at += length;
        &self.bytes[self.at - length..self.at]
    }

    fn number(&mut self, size: usize) -> u64 {
        self.take(size).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn unsigned(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.number(1);
            number |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn signed(&mut self) -> u64 {
        let number = self.unsigned();
        number >> 1 ^ (number & 1).wrapping_neg()
    }
}

impl Stack {
    fn holds(&self, address: u64) -> bool {
        address >= self.start && address - self.start < self.bytes.len() as u64
    }
}
