//! The process that died, whose it was and what it ran on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Hex;

/// Whose program died.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Product {
    /// The app group or reverse domain.
    #[serde(default)]
    pub group: String,
    /// The product.
    #[serde(default)]
    pub name: String,
    /// The release channel; absent for stable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub channel: String,
    /// The product's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The process. Text that is not UTF-8 has U+FFFD in its place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    #[serde(default)]
    pub pid: i32,
    /// Its parent's id at the time of death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<i32>,
    /// Its short name.
    #[serde(default)]
    pub name: String,
    /// The executable's path.
    #[serde(default)]
    pub path: String,
    /// Its arguments, the program's name first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// When it started: RFC 3339, UTC, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How long it lived, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_us: Option<u64>,
    /// Real user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Effective user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_uid: Option<u32>,
    /// Nice value, -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// macOS task role: "foreground application", "daemon", …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Processor time in user mode, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_user_us: Option<u64>,
    /// Processor time in kernel mode, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_system_us: Option<u64>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The machine and the system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct System {
    /// "linux" or "macos".
    #[serde(default)]
    pub os: String,
    /// "Debian GNU/Linux 12 (bookworm)", "macOS".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Version of the kernel (Linux) or of the system (macOS).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its build.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// "x86_64" or "arm64".
    #[serde(default)]
    pub cpu: String,
    /// The processor as it names itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu_model: String,
    /// Processors online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<u32>,
    /// Machine model: "Mac16,13".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Bytes in a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u64>,
    /// Bits of a pointer that are address, where pointers are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer_mask: Option<Hex>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
