//! `aftermach`: the tool.
fn main() {}
