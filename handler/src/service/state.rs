//! What a running handler writes down of itself, for `aftermach doctor`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aftermach_protocol::product::Product;
use serde::{Deserialize, Serialize};

use crate::host::HostState;
use crate::store::{HandlerFile, Store};
use crate::time::rfc3339;

/// The layout that this version writes. It grows only when a field changes its meaning or goes away.
pub const STATE_SCHEMA: u32 = 1;

/// A handler's state. Points in time are RFC 3339, UTC, with milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerState {
    /// [`STATE_SCHEMA`] of who wrote it.
    pub schema: u32,
    /// The handler's version.
    #[serde(default)]
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The group of the product that it serves.
    #[serde(default)]
    pub group: String,
    /// The product's name.
    #[serde(default)]
    pub name: String,
    /// Its channel; empty for stable.
    #[serde(default)]
    pub channel: String,
    /// When it started.
    pub started: String,
    /// When this was written.
    #[serde(default)]
    pub written: String,
    /// When it ended of itself: idle, or told to. A handler that is gone without was killed, or died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Crashes that it took since it started.
    #[serde(default)]
    pub crashes: u64,
    /// When the last of them happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_crash: Option<String>,
    /// Crashes of processes that are none of the product's: children of clients, mostly.
    #[serde(default)]
    pub strangers: u64,
    /// When the last of them happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_stranger: Option<String>,
    /// Reports that could not be made.
    #[serde(default)]
    pub failures: u64,
    /// Why not, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What the host tells of itself, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostState>,
}

impl HandlerState {
    /// The state in a file's bytes.
    ///
    /// # Errors
    /// Why it can't be read, for people.
    pub fn from_bytes(bytes: &[u8]) -> Result<HandlerState, String> {
        let state: HandlerState = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match state.schema {
            STATE_SCHEMA => Ok(state),
            other => Err(format!("it has schema {other}, and this version reads {STATE_SCHEMA}")),
        }
    }
}

/// Keeps the state of this process.
pub(super) struct Keeper {
    file: HandlerFile,
    state: Mutex<HandlerState>,
    /// Held from the moment that the state is copied until it is in its place, so that an older one never replaces a newer.
    writing: Mutex<()>,
}

impl Keeper {
    /// Starts to. `None`, with a word in the log, if the store does not take it: what it is for goes on without.
    pub(super) fn start(store: &Store, product: &Product) -> Option<Keeper> {
        let file = store.handler_file(product).inspect_err(warn).ok()?;
        let state = HandlerState {
            schema: STATE_SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            group: product.group().to_owned(),
            name: product.name().to_owned(),
            channel: product.channel().to_owned(),
            started: rfc3339(SystemTime::now()),
            ..HandlerState::default()
        };
        let keeper = Keeper { file, state: Mutex::new(state), writing: Mutex::new(()) };
        keeper.write();
        Some(keeper)
    }

    /// Changes it. Nothing is written.
    pub(super) fn change(&self, change: impl FnOnce(&mut HandlerState)) {
        change(&mut self.lock());
    }

    /// Writes it.
    pub(super) fn write(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock().clone();
        state.written = rfc3339(SystemTime::now());
        // Strings and numbers: none of it can fail to become JSON.
        let mut bytes = serde_json::to_vec_pretty(&state).unwrap_or_default();
        bytes.push(b'\n');
        let _ = self.file.write(&bytes).inspect_err(warn);
    }

    fn lock(&self) -> MutexGuard<'_, HandlerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn(error: &crate::store::StoreError) {
    tracing::warn!("the handler's state could not be kept: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_layout_or_none_is_refused_with_the_reason() {
        for (bytes, why) in [
            (&b"{}"[..], "missing field"),
            (br#"{"schema":2,"pid":1,"started":""}"#, "it has schema 2"),
            (b"\0", "expected value"),
        ] {
            let refused = HandlerState::from_bytes(bytes).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        // Keys of later versions are no reason.
        let later = br#"{"schema":1,"pid":7,"started":"x","later":[1]}"#;
        assert_eq!(HandlerState::from_bytes(later).unwrap().pid, 7);
    }
}
