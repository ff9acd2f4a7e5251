//! The report for people, from a [`Report`] alone: the same for one that was just made and one from the store.
//!
//! Everything that the dead program chose (names, paths, annotations, messages) is escaped: see [`escape`].

mod escape;
mod threads;

use std::fmt::Write;

use aftermach_protocol::report::{
    Access, Exception, ExceptionKind, FileState, Image, Report, SymbolStatus, Thread, UploadState,
};

pub use escape::escape;

/// How much is shown, and how wide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Columns; longer lines of frames and threads are cut. `None`: as long as they are.
    pub width: Option<usize>,
    /// All frames of all threads, and all images.
    pub all: bool,
}

/// The report as text.
pub fn render(report: &Report, options: &Options) -> String {
    let mut out = String::new();
    if !report.exception.summary.is_empty() {
        let _ = writeln!(out, "{}\n", escape(&report.exception.summary));
    }
    facts(&mut out, report);
    let crashed = report.exception.thread.and_then(|index| report.threads.get(index));
    let mut marked = false;
    if let Some(thread) = crashed {
        let name = if thread.name.is_empty() { String::new() } else { format!(" \"{}\"", escape(&thread.name)) };
        let did = if is_simulated(report) { "asked for this report" } else { "crashed" };
        let _ = writeln!(out, "\nThread {}{name} (id {}) {did}", thread.index, thread.id);
        marked |= threads::full(&mut out, report, thread, options);
    }
    if report.threads.iter().any(|thread| !thread.crashed) {
        out.push_str("\nOther threads\n");
        marked |= threads::others(&mut out, report, options);
    }
    if marked {
        let _ = write!(out, "\n{}", threads::LEGEND);
    }
    if let Some(thread) = crashed {
        registers(&mut out, thread, options);
    }
    said(&mut out, report);
    images(&mut out, report, options);
    list(&mut out, "Notes", report.notes.iter().map(|note| format!("{}: {}", escape(&note.part), escape(&note.text))));
    uploads(&mut out, report);
    out
}

/// Whether nobody died.
fn is_simulated(report: &Report) -> bool {
    report.exception.kind == ExceptionKind::Simulated
}

/// A line of the head.
fn fact(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(out, "{name:<11} {value}");
    }
}

fn facts(out: &mut String, report: &Report) {
    fact(out, "Report", &escape(&report.report_id));
    if let Some(signature) = &report.signature {
        fact(out, "Signature", &escape(&signature.text));
    }
    if let Some(died) = &report.times.died {
        fact(out, "Time", &escape(&died.replacen('T', " ", 1).replacen('Z', " UTC", 1)));
    }
    if let Some(product) = &report.product {
        let version = product.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let channel = if product.channel.is_empty() { String::new() } else { format!(", {}", product.channel) };
        fact(out, "Product", &escape(&format!("{}{version} ({}{channel})", product.name, product.group)));
    }
    process(out, report);
    let system = &report.system;
    let parts = [
        format!("{} {}", system.name, system.version).trim().to_owned(),
        if system.os == "macos" { system.build.clone() } else { String::new() },
        system.cpu.clone(),
        system.cpu_count.map(|count| format!("{count} processors")).unwrap_or_default(),
        system.cpu_model.clone(),
        system.machine.clone().unwrap_or_default(),
    ];
    fact(out, "System", &escape(&joined(&parts)));
    fact(out, "Exception", &exception(&report.exception));
    if let Some(fault) = &report.first_chance {
        let fault = &fault.exception;
        let code = fault.code.as_ref().and_then(|code| code.name.clone()).unwrap_or_default();
        let parts =
            [fault.name.clone(), code, fault.address.map(|address| format!("address {address}")).unwrap_or_default()];
        fact(out, "Handling", &escape(&joined(&parts)));
    }
    let times = &report.times;
    let spent = [
        times.held_us.map(|time| format!("held {}", milliseconds(time))).unwrap_or_default(),
        times.unwinding_us.map(|time| format!("unwound in {}", milliseconds(time))).unwrap_or_default(),
        times.writing_us.map(|time| format!("written in {}", milliseconds(time))).unwrap_or_default(),
    ];
    fact(out, "Capture", &joined(&spent));
}

