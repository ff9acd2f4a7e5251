//! Threads and frames for people.

use std::collections::HashMap;
use std::fmt::Write;

use aftermach_protocol::report::{Fold, Frame, Report, Stop, StopReason, Thread, Trust};

use super::{Options, cut, escape, file_name, without_hash};
use crate::report::signature::{Weight, frame_weight};

/// Widest column of places ("libx.so+0x12") that others are aligned to, in characters.
const MAX_PLACE: usize = 36;

/// Most runs of thread numbers that a group's heading names.
const MAX_RANGES: usize = 8;

/// A thread with all its frames. Returns whether any of them needs the legend.
pub(super) fn full(out: &mut String, report: &Report, thread: &Thread, options: &Options) -> bool {
    let places: Vec<String> = thread.frames.iter().map(|frame| place(frame, report)).collect();
    let width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0).min(MAX_PLACE);
    let mut marked = false;
    let mut number = 0;
    for (at, (frame, place)) in thread.frames.iter().zip(&places).enumerate() {
        let continues = at > 0 && thread.frames[at - 1].inlined;
        if frame.trust == Trust::SignalContext && !continues {
            out.push_str("      (above: a signal handler; below: what the signal interrupted)\n");
        }
        let shown = if continues { String::new() } else { number.to_string() };
        number += usize::from(!frame.inlined);
        let mark = mark(&frame.trust);
        marked |= mark != ' ';
        let line = format!("{shown:>4}{mark} {place:<width$}  {}", function(frame));
        let _ = writeln!(out, "{}", cut(line.trim_end(), options.width));
        let ended = |fold: &&Fold| fold.first.saturating_add(fold.length) == at + 1;
        for fold in thread.folds.iter().filter(ended) {
            let what = if fold.length == 1 { "this frame".to_owned() } else { format!("these {} frames", fold.length) };
            let _ = writeln!(out, "      … {what} again, {} more times", fold.omitted);
        }
    }
    if thread.frames.is_empty() {
        out.push_str("      no frames\n");
    }
    if let Some(reason) = thread.stop.as_ref().and_then(stop) {
        let _ = writeln!(out, "      {reason}");
    }
    marked
}

/// The frames' marks, explained.
pub(super) const LEGEND: &str = "~ by the chain of frame pointers: may lack a frame    ? by a guess from the stack\n";

fn mark(trust: &Trust) -> char {
    match trust {
        Trust::Context | Trust::SignalContext | Trust::Instructions | Trust::BadCall | Trust::UnwindInfo => ' ',
        Trust::FramePointer => '~',
        Trust::Scan | Trust::Unknown | Trust::Other(_) => '?',
    }
}

/// "libx.so+0x12", or the bare address.
fn place(frame: &Frame, report: &Report) -> String {
    match (frame.image.and_then(|index| report.images.get(index)), frame.offset) {
        (Some(image), Some(offset)) => format!("{}+{offset}", escape(file_name(&image.path))),
        _ => frame.address.to_string(),
    }
}

/// "tunnel::Peer::send + 28 (peer.rs:88)"
fn function(frame: &Frame) -> String {
    let mut text = match &frame.function {
        Some(function) => escape(without_hash(function)).into_owned(),
        None if frame.image.is_none() => "in no image".to_owned(),
        None => return String::new(),
    };
    if let Some(offset) = frame.function_offset.filter(|_| !frame.inlined) {
        let _ = write!(text, " + {}", offset.0);
    }
    if let Some(source) = source(frame) {
        let _ = write!(text, " ({source})");
    }
    if frame.inlined {
        text.push_str(" [inlined]");
    }
    text
}

fn source(frame: &Frame) -> Option<String> {
    Some(format!("{}:{}", escape(file_name(frame.file.as_deref()?)), frame.line?))
}

