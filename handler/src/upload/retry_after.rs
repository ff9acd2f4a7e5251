//! How long a server asks us to wait: `Retry-After` (RFC 9110, section 10.2.3) in seconds or as a date, or Sentry's
//! `X-Sentry-Rate-Limits`.

use std::time::{Duration, SystemTime};

use super::outcome::Answer;

/// Longest wait that a server can impose: one with a broken clock must not silence a client for years.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What Sentry's SDKs wait after a 429 that names no time.
const UNNAMED: Duration = Duration::from_secs(60);

/// The wait that `answer` asks for, at most a day; `None` if it names none.
pub(super) fn wait(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let named = answer.retry_after.as_deref().and_then(|value| retry_after(value, now));
    let limits = || answer.rate_limits.as_deref().and_then(rate_limits);
    let unnamed = (answer.status == 429).then_some(UNNAMED);
    named.or_else(limits).or(unnamed).map(|wait| wait.min(LONGEST))
}

fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a wait, and capped anyway.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
    // A date that has passed: now is fine.
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

/// `SECONDS:CATEGORIES:SCOPE[:REASON], ...`: the longest limit for errors or attachments, or for everything (no categories).
fn rate_limits(value: &str) -> Option<Duration> {
    let ours = |limit: &str| {
        let mut fields = limit.trim().split(':');
        let seconds = fields.next()?.trim().parse::<u64>().ok()?;
        let categories = fields.next().unwrap_or("").trim();
        let applies = categories.is_empty()
            || categories.split(';').any(|category| matches!(category, "error" | "default" | "attachment"));
        applies.then(|| Duration::from_secs(seconds))
    };
    value.split(',').filter_map(ours).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6 November 1994, 08:49:37 UTC, the date of RFC 9110's examples (`date -u -d @784111777`).
    const EXAMPLE: u64 = 784_111_777;

    fn seconds(answer: Answer, now: u64) -> Option<u64> {
        wait(&answer, SystemTime::UNIX_EPOCH + Duration::from_secs(now)).map(|wait| wait.as_secs())
    }

    fn after(value: &str, now: u64) -> Option<u64> {
        seconds(Answer { status: 503, retry_after: Some(value.into()), ..Answer::default() }, now)
    }

    #[test]
    fn seconds_and_dates_are_both_understood() {
        assert_eq!(after("120", 0), Some(120));
        assert_eq!(after(" 0 ", 0), Some(0));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE - 90), Some(90));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE + 90), Some(0));
    }

    #[test]
    fn no_server_imposes_more_than_a_day() {
        assert_eq!(after("86401", 0), Some(86_400));
        assert_eq!(after("99999999999999999999999999", 0), Some(86_400));
        assert_eq!(after("Fri, 31 Dec 9998 23:59:59 GMT", 0), Some(86_400));
    }

    #[test]
    fn what_is_no_time_is_no_wait() {
        for value in ["", "-5", "soon", "1.5", "Sun, 99 Nov 1994 08:49:37 GMT", "\u{660}"] {
            assert_eq!(after(value, 0), None, "{value:?}");
        }
    }

    #[test]
    fn sentrys_own_header_counts_for_what_we_send() {
        let limits =
            |value: &str| seconds(Answer { status: 429, rate_limits: Some(value.into()), ..Answer::default() }, 0);
        assert_eq!(limits("2700:default;error;security:organization, 60:transaction:key"), Some(2700));
        assert_eq!(limits("10::key"), Some(10));
        assert_eq!(limits("2700:transaction:organization"), Some(60));
        assert_eq!(limits("junk"), Some(60));
    }
}
