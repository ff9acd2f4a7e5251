//! The report of one death.

use std::collections::HashMap;
use std::path::Path;

use aftermach_protocol::product::Product;
use aftermach_protocol::report::{
    self, Breadcrumb, ExceptionKind, FileState, FirstChance, Hex, ImageKind, Message, Note, Ordered, Producer, Report,
    SCHEMA, Sender, SymbolStatus, Times,
};

use super::cause::{self, Cause, Facts};
use super::describe::{Description, describe};
use super::frames::{Converted, convert};
use super::panic::is_panicking;
use super::scene::Scene;
use super::sentence::{fault, sentence};
use super::signature::signature;
use crate::snapshot::{Annotations, Exception, Fault, Image, ImageFile, ImageId, Registers, Snapshot};
use crate::symbols::Symbol;
use crate::time::{microseconds, rfc3339};
use crate::unwind::{Frame, Trace, Trust};

/// Most frames that all threads of a report have together: about 20 MB of JSON. The crashed thread comes first.
pub const MAX_FRAMES: usize = 100_000;

/// What a report is built from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Its id.
    pub id: &'a str,
    /// Whose program died. What the program said of itself goes before it.
    pub product: Option<&'a Product>,
    /// The dead process.
    pub snapshot: &'a Snapshot,
    /// The walked stacks, in any order; a thread may lack one.
    pub traces: &'a [Trace],
}

/// Builds a report. `names` gives what is known of a frame's address: the functions that stand there, the innermost inlined
/// one first.
///
/// What only the caller knows is left for it to fill in: `files`, `upload`, and of `times` what unwinding and writing took.
pub fn build(input: &Input<'_>, names: &mut dyn FnMut(&Frame) -> Vec<Symbol>) -> Report {
    let snapshot = input.snapshot;
    let mut notes: Vec<Note> = snapshot.gaps.iter().map(|gap| note(gap.part, gap.what.clone())).collect();
    let crashed = snapshot.death.thread.and_then(|id| snapshot.threads.iter().position(|thread| thread.state.id == id));
    if crashed.is_none() {
        let simulated = snapshot.death.exception == Exception::Simulated;
        let did = if simulated { "asked for this report" } else { "died of it" };
        notes.push(match snapshot.death.thread {
            Some(id) => note("threads", format!("thread {id}, which {did}, is not among the threads")),
            None => note("threads", format!("the system does not say which thread {did}")),
        });
    }
    let (threads, starts) = threads(input, crashed, names, &mut notes);
    let mut report = Report {
        schema: SCHEMA,
        report_id: input.id.to_owned(),
        producer: Producer {
            name: "aftermach".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Producer::default()
        },
        product: product(input.product, &snapshot.annotations),
        times: times(snapshot),
        process: process(snapshot),
        system: system(snapshot),
        images: images(&snapshot.images, &threads),
        shared_cache: snapshot.shared_cache.map(|cache| report::SharedCache {
            uuid: hex(&cache.uuid),
            base: Hex(cache.base),
            ..report::SharedCache::default()
        }),
        threads,
        annotations: annotations(&snapshot.annotations, &mut notes),
        breadcrumbs: breadcrumbs(&snapshot.annotations),
        messages: messages(&snapshot.annotations),
        ..Report::default()
    };
    let walked = |index: usize| input.traces.iter().find(|trace| trace.thread == snapshot.threads[index].state.id);
    let first_chance = crashed.and_then(|index| first_chance(snapshot, index, walked(index)));
    describe_death(&mut report, snapshot, crashed, first_chance.as_ref(), &starts);
    handling(snapshot, input.traces, crashed, &mut notes);
    report.notes = notes;
    report.signature = Some(signature(&report));
    report
}

fn note(part: &str, text: impl Into<String>) -> Note {
    Note { part: part.to_owned(), text: text.into(), ..Note::default() }
}

