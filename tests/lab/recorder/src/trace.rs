//! The recorded form, little-endian and compressed with zlib; `tests/lab/arm64/trace.rs` reads it.
//!
//!     "AMLT", u32 version 1
//!     u32 number of images, each: u16 length and bytes of its file name, u64 address of its first byte
//!     u32 number of threads, each: u64 first address of its stack, u64 address after its last byte
//!     u64 number of moments, each:
//!         u8: bits 0-1 what the instruction before was (0 other, 1 call, 2 return, 3 an exception or a signal), bit 2:
//!         another thread runs now
//!         u8 index of the thread, if another runs
//!         after an exception or a signal: unsigned number of callers that are gone, the innermost ones; unsigned number of
//!         new ones, u64 each
//!         signed: pc less the thread's last pc and 4
//!         unsigned: bits 0-28 x0-x28, 29 fp, 30 lr, 31 sp: which have changed since the thread's last moment
//!         signed, for each: by how much
//!         unsigned number of writes to stacks, each: signed address less sp, unsigned length, bytes
//!
//! Numbers are LEB128; signed ones are doubled, and complemented if negative. Registers start at 0, stacks with zeros.

/// A thread's registers: x0 to x28, fp, lr, sp.
pub(crate) type Registers = [u64; 32];

/// What has become of a thread's callers since the moment before.
#[derive(Default, Clone)]
pub(crate) enum Before {
    #[default]
    Other,
    Call,
    Return,
    /// So many are gone, and these are new.
    Jump(usize, Vec<u64>),
}

#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) images: Vec<(String, u64)>,
    pub(crate) stacks: Vec<(u64, u64)>,
    pub(crate) moments: u64,
    bytes: Vec<u8>,
    threads: Vec<(u64, Registers)>,
    running: usize,
}

impl Trace {
    pub(crate) fn add(
        &mut self,
        thread: usize,
        before: &Before,
        pc: u64,
        registers: Registers,
        writes: &[(u64, Vec<u8>)],
    ) {
        self.threads.resize(self.threads.len().max(thread + 1), (0, [0; 32]));
        let switched = self.moments == 0 || thread != self.running;
        self.running = thread;
        let kind = match before {
            Before::Other => 0,
            Before::Call => 1,
            Before::Return => 2,
            Before::Jump(..) => 3,
        };
        self.bytes.push(kind | u8::from(switched) << 2);
        if switched {
            self.bytes.push(thread as u8);
        }
        if let Before::Jump(gone, new) = before {
            self.unsigned(*gone as u64);
            self.unsigned(new.len() as u64);
            self.bytes.extend(new.iter().flat_map(|caller| caller.to_le_bytes()));
        }
        let (last_pc, last) = std::mem::replace(&mut self.threads[thread], (pc, registers));
        self.signed(pc.wrapping_sub(last_pc).wrapping_sub(4));
        let changed: Vec<usize> = (0..32).filter(|index| last[*index] != registers[*index]).collect();
        self.unsigned(changed.iter().map(|index| 1 << index).sum());
        for index in changed {
            self.signed(registers[index].wrapping_sub(last[index]));
        }
        self.unsigned(writes.len() as u64);
        for (address, bytes) in writes {
            self.signed(address.wrapping_sub(registers[31]));
            self.unsigned(bytes.len() as u64);
            self.bytes.extend(bytes);
        }
        self.moments += 1;
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = b"AMLT\x01\0\0\0".to_vec();
        out.extend((self.images.len() as u32).to_le_bytes());
        for (name, base) in &self.images {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(base.to_le_bytes());
        }
        out.extend((self.stacks.len() as u32).to_le_bytes());
        for (start, end) in &self.stacks {
            out.extend(start.to_le_bytes());
            out.extend(end.to_le_bytes());
        }
        out.extend(self.moments.to_le_bytes());
        out.extend(self.bytes);
        out
    }

    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn signed(&mut self, value: u64) {
        let value = value as i64;
        self.unsigned((value << 1 ^ value >> 63) as u64);
    }
}
