//! Checks a dump that somebody sent: whether it is one, and what it says in short.
//!
//! The `minidump` crate reads it, so that what passes here is what the dashboards' own reader accepts. That reader copies
//! whatever a dump asks for, so a count of what is asked for comes first.

use std::time::{Duration, SystemTime};

use minidump::{
    Minidump, MinidumpCrashpadInfo, MinidumpException, MinidumpMiscInfo, MinidumpModuleList, MinidumpStream,
    MinidumpSystemInfo, MinidumpThreadList, MinidumpThreadNames, Module,
};

use super::walk::{TooMuch, Walk};

/// Streams in one dump: what Breakpad's reader takes (`src/processor/minidump.cc`, `max_streams_`).
const MAX_STREAMS: u32 = 128;
/// Threads: what our own capture takes at most.
const MAX_THREADS: u32 = 16_384;
/// Modules: twice what our own capture takes at most.
const MAX_MODULES: u32 = 8192;
/// Bytes of names, identifiers and annotations in one stream. 512 annotations of 20 KiB are the most that ours writes.
const MAX_TEXT: u64 = 16 << 20;

/// What a dump says in short. Everything in it was written by whoever sent the dump: it is text to escape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// When it was written.
    pub time: Option<SystemTime>,
    /// "linux", "mac", "windows", …; `None` without a SystemInfo stream.
    pub os: Option<String>,
    /// Version and build of the system.
    pub os_version: Option<String>,
    /// "amd64", "arm64", …
    pub cpu: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// The exception as the reader spells it, "SIGSEGV / SEGV_MAPERR"; `None` for a dump without one.
    pub reason: Option<String>,
    /// The address that the exception is about.
    pub address: Option<u64>,
    /// The thread that the exception is about, and its name.
    pub crashed_thread: Option<(u32, Option<String>)>,
    /// Number of threads.
    pub threads: usize,
    /// The modules, the main one first.
    pub modules: Vec<CheckedModule>,
    /// The report's id, if the writer gave one.
    pub report_id: Option<String>,
    /// Annotations of the process ("prod", "ver", "channel", …), by key.
    pub annotations: Vec<(String, String)>,
    /// What could not be read, for people.
    pub notes: Vec<String>,
}

impl Summary {
    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A module of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedModule {
    /// Its path.
    pub file: String,
    /// Breakpad's debug identifier: 32 hexadecimal digits and the age.
    pub debug_id: Option<String>,
    /// Where it was loaded.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

/// Why something is no dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not start as one, or is not of the one version there is.
    #[error("this is not a minidump: it has no valid header")]
    NotADump,
    /// Its directory of streams is cut off.
    #[error("this minidump is cut off: its directory ends early")]
    CutOff,
    /// Its directory has more streams than any writer makes.
    #[error("this minidump has {0} streams; at most {MAX_STREAMS} are taken")]
    TooManyStreams(u32),
    /// Neither threads nor a system: no reader could do anything with it.
    #[error("this minidump has neither a thread list nor system information that can be read")]
    Empty,
}

/// Checks `bytes` as a minidump of either byte order. Time and memory are at most linear in its size, whatever it says. A part
/// that can't be read, or asks for too much, is missing and noted; a dump with neither threads nor a system is refused.
pub fn check(bytes: &[u8]) -> Result<Summary, Unreadable> {
    match Walk::new(bytes, 0).word(bytes, 8) {
        Some(streams) if bytes.starts_with(b"MDMP") || bytes.starts_with(b"PMDM") => {
            if streams > MAX_STREAMS {
                return Err(Unreadable::TooManyStreams(streams));
            }
        }
        _ => return Err(Unreadable::NotADump),
    }
    let dump = Minidump::read(bytes).map_err(|error| match error {
        minidump::Error::MissingDirectory => Unreadable::CutOff,
        _ => Unreadable::NotADump,
    })?;

    let mut summary = Summary {
        time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(dump.header.time_date_stamp.into())),
        ..Summary::default()
    };
    let mut read = Reading { dump: &dump, notes: Vec::new() };

    let system = read.stream::<MinidumpSystemInfo>("SystemInfo", |_| Ok(()));
    if let Some(system) = &system {
        summary.os = Some(system.os.to_string());
        summary.cpu = Some(system.cpu.to_string());
        let (version, build) = system.os_parts();
        summary.os_version = Some(match build {
            Some(build) => format!("{version} {build}"),
            None => version,
        });
    }
    summary.pid =
        read.stream::<MinidumpMiscInfo>("MiscInfo", |_| Ok(())).and_then(|misc| misc.raw.process_id().copied());

