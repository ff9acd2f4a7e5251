//! Who runs this.

/// The effective user's id.
pub fn user_id() -> u32 {
    // SAFETY: geteuid can't fail and touches no memory (geteuid(2)).
    unsafe { libc::geteuid() }
}
