//! rustls. reqwest is built without a cryptography provider, so that ring is the only one in the tree; it panics when a client
//! is built before one is chosen.

/// Chooses ring for the process, unless another was chosen before.
pub(in crate::upload) fn prepare() {
    // Err: there is one already, which does as well.
    let _ = ::rustls::crypto::ring::default_provider().install_default();
}
