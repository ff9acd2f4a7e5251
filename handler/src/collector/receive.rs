//! `POST`: from a request to a crash in the store.

use std::fs;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aftermach_protocol::report::Report;
use axum::body::{Body as RequestBody, HttpBody};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Shared;
use super::crashes::{DUMP_FILE, FIELDS_FILE, REPORT_FILE};
use super::header_value;
use super::intake::{self, Body, Piece, Upload};
use super::meta::{Meta, Parts};
use super::multipart::Parser;
use super::refusal::Refusal;

/// Pieces that may wait for the disk.
const PIECES_WAITING: usize = 8;
/// How long, and how much, a refused body is read on, so that its sender gets to reading the answer. A connection that is
/// closed over unread bytes is reset, and many systems then discard the answer at the other end (RFC 9112, section 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(5);
const DRAIN_BYTES: u64 = 1 << 30;

/// Which server the sender takes us for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Breakpad,
    Sentry,
}

/// Receives one upload. Its id, or why there is none.
pub(super) async fn receive(
    shared: &Arc<Shared>,
    dialect: Dialect,
    request: Request<RequestBody>,
) -> Result<Uuid, Refusal> {
    let (head, mut body) = request.into_parts();
    let deadline = Instant::now() + shared.limits.upload;
    let result = match prepare(shared, dialect, &head.headers) {
        Ok(form) => take_in(shared, form, &mut body, deadline).await,
        Err(refusal) => Err(refusal),
    };
    if result.is_err() {
        read_on(&head.headers, body);
    }
    let (via, mut upload) = result?;
    for (name, value) in query_fields(head.uri.query().unwrap_or("")) {
        if upload.fields.first(&[&name]).is_none() {
            upload.fields.0.push((name, value));
        }
    }
    keep(shared, via, upload).await
}

/// Reads on what a refused request's sender still has to send.
pub(super) fn read_on(headers: &HeaderMap, body: RequestBody) {
    // A sender that waits for "100 Continue" has sent nothing yet and needs nothing read.
    if !headers.contains_key(header::EXPECT) {
        tokio::spawn(drain(body));
    }
}

/// A request whose headers are in order.
struct Form {
    body: Body,
    gzip: bool,
    via: &'static str,
}

