//! The macOS host: real Mach.
//!
//! Almost nothing here calls the kernel: what arrives is decoded, rights are owned and given back, and a task is read through
//! one trait whose answers are bytes. So all of it compiles and is tested on any system, over kernels that lie.

pub mod ports;
