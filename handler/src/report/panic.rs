//! Rust panics, as the stack and what the program left show them.

use aftermach_protocol::report::{Frame, Report};

use super::signature::{Weight, normalise, weight};

/// Frames in which a panic is looked for.
const NEAR: usize = 64;
/// Longest message that is quoted, in characters.
const MAX_MESSAGE: usize = 300;

/// The functions that every Rust panic goes through, hooks being run by the first.
fn is_panic(frame: &Frame) -> bool {
    let Some(function) = &frame.function else { return false };
    let function = normalise(function);
    let machinery = ["rust_begin_unwind", "__rustc::rust_begin_unwind", "std::panicking::begin_panic"];
    machinery.contains(&function.as_str()) || function.starts_with("core::panicking::")
}

/// How many panics are on the stack, one called by another.
pub(super) fn panics(frames: &[Frame]) -> usize {
    let near: Vec<bool> = frames.iter().take(NEAR).map(is_panic).collect();
    let relevant = |at: usize| {
        let function = frames[at].function.as_deref().map(normalise);
        function.is_some_and(|function| weight(&function) == Weight::Relevant)
    };
    let mut count = 0;
    let mut inside = false;
    for (at, panic) in near.into_iter().enumerate() {
        if panic && !inside {
            count += 1;
            inside = true;
        } else if relevant(at) {
            inside = false;
        }
    }
    count
}

/// Index of the first frame below the last panic's machinery: what panicked.
pub(super) fn place_of_panic(frames: &[Frame]) -> Option<usize> {
    let first = frames.iter().take(NEAR).position(is_panic)?;
    let length = frames[first..].iter().take_while(|frame| is_panic(frame)).count();
    Some(first + length)
}

/// What a panic said, if the program left it: a message of a library, or an annotation named "panic".
pub(super) fn message(report: &Report) -> Option<String> {
    let left = report.messages.iter().map(|message| &message.text).find(|text| text.contains("panicked"));
    let message = report.annotations.get("panic").or(left)?;
    let line = message.trim().lines().next().unwrap_or_default();
    let mut quoted: String = line.chars().take(MAX_MESSAGE).collect();
    if line.chars().count() > MAX_MESSAGE {
        quoted.push('…');
    }
    (!quoted.is_empty()).then(|| format!("\"{quoted}\""))
}