/// Everything that the headers alone decide.
fn prepare(shared: &Shared, dialect: Dialect, headers: &HeaderMap) -> Result<Form, Refusal> {
    let limits = &shared.limits;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limits.body()) {
        return Err(Refusal::too_large(format!("the body is larger than the {} bytes that are taken", limits.body())));
    }
    let gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase()).as_deref()
    {
        None | Some(b"" | b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => {
            let reason = "only gzip is understood as Content-Encoding";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (kind, _) = header_value::parse(content_type);
    if matches!(kind.as_str(), "application/octet-stream" | "application/x-dmp") {
        return Ok(Form { body: Body::Dump, gzip, via: "raw" });
    }
    if !kind.starts_with("multipart/") {
        let reason = "send a form (multipart/form-data) with the dump as upload_file_minidump, or the dump alone as \
                      application/octet-stream";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let via = match dialect {
        Dialect::Breakpad => "breakpad",
        Dialect::Sentry => "sentry",
    };
    Ok(Form { body: Body::Form(Parser::new(content_type, limits.part_head)?), gzip, via })
}

/// Reads the body and hands it to the thread that writes it.
async fn take_in(
    shared: &Arc<Shared>,
    form: Form,
    body: &mut RequestBody,
    deadline: Instant,
) -> Result<(&'static str, Upload), Refusal> {
    let Form { body: kind, gzip, via } = form;
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let writer = {
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || {
            let files = shared.crashes.incoming()?;
            intake::receive(kind, gzip, files, shared.limits, pieces)
        })
    };
    let read = pump(shared, body, sender, deadline).await;
    let written = writer.await.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the writer failed"))?;
    // The writer ends early only with a refusal of its own, and that is the better answer; but a body that was not read to its
    // end is only known here.
    match (read, written) {
        (Ok(()), Ok(upload)) => Ok((via, upload)),
        (Ok(()), Err(refusal)) | (Err(refusal), _) => Err(refusal),
    }
}

/// Passes the body on, piece by piece. `Ok` if all of it was passed on or the writer wants no more.
async fn pump(
    shared: &Shared,
    body: &mut RequestBody,
    sender: mpsc::Sender<Piece>,
    deadline: Instant,
) -> Result<(), Refusal> {
    loop {
        let until = deadline.min(Instant::now() + shared.limits.idle);
        match timeout_at(until, data(body)).await {
            Ok(Some(Ok(bytes))) => {
                if sender.send(Piece::Data(bytes)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(Some(Err(error))) => {
                return Err(Refusal::bad(format!("the body can't be read to its end: {error}")));
            }
            Ok(None) => {
                let _ = sender.send(Piece::End).await;
                return Ok(());
            }
            Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        }
    }
}

/// The body's next bytes.
async fn data(body: &mut RequestBody) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => match frame.into_data() {
                Ok(bytes) => return Some(Ok(bytes)),
                // Trailers.
                Err(_) => continue,
            },
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn drain(mut body: RequestBody) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut room = DRAIN_BYTES;
    while let Ok(Some(Ok(bytes))) = timeout_at(deadline, data(&mut body)).await {
        let Some(rest) = room.checked_sub(bytes.len() as u64) else { return };
        room = rest;
    }
}

/// Crashpad and Breakpad say product, version and client in the address too, Backtrace everything. Keys stay out.
fn query_fields(query: &str) -> Vec<(String, String)> {
    const SECRET: [&str; 5] = ["key", "token", "secret", "password", "auth"];
    const MAX_QUERY_FIELDS: usize = 32;
    const MAX_QUERY: usize = 4096;
    if query.len() > MAX_QUERY {
        return Vec::new();
    }
    // Parsed as an address's query, since nothing else in the tree reads one.
    let Ok(url) = reqwest::Url::parse(&format!("http://localhost/?{query}")) else { return Vec::new() };
    url.query_pairs()
        .filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !name.is_empty() && !SECRET.iter().any(|secret| name.contains(secret))
        })
        .take(MAX_QUERY_FIELDS)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// Looks at what came in, and takes it into the store if it holds a dump.
async fn keep(shared: &Arc<Shared>, via: &'static str, upload: Upload) -> Result<Uuid, Refusal> {
    let failed = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the check failed");
    // A dump is in memory while it is checked.
    let Ok(_turn) = shared.checks.acquire().await else { return Err(failed()) };
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || check_and_keep(&shared, via, upload)).await.map_err(|_| failed())?
}

fn check_and_keep(shared: &Shared, via: &'static str, upload: Upload) -> Result<Uuid, Refusal> {
    let Upload { files, fields, dump_size, has_report, mut notes } = upload;
    let dump = fs::read(files.path(DUMP_FILE)).map_err(|error| Refusal::disk("can't read the upload", &error))?;
    let dump = crate::minidump::check(&dump).map_err(|error| Refusal::bad(error.to_string()))?;
    let report = if has_report {
        let bytes =
            fs::read(files.path(REPORT_FILE)).map_err(|error| Refusal::disk("can't read the upload", &error))?;
        match Report::from_bytes(&bytes) {
            Ok(report) => Some(report),
            Err(error) => {
                files.remove(REPORT_FILE);
                notes.push(format!("the report that came along was not kept: {error}"));
                None
            }
        }
    } else {
        None
    };
    files.write(FIELDS_FILE, &fields.to_bytes())?;
    let wanted = fields.wanted_id();
    let parts = Parts { via, fields: &fields, report: report.as_ref(), dump: &dump, size: dump_size, notes };
    let meta = Meta::gather(parts, SystemTime::now());
    shared.crashes.keep(files, meta, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_gives_fields_but_no_keys() {
        let fields = query_fields("product=T%20x&version=1&sentry_key=abc&api_key=d&Token=e&=f");
        assert_eq!(fields, [("product".into(), "T x".into()), ("version".into(), "1".into())]);
        assert_eq!(query_fields(&"a=b&".repeat(10_000)), []);
    }
}
