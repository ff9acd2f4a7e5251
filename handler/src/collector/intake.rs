//! One upload on its way to the disk: bytes in, files aside out. Runs on a thread of its own, where writing may block; the
//! network is on the other side of a short queue.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzDecoder;
use tokio::sync::mpsc;

use super::crashes::{DUMP_FILE, Incoming, REPORT_FILE};
use super::limits::Limits;
use super::meta::Fields;
use super::multipart::{Head, Parser, Sink};
use super::refusal::Refusal;
use crate::upload::{DUMP_PART, REPORT_PART};

/// Bytes decompressed at a time. A thousand times as many may come out.
const COMPRESSED_PIECE: usize = 4 * 1024;
/// Most bytes of a field's name.
const MAX_NAME: usize = 256;
/// Attachments that are named in the notes.
const MAX_NAMED: usize = 20;

/// What the network side hands over.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// The body is complete. A queue that closes without this is a body that broke off.
    End,
}

/// How the body is to be understood.
#[derive(Debug)]
pub(super) enum Body {
    /// A form.
    Form(Parser),
    /// The dump itself.
    Dump,
}

/// A complete upload, not yet looked at.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) files: Incoming,
    pub(super) fields: Fields,
    pub(super) dump_size: u64,
    pub(super) has_report: bool,
    pub(super) notes: Vec<String>,
}

/// Takes a body in. Whatever goes wrong, nothing is left of it.
pub(super) fn receive(
    body: Body,
    gzip: bool,
    files: Incoming,
    limits: Limits,
    pieces: mpsc::Receiver<Piece>,
) -> Result<Upload, Refusal> {
    let raw = matches!(body, Body::Dump);
    let mut taker = Taker { body, parts: Parts::new(files, limits), room: limits.body(), refusal: None };
    if raw {
        taker.parts.begin(Head { name: DUMP_PART.to_owned(), file_name: None })?;
    }
    let mut taker = if gzip { decompress(taker, pieces)? } else { copy(taker, pieces)? };
    match &taker.body {
        Body::Form(parser) => parser.finish()?,
        Body::Dump => taker.parts.end()?,
    }
    taker.parts.complete()
}

fn copy(mut taker: Taker, mut pieces: mpsc::Receiver<Piece>) -> Result<Taker, Refusal> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(bytes)) => taker.take(&bytes)?,
            Some(Piece::End) => return Ok(taker),
            None => return Err(broke_off()),
        }
    }
}

fn decompress(taker: Taker, mut pieces: mpsc::Receiver<Piece>) -> Result<Taker, Refusal> {
    let mut decoder = GzDecoder::new(taker);
    let refused = |decoder: &mut GzDecoder<Taker>, error: io::Error| {
        let refusal = decoder.get_mut().refusal.take();
        refusal.unwrap_or_else(|| {
            Refusal::bad(format!("the body says that it is gzip, but can't be decompressed: {error}"))
        })
    };
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(bytes)) => {
                for piece in bytes.chunks(COMPRESSED_PIECE) {
                    if let Err(error) = decoder.write_all(piece) {
                        return Err(refused(&mut decoder, error));
                    }
                }
            }
            Some(Piece::End) => break,
            None => return Err(broke_off()),
        }
    }
    if let Err(error) = decoder.try_finish() {
        return Err(refused(&mut decoder, error));
    }
    decoder.finish().map_err(|error| Refusal::bad(format!("the compressed body can't be read: {error}")))
}

fn broke_off() -> Refusal {
    Refusal::bad("the connection broke off before the body was complete")
}

/// Where decompressed bytes go.
#[derive(Debug)]
struct Taker {
    body: Body,
    parts: Parts,
    /// Bytes that may still come.
    room: u64,
    /// Why writing failed, kept here on its way through the decoder.
    refusal: Option<Refusal>,
}

impl Taker {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.room = self
            .room
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Refusal::too_large("the body is larger than a dump, a report and their fields may be"))?;
        match &mut self.body {
            Body::Form(parser) => parser.feed(bytes, &mut self.parts),
            Body::Dump => self.parts.data(bytes),
        }
    }
}

impl Write for Taker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(refusal) => {
                let error = io::Error::other(refusal.reason.clone());
                self.refusal = Some(refusal);
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sorts a form's parts: dump and report to files, text to memory, all else away.
#[derive(Debug)]
struct Parts {
    files: Incoming,
    limits: Limits,
    current: Current,
    seen: usize,
    fields: Fields,
    fields_size: usize,
    dump: Option<u64>,
    report: Option<u64>,
    skipped: usize,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Current {
    Nothing,
    Dump { file: File, size: u64 },
    Report { file: File, size: u64 },
    Field { name: String, value: Vec<u8>, limit: usize },
    Skipped { name: String, size: u64 },
}

impl Parts {
    fn new(files: Incoming, limits: Limits) -> Parts {
        Parts {
            files,
            limits,
            current: Current::Nothing,
            seen: 0,
            fields: Fields::default(),
            fields_size: 0,
            dump: None,
            report: None,
            skipped: 0,
            notes: Vec::new(),
        }
    }

