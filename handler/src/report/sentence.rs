//! The report's first line: what happened to whom, where, in one sentence.

use aftermach_protocol::report::{Exception, ExceptionKind, FirstChance, Frame, Image, Report, Thread};

use super::panic::{message, nested, place_of_panic};
use super::request::place_of_request;
use super::signature::{Weight, frame_weight, normalise};
use super::text::{file_name, without_hash};

/// Frames in which the place is looked for.
const NEAR: usize = 64;
/// Longest name that is given in full, in bytes.
const MAX_NAME: usize = 60;

/// The sentence for `report`, whose other parts are complete. `phrase` says what happened.
pub(super) fn sentence(report: &Report, phrase: &str) -> String {
    let exception = &report.exception;
    let thread = exception.thread.and_then(|index| report.threads.get(index));
    let frames = thread.map(|thread| thread.frames.as_slice()).unwrap_or_default();
    let signal = with_signal(exception);
    let happened = match exception.kind {
        ExceptionKind::Panic => {
            let again = nested(frames);
            let place = place_of_panic(frames).map(|frame| place(&frames[frame..], &report.images)).unwrap_or_default();
            let message = message(report).map(|message| format!(": {message}")).unwrap_or_default();
            format!("panicked{again}{place}{message} ({signal})")
        }
        ExceptionKind::Abort => {
            let end = report.first_chance.as_ref().and_then(|fault| fault.frame).unwrap_or(frames.len());
            format!("aborted ({signal}){}", place(frames.get(..end).unwrap_or_default(), &report.images))
        }
        ExceptionKind::Killed => return killed(report, thread, &signal),
        ExceptionKind::Simulated => {
            let asker = frames.get(place_of_request(frames)..).unwrap_or_default();
            let place = place(asker, &report.images);
            return format!("The program asked for this report and went on: {}{place}", subject(report, thread));
        }
        _ => {
            let phrase = if phrase.is_empty() { String::new() } else { format!(": {phrase}") };
            let place = match (&exception.kind, frames) {
                // Where it went is no place; where it came from is.
                (ExceptionKind::BadCall, [_, callers @ ..]) => {
                    place(callers, &report.images).replacen(" in ", " from ", 1)
                }
                _ => fault_place(frames, &report.images),
            };
            format!("died of {signal}{phrase}{place}")
        }
    };
    let before = match &report.first_chance {
        Some(fault) => format!(" while handling {}", fault.exception.summary),
        None => String::new(),
    };
    format!("{} {happened}{before}", subject(report, thread))
}

/// "SIGSEGV: read from a null pointer (address 0x0) in f (a.rs:3)", for the fault that a handler was dealing with.
pub(super) fn fault(fault: &FirstChance, phrase: &str, report: &Report) -> String {
    let thread = report.exception.thread.and_then(|index| report.threads.get(index));
    let frames = thread.and_then(|thread| thread.frames.get(fault.frame?..)).unwrap_or_default();
    let name = fault.exception.signal.as_ref().map_or(fault.exception.name.as_str(), |signal| &signal.name);
    let phrase = if phrase.is_empty() { String::new() } else { format!(": {phrase}") };
    format!("{name}{phrase}{}", fault_place(frames, &report.images))
}

/// "Thread 3 "io-worker" of tunneld (pid 4242)"
fn subject(report: &Report, thread: Option<&Thread>) -> String {
    let process = process(report);
    match thread {
        Some(thread) if thread.name.is_empty() || thread.name == report.process.name => {
            format!("Thread {} of {process}", thread.index)
        }
        Some(thread) => format!("Thread {} \"{}\" of {process}", thread.index, thread.name),
        None => process,
    }
}

fn process(report: &Report) -> String {
    let name = if report.process.name.is_empty() { "process" } else { &report.process.name };
    format!("{name} (pid {})", report.process.pid)
}

/// "SIGSEGV", or "EXC_BAD_ACCESS (SIGSEGV)"
fn with_signal(exception: &Exception) -> String {
    match &exception.signal {
        Some(signal) if exception.name == "EXC_CRASH" => signal.name.clone(),
        Some(signal) if signal.name != exception.name => format!("{} ({})", exception.name, signal.name),
        _ => exception.name.clone(),
    }
}

fn killed(report: &Report, thread: Option<&Thread>, signal: &str) -> String {
    match &report.exception.sender {
        Some(sender) if sender.pid == report.process.pid => {
            let during = match &report.first_chance {
                Some(fault) => format!(" while handling {}", fault.exception.summary),
                None => String::new(),
            };
            format!("{} raised {signal} itself{during}", subject(report, thread))
        }
        Some(sender) => {
            format!("{} was killed by {signal}, sent by pid {} (uid {})", process(report), sender.pid, sender.uid)
        }
        None => format!("{} was killed by {signal}", process(report)),
    }
}

/// " in f (a.rs:3)": the first frame that says something of the cause. Empty if there is none.
fn place(frames: &[Frame], images: &[Image]) -> String {
    let is_relevant = |frame: &&Frame| frame_weight(frame, images) == Weight::Relevant;
    let found = frames.iter().take(NEAR).find(is_relevant);
    found.and_then(|frame| name(frame, images)).map(|name| format!(" in {name}")).unwrap_or_default()
}

/// " in memcpy, called from f (a.rs:3)": the first frame, and the first of the program's own if that is another. A library's
/// function that was inlined into the program's own is the program's.
fn fault_place(frames: &[Frame], images: &[Image]) -> String {
    let is_own = |frame: &&Frame| frame.function.is_some() && frame_weight(frame, images) == Weight::Relevant;
    let inlined = frames.iter().take_while(|frame| frame.inlined && !is_own(frame)).count();
    let Some((first, callers)) = frames.get(inlined..).and_then(<[Frame]>::split_first) else { return String::new() };
    let Some(place) = name(first, images) else { return String::new() };
    if is_own(&first) {
        return format!(" in {place}");
    }
    let caller = callers.iter().take(NEAR).find(is_own).and_then(|frame| name(frame, images));
    format!(" in {place}{}", caller.map(|caller| format!(", called from {caller}")).unwrap_or_default())
}

/// "f (a.rs:3)", or "libx.so+0x12"
fn name(frame: &Frame, images: &[Image]) -> Option<String> {
    if let Some(function) = &frame.function {
        // A sentence is no place for the arguments of a template.
        let function = match without_hash(function) {
            long if long.len() > MAX_NAME => normalise(long),
            short => short.to_owned(),
        };
        return Some(match (&frame.file, frame.line) {
            (Some(file), Some(line)) => format!("{function} ({}:{line})", file_name(file)),
            _ => function,
        });
    }
    let image = images.get(frame.image?)?;
    Some(format!("{}+{}", file_name(&image.path), frame.offset?))
}
