//! Reports that the program asked for, as the stack shows who asked.

use aftermach_protocol::report::Frame;

use super::signature::normalise;

/// Frames in which the client's functions are looked for.
const NEAR: usize = 64;

/// Index of the first frame below the client's own: what asked for the report. Where the client has no names, the first frame.
pub(super) fn place_of_request(frames: &[Frame]) -> usize {
    frames.iter().take(NEAR).rposition(is_client).map_or(0, |last| last + 1)
}

fn is_client(frame: &Frame) -> bool {
    let Some(function) = &frame.function else { return false };
    let function = normalise(function);
    let function = function.strip_prefix('<').unwrap_or(&function);
    function.starts_with("aftermach_client::") || function == "aftermach_dump_without_crashing"
}
