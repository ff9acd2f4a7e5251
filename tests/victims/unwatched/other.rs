//! There is no tracer on this system.

pub(crate) fn main() {}
