//! What a host tells of itself, for whoever asks how it does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A host's state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Messages that were refused: not the kernel's, or not understood.
    #[serde(default)]
    pub refused: u64,
    /// The rights that it holds, a group each, parents before their parts. Empty on systems without ports.
    #[serde(default)]
    pub ports: Vec<PortGroup>,
}

/// What one group of the port ledger did, with all its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// Its name.
    pub name: String,
    /// How many groups stand above it.
    #[serde(default)]
    pub depth: usize,
    /// Rights held.
    pub held: i64,
    /// Rights taken so far.
    pub taken: u64,
    /// Rights given back so far.
    pub given_back: u64,
    /// Rights that the kernel refused to take back.
    #[serde(default)]
    pub refused: u64,
}

/// A line of the tree, indented by its depth.
impl fmt::Display for PortGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortGroup { name, depth, held, taken, given_back, refused } = self;
        // A state that was read from a file may claim any depth.
        let indent = 2 * (*depth).min(8);
        write!(f, "{:indent$}{name}: {held} held, {taken} taken, {given_back} given back, {refused} refused", "")
    }
}
