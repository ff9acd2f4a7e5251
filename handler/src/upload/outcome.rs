//! What a server's answer means. Every dashboard has its own dialect, and some answer 200 to what they throw away: the tables
//! here say which answers count as delivered, which never will be, and which are worth another try.

use std::time::{Duration, SystemTime};

use aftermach_protocol::report::{Upload, UploadState};

use super::destination::{Format, Profile};
use super::retry_after;
use crate::time::rfc3339;

/// Most characters of a server's own words that are kept: they end in the report and on a terminal.
const MAX_REASON: usize = 300;
/// Most characters of a server's id for a report.
const MAX_ID: usize = 128;

/// Wait before the second attempt, where the server names none; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait between attempts, where the server names none.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Attempts that are made without being asked: about three days of them, where the server names no wait.
const MOST_ATTEMPTS: u32 = 20;

/// How an upload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server has the report.
    Accepted {
        /// What the server calls it, if it says so.
        id: Option<String>,
    },
    /// The server will never take it as it is.
    Rejected {
        /// In the server's words, where it gave some.
        reason: String,
    },
    /// The server takes no body of this size.
    TooLarge,
    /// The server may take it later.
    Retry {
        /// How long the server asked us to wait, at most a day.
        after: Option<Duration>,
        /// What it answered.
        reason: String,
    },
    /// No dashboard was reached: no network, no such host, no answer in time, or somebody else answered.
    Offline {
        /// What went wrong.
        reason: String,
    },
}

impl Outcome {
    /// The name used in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Rejected { .. } => "rejected",
            Outcome::TooLarge => "too_large",
            Outcome::Retry { .. } => "retry",
            Outcome::Offline { .. } => "offline",
        }
    }

    /// When the next attempt may be made, `attempts` having been made by `now`; `None` if another makes no sense, or there were
    /// twenty. The wait is the server's, or doubles from one minute to six hours.
    pub fn next_attempt(&self, now: SystemTime, attempts: u32) -> Option<SystemTime> {
        if attempts >= MOST_ATTEMPTS {
            return None;
        }
        let after = match self {
            Outcome::Retry { after, .. } => *after,
            Outcome::Offline { .. } => None,
            Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::TooLarge => return None,
        };
        let doubled = FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        now.checked_add(after.unwrap_or(doubled.min(LONGEST_WAIT)))
    }

    /// Keeps this outcome in the report's list of uploads: one entry a destination, with its latest attempt. Returns when the
    /// next one may be made.
    pub fn record(
        &self,
        uploads: &mut Vec<Upload>,
        profile: &Profile,
        status: Option<u16>,
        now: SystemTime,
    ) -> Option<SystemTime> {
        let (name, url) = (profile.format().name(), profile.to_string());
        let index = match uploads.iter().position(|upload| upload.profile == name && upload.url == url) {
            Some(index) => index,
            None => {
                uploads.push(Upload { profile: name.to_owned(), url, ..Upload::default() });
                uploads.len() - 1
            }
        };
        let upload = &mut uploads[index];
        upload.attempts = upload.attempts.saturating_add(1);
        upload.time = Some(rfc3339(now));
        let next_attempt = self.next_attempt(now, upload.attempts);
        upload.next_attempt = next_attempt.map(rfc3339);
        upload.status = status;
        upload.error = self.reason().map(str::to_owned);
        upload.server_id = None;
        upload.state = match self {
            Outcome::Accepted { id } => {
                upload.server_id.clone_from(id);
                UploadState::Accepted
            }
            Outcome::Rejected { .. } | Outcome::TooLarge => UploadState::Rejected,
            Outcome::Retry { .. } | Outcome::Offline { .. } => UploadState::Retry,
        };
        next_attempt
    }

    /// Why the server has not got the report, for people; `None` if it has.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Outcome::Accepted { .. } => None,
            Outcome::TooLarge => Some("the server takes no report of this size"),
            Outcome::Rejected { reason } | Outcome::Retry { reason, .. } | Outcome::Offline { reason } => Some(reason),
        }
    }
}

/// What a server answered, as far as anything depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, if any.
    pub content_type: Option<String>,
    /// `Retry-After`, if any.
    pub retry_after: Option<String>,
    /// `X-Sentry-Rate-Limits`, if any.
    pub rate_limits: Option<String>,
    /// `Location`, if any.
    pub location: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// The body was longer than what is kept.
    pub truncated: bool,
}

/// What `answer` means in the dialect of `format`, read at `now`.
pub fn classify(format: Format, answer: &Answer, now: SystemTime) -> Outcome {
    match (answer.status, format) {
        // Crashpad's own rule (handler/crash_report_upload_thread, util/net/http_transport): 200 to 203.
        (200..=203, Format::Breakpad) => breakpad_success(answer),
        (200, Format::Sentry) => sentry_success(answer),
        (413, _) => Outcome::TooLarge,
        // 511 is the honest captive portal's (RFC 6585, section 6).
        (511, _) => Outcome::Offline { reason: described(answer) },
        // Where 302, 303 and 307 lead is for this one time: mostly a captive portal's login page.
        (302 | 303 | 307, _) => Outcome::Offline { reason: described(answer) },
        (408 | 425 | 429 | 500..=599, _) => {
            Outcome::Retry { after: retry_after::wait(answer, now), reason: described(answer) }
        }
        _ => Outcome::Rejected { reason: described(answer) },
    }
}

