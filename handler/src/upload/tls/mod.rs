//! Which TLS library answers for an `https` connection: the system's own on macOS, rustls elsewhere.

#[cfg(target_os = "macos")]
mod native;
#[cfg(not(target_os = "macos"))]
mod rustls;

#[cfg(target_os = "macos")]
pub(super) use native::prepare;
#[cfg(not(target_os = "macos"))]
pub(super) use rustls::prepare;
