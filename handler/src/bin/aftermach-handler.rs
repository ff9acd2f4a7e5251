//! `aftermach-handler`: the service.
fn main() {}
