//! A thread's registers, of either CPU.

use bytes::Bytes;

/// Registers of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registers {
    /// x86-64.
    X86_64(Box<X86_64Registers>),
    /// AArch64.
    Arm64(Box<Arm64Registers>),
}

/// x86-64 registers. Segment bases are kept: they lead to thread-local data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each field is the register of its name")]
pub struct X86_64Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u16,
    pub ss: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub fs_base: u64,
    pub gs_base: u64,
    /// The legacy 512-byte `FXSAVE` area, if the system gave that alone; see [`X86_64Registers::legacy`].
    pub fxsave: Option<Box<[u8; 512]>>,
    /// The whole `XSAVE` area in the standard form, if the system gave more than the legacy part. It may lie in one piece of
    /// memory with those of other threads.
    pub xsave: Option<Bytes>,
    /// Trap number, error code and fault address, where the system gives them (macOS exception state).
    pub fault: Option<(u16, u32, u64)>,
}

impl X86_64Registers {
    /// The legacy 512-byte `FXSAVE` area: x87, MXCSR, XMM0-15 (Intel SDM 1, 10.5.1). The `XSAVE` area begins with it.
    pub fn legacy(&self) -> Option<&[u8; 512]> {
        self.fxsave.as_deref().or_else(|| self.xsave.as_ref()?.first_chunk())
    }
}

/// AArch64 registers. `lr` and saved return addresses may bear pointer authentication; see `System::pointer_mask`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each field is the register of its name")]
pub struct Arm64Registers {
    /// x0 to x28.
    pub x: [u64; 29],
    pub fp: u64,
    pub lr: u64,
    pub sp: u64,
    pub pc: u64,
    pub cpsr: u32,
    /// v0 to v31, fpsr, fpcr.
    pub float: Option<Box<([u128; 32], u32, u32)>>,
    /// Fault address (far) and syndrome (esr), where the system gives them.
    pub fault: Option<(u64, u32)>,
}

impl Registers {
    /// Program counter.
    pub fn pc(&self) -> u64 {
        match self {
            Registers::X86_64(registers) => registers.rip,
            Registers::Arm64(registers) => registers.pc,
        }
    }

    /// Stack pointer.
    pub fn sp(&self) -> u64 {
        match self {
            Registers::X86_64(registers) => registers.rsp,
            Registers::Arm64(registers) => registers.sp,
        }
    }

    /// Bytes below the stack pointer that a leaf function may use (System V psABI 3.2.2; Apple's arm64 ABI: 128).
    pub const RED_ZONE: u64 = 128;

    /// The general registers by name, for people and for memory that they point to.
    pub fn general(&self) -> Vec<(&'static str, u64)> {
        match self {
            Registers::X86_64(r) => vec![
                ("rax", r.rax),
                ("rbx", r.rbx),
                ("rcx", r.rcx),
                ("rdx", r.rdx),
                ("rsi", r.rsi),
                ("rdi", r.rdi),
                ("rbp", r.rbp),
                ("rsp", r.rsp),
                ("r8", r.r8),
                ("r9", r.r9),
                ("r10", r.r10),
                ("r11", r.r11),
                ("r12", r.r12),
                ("r13", r.r13),
                ("r14", r.r14),
                ("r15", r.r15),
                ("rip", r.rip),
                ("rflags", r.rflags),
            ],
            Registers::Arm64(r) => {
                let x = ARM64_NAMES.iter().copied().zip(r.x);
                x.chain([("fp", r.fp), ("lr", r.lr), ("sp", r.sp), ("pc", r.pc), ("cpsr", r.cpsr.into())]).collect()
            }
        }
    }
}

const ARM64_NAMES: [&str; 29] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
];
