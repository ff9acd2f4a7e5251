//! Threads, frames and registers of a report that came along.

use aftermach_protocol::report::{Frame, Report, StopReason, Thread, Trust};

use super::super::meta::base_name;
use super::html::Html;

/// Most frames shown of the thread that crashed, of each other one, and most other threads. The report itself has more.
const MAX_FRAMES: usize = 500;
const MAX_OTHER_FRAMES: usize = 100;
const MAX_THREADS: usize = 300;

/// The thread that crashed, open; the others folded.
pub(super) fn threads(html: &mut Html, report: &Report) {
    let crashed = report.exception.thread.filter(|index| *index < report.threads.len());
    if let Some(thread) = crashed.and_then(|index| report.threads.get(index)) {
        html.raw("<section class=\"card\"><h2>Crashed: ").text(title(thread)).raw("</h2>");
        frames(html, report, thread, MAX_FRAMES);
        if !thread.registers.is_empty() {
            html.raw("<details class=\"lone\"><summary>Registers</summary>");
            registers(html, thread.registers.iter().map(|(name, value)| (name, value.0)));
            html.raw("</details>");
        }
        html.raw("</section>");
    }
    let others: Vec<&Thread> =
        (0..).zip(&report.threads).filter(|(n, _)| Some(*n) != crashed).map(|(_, t)| t).collect();
    if others.is_empty() {
        return;
    }
    html.raw("<section class=\"card\"><h2>Other threads <span class=\"soft\">").text(others.len()).raw("</span></h2>");
    for thread in others.iter().take(MAX_THREADS) {
        html.raw("<details><summary>").text(title(thread)).raw(" <span class=\"soft small\">");
        html.text(thread.frames.iter().find_map(|frame| frame.function.as_deref()).unwrap_or(""));
        html.raw("</span></summary>");
        frames(html, report, thread, MAX_OTHER_FRAMES);
        html.raw("</details>");
    }
    if others.len() > MAX_THREADS {
        html.raw("<p class=\"soft small\">").text(others.len() - MAX_THREADS).raw(" more are in the JSON.</p>");
    }
    html.raw("</section>");
}

fn title(thread: &Thread) -> String {
    let name = if thread.name.is_empty() { thread.queue.as_deref().unwrap_or("") } else { &thread.name };
    match name {
        "" => format!("thread {} (id {})", thread.index, thread.id),
        name => format!("thread {} “{name}”", thread.index),
    }
}

fn frames(html: &mut Html, report: &Report, thread: &Thread, limit: usize) {
    if thread.frames.is_empty() {
        html.raw("<p class=\"soft\">No frames.</p>");
        return;
    }
    html.raw("<div class=\"scroll\"><table class=\"frames\"><thead><tr><th class=\"num\">#</th><th>Function</th>")
        .raw("<th class=\"img\">Image</th><th class=\"addr\">Address</th><th>Found by</th></tr></thead><tbody>");
    for (number, frame) in thread.frames.iter().enumerate().take(limit) {
        html.raw(if number == 0 && thread.crashed { "<tr class=\"top\">" } else { "<tr>" });
        html.element("<td class=\"num\">", number, "");
        html.raw("</td><td class=\"fn\"><span class=\"mono\">").text(function(frame)).raw("</span>");
        html.raw(if frame.inlined { "<span class=\"tag\">inlined</span>" } else { "" });
        if let Some(file) = &frame.file {
            html.raw("<div class=\"src\">").text(file);
            if let Some(line) = frame.line {
                html.raw(":").text(line);
            }
            html.raw("</div>");
        }
        let image = frame.image.and_then(|index| report.images.get(index));
        html.element(
            "</td><td class=\"img\">",
            image.map_or("", |image| base_name(&image.path)),
            "</td><td class=\"mono addr\">",
        );
        html.text(frame.address).element("</td><td class=\"soft small\">", trust(&frame.trust), "</td></tr>");
        if let Some(fold) = thread.folds.iter().find(|fold| fold.first.saturating_add(fold.length) == number + 1) {
            html.raw("<tr><td></td><td colspan=\"4\" class=\"soft\">these ").text(fold.length);
            html.raw(" frames ").text(fold.omitted).raw(" times more</td></tr>");
        }
    }
    html.raw("</tbody></table></div>");
    if thread.frames.len() > limit {
        html.raw("<p class=\"soft small\">").text(thread.frames.len() - limit).raw(" more frames are in the JSON.</p>");
    }
    if let Some(why) = thread.stop.as_ref().and_then(|stop| stopped(&stop.reason)) {
        html.raw("<p class=\"soft small\">The stack ends here: ").text(why);
        if let Some(address) = thread.stop.as_ref().and_then(|stop| stop.address) {
            html.raw(" (").text(address).raw(")");
        }
        html.raw(".</p>");
    }
}

fn function(frame: &Frame) -> String {
    match (&frame.function, frame.function_offset) {
        (Some(name), Some(offset)) if !frame.inlined => format!("{name} + {}", offset.0),
        (Some(name), _) => name.clone(),
        (None, _) => match frame.offset {
            Some(offset) => format!("+ {offset}"),
            None => frame.address.to_string(),
        },
    }
}

fn trust(trust: &Trust) -> String {
    match trust {
        Trust::Context => "registers",
        Trust::SignalContext => "signal frame",
        Trust::Instructions => "instructions",
        Trust::BadCall => "bad call",
        Trust::UnwindInfo => "unwind info",
        Trust::FramePointer => "frame pointer",
        Trust::Scan => "guess",
        Trust::Unknown => "",
        Trust::Other(name) => name,
    }
    .to_owned()
}

/// Why a stack ended, if not where it should.
fn stopped(reason: &StopReason) -> Option<String> {
    let text = match reason {
        StopReason::Root | StopReason::Unknown => return None,
        StopReason::NoRegisters => "its registers could not be read",
        StopReason::NoRule => "nothing tells where its last frame was called from",
        StopReason::StackUnreadable => "its stack could not be read further",
        StopReason::NoProgress => "it leads back to itself",
        StopReason::BadReturnAddress => "the next return address is no code",
        StopReason::FrameLimit => "as many frames as are taken",
        StopReason::TimeLimit => "it took too long",
        StopReason::Other(name) => name,
    };
    Some(text.to_owned())
}

/// Registers in columns.
pub(super) fn registers<'a>(html: &mut Html, registers: impl Iterator<Item = (&'a str, u64)>) {
    html.raw("<div class=\"regs mono\">");
    for (name, value) in registers.take(64) {
        html.raw("<div><i>").text(name).raw("</i> ").text(format_args!("{value:#018x}")).raw("</div>");
    }
    html.raw("</div>");
}
