//! Points in time as reports write them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// RFC 3339, UTC, with milliseconds: "2026-01-02T03:04:05.006Z". A time outside the years -9999 to 9999 becomes the nearest
/// one inside.
pub fn rfc3339(time: SystemTime) -> String {
    let nearest = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    let time = Timestamp::try_from(time).unwrap_or(nearest);
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&time)
}

/// The time that [`rfc3339`] wrote; `None` for anything else.
pub fn from_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// A duration in whole microseconds.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_no_zone_but_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_006);
        assert_eq!(rfc3339(time), "2026-01-02T03:04:05.006Z");
        assert_eq!(from_rfc3339("2026-01-02T03:04:05.006Z"), Some(time));
        assert_eq!(from_rfc3339("tomorrow"), None);
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
