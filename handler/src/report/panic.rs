//! Rust panics, as the stack and what the program left show them.

use aftermach_protocol::report::{Frame, Report};

use super::signature::{Weight, frame_weight, normalise};

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

/// What made a panic the end even of a program that goes on after panics. Empty if nothing shows.
pub(super) fn nested(frames: &[Frame]) -> &'static str {
    let near = frames.get(..frames.len().min(NEAR)).unwrap_or_default();
    let has = |name: &str| {
        near.iter().filter_map(|frame| frame.function.as_deref()).any(|function| normalise(function) == name)
    };
    if has("core::panicking::panic_in_cleanup") {
        // The second panic has been unwound as far as the destructor that it left.
        " in a destructor while it was panicking"
    } else if has("core::panicking::panic_cannot_unwind") {
        " out of a function that panics may not leave"
    } else if runs(near) > 1 {
        " while it was panicking"
    } else {
        ""
    }
}

/// Whether a panic is on the stack.
pub(super) fn is_panicking(frames: &[Frame]) -> bool {
    frames.iter().take(NEAR).any(is_panic)
}

/// How many panics are on the stack, one called by another.
fn runs(frames: &[Frame]) -> usize {
    let (mut count, mut inside) = (0, false);
    for frame in frames {
        if is_panic(frame) {
            count += usize::from(!inside);
            inside = true;
        } else if frame_weight(frame, &[]) == Weight::Relevant {
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
