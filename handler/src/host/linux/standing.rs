//! How the service stands with the system that runs it: where macOS has an answer, Linux has none to give.

use crate::snapshot::OwnSharedCache;

/// While one lives, the service is busy. Who stops a service on Linux sends SIGTERM and waits: there is nobody to tell.
#[derive(Debug)]
pub struct Transaction(());

impl Transaction {
    /// Begins one.
    pub fn begin() -> Transaction {
        Transaction(())
    }
}

/// Only macOS has one.
pub(crate) fn own_shared_cache() -> Option<OwnSharedCache> {
    None
}

/// Lets this thread's work stand behind that of others. A report's work is over in milliseconds, and a nice value that was
/// given up can't be had back: it stays as it is.
pub(crate) fn work_in_background() {}
