//! Uploads that failed and are to be tried again: which, and when.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aftermach_protocol::report::{Upload, UploadState};

use crate::store::{Contents, Head, Store};
use crate::time::from_rfc3339;
use crate::upload::Profile;

/// Reports that are older than this are not tried again.
const EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest sleep while something is to be tried again: clocks are set, and stand still while a machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Reports by the time of their next attempt.
#[derive(Debug, Default)]
pub(super) struct Retries {
    due: BTreeSet<(SystemTime, String)>,
    /// The server, or the network, wants nothing before.
    not_before: Option<SystemTime>,
}

impl Retries {
    /// What earlier runs of the service left in `store`, of the product whose folder is `product`, for `profile`.
    pub(super) fn find(store: &Store, product: &str, profile: &Profile, now: SystemTime) -> Retries {
        let mut retries = Retries::default();
        match store.list(Some(product)) {
            Ok(listing) => {
                for entry in listing.entries {
                    if let Contents::Report(head) = entry.contents
                        && let Some(time) = next_attempt(&head, profile, now)
                    {
                        retries.due.insert((time, entry.location.id));
                    }
                }
            }
            Err(error) => tracing::warn!("uploads that failed can't be looked for: {error}"),
        }
        retries
    }

    /// How long to sleep until one is due; `None` if there is none to wait for.
    pub(super) fn sleep(&self, now: SystemTime) -> Option<Duration> {
        let (first, _) = self.due.first()?;
        let time = self.not_before.map_or(*first, |not_before| not_before.max(*first));
        Some(time.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP))
    }

    /// The one that is due first, if one is.
    pub(super) fn take(&mut self, now: SystemTime) -> Option<String> {
        if self.not_before.is_some_and(|not_before| now < not_before) || self.due.first()?.0 > now {
            return None;
        }
        self.due.pop_first().map(|(_, id)| id)
    }

    /// An attempt failed, and `id` may be tried again at `next`. So may others, but not before.
    pub(super) fn failed(&mut self, id: String, next: SystemTime) {
        self.due.insert((next, id));
        self.not_before = Some(next);
    }

    /// The server took one: others need not wait for it.
    pub(super) fn succeeded(&mut self) {
        self.not_before = None;
    }
}

/// When a report is to be sent to `profile` again, if it is.
fn next_attempt(head: &Head, profile: &Profile, now: SystemTime) -> Option<SystemTime> {
    let to_profile = |upload: &&Upload| upload.profile == profile.format().name() && upload.url == profile.to_string();
    let upload = head.upload.iter().find(to_profile).filter(|upload| upload.state == UploadState::Retry)?;
    let died = head.times.died.as_deref().and_then(from_rfc3339)?;
    let expired = now.duration_since(died).is_ok_and(|age| age > EXPIRY);
    upload.next_attempt.as_deref().and_then(from_rfc3339).filter(|_| !expired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_to_wait_for_is_waited_for_without_end() {
        let mut retries = Retries::default();
        assert_eq!((retries.sleep(at(0)), retries.take(at(0))), (None, None));
    }

    #[test]
    fn a_failure_makes_all_others_wait_and_a_success_none() {
        let mut retries = Retries::default();
        retries.due.extend([(at(10), "a".to_owned()), (at(20), "b".to_owned())]);
        assert_eq!(retries.sleep(at(4)), Some(Duration::from_secs(6)));
        assert_eq!(retries.take(at(9)), None);
        assert_eq!(retries.take(at(30)).as_deref(), Some("a"));
        retries.failed("a".to_owned(), at(90));
        assert_eq!((retries.take(at(31)), retries.sleep(at(30))), (None, Some(Duration::from_secs(60))));
        assert_eq!(retries.take(at(90)).as_deref(), Some("b"));
        retries.succeeded();
        assert_eq!(retries.take(at(90)).as_deref(), Some("a"));
        assert_eq!(retries.sleep(at(90)), None);
    }

    #[test]
    fn a_long_wait_is_slept_in_pieces() {
        let mut retries = Retries::default();
        retries.failed("a".to_owned(), at(1_000_000));
        assert_eq!(retries.sleep(at(0)), Some(LONGEST_SLEEP));
    }

    #[test]
    fn only_what_failed_at_this_server_and_is_not_too_old_is_tried_again() {
        let profile = Profile::parse("https://crash.example/submit", None).unwrap();
        let upload = Upload {
            profile: "breakpad".to_owned(),
            url: profile.to_string(),
            state: UploadState::Retry,
            next_attempt: Some("1970-01-02T00:00:00.000Z".to_owned()),
            ..Upload::default()
        };
        let next = |upload: Upload, now: SystemTime| {
            let mut head = Head { upload: vec![upload], ..Head::default() };
            head.times.died = Some("1970-01-01T00:00:10.000Z".to_owned());
            next_attempt(&head, &profile, now)
        };
        assert_eq!(next(upload.clone(), at(20)), Some(at(24 * 3600)));
        assert_eq!(next(upload.clone(), at(20) + EXPIRY), None);
        assert_eq!(next(Upload { state: UploadState::Rejected, ..upload.clone() }, at(20)), None);
        assert_eq!(next(Upload { url: "https://other.example/".to_owned(), ..upload.clone() }, at(20)), None);
        assert_eq!(next(Upload { next_attempt: None, ..upload.clone() }, at(20)), None);
        assert_eq!(next(Upload { next_attempt: Some("soon".to_owned()), ..upload }, at(20)), None);
    }
}