/// Every thread in the system's order, and where the crashed one's walked frames went.
fn threads(
    input: &Input<'_>,
    crashed: Option<usize>,
    names: &mut dyn FnMut(&Frame) -> Vec<Symbol>,
    notes: &mut Vec<Note>,
) -> (Vec<report::Thread>, Vec<usize>) {
    let snapshot = input.snapshot;
    let traces: HashMap<u64, &Trace> = input.traces.iter().map(|trace| (trace.thread, trace)).collect();
    let mut budget = MAX_FRAMES;
    let mut convert_one = |index: usize| {
        let thread = &snapshot.threads[index];
        let trace = traces.get(&thread.state.id).copied();
        let converted = convert(index, thread, trace, &snapshot.images, names, budget);
        if trace.is_some_and(|trace| trace.frames.len() > budget) {
            notes.push(note("unwind", format!("thread {index}: frames left out, a report has at most {MAX_FRAMES}")));
        }
        budget = budget.saturating_sub(converted.thread.frames.len());
        converted
    };
    let mut first = crashed.map(&mut convert_one);
    let mut starts = Vec::new();
    let mut threads = Vec::with_capacity(snapshot.threads.len());
    for index in 0..snapshot.threads.len() {
        let taken = if Some(index) == crashed { first.take() } else { None };
        let Converted { mut thread, starts: own } = taken.unwrap_or_else(|| convert_one(index));
        if Some(index) == crashed {
            thread.crashed = true;
            starts = own;
        }
        threads.push(thread);
    }
    (threads, starts)
}

/// How a first chance belongs to the death.
enum Joined<'a> {
    /// It is the death itself, and says more of it than the system does.
    Same(&'a Fault),
    /// Its frame, by index in the trace, is still on the stack: a handler was dealing with it.
    Handling(&'a Fault, usize),
}

/// The crashed thread's last fault, if it belongs to the death. One that a handler dealt with earlier does not.
fn first_chance<'a>(snapshot: &'a Snapshot, crashed: usize, trace: Option<&Trace>) -> Option<Joined<'a>> {
    let state = &snapshot.threads[crashed].state;
    let fault = state.first_chance.as_ref()?;
    let signal = signal_of(&fault.exception, snapshot);
    let is_same = state.registers.as_ref().is_some_and(|now| now.pc() == fault.pc && now.sp() == fault.sp)
        && (signal == Some(snapshot.death.signal) || signal == signal_of(&snapshot.death.exception, snapshot));
    if is_same {
        return Some(Joined::Same(fault));
    }
    Some(Joined::Handling(fault, interrupted(fault, trace?)?))
}

/// The frame of `trace` that `fault` interrupted.
fn interrupted(fault: &Fault, trace: &Trace) -> Option<usize> {
    trace.frames.iter().position(|frame| frame.trust == Trust::SignalContext && frame.address == fault.pc)
}

fn signal_of(exception: &Exception, snapshot: &Snapshot) -> Option<i32> {
    match exception {
        Exception::Linux(linux) => Some(linux.signal),
        Exception::Mach(mach) => mach.signal(snapshot.cpu),
        Exception::Simulated => None,
    }
}

/// Fills in what ended the process.
fn describe_death(
    report: &mut Report,
    snapshot: &Snapshot,
    crashed: Option<usize>,
    first_chance: Option<&Joined<'_>>,
    starts: &[usize],
) {
    let death = &snapshot.death;
    let registers = crashed.and_then(|index| snapshot.threads[index].state.registers.as_ref());
    let frames = crashed.map(|index| report.threads[index].frames.as_slice()).unwrap_or_default();
    let called = |frame: usize| frames.get(frame + 1).is_some_and(|next| next.trust == report::Trust::BadCall);
    let exception = match first_chance {
        Some(Joined::Same(fault)) => &fault.exception,
        _ => &death.exception,
    };
    let facts = cause::facts(exception, snapshot.cpu, death.pid, Some(death.signal));
    let scene = Scene {
        snapshot,
        registers,
        pc: registers.map(Registers::pc),
        sp: registers.map(Registers::sp),
        called: called(0),
    };
    let mut description = describe(&facts.cause, &scene);
    if description.kind == ExceptionKind::Abort && is_panicking(frames) {
        description.kind = ExceptionKind::Panic;
    }
    let joined = match first_chance {
        Some(Joined::Handling(fault, walked)) => {
            let frame = starts.get(*walked).copied();
            Some(earlier(fault, snapshot, frame, frame.is_some_and(called)))
        }
        _ => None,
    };
    report.exception = exception_of(facts, &description);
    report.exception.thread = crashed;
    if let Some((mut first_chance, phrase)) = joined {
        first_chance.exception.summary = fault(&first_chance, &phrase, report);
        report.first_chance = Some(first_chance);
    }
    report.exception.summary = sentence(report, &description.phrase);
}

