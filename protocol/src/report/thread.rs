//! Threads and their frames.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Hex, Ordered};

/// A thread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Thread {
    /// Its place in `threads`, from 0.
    pub index: usize,
    /// The system's id: tid on Linux, the 64-bit thread id on macOS.
    pub id: u64,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// It died of the exception.
    #[serde(default, skip_serializing_if = "is_false")]
    pub crashed: bool,
    /// The label of the dispatch queue that it served (macOS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Nice value (Linux) or base priority (macOS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Its registers by name, without floating point and vectors (those are in the minidump).
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub registers: Ordered<Hex>,
    /// Its frames, the innermost first.
    #[serde(default)]
    pub frames: Vec<Frame>,
    /// Frames left out because they repeat (recursion).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Fold>,
    /// Why there are no more frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A frame. Where the compiler inlined functions, each has its own frame with the same address and `inlined` true,
/// before the frame of the function that they were inlined into.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Frame {
    /// The instruction that was to run next in this frame, without pointer authentication: in the first frame the pc, in
    /// others a return address, which is the instruction after the call.
    pub address: Hex,
    /// As it stood in the register or on the stack, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Hex>,
    /// Index in `images`; absent where `address` lies in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<usize>,
    /// `address` less the image's base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Hex>,
    /// The function, demangled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// `address` less the function's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_offset: Option<Hex>,
    /// The source file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The function was inlined into the next frame's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inlined: bool,
    /// How the frame was found.
    #[serde(default)]
    pub trust: Trust,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a frame was found, from the surest to the least sure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The thread's own registers.
    Context,
    /// Registers that the kernel saved for a signal handler.
    SignalContext,
    /// The function's own instructions.
    Instructions,
    /// The caller of a call that went to a bad address.
    BadCall,
    /// Unwind information.
    UnwindInfo,
    /// The chain of frame pointers.
    FramePointer,
    /// A word on the stack that looks like a return address: a guess.
    Scan,
    /// Not said.
    #[default]
    Unknown,
    /// A way that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// A run of frames that repeats and was left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fold {
    /// Index in `frames` of the first frame of the run.
    pub first: usize,
    /// Frames in one run, as they stand in `frames`.
    pub length: usize,
    /// Runs left out after the one at `first`.
    pub omitted: u64,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why a thread has no more frames.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stop {
    /// The reason.
    pub reason: StopReason,
    /// The address that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Hex>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why a thread has no more frames.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The thread's first frame: the stack is whole.
    Root,
    /// The registers could not be read.
    NoRegisters,
    /// Nothing says how to go on from the last frame, whose stack pointer is `address`.
    NoRule,
    /// The stack could not be read at `address`.
    StackUnreadable,
    /// The next frame would not be further up the stack.
    NoProgress,
    /// The next return address, `address`, lies in no executable memory.
    BadReturnAddress,
    /// As many frames as a thread, or the report, may have.
    FrameLimit,
    /// As much time as a walk may take.
    TimeLimit,
    /// Not said.
    #[default]
    Unknown,
    /// A reason that this version does not know.
    #[serde(untagged)]
    Other(String),
}

fn is_false(value: &bool) -> bool {
    !value
}
