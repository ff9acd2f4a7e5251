//! Which request leads where.

use std::sync::Arc;

use aftermach_protocol::report::Report;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use uuid::Uuid;

use super::Shared;
use super::crashes::{self, Entry, FIELDS_FILE, REPORT_FILE};
use super::guard;
use super::meta::Fields;
use super::page::{self, CrashPage, ListPage};
use super::receive::{Dialect, read_on, receive};
use super::refusal::Refusal;
use crate::file_body::FileBody;

/// Longest filter that is looked for.
const MAX_QUERY: usize = 200;

/// Sent with every answer. Nothing on a page may run, load or be framed: its text is a crashed program's.
const SECURITY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The collector's routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    // Breakpad and Crashpad have no fixed path: the root, and Socorro's.
    let breakpad = post(|state, request| submit(state, Dialect::Breakpad, request));
    let sentry = || post(|state, request| submit(state, Dialect::Sentry, request));
    Router::new()
        .route("/", get(list).merge(breakpad.clone()))
        .route("/submit", breakpad)
        .route("/api/{project}/minidump", sentry())
        .route("/api/{project}/minidump/", sentry())
        .route("/crash/{id}", get(crash))
        .route("/crash/{id}/dump", get(dump))
        .route("/crash/{id}/report.json", get(|state, path| json(state, path, REPORT_FILE)))
        .route("/crash/{id}/fields.json", get(|state, path| json(state, path, FIELDS_FILE)))
        .fallback(async |request| {
            refuse(request, Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guarded))
        .with_state(shared)
}

/// The answer to a request that nobody takes, once whose sender has got to reading it.
fn refuse(request: Request, refusal: Refusal) -> Response {
    let (head, body) = request.into_parts();
    read_on(&head.headers, body);
    refusal.into_response()
}

async fn guarded(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let allowed = guard::check(request.method(), request.headers(), shared.remote);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            tracing::warn!("refused {method} {path:?}: {}", refusal.reason);
            refuse(request, refusal)
        }
    };
    for (name, value) in SECURITY {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn submit(State(shared): State<Arc<Shared>>, dialect: Dialect, request: Request) -> Response {
    match receive(&shared, dialect, request).await {
        Ok(id) => {
            tracing::info!("received crash {id}");
            // The body is the id, and nothing else: Crashpad stores it as it is, Sentry's clients parse it.
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], id.hyphenated().to_string()).into_response()
        }
        Err(refusal) => {
            tracing::warn!("refused an upload: {} ({})", refusal.reason, refusal.status);
            refusal.into_response()
        }
    }
}

async fn list(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let parameters = query(&uri);
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
    let query: String = value("q").chars().take(MAX_QUERY).collect();
    let page = value("page").parse().unwrap_or(1);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1").to_owned();
    // A long list takes memory, as a dump does: in turn.
    let Ok(_turn) = shared.checks.acquire().await else { return failed() };
    let shared = Arc::clone(&shared);
    blocking(move || match shared.crashes.list() {
        Ok((entries, count)) => {
            let submit = format!("http://{host}/submit");
            html(
                StatusCode::OK,
                page::list(&ListPage { entries: &entries, count, query: &query, page, submit: &submit }),
            )
        }
        Err(error) => {
            tracing::warn!("can't read the store: {error}");
            let text = format!("The store can't be read: {error}.");
            html(StatusCode::INTERNAL_SERVER_ERROR, page::message("No list", &text))
        }
    })
    .await
}

async fn crash(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    // Dumps are in memory while they are looked at: in turn.
    let Ok(_turn) = shared.checks.acquire().await else { return failed() };
    let shared = Arc::clone(&shared);
    blocking(move || {
        let Some((id, entry)) = find(&shared, &id) else { return not_found() };
        let meta = match entry {
            Entry::Whole(meta) => meta,
            Entry::Damaged(id, why) => {
                let text = format!("The folder {id} can't be read ({why}). Its other files may still be there.");
                return html(StatusCode::INTERNAL_SERVER_ERROR, page::message("This crash is damaged", &text));
            }
        };
        let read = |name| match shared.crashes.read(id, name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(format!("{name} is missing")),
            Err(error) => Err(error.to_string()),
        };
        let report = meta
            .report
            .then(|| read(REPORT_FILE).and_then(|bytes| Report::from_bytes(&bytes).map_err(|error| error.to_string())));
        // With a report, the dump is not looked at: only whether it is there.
        let path = shared.crashes.dump_path(id);
        let dump = if matches!(report, Some(Ok(_))) {
            std::fs::metadata(path).map(|_| Vec::new())
        } else {
            std::fs::read(path)
        };
        html(
            StatusCode::OK,
            page::crash(&CrashPage {
                meta: &meta,
                fields: read(FIELDS_FILE)
                    .and_then(|bytes| Fields::from_bytes(&bytes).map_err(|error| error.to_string())),
                report,
                dump: dump.map_err(|error| error.to_string()),
            }),
        )
    })
    .await
}

/// The dump, byte for byte.
async fn dump(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    blocking(move || {
        let Some((id, _)) = find(&shared, &id) else { return not_found() };
        let opened = std::fs::File::open(shared.crashes.dump_path(id))
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, length) = match opened {
            Ok(opened) => opened,
            Err(error) => return Refusal::disk("can't read the dump", &error).into_response(),
        };
        let (body, _) = FileBody::new(file, length);
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.dmp\"")),
        ];
        (headers, Body::new(body)).into_response()
    })
    .await
}

async fn json(State(shared): State<Arc<Shared>>, Path(id): Path<String>, name: &'static str) -> Response {
    blocking(move || {
        let Some((id, _)) = find(&shared, &id) else { return not_found() };
        match shared.crashes.read(id, name) {
            Ok(Some(bytes)) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Ok(None) => not_found(),
            Err(error) => Refusal::disk("can't read the file", &error).into_response(),
        }
    })
    .await
}

fn find(shared: &Shared, id: &str) -> Option<(Uuid, Entry)> {
    let id = crashes::parse_id(id)?;
    Some((id, shared.crashes.entry(id)?))
}

fn not_found() -> Response {
    html(StatusCode::NOT_FOUND, page::message("No such crash", "It was deleted, or the address is wrong."))
}

fn failed() -> Response {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the collector failed to answer").into_response()
}

fn html(status: StatusCode, page: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// Runs `work`, which reads files, where it may block.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| failed())
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    let text = format!("http://localhost/?{}", uri.query().unwrap_or(""));
    let Ok(url) = reqwest::Url::parse(&text) else { return Vec::new() };
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
