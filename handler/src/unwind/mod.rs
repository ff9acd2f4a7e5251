//! Every thread's frames, each with how it was found, and why the walk stopped.

mod frame;

pub use frame::{Fold, Frame, Stop, Trace, Trust};
