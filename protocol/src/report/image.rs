//! Images: the executable, libraries, the loader, the vDSO.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Hex;

/// An image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Image {
    /// Its path as the loader knows it; `[vdso]` for the vDSO.
    pub path: String,
    /// Where its first byte is mapped.
    pub base: Hex,
    /// Bytes from `base` to the end of its last segment (shared-cache images: of `__TEXT`).
    pub size: Hex,
    /// ELF build id or Mach-O UUID: hexadecimal digits, lower case, no hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it is.
    #[serde(default)]
    pub kind: ImageKind,
    /// Its own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is known of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileState>,
    /// What names could be found. Absent where no frame asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<SymbolStatus>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// dyld's shared cache. With its UUID, what is in none of the libraries' own files can be found in another copy of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SharedCache {
    /// Its UUID: hexadecimal digits, lower case, no hyphens.
    pub uuid: String,
    /// Where it began.
    pub base: Hex,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// The main executable.
    Executable,
    /// A shared library or bundle.
    Library,
    /// The dynamic loader.
    Loader,
    /// The kernel's own page of code.
    Vdso,
    /// Not said.
    #[default]
    Unknown,
    /// A kind that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// What is known of the file that an image came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// The path still named the very file that was mapped.
    Same,
    /// The path named another file, or none.
    Replaced,
    /// It lay in a shared cache of the system's libraries, which the handler had mapped too.
    SharedCache,
    /// The path meant nothing where the report was made.
    Unreachable,
    /// A state that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// What names could be found for an image's frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolStatus {
    /// Functions and source lines.
    Lines,
    /// Functions.
    Functions,
    /// None.
    None,
    /// A state that this version does not know.
    #[serde(untagged)]
    Other(String),
}
