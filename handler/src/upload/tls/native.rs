//! Secure Transport, through native-tls: the keychain's roots apply.

/// Nothing to choose: there is one.
pub(in crate::upload) fn prepare() {}
