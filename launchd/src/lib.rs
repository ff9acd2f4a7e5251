//! launchd