fn joined(parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

fn process(out: &mut String, report: &Report) {
    let process = &report.process;
    let user = match (process.uid, process.effective_uid) {
        (Some(real), Some(effective)) if real != effective => format!("uid {real} (effective {effective})"),
        (Some(real), _) => format!("uid {real}"),
        _ => String::new(),
    };
    let parts = [
        if process.pid == 0 { process.name.clone() } else { format!("{} (pid {})", process.name, process.pid) },
        process.parent.map(|parent| format!("parent {parent}")).unwrap_or_default(),
        user,
        process.role.clone().unwrap_or_default(),
        process.uptime_us.map(|time| format!("lived {}", age(time))).unwrap_or_default(),
    ];
    fact(out, "Process", &escape(&joined(&parts)));
    fact(out, "Path", &escape(&process.path));
    let arguments: Vec<String> = process.arguments.iter().map(|argument| quoted(argument)).collect();
    fact(out, "Arguments", &arguments.join(" "));
}

/// An argument such that its end can be seen.
fn quoted(argument: &str) -> String {
    let escaped = escape(argument);
    if argument.is_empty() || argument.contains(char::is_whitespace) {
        format!("'{escaped}'")
    } else {
        escaped.into_owned()
    }
}

fn age(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    match seconds {
        0..60 => format!("{seconds}.{:03} s", microseconds / 1000 % 1000),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// "SIGSEGV (11), SEGV_MAPERR (1), address 0x10, write"
fn exception(exception: &Exception) -> String {
    let mut parts = vec![exception.name.clone()];
    if let Some(signal) = &exception.signal {
        let name = if signal.name == exception.name { String::new() } else { format!("{} ", signal.name) };
        match name.is_empty() {
            true => parts[0] = format!("{} ({})", exception.name, signal.number),
            false => parts.push(format!("{name}({})", signal.number)),
        }
    }
    if let Some(code) = &exception.code {
        let value = code.value;
        parts.push(code.name.as_ref().map_or(format!("code {value}"), |name| format!("{name} ({value})")));
    }
    if let Some(address) = exception.address {
        parts.push(format!("address {address}"));
    }
    if let Some(address) = exception.computed_address {
        parts.push(format!("address {address} by the instruction"));
    }
    if let Some(access) = &exception.access {
        parts.push(match access {
            Access::Read => "read".to_owned(),
            Access::Write => "write".to_owned(),
            Access::Execute => "execute".to_owned(),
            Access::Other(other) => other.clone(),
        });
    }
    if let Some(sender) = &exception.sender {
        parts.push(format!("from pid {}, uid {}", sender.pid, sender.uid));
    }
    escape(&joined(&parts)).into_owned()
}

fn registers(out: &mut String, thread: &Thread, options: &Options) {
    if thread.registers.is_empty() {
        return;
    }
    out.push_str("\nRegisters\n");
    // " rflags 0x0000000000000246" with two spaces before.
    let columns = (options.width.unwrap_or(100) / 27).clamp(1, 4);
    for row in thread.registers.0.chunks(columns) {
        for (name, value) in row {
            let _ = write!(out, "  {:>6} 0x{:016x}", escape(name), value.0);
        }
        out.push('\n');
    }
}

/// What the program and its libraries said.
fn said(out: &mut String, report: &Report) {
    let annotations = report.annotations.iter();
    list(out, "Annotations", annotations.map(|(key, value)| format!("{} = {}", escape(key), escape(value))));
    let crumb = |time: u64| format!("{}.{:03} s", time / 1_000_000, time / 1000 % 1000);
    let breadcrumbs = report.breadcrumbs.iter();
    list(
        out,
        "Breadcrumbs",
        breadcrumbs.map(|breadcrumb| format!("{:>10}  {}", crumb(breadcrumb.time_us), escape(&breadcrumb.text))),
    );
    let messages = report.messages.iter();
    list(
        out,
        "Messages",
        messages.map(|message| format!("{}: {}", escape(file_name(&message.image)), escape(&message.text))),
    );
}

fn list(out: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(out, "\n{heading}");
        for line in lines {
            let _ = writeln!(out, "  {}", line.trim_end());
        }
    }
}

/// The images that the crashed thread's frames lie in, or all.
fn images(out: &mut String, report: &Report, options: &Options) {
    let crashed = report.exception.thread.and_then(|index| report.threads.get(index));
    let is_shown = |index: usize| {
        options.all || crashed.is_some_and(|thread| thread.frames.iter().any(|frame| frame.image == Some(index)))
    };
    let shown: Vec<&Image> =
        report.images.iter().enumerate().filter(|(index, _)| is_shown(*index)).map(|(_, image)| image).collect();
    let more = report.images.len() - shown.len();
    let thread = if is_simulated(report) { "this" } else { "the crashed" };
    let more = (more > 0).then(|| format!("and {more} more that {thread} thread was not in"));
    list(out, "Images", shown.into_iter().map(image).chain(more));
}

fn image(image: &Image) -> String {
    let end = image.base.0.wrapping_add(image.size.0);
    let version = image.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let id = image.id.as_deref().unwrap_or("no id");
    let mut odd = Vec::new();
    match image.symbols {
        Some(SymbolStatus::None) => odd.push("no symbols"),
        Some(SymbolStatus::Functions) => odd.push("no source lines"),
        _ => {}
    }
    match image.file {
        Some(FileState::Replaced) => odd.push("file was replaced"),
        Some(FileState::Unreachable) => odd.push("no file"),
        _ => {}
    }
    let odd = if odd.is_empty() { String::new() } else { format!(" ({})", odd.join(", ")) };
    let line = format!("{:#014x}-{end:#014x} {}{version} <{id}>{odd}", image.base.0, image.path);
    escape(&line).into_owned()
}

fn uploads(out: &mut String, report: &Report) {
    let lines = report.upload.iter().map(|upload| {
        let state = match &upload.state {
            UploadState::Pending => "not sent yet",
            UploadState::Accepted => "accepted",
            UploadState::Rejected => "rejected",
            UploadState::Retry => "failed, to be tried again",
            UploadState::Other(other) => other,
        };
        let id = upload.server_id.as_deref().map(|id| format!(" as {id}")).unwrap_or_default();
        let time = upload.time.as_deref().map(|time| format!(" ({time})")).unwrap_or_default();
        let error = upload.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        escape(&format!("{} {}: {state}{id}{time}{error}", upload.profile, upload.url)).into_owned()
    });
    list(out, "Uploads", lines);
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// A function's name without the hash that Rust's legacy mangling ends it with.
pub(super) fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

/// `line` in at most `width` columns, its end replaced by "…".
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width.max(20) => {
            line.chars().take(width.max(20) - 1).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}
