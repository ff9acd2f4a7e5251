//! Aftermach's handler: what happens to one crash, from the exception to the dashboard.
//!
//! The modules stand in the order in which a crash passes through them, and each knows only those before it:
//! [`host`] sees the task die and holds it, [`snapshot`] copies it out as one plain value, and from there on nobody knows
//! an operating system call: [`unwind`], [`symbols`], [`report`], [`minidump`], [`store`], [`upload`]. [`service`] joins them;
//! [`collector`] is the dashboard that comes along; [`time`] writes points in time as all of them do.

pub mod collector;
mod file_body;
pub mod host;
pub mod minidump;
pub mod report;
pub mod service;
pub mod snapshot;
pub mod store;
pub mod symbols;
pub mod time;
pub mod triage;
pub mod unwind;
pub mod upload;