    // Sizes and fields of MINIDUMP_THREAD, MINIDUMP_THREAD_NAME and MINIDUMP_MODULE (minidumpapiset.h).
    let walk = || Walk::new(bytes, MAX_TEXT);
    let threads =
        read.stream::<MinidumpThreadList<'_>>("ThreadList", |list| walk().list(list, 48, MAX_THREADS, None, None));
    let names =
        read.stream::<MinidumpThreadNames>("ThreadNames", |list| walk().list(list, 12, MAX_THREADS, Some(4), None));
    let modules =
        read.stream::<MinidumpModuleList>("ModuleList", |list| walk().list(list, 108, MAX_MODULES, Some(20), Some(76)));
    let annotations = read.stream::<MinidumpCrashpadInfo>("CrashpadInfo", |info| walk().crashpad(info));
    if threads.is_none() && system.is_none() {
        return Err(Unreadable::Empty);
    }

    summary.threads = threads.map_or(0, |threads| threads.threads.len());
    if let Some(modules) = modules {
        summary.modules = modules.iter().map(checked_module).collect();
    }
    if let Some(info) = annotations {
        let id = info.raw.report_id.to_string();
        summary.report_id = id.bytes().any(|byte| !matches!(byte, b'0' | b'-')).then_some(id);
        summary.annotations = info.simple_annotations.into_iter().collect();
    }
    if let (Some(exception), Some(system)) = (read.stream::<MinidumpException<'_>>("Exception", |_| Ok(())), &system) {
        summary.reason = Some(exception.get_crash_reason(system.os, system.cpu).to_string());
        summary.address = Some(exception.get_crash_address(system.os, system.cpu));
        let thread = exception.get_crashing_thread_id();
        let name = names.as_ref().and_then(|names| names.get_name(thread)).map(|name| name.into_owned());
        summary.crashed_thread = Some((thread, name));
    }
    summary.notes = read.notes;
    Ok(summary)
}

fn checked_module(module: &minidump::MinidumpModule) -> CheckedModule {
    CheckedModule {
        file: module.code_file().into_owned(),
        debug_id: module.debug_identifier().map(|id| id.breakpad().to_string()),
        base: module.base_address(),
        size: module.size(),
    }
}

/// Reads streams one by one and keeps what went wrong.
struct Reading<'a> {
    dump: &'a Minidump<'a, &'a [u8]>,
    notes: Vec<String>,
}

