//! The ledger: how many rights each group took and gave back.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Group;
use crate::host::PortGroup;

/// What a group did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rights taken.
    pub retained: u64,
    /// Rights given back, or given away to the kernel.
    pub released: u64,
    /// Times that the kernel refused to take one back: it is still held, or never was ours.
    pub refused: u64,
}

impl Counts {
    /// Rights held now.
    pub const fn held(&self) -> i64 {
        self.retained.wrapping_sub(self.released) as i64
    }
}

/// A group that holds rights which it should have given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outstanding {
    /// The group.
    pub group: Group,
    /// Its counts.
    pub counts: Counts,
    /// Where the rights that are still held were taken, if the ledger was told to note that.
    pub places: Vec<(&'static Location<'static>, i64)>,
}

impl fmt::Display for Outstanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { retained, released, refused } = self.counts;
        write!(f, "{}: {retained} rights taken, {released} given back", self.group.name())?;
        if refused > 0 {
            write!(f, ", {refused} refused")?;
        }
        for (place, count) in &self.places {
            write!(f, "; {count} from {}:{}", place.file(), place.line())?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counter {
    retained: AtomicU64,
    released: AtomicU64,
    refused: AtomicU64,
}

/// Counts rights by group. A ledger opened within another counts in both, so that one crash, or one client, can be
/// balanced by itself.
#[derive(Debug, Default)]
pub struct Ledger {
    within: Option<Arc<Ledger>>,
    counters: [Counter; Group::ALL.len()],
    notes_places: AtomicBool,
    places: Mutex<BTreeMap<(Group, Place), i64>>,
}

/// A location, ordered by file and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(&'static str, u32, u32, &'static Location<'static>);

impl Place {
    fn of(location: &'static Location<'static>) -> Place {
        Place(location.file(), location.line(), location.column(), location)
    }
}

impl Ledger {
    /// A ledger of its own.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// A ledger whose entries are counted in `within` too.
    pub fn within(within: &Arc<Ledger>) -> Ledger {
        let notes_places = AtomicBool::new(within.notes_places.load(Ordering::Relaxed));
        Ledger { within: Some(Arc::clone(within)), notes_places, ..Ledger::default() }
    }

    /// Whether to note where each right was taken: a lookup for each, so only when a leak is being hunted.
    pub fn note_places(&self, on: bool) {
        self.notes_places.store(on, Ordering::Relaxed);
    }

    /// What `group` and all its parts did.
    pub fn counts(&self, group: Group) -> Counts {
        let parts = Group::ALL.iter().filter(|part| part.is_within(group));
        parts.fold(Counts::default(), |sum, part| {
            let counter = &self.counters[part.index()];
            Counts {
                retained: sum.retained + counter.retained.load(Ordering::Relaxed),
                released: sum.released + counter.released.load(Ordering::Relaxed),
                refused: sum.refused + counter.refused.load(Ordering::Relaxed),
            }
        })
    }

    /// The groups that hold rights of their own now, or had one refused.
    pub fn outstanding(&self) -> Vec<Outstanding> {
        let leaves = Group::ALL.into_iter().filter(|group| Group::ALL.iter().all(|part| part.parent() != Some(*group)));
        leaves
            .map(|group| (group, self.counts(group)))
            .filter(|(_, counts)| counts.held() != 0 || counts.refused != 0)
            .map(|(group, counts)| Outstanding { group, counts, places: self.places(group) })
            .collect()
    }

    /// The whole tree as it stands, parents before their parts.
    pub fn groups(&self) -> Vec<PortGroup> {
        let group = |group: Group| {
            let counts = self.counts(group);
            PortGroup {
                name: group.name().to_owned(),
                depth: group.depth(),
                held: counts.held(),
                taken: counts.retained,
                given_back: counts.released,
                refused: counts.refused,
            }
        };
        Group::ALL.into_iter().map(group).collect()
    }

    /// The whole tree, a line a group, for people.
    pub fn describe(&self) -> String {
        self.groups().iter().map(PortGroup::to_string).collect::<Vec<_>>().join("\n")
    }

    fn places(&self, group: Group) -> Vec<(&'static Location<'static>, i64)> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter(|((of, _), held)| *of == group && **held != 0).map(|((_, p), held)| (p.3, *held)).collect()
    }

    pub(super) fn retained(&self, group: Group, place: &'static Location<'static>) {
        self.counters[group.index()].retained.fetch_add(1, Ordering::Relaxed);
        self.note(group, place, 1);
        if let Some(within) = &self.within {
            within.retained(group, place);
        }
    }

    pub(super) fn released(&self, group: Group, place: &'static Location<'static>) {
        self.counters[group.index()].released.fetch_add(1, Ordering::Relaxed);
        self.note(group, place, -1);
        if let Some(within) = &self.within {
            within.released(group, place);
        }
    }

    pub(super) fn refused(&self, group: Group) {
        self.counters[group.index()].refused.fetch_add(1, Ordering::Relaxed);
        if let Some(within) = &self.within {
            within.refused(group);
        }
    }

    fn note(&self, group: Group, place: &'static Location<'static>, change: i64) {
        if !self.notes_places.load(Ordering::Relaxed) {
            return;
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let held = places.entry((group, Place::of(place))).or_default();
        *held += change;
    }
}