/// Any text is an id, as Crashpad and Breakpad take it, but a page is not: a captive portal answers 200 with its login form.
/// Socorro says "CrashID=" or "Discarded=".
fn breakpad_success(answer: &Answer) -> Outcome {
    if is_page(answer) || answer.truncated {
        return Outcome::Offline { reason: "a web page answered instead of a crash server".into() };
    }
    let text = String::from_utf8_lossy(&answer.body);
    let first_line = text.trim().lines().next().unwrap_or("").trim();
    if let Some(rule) = first_line.strip_prefix("Discarded=") {
        return Outcome::Rejected { reason: format!("the server discarded it: {}", plain(rule, MAX_ID)) };
    }
    let id = first_line.strip_prefix("CrashID=").unwrap_or(first_line);
    Outcome::Accepted { id: is_id(id).then(|| id.to_owned()) }
}

/// Sentry's endpoint answers with the event's id, as a UUID in plain text; anything else came from somebody else.
fn sentry_success(answer: &Answer) -> Outcome {
    let text = String::from_utf8_lossy(&answer.body);
    match uuid::Uuid::try_parse(text.trim()) {
        Ok(id) if !answer.truncated => Outcome::Accepted { id: Some(id.hyphenated().to_string()) },
        _ => Outcome::Offline { reason: "something other than Sentry answered: its reply holds no event id".into() },
    }
}

fn is_page(answer: &Answer) -> bool {
    let html = answer.content_type.as_deref().is_some_and(|kind| {
        let kind = kind.trim_start().to_ascii_lowercase();
        kind.starts_with("text/html") || kind.starts_with("application/xhtml")
    });
    html || answer.body.trim_ascii_start().starts_with(b"<")
}

fn is_id(text: &str) -> bool {
    let id_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !text.is_empty() && text.len() <= MAX_ID && text.bytes().all(id_byte)
}

/// The status with the server's own words, where they are words.
fn described(answer: &Answer) -> String {
    let status = answer.status;
    if let Some(location) = &answer.location
        && (300..400).contains(&status)
    {
        // Only the host: an address may hold a key.
        let host = reqwest::Url::parse(location).ok().and_then(|url| url.host_str().map(str::to_owned));
        let to = host.map_or_else(|| "another address of the same server".to_owned(), |host| plain(&host, MAX_ID));
        return format!("HTTP {status}: the server sends us to {to}; reports are not sent on to other addresses");
    }
    let words = if is_page(answer) { String::new() } else { plain(&String::from_utf8_lossy(&answer.body), MAX_REASON) };
    let known = match status {
        401 | 403 => "the server refuses us; check the key",
        404 | 405 => "no crash server at this address",
        429 => "too many reports",
        511 => "the network wants a login first",
        _ => "",
    };
    match (known, words.as_str()) {
        ("", "") => format!("HTTP {status}"),
        (known, "") => format!("HTTP {status}: {known}"),
        ("", words) => format!("HTTP {status}: {words}"),
        (known, words) => format!("HTTP {status}: {known} ({words})"),
    }
}

