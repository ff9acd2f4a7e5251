//! `report.json`: what is known of one crash, for programs. `docs/report-schema.md` explains it field by field.
//!
//! The rules: fields are only ever added, never renamed or given another meaning, within one [`SCHEMA`]; what is not known is
//! absent, never null; what may use all 64 bits is a hex string ([`Hex`]); keys and values that this version does not know are
//! kept when a report is read, changed and written again.

mod exception;
mod image;
mod process;
mod thread;
mod upload;
mod values;

use std::io;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use exception::{Access, Code, Exception, ExceptionKind, FirstChance, Sender, Signal};
pub use image::{FileState, Image, ImageKind, SharedCache, SymbolStatus};
pub use process::{Process, Product, System};
pub use thread::{Fold, Frame, Stop, StopReason, Thread, Trust};
pub use upload::{Upload, UploadState};
pub use values::{Hex, Ordered};

/// The schema that this version writes. It grows only when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// One report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The schema it was written in.
    pub schema: u32,
    /// UUID, version 4, lower case with hyphens: the report's name everywhere.
    pub report_id: String,
    /// Who wrote it.
    #[serde(default)]
    pub producer: Producer,
    /// Whose program died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Product>,
    /// When it happened and what it cost.
    #[serde(default)]
    pub times: Times,
    /// What crashes of one cause have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What ended the process.
    #[serde(default)]
    pub exception: Exception,
    /// The hardware exception that led to the death, where it is another one: the fault in whose handler it aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_chance: Option<FirstChance>,
    /// The process.
    #[serde(default)]
    pub process: Process,
    /// The machine and system it ran on.
    #[serde(default)]
    pub system: System,
    /// Every thread, in the system's order.
    #[serde(default)]
    pub threads: Vec<Thread>,
    /// Every image, the main executable first. Frames point here by index.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Where the system's own libraries lay (macOS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_cache: Option<SharedCache>,
    /// What the program said of itself.
    #[serde(default)]
    pub annotations: Ordered<String>,
    /// What it did last, oldest first.
    #[serde(default)]
    pub breadcrumbs: Vec<Breadcrumb>,
    /// What libraries left for the crash reporter ("abort() called", a panic's message).
    #[serde(default)]
    pub messages: Vec<Message>,
    /// What could not be read, limits that bit, and everything else that is odd.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The files beside this one.
    #[serde(default)]
    pub files: Vec<File>,
    /// Where it was sent, and what came of it.
    #[serde(default)]
    pub upload: Vec<Upload>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Who wrote a report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Producer {
    /// The program.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// When a crash happened and what its report cost. Points in time are RFC 3339, UTC, with milliseconds; durations are in
/// microseconds, as `_us` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Times {
    /// The death became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
    /// Every thread was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gathered: Option<String>,
    /// Everything was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<String>,
    /// The task was let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// The report was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// From `died` until every thread was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gathering_us: Option<u64>,
    /// From then until everything was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copying_us: Option<u64>,
    /// From `died` until the task was let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_us: Option<u64>,
    /// Unwinding every thread and finding names and lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwinding_us: Option<u64>,
    /// Writing the minidump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing_us: Option<u64>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What crashes of one cause have in common. Only signatures of one `version` may be compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Signature {
    /// The version of the algorithm and of its lists.
    pub version: u32,
    /// The signature.
    pub text: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Something a program did before it died.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Breadcrumb {
    /// Microseconds since the client was installed.
    pub time_us: u64,
    /// What it did.
    pub text: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a library left for the crash reporter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Path of the image that left it.
    pub image: String,
    /// What it says.
    pub text: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Something odd: a part that could not be read, a limit that bit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Note {
    /// What it is about: "threads", "images", "memory", "unwind", …
    pub part: String,
    /// What is missing or odd and why, for people.
    pub text: String,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A file of the report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct File {
    /// Its name in the report's folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why bytes are no report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// Not JSON, or not a report: what the parser says.
    Damaged(String),
    /// A schema newer than [`SCHEMA`]: a later version wrote it, and this one must leave it as it is.
    Newer(u32),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Damaged(why) => write!(f, "the report is damaged: {why}"),
            ReadError::Newer(schema) => {
                write!(f, "the report has schema {schema}, and this version reads up to {SCHEMA}: use a later version")
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// The schema of a `report.json`, which can be read from any version's. What follows it is not looked at: it stands first in
/// all that we write, and the rest may be many megabytes.
pub fn schema_of(bytes: &[u8]) -> Result<u32, ReadError> {
    let mut found = None;
    let result = serde_json::Deserializer::from_slice(bytes).deserialize_map(SchemaOnly(&mut found));
    let why = || result.err().map_or_else(|| "it has no schema".to_owned(), |error| error.to_string());
    found.ok_or_else(|| ReadError::Damaged(why()))
}

/// Puts the value of "schema" aside, and ends the reading there by an error.
struct SchemaOnly<'a>(&'a mut Option<u32>);

impl<'de> Visitor<'de> for SchemaOnly<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "schema" {
                *self.0 = Some(map.next_value()?);
                return Err(A::Error::custom("found"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Checks that `bytes` are JSON of a schema that this version reads, and reads them as `T`: a [`Report`], or a type with
/// some of its fields.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ReadError> {
    match schema_of(bytes)? {
        0 => Err(ReadError::Damaged("there is no schema 0".to_owned())),
        SCHEMA => serde_json::from_slice(bytes).map_err(|error| ReadError::Damaged(error.to_string())),
        newer => Err(ReadError::Newer(newer)),
    }
}

impl Report {
    /// The report in the bytes of a `report.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Report, ReadError> {
        read(bytes)
    }

    /// The bytes of its `report.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Strings, numbers, lists and maps with string keys: none of it can fail to become JSON, and memory takes all.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    /// The same bytes, piece by piece: those of a program with many threads are some megabytes. Many pieces are small.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests;
