//! Names and source lines for addresses.

/// One function at an address. A frame has several where the compiler inlined: the innermost first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symbol {
    /// The function's name, demangled.
    pub function: Option<String>,
    /// Bytes from the function's start to the address.
    pub offset: Option<u64>,
    /// Source file and line (from 1).
    pub source: Option<(String, u32)>,
    /// Inlined into the next one.
    pub inlined: bool,
}
