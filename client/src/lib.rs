//! What gets linked into the program that may crash.
//!
//! [`install`] tells the system to send this process's crashes to the Aftermach service, outside the process; nothing of the
//! client runs at the moment of a crash. Until then the program may say things of itself that the report will show:
//! [`set`] a key to a value, leave a [`breadcrumb`]. They live in a record of fixed size that the service reads from the
//! dead process's memory.
//!
//! No thread, no signal handler, no heap: after [`install`] nothing is allocated, and [`set`], [`remove`], [`breadcrumb`] and
//! [`detach_for_child`] may be called from a signal handler and, after a fork, in the child.
//!
//! ```no_run
//! use aftermach_client::{Options, ProductRef};
//!
//! let product = ProductRef::new("TEAMID.com.example", "Tunnel", "")?;
//! if let Err(reason) = aftermach_client::install(&product, &Options::new().version("1.4.2")) {
//!     eprintln!("crashes will not be reported: {reason}");
//! }
//! let _ = aftermach_client::set("state", "connecting");
//! aftermach_client::breadcrumb("dialled the server");
//! # Ok::<(), aftermach_client::ProductError>(())
//! ```
//!
//! From C, Objective-C and Swift: `include/aftermach.h` and its module map.
// The standard library would bring formatting and allocation with it. (It is linked all the same where the program is Rust.)
#![no_std]
#![cfg_attr(aftermach_model, allow(dead_code, unreachable_pub, reason = "the model takes the place of some of this"))]

#[cfg(any(test, aftermach_model))]
extern crate std;

mod annotations;
mod breadcrumbs;
pub mod c_api;
#[doc(hidden)]
pub mod codes;
mod error;
mod install;
#[cfg(all(not(target_os = "macos"), not(aftermach_model)))]
mod linux;
#[cfg(all(target_os = "macos", not(aftermach_model)))]
mod macos;
#[cfg(aftermach_model)]
#[allow(clippy::panic, reason = "of a model, what goes wrong in it is a test's business")]
pub mod model;
mod options;
mod record;
mod sync;

#[cfg(all(not(target_os = "macos"), not(aftermach_model)))]
use linux::Linux as Host;
#[cfg(all(target_os = "macos", not(aftermach_model)))]
use macos::MacOs as Host;
#[cfg(aftermach_model)]
use model::Model as Host;

pub use aftermach_protocol::product::{ProductError, ProductRef};
pub use annotations::{Scoped, remove, scoped, set};
pub use breadcrumbs::breadcrumb;
pub use error::{Dropped, Error};
pub use install::{Installed, detach_for_child, dump_without_crashing, install, rearm, uninstall};
pub use options::{Identity, Options, Port};
pub use record::header_bytes;