impl<'a> Reading<'a> {
    /// The stream of type `S`, if it is there, asks for no more than it may, and can be read.
    fn stream<S: MinidumpStream<'a>>(
        &mut self,
        name: &str,
        count: impl FnOnce(&[u8]) -> Result<(), TooMuch>,
    ) -> Option<S> {
        let note = match self.dump.get_raw_stream(S::STREAM_TYPE) {
            Ok(raw) => match count(raw).map(|()| self.dump.get_stream::<S>()) {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => format!("the {name} stream can't be read: {error}"),
                Err(TooMuch) => format!("the {name} stream asks for more than is taken from one dump"),
            },
            Err(minidump::Error::StreamNotFound) => return None,
            Err(error) => format!("the {name} stream lies outside the dump: {error}"),
        };
        self.notes.push(note);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump of the given streams, one after the other behind the directory.
    fn dump(streams: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut bytes = words(&[0x504d_444d, 0xa793, streams.len() as u32, 32, 0, 1_700_000_000, 0, 0]);
        let mut at = 32 + 12 * streams.len();
        for (kind, stream) in streams {
            bytes.extend(words(&[*kind, stream.len() as u32, at as u32]));
            at += stream.len();
        }
        bytes.extend(streams.iter().flat_map(|(_, stream)| stream.iter().copied()));
        bytes
    }

    /// SystemInfo of Linux on x86-64 (PROCESSOR_ARCHITECTURE_AMD64 = 9, MD_OS_LINUX = 0x8201).
    fn system() -> (u32, Vec<u8>) {
        let mut stream = vec![0; 56];
        stream[0] = 9;
        stream[8] = 6;
        stream[20..24].copy_from_slice(&0x8201_u32.to_le_bytes());
        (7, stream)
    }

    #[test]
    fn what_is_no_dump_is_refused() {
        for bytes in [&b""[..], b"MDMP", b"\x7fELF\x02\x01\x01\0", &[b'x'; 4096], &dump(&[system()])[..31]] {
            assert_eq!(check(bytes), Err(Unreadable::NotADump));
        }
        assert_eq!(check(&dump(&[system()])[..40]), Err(Unreadable::CutOff));
        assert_eq!(check(&dump(&[])), Err(Unreadable::Empty));
    }

    #[test]
    fn a_dump_whose_signature_was_never_written_is_refused() {
        let mut bytes = dump(&[system()]);
        bytes[..4].fill(0);
        assert_eq!(check(&bytes), Err(Unreadable::NotADump));
    }

    #[test]
    fn a_directory_of_millions_is_refused_before_it_is_read() {
        let mut bytes = dump(&[system()]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(check(&bytes), Err(Unreadable::TooManyStreams(u32::MAX)));
    }

    #[test]
    fn a_dump_with_only_a_system_is_taken() {
        let summary = check(&dump(&[system()])).unwrap();
        assert_eq!(summary.os.as_deref(), Some("linux"));
        assert_eq!(summary.cpu.as_deref(), Some("amd64"));
        assert_eq!(summary.reason, None);
        assert_eq!(summary.time, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        assert_eq!(summary.notes, Vec::<String>::new());
    }

    #[test]
    fn an_exception_is_spelled_by_the_reader() {
        let mut exception = vec![0; 168];
        exception[0] = 42;
        exception[8] = 11;
        exception[12] = 1;
        exception[24..32].copy_from_slice(&0xdead_beef_u64.to_le_bytes());
        let summary = check(&dump(&[system(), (6, exception)])).unwrap();
        assert_eq!(summary.reason.as_deref(), Some("SIGSEGV / SEGV_MAPERR"));
        assert_eq!(summary.address, Some(0xdead_beef));
        assert_eq!(summary.crashed_thread, Some((42, None)));
    }

    #[test]
    fn names_that_all_share_one_long_string_are_not_read() {
        // 1,000 threads that all bear the same name of 1 MiB would be copied into 1 GB.
        let mut names = 1000_u32.to_le_bytes().to_vec();
        let string_at = 32 + 12 * 2 + 56 + 4 + 1000 * 12;
        for thread in 0..1000_u32 {
            names.extend(thread.to_le_bytes());
            names.extend(u64::from(string_at as u32).to_le_bytes());
        }
        let mut bytes = dump(&[system(), (24, names)]);
        assert_eq!(bytes.len(), string_at);
        bytes.extend((1_u32 << 20).to_le_bytes());
        bytes.extend(vec![b'a'; 1 << 20]);
        let summary = check(&bytes).unwrap();
        assert_eq!(summary.notes, ["the ThreadNames stream asks for more than is taken from one dump"]);
    }

    #[test]
    fn annotations_that_all_share_one_list_are_not_read() {
        // A list of modules that all have one long list of annotations, whose values are all one long string.
        let at = 32 + 12 * 2 + 56;
        let word = |value: usize| (value as u32).to_le_bytes();
        let mut info = vec![0; 52];
        info[0] = 1;
        info[44..48].copy_from_slice(&word(4 + 12 * 1000));
        info[48..52].copy_from_slice(&word(at + 52));
        info.extend(word(1000));
        let module = at + 52 + 4 + 12 * 1000;
        (0..1000).for_each(|_| info.extend([word(0), word(28), word(module)].concat()));
        info.extend(word(1));
        let list = module + 28;
        info.extend([word(4 + 4 * 10_000), word(list)].concat());
        info.extend([0; 16]);
        info.extend(word(10_000));
        let string = list + 4 + 4 * 10_000;
        (0..10_000).for_each(|_| info.extend(word(string)));
        info.extend(word(100_000));
        info.extend(vec![b'a'; 100_000]);
        info.push(0);
        let summary = check(&dump(&[system(), (0x4350_0001, info)])).unwrap();
        assert_eq!(summary.notes, ["the CrashpadInfo stream asks for more than is taken from one dump"]);
    }

    #[test]
    fn a_list_that_lies_about_its_length_costs_that_list() {
        let mut list = 5_u32.to_le_bytes().to_vec();
        list.extend([0; 48]);
        let summary = check(&dump(&[system(), (3, list)])).unwrap();
        assert_eq!(summary.threads, 0);
        assert!(summary.notes[0].starts_with("the ThreadList stream can't be read"), "{:?}", summary.notes);
    }
}