fn stop(stop: &Stop) -> Option<String> {
    let address = stop.address.unwrap_or_default();
    Some(match &stop.reason {
        StopReason::Root | StopReason::Unknown => return None,
        StopReason::NoRegisters => "the registers could not be read".to_owned(),
        StopReason::NoRule => format!("ends here: nothing tells where the frame at {address} was called from"),
        StopReason::StackUnreadable => format!("ends here: the stack could not be read at {address}"),
        StopReason::NoProgress => "ends here: the next frame would not be further up the stack".to_owned(),
        StopReason::BadReturnAddress => format!("ends here: the next return address, {address}, is in no code"),
        StopReason::FrameLimit => "ends here: as many frames as are kept".to_owned(),
        StopReason::TimeLimit => "ends here: unwinding took too long".to_owned(),
        StopReason::Other(reason) => format!("ends here: {}", escape(reason)),
    })
}

/// The threads that did not crash, those with the same stack together.
pub(super) fn others(out: &mut String, report: &Report, options: &Options) -> bool {
    let mut groups: Vec<Vec<&Thread>> = Vec::new();
    let mut by_stack: HashMap<String, usize> = HashMap::new();
    for thread in report.threads.iter().filter(|thread| !thread.crashed) {
        let group = *by_stack.entry(stack(thread)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(thread);
    }
    let mut marked = false;
    for group in &groups {
        let Some(first) = group.first() else { continue };
        if options.all {
            let _ = writeln!(out, "\n{}", heading(group));
            marked |= full(out, report, first, options);
        } else {
            let line = format!("  {}: {}", heading(group), state(first, report));
            let _ = writeln!(out, "{}", cut(&line, options.width));
        }
    }
    marked
}

/// What two threads must share to be shown as one.
fn stack(thread: &Thread) -> String {
    let mut key = String::new();
    for frame in &thread.frames {
        let _ = write!(key, "{:x} ", frame.address.0);
    }
    // Threads without a stack have each their own reason.
    if thread.frames.is_empty() {
        let _ = write!(key, "thread {}", thread.index);
    }
    let _ = write!(key, "{:?}", thread.folds);
    key
}

/// "Thread 0 "main"", "Threads 1-3, 7 "worker-1" …"
fn heading(group: &[&Thread]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for thread in group {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(thread.index) => *last = thread.index,
            _ => ranges.push((thread.index, thread.index)),
        }
    }
    let range =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let shown: Vec<String> = ranges.iter().take(MAX_RANGES).map(range).collect();
    let mut text = format!("Thread{} {}", if group.len() == 1 { "" } else { "s" }, shown.join(", "));
    if ranges.len() > MAX_RANGES {
        let _ = write!(text, ", … ({} threads)", group.len());
    }
    let mut names: Vec<&str> =
        group.iter().map(|thread| thread.name.as_str()).filter(|name| !name.is_empty()).collect();
    names.dedup();
    if let Some(name) = names.first() {
        let _ = write!(text, " \"{}\"{}", escape(name), if names.len() > 1 { " …" } else { "" });
    }
    if let [thread] = group
        && let Some(queue) = &thread.queue
    {
        let _ = write!(text, ", queue {}", escape(queue));
    }
    text
}

/// Where a thread was: its first frame, and the first of the program's own.
fn state(thread: &Thread, report: &Report) -> String {
    let Some(first) = thread.frames.first() else {
        return thread.stop.as_ref().and_then(stop).unwrap_or_else(|| "no frames".to_owned());
    };
    let name = |frame: &Frame| match &frame.function {
        Some(function) => {
            let source = source(frame).map(|source| format!(" ({source})")).unwrap_or_default();
            format!("{}{source}", escape(without_hash(function)))
        }
        None => place(frame, report),
    };
    let is_own = |frame: &&Frame| frame.function.is_some() && frame_weight(frame, &report.images) == Weight::Relevant;
    let caller = thread.frames.iter().skip(1).find(is_own).filter(|_| !is_own(&first));
    let caller = caller.map(|frame| format!(", called from {}", name(frame))).unwrap_or_default();
    format!("{}{caller}", name(first))
}
