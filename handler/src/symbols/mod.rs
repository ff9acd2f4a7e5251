//! Names and source lines for addresses.
//!
//! A [`Symbolizer`] names the frames of a whole report at once: the addresses of each image are looked up together, in one
//! pass over its symbol table and one context of debug information, and only images that frames lie in are opened. It needs
//! the snapshot and files, nothing of the task.

mod cache;
mod debug_file;
mod demangle;
mod dwarf;
mod symbolizer;
mod table;
mod vdso;

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;

pub use cache::NameCache;
pub use symbolizer::{Limits, Names, Symbolizer};

/// Threads that work on names at the same time at most.
const MOST_THREADS: usize = 4;

/// How many threads are to work on names. The system takes some ten calls to say how many processors there are.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS))
}

/// One function at an address. A frame has several where the compiler inlined: the innermost first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symbol {
    /// The function's name, demangled.
    pub function: Option<String>,
    /// Bytes from the function's start to the address.
    pub offset: Option<u64>,
    /// Source file and line (from 1).
    pub source: Option<(String, u32)>,
    /// Inlined into the next one.
    pub inlined: bool,
}
