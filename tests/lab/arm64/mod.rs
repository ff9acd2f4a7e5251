//! The victims for arm64, from recordings: every moment of every thread, with no need of an arm64 processor.

mod torture;
mod trace;
