//! The victims for x86-64, run by the processor itself.

mod crashes;
mod darwin;
mod signals;
mod stepper;
#[path = "../../support/mod.rs"]
mod support;
mod torture;