    fn complete(mut self) -> Result<Upload, Refusal> {
        let dump_size = match self.dump {
            Some(0) => return Err(Refusal::bad("the dump is empty")),
            Some(size) => size,
            None => return Err(Refusal::bad(format!("the form has no part named {DUMP_PART}"))),
        };
        if self.skipped > MAX_NAMED {
            self.notes.push(format!("{} attachments were not kept", self.skipped));
        }
        self.fields.unfold_event();
        let Parts { files, fields, report, notes, .. } = self;
        Ok(Upload { files, fields, dump_size, has_report: report.is_some(), notes })
    }

    fn create(&self, name: &str) -> Result<File, Refusal> {
        self.files.create(name).map_err(|error| Refusal::disk("can't keep the upload", &error))
    }

    fn field(&self, name: String) -> Result<Current, Refusal> {
        if self.fields.0.len() >= self.limits.fields {
            return Err(Refusal::too_large(format!("the form has more than {} fields", self.limits.fields)));
        }
        if name.len() > MAX_NAME {
            return Err(Refusal::too_large(format!("a field's name is longer than {MAX_NAME} bytes")));
        }
        let limit = if name == "sentry" { self.limits.event } else { self.limits.field };
        Ok(Current::Field { name, value: Vec::new(), limit })
    }
}

impl Sink for Parts {
    fn begin(&mut self, head: Head) -> Result<(), Refusal> {
        self.seen += 1;
        if self.seen > self.limits.parts {
            return Err(Refusal::too_large(format!("the form has more than {} parts", self.limits.parts)));
        }
        let twice = |name: &str| Refusal::bad(format!("the form has two parts named {name}"));
        self.current = match (head.name.as_str(), &head.file_name) {
            (DUMP_PART, _) if self.dump.is_some() => return Err(twice(DUMP_PART)),
            (DUMP_PART, _) => Current::Dump { file: self.create(DUMP_FILE)?, size: 0 },
            (REPORT_PART, _) if self.report.is_some() => return Err(twice(REPORT_PART)),
            (REPORT_PART, _) => Current::Report { file: self.create(REPORT_FILE)?, size: 0 },
            (_, None) => self.field(head.name)?,
            (_, Some(_)) => Current::Skipped { name: head.name, size: 0 },
        };
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let write = |file: &mut File, size: &mut u64, limit: u64, what: &str| {
            *size += bytes.len() as u64;
            if *size > limit {
                return Err(Refusal::too_large(format!("the {what} is larger than {limit} bytes")));
            }
            file.write_all(bytes).map_err(|error| Refusal::disk("can't keep the upload", &error))
        };
        match &mut self.current {
            Current::Nothing => Ok(()),
            Current::Dump { file, size } => write(file, size, self.limits.dump, "dump"),
            Current::Report { file, size } => write(file, size, self.limits.report, "report"),
            Current::Field { name, value, limit } => {
                self.fields_size += bytes.len();
                if value.len() + bytes.len() > *limit {
                    let name: String = name.chars().filter(|character| !character.is_control()).collect();
                    return Err(Refusal::too_large(format!("the field {name:?} is longer than {limit} bytes")));
                }
                if self.fields_size > self.limits.fields_total {
                    let limit = self.limits.fields_total;
                    return Err(Refusal::too_large(format!(
                        "the form's fields are longer than {limit} bytes together"
                    )));
                }
                value.extend_from_slice(bytes);
                Ok(())
            }
            Current::Skipped { size, .. } => {
                *size += bytes.len() as u64;
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        let synced = |file: File| file.sync_all().map_err(|error| Refusal::disk("can't keep the upload", &error));
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {}
            Current::Dump { file, size } => {
                synced(file)?;
                self.dump = Some(size);
            }
            Current::Report { file, size } => {
                synced(file)?;
                self.report = Some(size);
            }
            Current::Field { name, value, .. } => {
                self.fields_size += name.len();
                if self.fields.0.iter().any(|(other, _)| *other == name) {
                    self.notes.push(format!("the field {name:?} came twice; its first value is kept"));
                } else {
                    self.fields.0.push((name, String::from_utf8_lossy(&value).into_owned()));
                }
            }
            Current::Skipped { name, size } => {
                self.skipped += 1;
                if self.skipped <= MAX_NAMED {
                    self.notes.push(format!("the attachment {name:?} of {size} bytes was not kept"));
                }
            }
        }
        Ok(())
    }
}
