//! Where a report was sent.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One destination, with its latest attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Upload {
    /// The kind of server: "breakpad", "sentry", …
    pub profile: String,
    /// Where, without keys and other secrets.
    pub url: String,
    /// What came of it.
    pub state: UploadState,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// When it was last tried: RFC 3339, UTC, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// When it is tried again; with `retry` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// The server's answer: HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The id that the server gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Why it was not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What came of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Not tried yet.
    #[default]
    Pending,
    /// The server has it.
    Accepted,
    /// The server does not want it: it is not sent again.
    Rejected,
    /// It failed, and is tried again.
    Retry,
    /// A state that this version does not know.
    #[serde(untagged)]
    Other(String),
}
