//! What the instruction at a pc was about to do. The system says which address failed, but on Linux neither whether it was
//! read or written nor, for general protection faults, which address it was: the instruction and the registers do.
//!
//! Only what is certain is said: an instruction that is not in the tables is [`Effect::Unknown`].

mod operand;
mod x86_64;

use aftermach_protocol::report::Access;

pub(super) use x86_64::decode as decode_x86_64;

/// What an instruction was about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Access memory in one place.
    Access {
        /// How; `None` if it both reads and writes.
        access: Option<Access>,
        /// Where, if the registers are known.
        address: Option<u64>,
        /// The alignment that it insists on, in bytes.
        alignment: Option<u64>,
    },
    /// Copy from one place to another (`movs`).
    Copy {
        /// Where from.
        from: Option<u64>,
        /// Where to.
        to: Option<u64>,
    },
    /// Go to the address in a register: a call or a jump.
    Jump {
        /// Where to, if the registers are known.
        target: Option<u64>,
    },
    /// Go to the address on top of the stack.
    Return,
    /// Divide an integer.
    Divide {
        /// By what.
        divisor: Divisor,
    },
    /// Nothing: it exists to be refused (`ud2`).
    Trap,
    /// What only the kernel may do.
    Privileged,
    /// Not decoded.
    Unknown,
}

/// What an instruction divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Divisor {
    /// This value.
    Value(u64),
    /// What is at `address`, `size` bytes of it.
    Memory {
        /// Where.
        address: u64,
        /// Bytes.
        size: usize,
    },
    /// The registers are not known.
    Unknown,
}
