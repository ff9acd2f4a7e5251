//! Every limit on a walk, in one place.

use std::time::Duration;

/// How far a walk goes at most. [`Limits::default`] is what the service uses; tests use smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Frames that one trace keeps; recursion is folded before it counts.
    pub frames: usize,
    /// Frames that one walk steps over, folded ones included.
    pub steps: u64,
    /// Time that one walk may take.
    pub time: Duration,
    /// Time that all walks of one report may take together.
    pub total_time: Duration,
    /// Bytes of a function whose instructions are followed; 0 leaves them out of it altogether.
    pub function: u64,
    /// Words of stack that are searched for a return address where nothing else leads on.
    pub scan_words: u64,
    /// Steps in one walk that may go to another stack, or down: signal contexts, coroutines.
    pub stack_switches: u32,
    /// Frames in one repeating run at most; longer cycles are not recognised.
    pub fold_period: usize,
    /// Frames that a run must reach before it is folded.
    pub fold_after: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frames: 2048,
            // 8 MiB of stack hold at most this many frames of 16 bytes, twice over.
            steps: 1 << 20,
            time: Duration::from_secs(1),
            total_time: Duration::from_secs(10),
            // Interpreters' loops are larger, and have tables.
            function: 256 << 10,
            // What minidump-unwind and Breakpad search in a frame that is not the first (kRASearchWords * 4).
            scan_words: 160,
            stack_switches: 64,
            fold_period: 32,
            fold_after: 24,
        }
    }
}
