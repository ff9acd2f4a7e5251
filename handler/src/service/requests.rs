//! How often a living program may have a report of itself: one that asks without end must not push real crashes out of the
//! store, nor stand still all the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Reports that a process may ask for at once.
const BURST: u32 = 10;
/// After these, it may ask for another one each time this has gone by.
const INTERVAL: Duration = Duration::from_secs(60);
/// Processes that are remembered. Beyond it, those go that would have all of their reports again.
const REMEMBERED: usize = 1024;

/// What each process has left. It is known by its number: one that is used again starts with what is left of it.
#[derive(Debug, Default)]
pub(super) struct Requests {
    left: HashMap<i32, Left>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    count: u32,
    /// Since when the time counts for the next one.
    since: Instant,
}

impl Left {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let earned = (elapsed.as_secs() / INTERVAL.as_secs()).min(BURST.into()) as u32;
        self.count = (self.count + earned).min(BURST);
        self.since = if self.count == BURST { now } else { self.since + earned * INTERVAL };
    }
}

impl Requests {
    /// Whether process `pid` may have one at this moment, which then counts.
    pub(super) fn take(&mut self, pid: i32, now: Instant) -> bool {
        if self.left.len() >= REMEMBERED && !self.left.contains_key(&pid) {
            self.left.retain(|_, left| {
                left.refill(now);
                left.count < BURST
            });
            if self.left.len() >= REMEMBERED {
                return false;
            }
        }
        let left = self.left.entry(pid).or_insert(Left { count: BURST, since: now });
        left.refill(now);
        let may = left.count > 0;
        left.count = left.count.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ten_at_once_and_then_one_a_minute() {
        let (mut requests, start) = (Requests::default(), Instant::now());
        assert_eq!((0..20).filter(|_| requests.take(1, start)).count(), 10);
        assert!(requests.take(2, start), "another process has its own");
        assert!(!requests.take(1, start + Duration::from_secs(59)));
        assert!(requests.take(1, start + Duration::from_secs(61)));
        assert!(!requests.take(1, start + Duration::from_secs(62)));
        // Half a minute that was left over is not lost.
        assert!(requests.take(1, start + Duration::from_secs(120)));
    }

    #[test]
    fn after_a_long_rest_it_has_ten_again_and_not_more() {
        let (mut requests, start) = (Requests::default(), Instant::now());
        assert!((0..10).all(|_| requests.take(1, start)));
        let later = start + Duration::from_secs(24 * 3600);
        assert_eq!((0..20).filter(|_| requests.take(1, later)).count(), 10);
    }

    #[test]
    fn any_number_of_processes_takes_bounded_memory() {
        let (mut requests, start) = (Requests::default(), Instant::now());
        let all = 5 * REMEMBERED as i32;
        assert_eq!((0..all).filter(|pid| requests.take(*pid, start)).count(), REMEMBERED);
        assert_eq!(requests.left.len(), REMEMBERED);
        assert!(requests.take(all, start + INTERVAL), "what the others have earned makes room");
        assert_eq!(requests.left.len(), 1);
    }
}
