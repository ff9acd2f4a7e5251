//! What ended a process.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Hex;

/// What ended a process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Exception {
    /// What happened, in one sentence for people.
    #[serde(default)]
    pub summary: String,
    /// What happened, for programs.
    #[serde(default)]
    pub kind: ExceptionKind,
    /// What the system calls it: "SIGSEGV" on Linux, "EXC_BAD_ACCESS" on macOS.
    #[serde(default, rename = "type")]
    pub name: String,
    /// The signal that the parent sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// What the system says more exactly: "SEGV_MAPERR", "KERN_INVALID_ADDRESS".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// A Mach exception's two codes, raw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Hex>,
    /// The address whose access failed. Absent where the processor does not say, and for what is no access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Hex>,
    /// The address that the instruction was about to access, worked out from the instruction and the registers: given where
    /// the processor does not say it, as with a non-canonical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_address: Option<Hex>,
    /// How that was accessed, where it is known for sure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Who sent the signal, if a process did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// Index in `threads` of the thread that died of it; of a simulated one, the thread that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<usize>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What happened, in a word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionKind {
    /// An access to the first page of memory: a null pointer, or a field behind one.
    NullPointer,
    /// A jump or call to memory that is not code.
    BadCall,
    /// An access to memory that is not mapped, or not for that.
    BadAccess,
    /// An address that no process can have (x86-64: bits 47 to 63 differ).
    NonCanonicalAddress,
    /// The stack is used up.
    StackOverflow,
    /// An access past the end of a mapped file, or misaligned, or to broken memory.
    BusError,
    /// An instruction that the processor refuses.
    IllegalInstruction,
    /// A breakpoint or trap instruction.
    Breakpoint,
    /// An integer division by zero, or whose result does not fit.
    Arithmetic,
    /// The program gave up by itself.
    Abort,
    /// A Rust panic that ended it.
    Panic,
    /// A system call that is forbidden.
    BadSystemCall,
    /// A signal that a process sent.
    Killed,
    /// A resource limit of the system.
    ResourceLimit,
    /// Nothing: the program asked for this report and went on.
    Simulated,
    /// Anything else; `type` and `code` say more.
    #[default]
    Unknown,
    /// A kind that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// How an address was accessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// It was read.
    Read,
    /// It was written.
    Write,
    /// It was to be executed.
    Execute,
    /// An access that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Signal {
    /// "SIGSEGV"
    pub name: String,
    /// Its number on the system that it happened on.
    pub number: i32,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A code that says more of a signal or exception.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Code {
    /// "SEGV_MAPERR", if it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its value.
    pub value: i64,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who sent a signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sender {
    /// Process id.
    pub pid: i32,
    /// Real user id.
    pub uid: u32,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A hardware exception that a signal handler was dealing with when the process died.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FirstChance {
    /// What it was. Its summary is part of a sentence: "wrote to 0x10, which is not mapped". It has no sender and no thread. Keys
    /// that this version does not know are among its own.
    #[serde(flatten)]
    pub exception: Exception,
    /// The instruction that met it.
    #[serde(default)]
    pub pc: Hex,
    /// The stack pointer at that moment.
    #[serde(default)]
    pub sp: Hex,
    /// When: RFC 3339, UTC, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Index, in the crashed thread's `frames`, of the frame that met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
}
