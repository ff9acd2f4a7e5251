//! From walked stacks to the frames of a report.

use aftermach_protocol::report::{self, Hex, Ordered, StopReason};

use crate::snapshot::{Image, Registers, Thread};
use crate::symbols::Symbol;
use crate::unwind::{self, Stop, Trace, Trust};

/// Longest name or path that is kept, in bytes: demangled templates have no bound.
const MAX_NAME: usize = 4096;

/// A thread's part of the report, and where each walked frame went in it.
pub(super) struct Converted {
    /// The thread.
    pub(super) thread: report::Thread,
    /// For each walked frame, the index of its first frame in the report: inlined functions make several of one.
    pub(super) starts: Vec<usize>,
}

/// Converts one thread. At most `budget` frames are kept; what more there is ends with [`StopReason::FrameLimit`].
pub(super) fn convert(
    index: usize,
    thread: &Thread,
    trace: Option<&Trace>,
    images: &[Image],
    names: &mut dyn FnMut(&unwind::Frame) -> Vec<Symbol>,
    budget: usize,
) -> Converted {
    let mut converted = report::Thread {
        index,
        id: thread.state.id,
        name: thread.state.name.clone(),
        queue: thread.state.queue.clone(),
        priority: thread.state.priority,
        registers: thread.state.registers.as_ref().map(registers).unwrap_or_default(),
        ..report::Thread::default()
    };
    let mut starts = Vec::new();
    let Some(trace) = trace else { return Converted { thread: converted, starts } };
    for frame in trace.frames.iter().take(budget) {
        starts.push(converted.frames.len());
        converted.frames.extend(frames(frame, images, names(frame)));
    }
    let cut = trace.frames.len() > budget;
    let reason = if cut { stop(Stop::FrameLimit) } else { stop(trace.stop) };
    converted.stop = Some(report::Stop { reason: reason.0, address: reason.1.map(Hex), ..report::Stop::default() });
    let start = |walked: usize| starts.get(walked).copied().unwrap_or(converted.frames.len());
    let whole = |fold: &&unwind::Fold| fold.first.saturating_add(fold.length) <= starts.len();
    converted.folds = trace
        .folds
        .iter()
        .filter(whole)
        .map(|fold| report::Fold {
            first: start(fold.first),
            length: start(fold.first + fold.length) - start(fold.first),
            omitted: fold.omitted,
            ..report::Fold::default()
        })
        .collect();
    Converted { thread: converted, starts }
}

fn registers(registers: &Registers) -> Ordered<Hex> {
    registers.general().into_iter().map(|(name, value)| (name.to_owned(), Hex(value))).collect()
}

fn frames(frame: &unwind::Frame, images: &[Image], symbols: Vec<Symbol>) -> Vec<report::Frame> {
    let image = frame.image.and_then(|index| Some((index, images.get(index)?)));
    let bare = report::Frame {
        address: Hex(frame.address),
        raw: (frame.raw != frame.address).then_some(Hex(frame.raw)),
        image: image.map(|(index, _)| index),
        offset: image.map(|(_, image)| Hex(frame.address.wrapping_sub(image.base))),
        trust: trust(frame.trust),
        ..report::Frame::default()
    };
    if symbols.is_empty() {
        return vec![bare];
    }
    let named = |symbol: Symbol| report::Frame {
        function: symbol.function.map(shortened),
        function_offset: symbol.offset.map(Hex),
        line: symbol.source.as_ref().map(|(_, line)| *line),
        file: symbol.source.map(|(file, _)| shortened(file)),
        inlined: symbol.inlined,
        ..bare.clone()
    };
    symbols.into_iter().map(named).collect()
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_NAME {
        text.truncate(text.floor_char_boundary(MAX_NAME));
        text.push('…');
    }
    text
}

fn trust(trust: Trust) -> report::Trust {
    match trust {
        Trust::Context => report::Trust::Context,
        Trust::SignalContext => report::Trust::SignalContext,
        Trust::Instructions => report::Trust::Instructions,
        Trust::BadCall => report::Trust::BadCall,
        Trust::UnwindInfo => report::Trust::UnwindInfo,
        Trust::FramePointer => report::Trust::FramePointer,
        Trust::Scan => report::Trust::Scan,
    }
}

fn stop(stop: Stop) -> (StopReason, Option<u64>) {
    match stop {
        Stop::Root => (StopReason::Root, None),
        Stop::NoRegisters => (StopReason::NoRegisters, None),
        Stop::NoRule(sp) => (StopReason::NoRule, Some(sp)),
        Stop::StackUnreadable(address) => (StopReason::StackUnreadable, Some(address)),
        Stop::NoProgress => (StopReason::NoProgress, None),
        Stop::BadReturnAddress(address) => (StopReason::BadReturnAddress, Some(address)),
        Stop::FrameLimit => (StopReason::FrameLimit, None),
        Stop::TimeLimit => (StopReason::TimeLimit, None),
    }
}