/// One line of at most `limit` characters that can do a terminal no harm.
fn plain(text: &str, limit: usize) -> String {
    let line: String =
        text.trim().chars().map(|character| if character.is_control() { ' ' } else { character }).take(limit).collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() }
    }

    fn names(format: Format, cases: &[(u16, &str, &str)]) {
        for (status, body, expected) in cases {
            let outcome = classify(format, &answer(*status, body), SystemTime::UNIX_EPOCH);
            assert_eq!(outcome.name(), *expected, "{status} {body:?}");
        }
    }

    // Rows: the table of answers in docs/commands/upload.md, taken from the servers' sources.
    #[test]
    fn answers_of_breakpad_style_servers_mean_what_their_sources_say() {
        names(
            Format::Breakpad,
            &[
                (200, "bp-67e55044-10b1-426f-9247-bb680e5fe0c8", "accepted"),
                (201, "17", "accepted"),
                (203, "", "accepted"),
                (200, "CrashID=bp-67e55044-10b1-426f-9247-bb680251121\n", "accepted"),
                (200, "Discarded=rule_unsupported_product\n", "rejected"),
                (200, "<!DOCTYPE html><title>Welcome to our hotel</title>", "offline"),
                (200, "\n\n  <html>", "offline"),
                (204, "", "rejected"),
                (301, "", "rejected"),
                (302, "", "offline"),
                (307, "", "offline"),
                (400, "Discarded=malformed_no_boundary", "rejected"),
                (401, "", "rejected"),
                (404, "", "rejected"),
                (408, "", "retry"),
                (413, "", "too_large"),
                (429, "", "retry"),
                (500, "", "retry"),
                (502, "<html>", "retry"),
                (503, "", "retry"),
                (511, "<html>", "offline"),
                (0, "", "rejected"),
                (999, "", "rejected"),
            ],
        );
    }

    #[test]
    fn answers_of_sentry_mean_what_relays_source_says() {
        names(
            Format::Sentry,
            &[
                (200, UUID, "accepted"),
                (200, "67e5504410b1426f9247bb680e5fe0c8\n", "accepted"),
                (200, "<html>", "offline"),
                (200, "", "offline"),
                (200, "ok", "offline"),
                (201, UUID, "rejected"),
                (400, "invalid minidump", "rejected"),
                (403, "", "rejected"),
                (413, "", "too_large"),
                (429, "", "retry"),
                (503, "", "retry"),
            ],
        );
    }

    #[test]
    fn a_page_is_told_by_its_type_too() {
        let answer = Answer { content_type: Some(" Text/HTML; charset=utf-8".into()), ..answer(200, "hello") };
        assert_eq!(classify(Format::Breakpad, &answer, SystemTime::UNIX_EPOCH).name(), "offline");
    }

    #[test]
    fn the_servers_id_is_kept_only_if_it_is_one() {
        let id = |body: &str| match classify(Format::Breakpad, &answer(200, body), SystemTime::UNIX_EPOCH) {
            Outcome::Accepted { id } => id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id("CrashID=bp-1\nextra").as_deref(), Some("bp-1"));
        assert_eq!(id("  42 \r\n").as_deref(), Some("42"));
        assert_eq!(id("{\"response\":\"ok\"}"), None);
        assert_eq!(id("\x1b[2Jx"), None);
        assert_eq!(id(&"x".repeat(MAX_ID)).map(|id| id.len()), Some(MAX_ID));
        assert_eq!(id(&"x".repeat(MAX_ID + 1)), None);
    }

    #[test]
    fn a_redirect_names_the_host_and_no_key() {
        let answer = Answer { location: Some("https://new.example.com/x?key=SECRET".into()), ..answer(301, "") };
        let outcome = classify(Format::Breakpad, &answer, SystemTime::UNIX_EPOCH);
        let reason = outcome.reason().unwrap();
        assert!(reason.contains("new.example.com") && !reason.contains("SECRET"), "{reason}");
    }

    #[test]
    fn a_servers_words_can_do_a_terminal_no_harm() {
        let outcome = classify(Format::Breakpad, &answer(400, "\x1b]0;owned\x07bad\r\nvalue"), SystemTime::UNIX_EPOCH);
        assert_eq!(outcome.reason(), Some("HTTP 400:  ]0;owned bad  value"));
    }

    #[test]
    fn the_wait_is_the_servers_or_doubles_up_to_six_hours() {
        let now = SystemTime::UNIX_EPOCH;
        let offline = Outcome::Offline { reason: String::new() };
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 19]
            .iter()
            .map(|attempts| offline.next_attempt(now, *attempts).unwrap().duration_since(now).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [60, 120, 240, 15_360, 21_600, 21_600]);
        let asked = Outcome::Retry { after: Some(Duration::from_secs(7)), reason: String::new() };
        assert_eq!(asked.next_attempt(now, 5), now.checked_add(Duration::from_secs(7)));
        assert_eq!((offline.next_attempt(now, 20), asked.next_attempt(now, 1000)), (None, None), "enough is enough");
        assert_eq!(Outcome::TooLarge.next_attempt(now, 1), None);
        assert_eq!(Outcome::Accepted { id: None }.next_attempt(now, 1), None);
    }

    #[test]
    fn each_destination_has_one_entry_with_its_latest_attempt() {
        let here = Profile::parse("http://127.0.0.1:1/submit?token=SECRET", None).unwrap();
        let there = Profile::parse("http://127.0.0.1:2/submit", None).unwrap();
        // date -u -d @1700000000: 2023-11-14T22:13:20
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut uploads = Vec::new();
        Outcome::Offline { reason: "no route".into() }.record(&mut uploads, &here, None, now);
        Outcome::Accepted { id: None }.record(&mut uploads, &there, Some(200), now);
        assert_eq!((uploads[0].attempts, &uploads[0].state), (1, &UploadState::Retry));
        assert_eq!(uploads[0].next_attempt.as_deref(), Some("2023-11-14T22:14:20.000Z"));
        assert!(!uploads[0].url.contains("SECRET"));

        Outcome::Accepted { id: Some("7".into()) }.record(&mut uploads, &here, Some(200), now);
        assert_eq!(uploads.len(), 2);
        assert_eq!((uploads[0].attempts, &uploads[0].state), (2, &UploadState::Accepted));
        assert_eq!((uploads[0].server_id.as_deref(), uploads[0].status), (Some("7"), Some(200)));
        assert_eq!((&uploads[0].error, &uploads[0].next_attempt), (&None, &None));
    }
}
