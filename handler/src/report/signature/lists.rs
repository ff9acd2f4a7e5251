//! The lists, as data.

/// Functions that say nothing of a crash's cause.
const IRRELEVANT: &str = include_str!("irrelevant.txt");
/// Functions that a cause shows up in, but that are not the cause.
const PREFIX: &str = include_str!("prefix.txt");
/// Images of runtimes.
const RUNTIME: &str = include_str!("runtime.txt");

/// What a list says of a function, by its normalised name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Weight {
    /// Nothing of the cause.
    Irrelevant,
    /// Its caller matters as well.
    Prefix,
    /// The place.
    Relevant,
}

/// Looks a normalised name up.
pub(in crate::report) fn weight(name: &str) -> Weight {
    if has(IRRELEVANT, name) {
        Weight::Irrelevant
    } else if has(PREFIX, name) {
        Weight::Prefix
    } else {
        Weight::Relevant
    }
}

/// Whether an image, by its file name, is a runtime's.
pub(in crate::report) fn is_runtime(file: &str) -> bool {
    has(RUNTIME, file)
}

fn has(list: &str, name: &str) -> bool {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).any(|pattern| {
        match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        }
    })
}