fn exception_of(facts: Facts, description: &Description) -> report::Exception {
    let sender = match facts.cause {
        Cause::Sent(Some(sender)) => Some(Sender { pid: sender.pid, uid: sender.uid, ..Sender::default() }),
        _ => None,
    };
    report::Exception {
        kind: description.kind.clone(),
        name: facts.name,
        signal: facts.signal,
        code: facts.code,
        codes: facts.codes,
        address: description.address.map(Hex),
        computed_address: description.computed_address.map(Hex),
        access: description.access.clone(),
        sender,
        ..report::Exception::default()
    }
}

/// A fault that a handler was dealing with, and what happened in it.
fn earlier(fault: &Fault, snapshot: &Snapshot, frame: Option<usize>, called: bool) -> (FirstChance, String) {
    let facts = cause::facts(&fault.exception, snapshot.cpu, snapshot.death.pid, None);
    let scene = Scene { snapshot, registers: None, pc: Some(fault.pc), sp: Some(fault.sp), called };
    let description = describe(&facts.cause, &scene);
    let first_chance = FirstChance {
        exception: exception_of(facts, &description),
        pc: Hex(fault.pc),
        sp: Hex(fault.sp),
        time: Some(rfc3339(fault.time)),
        frame,
    };
    (first_chance, description.phrase)
}

/// Notes the other threads that were in a fault's handler: one of them may have asked for the end.
fn handling(snapshot: &Snapshot, traces: &[Trace], crashed: Option<usize>, notes: &mut Vec<Note>) {
    for (index, thread) in snapshot.threads.iter().enumerate().filter(|(index, _)| Some(*index) != crashed) {
        let Some(fault) = &thread.state.first_chance else { continue };
        let trace = traces.iter().find(|trace| trace.thread == thread.state.id);
        if trace.and_then(|trace| interrupted(fault, trace)).is_some() {
            let facts = cause::facts(&fault.exception, snapshot.cpu, snapshot.death.pid, None);
            let at = fault.pc;
            notes.push(note(
                "threads",
                format!("thread {index} was in a handler for its own {} at {at:#x}", facts.name),
            ));
        }
    }
}

fn product(product: Option<&Product>, annotations: &Annotations) -> Option<report::Product> {
    let own = annotations.product.clone();
    let given = || product.map(|product| (product.group(), product.name(), product.channel()));
    let (group, name, channel) =
        own.or_else(|| given().map(|(group, name, channel)| (group.into(), name.into(), channel.into())))?;
    Some(report::Product { group, name, channel, version: annotations.version.clone(), ..report::Product::default() })
}

