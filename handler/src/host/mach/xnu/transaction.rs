//! Telling launchd that the process is busy.

use super::ffi;

/// While one lives, launchd neither takes the process for idle nor ends it without SIGTERM first (`EnableTransactions`).
/// Harmless in a job that has none.
#[derive(Debug)]
pub struct Transaction(());

impl Transaction {
    /// Opens a transaction.
    pub fn begin() -> Transaction {
        // SAFETY: counts up; every begin here has its end in `drop`.
        unsafe { ffi::xpc_transaction_begin() };
        Transaction(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // SAFETY: counts down what `begin` counted up.
        unsafe { ffi::xpc_transaction_end() };
    }
}
