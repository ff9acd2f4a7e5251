//! What a walk over a stack finds.

/// One thread's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The thread's id.
    pub thread: u64,
    /// The frames, the innermost first.
    pub frames: Vec<Frame>,
    /// Runs of frames that repeat (recursion), left out of `frames` after their first and before their last occurrences.
    pub folds: Vec<Fold>,
    /// Why there are no more.
    pub stop: Stop,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The address of the instruction that was to run next in this frame: a pc or a return address, without pointer
    /// authentication.
    pub address: u64,
    /// `address` as it stood in the register or on the stack.
    pub raw: u64,
    /// Whether `address` is a return address: the call is the instruction before it.
    pub is_return_address: bool,
    /// The stack pointer in this frame.
    pub sp: u64,
    /// How it was found.
    pub trust: Trust,
    /// Index in `Snapshot::images`, if it lies in one.
    pub image: Option<usize>,
}

impl Frame {
    /// The address to look up in symbol and line tables: inside the call, for a return address.
    pub fn lookup_address(&self) -> u64 {
        if self.is_return_address { self.address.saturating_sub(1) } else { self.address }
    }
}

/// How a frame was found, from the surest to the least sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// The thread's own registers.
    Context,
    /// Registers that the kernel saved for a signal handler: the frame that the signal interrupted.
    SignalContext,
    /// The way of the stack pointer through the function's own instructions.
    Instructions,
    /// The caller of a call that went to a bad address: its return address is on top of the stack, or in lr.
    BadCall,
    /// DWARF call frame information or Mach-O compact unwind information.
    UnwindInfo,
    /// The chain of frame pointers.
    FramePointer,
    /// A word on the stack that looks like a return address: a guess.
    Scan,
}

/// Why a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The thread's first frame.
    Root,
    /// The thread's registers could not be read.
    NoRegisters,
    /// Nothing says how to go on from the last frame, which stands at this stack pointer.
    NoRule(u64),
    /// The stack could not be read at this address.
    StackUnreadable(u64),
    /// The next frame would not be further up the stack: a loop.
    NoProgress,
    /// The next return address lies in no executable memory.
    BadReturnAddress(u64),
    /// As many frames as a trace may have.
    FrameLimit,
    /// As much time as a trace may take.
    TimeLimit,
}

/// A run of frames that repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Index in `Trace::frames` of the first frame of the run's first occurrence.
    pub first: usize,
    /// Frames in one occurrence.
    pub length: usize,
    /// Occurrences left out of `Trace::frames` after the one at `first`.
    pub omitted: u64,
}