fn times(snapshot: &Snapshot) -> Times {
    let times = &snapshot.times;
    let after = |duration| times.died.checked_add(duration).map(rfc3339);
    Times {
        died: Some(rfc3339(times.died)),
        gathered: after(times.gathering),
        captured: after(times.gathering.saturating_add(times.copying)),
        released: after(times.held),
        gathering_us: Some(microseconds(times.gathering)),
        copying_us: Some(microseconds(times.copying)),
        held_us: Some(microseconds(times.held)),
        ..Times::default()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn process(snapshot: &Snapshot) -> report::Process {
    let process = &snapshot.process;
    report::Process {
        pid: process.pid,
        parent: Some(process.parent),
        name: process.name.clone(),
        path: text(&process.path),
        arguments: process.arguments.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect(),
        started: process.started.map(rfc3339),
        uptime_us: process.uptime.map(microseconds),
        uid: Some(process.uid),
        effective_uid: Some(process.effective_uid),
        nice: Some(process.nice),
        role: process.role.clone(),
        cpu_user_us: process.cpu_time.map(|(user, _)| microseconds(user)),
        cpu_system_us: process.cpu_time.map(|(_, system)| microseconds(system)),
        ..report::Process::default()
    }
}

fn system(snapshot: &Snapshot) -> report::System {
    let system = &snapshot.system;
    report::System {
        os: snapshot.os.name().to_owned(),
        name: system.name.clone(),
        version: system.version.clone(),
        build: system.build.clone(),
        cpu: snapshot.cpu.name().to_owned(),
        cpu_model: system.cpu_model.clone(),
        cpu_count: (system.cpu_count > 0).then_some(system.cpu_count),
        machine: system.machine.clone(),
        page_size: (system.page_size > 0).then_some(system.page_size),
        pointer_mask: system.pointer_mask.map(Hex),
        ..report::System::default()
    }
}

/// The images, each with what names its frames got.
fn images(images: &[Image], threads: &[report::Thread]) -> Vec<report::Image> {
    let mut status: Vec<Option<SymbolStatus>> = vec![None; images.len()];
    for frame in threads.iter().flat_map(|thread| &thread.frames) {
        let Some(known) = frame.image.and_then(|index| status.get_mut(index)) else { continue };
        *known = Some(match (&known, &frame.function, frame.line) {
            (Some(SymbolStatus::Lines), ..) | (_, _, Some(_)) => SymbolStatus::Lines,
            (Some(SymbolStatus::Functions), ..) | (_, Some(_), _) => SymbolStatus::Functions,
            _ => SymbolStatus::None,
        });
    }
    let with_status = images.iter().zip(status);
    with_status
        .map(|(image, symbols)| report::Image {
            path: text(&image.path),
            base: Hex(image.base),
            size: Hex(image.size),
            id: id(&image.id),
            kind: match image.kind {
                crate::snapshot::ImageKind::Executable => ImageKind::Executable,
                crate::snapshot::ImageKind::Library => ImageKind::Library,
                crate::snapshot::ImageKind::Loader => ImageKind::Loader,
                crate::snapshot::ImageKind::Vdso => ImageKind::Vdso,
            },
            version: image.version.clone(),
            file: Some(match image.file {
                ImageFile::Same => FileState::Same,
                ImageFile::Replaced => FileState::Replaced,
                ImageFile::SharedCache => FileState::SharedCache,
                ImageFile::Unreachable => FileState::Unreachable,
            }),
            symbols,
            ..report::Image::default()
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(id: &ImageId) -> Option<String> {
    match id {
        ImageId::BuildId(bytes) => Some(hex(bytes)),
        ImageId::Uuid(bytes) => Some(hex(bytes)),
        ImageId::None => None,
    }
}

fn annotations(annotations: &Annotations, notes: &mut Vec<Note>) -> Ordered<String> {
    let mut kept: Ordered<String> = Ordered::default();
    for (key, value) in &annotations.values {
        // A JSON object with one key twice means something else to each reader.
        if kept.get(key).is_some() {
            notes.push(note("annotations", format!("a second value of \"{key}\" is left out: {value}")));
        } else {
            kept.0.push((key.clone(), value.clone()));
        }
    }
    kept
}

fn breadcrumbs(annotations: &Annotations) -> Vec<Breadcrumb> {
    let crumb = |(time, text): &(std::time::Duration, String)| Breadcrumb {
        time_us: microseconds(*time),
        text: text.clone(),
        ..Breadcrumb::default()
    };
    annotations.breadcrumbs.iter().map(crumb).collect()
}

fn messages(annotations: &Annotations) -> Vec<Message> {
    let message = |(image, message): &(std::path::PathBuf, String)| Message {
        image: text(image),
        text: message.clone(),
        ..Message::default()
    };
    annotations.messages.iter().map(message).collect()
}
