//! One request, one outcome. The body is read from disk while it is sent; the answer is read up to a limit; redirects are not
//! followed, since the body is somebody's memory and goes nowhere but where it was addressed.

use std::error::Error as _;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Url, redirect};

use super::destination::Profile;
use super::multipart::Plan;
use super::outcome::{Answer, Outcome, classify};
use super::tls;
use crate::file_body::FileBody;

/// Most bytes of an answer that are read. The longest real ones are error pages of proxies.
const MAX_ANSWER: usize = 64 * 1024;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes of the answer, once the body is sent.
    pub answer: Duration,
    /// For everything. A dump of 20 MB over a 1 Mbit/s line takes three minutes.
    pub whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            whole: Duration::from_secs(15 * 60),
        }
    }
}

/// How an upload ended, with the status that the server answered, if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What it means.
    pub outcome: Outcome,
    /// HTTP status.
    pub status: Option<u16>,
}

/// The part of an upload that is ours went wrong: the report's files can't be read, or no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A file of the report could not be read, or changed meanwhile.
    #[error("can't read the report: {0}")]
    Report(io::Error),
    /// The system's proxy or TLS settings can't be used.
    #[error("can't make an HTTP client: {0}")]
    Client(String),
}

/// Sends `plan` to the profile's server, and waits for its answer.
pub async fn send(profile: &Profile, plan: &Plan, timeouts: Timeouts) -> Result<Sent, SendError> {
    let client = client(profile.url(), timeouts).map_err(|error| SendError::Client(described(&error)))?;
    let (body, failure) = FileBody::new(plan.reader(), plan.content_length());
    let request = client
        .post(profile.url().clone())
        .header(header::CONTENT_TYPE, plan.content_type())
        .header(header::CONTENT_LENGTH, plan.content_length())
        .body(reqwest::Body::wrap(body));
    let result = match request.send().await {
        Ok(response) => Ok(answer(response).await),
        Err(error) => Err(error),
    };
    if let Some(error) = failure.take() {
        return Err(SendError::Report(error));
    }
    Ok(match result {
        Ok(answer) => {
            Sent { outcome: classify(profile.format(), &answer, SystemTime::now()), status: Some(answer.status) }
        }
        Err(error) => Sent { outcome: Outcome::Offline { reason: described(&error) }, status: None },
    })
}

pub(super) fn client(url: &Url, timeouts: Timeouts) -> reqwest::Result<reqwest::Client> {
    tls::prepare();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("Aftermach/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.answer)
        .timeout(timeouts.whole)
        // One request: nothing to keep a connection for.
        .pool_max_idle_per_host(0);
    if is_loopback(url) {
        // A proxy would look for the collector on its own machine.
        builder = builder.no_proxy();
    }
    builder.build()
}

/// Whether an address leads to this machine: 127.0.0.0/8, ::1 and the names that RFC 6761 reserves for it.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

async fn answer(mut response: reqwest::Response) -> Answer {
    let mut answer = Answer {
        status: response.status().as_u16(),
        content_type: text(response.headers(), header::CONTENT_TYPE),
        retry_after: text(response.headers(), header::RETRY_AFTER),
        rate_limits: text(response.headers(), HeaderName::from_static("x-sentry-rate-limits")),
        location: text(response.headers(), header::LOCATION),
        ..Answer::default()
    };
    // An answer that breaks off after its status is still an answer: the status counts.
    while let Ok(Some(piece)) = response.chunk().await {
        let room = MAX_ANSWER - answer.body.len();
        answer.body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            answer.truncated = true;
            break;
        }
    }
    answer
}

fn text(headers: &HeaderMap<HeaderValue>, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The error with its causes and without its address, which may hold a key.
pub(super) fn described(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    // The outermost says what the word above says, with the address.
    let mut causes = vec![what.to_owned()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !causes.contains(&text) {
            causes.push(text);
        }
        cause = error.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        let loopback =
            ["http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]/", "http://localhost/", "http://a.localhost./"];
        for address in loopback.into_iter().chain(["http://[::ffff:127.0.0.1]/"]) {
            assert!(is_loopback(&address.parse().unwrap()), "{address}");
        }
        for address in ["http://128.0.0.1/", "http://localhost.example.com/", "http://notlocalhost/", "http://[::2]/"] {
            assert!(!is_loopback(&address.parse().unwrap()), "{address}");
        }
    }
}
