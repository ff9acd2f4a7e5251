//! The signature: what crashes of one cause have in common, in one line. `docs/report-schema.md` explains the algorithm.
//!
//! In the spirit of Mozilla's (<https://github.com/mozilla-services/socorro/tree/main/socorro/signature>), but small: names are
//! normalised, frames that say nothing are left out, and frames that only a cause shows up in bring their callers along.

mod lists;
mod normalise;

use aftermach_protocol::report::{ExceptionKind, Frame, Image, Report, Signature, Thread, Trust};

use super::panic::place_of_panic;
use super::request::place_of_request;
use super::text::file_name;

pub(super) use lists::Weight;
use lists::{is_runtime, weight};
pub(super) use normalise::normalise;

/// The version of the algorithm and of its lists. Signatures of different versions may not be compared.
pub const VERSION: u32 = 1;

/// Most frames that a signature names.
const MAX_FRAMES: usize = 6;
/// Longest signature, in characters: what databases and Socorro's own field hold.
const MAX_LENGTH: usize = 255;

/// The signature of a report.
pub fn signature(report: &Report) -> Signature {
    let thread = report.exception.thread.and_then(|index| report.threads.get(index));
    // The fault in whose handler it aborted is the cause, not the handler.
    let (kind, first) = match &report.first_chance {
        Some(fault) => (&fault.exception.kind, fault.frame.unwrap_or(0)),
        None if report.exception.kind == ExceptionKind::Panic => {
            let frames = thread.map(|thread| thread.frames.as_slice()).unwrap_or_default();
            (&report.exception.kind, place_of_panic(frames).unwrap_or(0))
        }
        None if report.exception.kind == ExceptionKind::Simulated => {
            let frames = thread.map(|thread| thread.frames.as_slice()).unwrap_or_default();
            (&report.exception.kind, place_of_request(frames))
        }
        None => (&report.exception.kind, 0),
    };
    let mut parts: Vec<String> = heading(kind, report).into_iter().collect();
    let headed = parts.len();
    if let Some(thread) = thread {
        match recursion(kind, thread, report) {
            Some(function) => parts.push(function),
            None => add_frames(&mut parts, thread.frames.get(first..).unwrap_or_default(), report),
        }
    }
    if parts.len() == headed && headed == 0 {
        parts.push(report.exception.name.clone());
    }
    let mut text = parts.join(" | ");
    if text.chars().count() > MAX_LENGTH {
        text = text.chars().take(MAX_LENGTH - 1).chain(['…']).collect();
    }
    Signature { version: VERSION, text, ..Signature::default() }
}

/// What kinds of death that are no fault at a place put before the place.
fn heading(kind: &ExceptionKind, report: &Report) -> Option<String> {
    Some(match kind {
        ExceptionKind::StackOverflow => "stack overflow".to_owned(),
        ExceptionKind::Panic => "panic".to_owned(),
        ExceptionKind::Abort => "abort".to_owned(),
        ExceptionKind::BadCall => "bad call".to_owned(),
        ExceptionKind::Simulated => "simulated".to_owned(),
        ExceptionKind::Killed | ExceptionKind::ResourceLimit => {
            report.exception.signal.as_ref().map_or(&report.exception.name, |signal| &signal.name).clone()
        }
        _ => return None,
    })
}

/// Where recursion used up the stack, the frame on top is chance: the first by name of those that repeat is not.
fn recursion(kind: &ExceptionKind, thread: &Thread, report: &Report) -> Option<String> {
    let fold = thread.folds.first().filter(|_| *kind == ExceptionKind::StackOverflow)?;
    let frames = thread.frames.get(fold.first..fold.first.saturating_add(fold.length))?;
    let names = frames.iter().filter_map(|frame| name(frame, report));
    names.filter(|name| weight(name) == Weight::Relevant).min()
}

fn add_frames(parts: &mut Vec<String>, frames: &[Frame], report: &Report) {
    let first = parts.len();
    for (at, frame) in frames.iter().enumerate() {
        // A guess is no reason to tell crashes apart.
        if parts.len() - first == MAX_FRAMES || (at > 0 && frame.trust == Trust::Scan) {
            return;
        }
        // No image: a jump into nowhere, which has another address each time.
        let Some(name) = name(frame, report) else { continue };
        let weight = match frame_weight(frame, &report.images) {
            // Where it died is worth a name, if only an offset.
            Weight::Irrelevant if at == 0 && frame.function.is_none() => Weight::Prefix,
            weight => weight,
        };
        if weight != Weight::Irrelevant && parts.last() != Some(&name) {
            parts.push(name);
        }
        if weight == Weight::Relevant {
            return;
        }
    }
}

/// What the lists say of a frame.
pub(super) fn frame_weight(frame: &Frame, images: &[Image]) -> Weight {
    match (&frame.function, frame.image.and_then(|index| images.get(index))) {
        (Some(function), _) => weight(&normalise(function)),
        (None, Some(image)) if is_runtime(file_name(&image.path)) => Weight::Irrelevant,
        (None, Some(_)) => Weight::Relevant,
        (None, None) => Weight::Irrelevant,
    }
}

/// The function, or the place in the image.
fn name(frame: &Frame, report: &Report) -> Option<String> {
    if let Some(function) = &frame.function {
        return Some(normalise(function));
    }
    let image = report.images.get(frame.image?)?;
    let file = file_name(&image.path);
    Some(match frame.offset {
        Some(offset) => format!("{file}+{offset}"),
        None => file.to_owned(),
    })
}

#[cfg(test)]
mod tests;
