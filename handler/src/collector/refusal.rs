//! Why a request gets nothing: an HTTP status, and a sentence for whoever sent it and for the log.

use std::io;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A request that is refused. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }

    pub(super) fn bad(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, reason)
    }

    pub(super) fn too_large(reason: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }

    /// What the disk said while the collector did `what`. A full disk has its own status (RFC 4918, 507): the sender may come
    /// again when somebody has made room.
    pub(super) fn disk(what: &str, error: &io::Error) -> Refusal {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let status = if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR };
        Refusal::new(status, format!("{what}: {error}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.status, kind, format!("{}\n", self.reason)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_told_as_such() {
        for (kind, status) in [
            (io::ErrorKind::StorageFull, 507),
            (io::ErrorKind::QuotaExceeded, 507),
            (io::ErrorKind::PermissionDenied, 500),
        ] {
            assert_eq!(Refusal::disk("can't write", &kind.into()).status.as_u16(), status, "{kind}");
        }
    }
}
