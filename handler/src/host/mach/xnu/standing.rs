//! How the service stands with the system that runs it: busy or idle for launchd, urgent or not for the scheduler.

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

/// Lets this thread's work stand behind that of others: the victim is gone, and its user waits for nothing here.
pub(crate) fn work_in_background() {
    // SAFETY: plain numbers. Where the class is refused the thread stays what it was.
    unsafe { libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_UTILITY, 0) };
}
