//! What a run over a victim came to.

use std::collections::BTreeMap;

/// How a walk was wrong.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    /// Function and offset.
    pub(crate) place: String,
    /// What was found instead of what.
    pub(crate) what: String,
}

/// Counts, by image and address in it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    places: BTreeMap<(usize, u64), Place>,
}

#[derive(Debug, Default)]
struct Place {
    steps: u64,
    wrong: u64,
    framehop_wrong: u64,
    example: Option<Wrong>,
}

impl Figures {
    pub(crate) fn add(&mut self, place: (usize, u64), wrong: Option<Wrong>, framehop_right: bool) {
        let place = self.places.entry(place).or_default();
        place.steps += 1;
        place.wrong += u64::from(wrong.is_some());
        place.framehop_wrong += u64::from(!framehop_right);
        if place.example.is_none() {
            place.example = wrong;
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.places.values().map(|place| place.steps).sum()
    }

    pub(crate) fn wrong_steps(&self) -> u64 {
        self.places.values().map(|place| place.wrong).sum()
    }

    pub(crate) fn framehop_wrong_steps(&self) -> u64 {
        self.places.values().map(|place| place.framehop_wrong).sum()
    }

    /// Where a walk was wrong at least once, each with one example.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &Wrong> {
        self.places.values().filter_map(|place| place.example.as_ref())
    }

    /// The heading of [`Figures::line`].
    pub(crate) const HEADING: &'static str =
        "victim              steps    addresses  exact             framehop alone    addresses wrong (framehop)";

    /// One line of a table.
    pub(crate) fn line(&self, victim: &str) -> String {
        let percent = |wrong: u64| 100.0 - 100.0 * wrong as f64 / self.steps().max(1) as f64;
        let addresses = |wrong: fn(&Place) -> u64| self.places.values().filter(|place| wrong(place) > 0).count();
        format!(
            "{victim:<18} {:>8} {:>9}  {:>9} {:>6.3}%  {:>9} {:>6.3}%  {:>6} ({})",
            self.steps(),
            self.places.len(),
            self.steps() - self.wrong_steps(),
            percent(self.wrong_steps()),
            self.steps() - self.framehop_wrong_steps(),
            percent(self.framehop_wrong_steps()),
            addresses(|place| place.wrong),
            addresses(|place| place.framehop_wrong),
        )
    }
}
