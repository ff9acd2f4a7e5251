//! Smallest and middle of some durations.

use std::fmt;
use std::time::Duration;

/// Smallest and middle of some durations.
#[derive(Default)]
pub(crate) struct Spread {
    minimum: Duration,
    median: Duration,
}

impl Spread {
    pub(crate) fn of(all: impl IntoIterator<Item = Duration>) -> Spread {
        let mut all: Vec<Duration> = all.into_iter().collect();
        all.sort();
        let at = |index: usize| all.get(index).copied().unwrap_or_default();
        Spread { minimum: at(0), median: at(all.len() / 2) }
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        self.median
    }

    /// These medians over another's.
    pub(crate) fn over(&self, other: &Spread) -> f64 {
        self.median.as_secs_f64() / other.median.as_secs_f64()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2} / {:.2}", milliseconds(self.minimum), milliseconds(self.median));
        f.pad(&text)
    }
}

/// For tables.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
