//! Recursion folded while it is walked, so that a stack of 100,000 frames costs the memory of its distinct part.

use super::frame::{Fold, Frame};
use super::limits::Limits;

/// Collects frames and folds runs that repeat.
#[derive(Debug)]
pub(crate) struct Folding {
    frames: Vec<Frame>,
    folds: Vec<Fold>,
    /// The run being folded: its frames so far of the next occurrence.
    open: Option<Vec<Frame>>,
    period_limit: usize,
    fold_after: usize,
}

/// Occurrences that a run must have before it is folded: two keep the first and the last, the third is what folding saves.
const OCCURRENCES: usize = 3;

impl Folding {
    /// Nothing collected yet.
    pub(crate) fn new(limits: &Limits) -> Folding {
        Folding {
            frames: Vec::new(),
            folds: Vec::new(),
            open: None,
            period_limit: limits.fold_period,
            fold_after: limits.fold_after,
        }
    }

    /// Frames kept.
    pub(crate) fn len(&self) -> usize {
        self.frames.len() + self.open.as_ref().map_or(0, Vec::len)
    }

    /// Takes the next frame.
    pub(crate) fn push(&mut self, frame: Frame) {
        if let (Some(pending), Some(fold)) = (&mut self.open, self.folds.last_mut()) {
            // The last occurrence is the tail of `frames`; the pending one replaces it when it is complete.
            let expected = self.frames[fold.first + pending.len()].address;
            if frame.address == expected {
                pending.push(frame);
                if pending.len() == fold.length {
                    let last = self.frames.len() - fold.length;
                    self.frames[last..].copy_from_slice(pending);
                    fold.omitted += 1;
                    pending.clear();
                }
                return;
            }
            let rest = std::mem::take(pending);
            self.frames.extend(rest);
            self.open = None;
        }
        self.frames.push(frame);
        self.fold_tail();
    }

    /// Folds the tail, if it has just become a run worth folding.
    fn fold_tail(&mut self) {
        let count = self.frames.len();
        // No run is shorter, so that most stacks are spared the search.
        let shortest = self.fold_after.max(OCCURRENCES);
        let (Some(last), true) = (self.frames.last(), count >= shortest) else { return };
        let address = last.address;
        // Frames before this one belong to an earlier fold.
        let floor = self.folds.last().map_or(0, |fold| fold.first + 2 * fold.length);
        // A longer period does not occur often enough in so few frames.
        for period in 1..=self.period_limit.min(count.saturating_sub(floor) / OCCURRENCES) {
            if self.frames[count - 1 - period].address != address {
                continue;
            }
            let length = self.fold_after.div_ceil(period).max(OCCURRENCES) * period;
            let Some(first) = count.checked_sub(length).filter(|first| *first >= floor) else { continue };
            let run = &self.frames[first..];
            let repeats = (period..length).rev().all(|index| run[index].address == run[index - period].address);
            if repeats {
                self.frames.drain(first + period..count - period);
                let omitted = (length / period - 2) as u64;
                self.folds.push(Fold { first, length: period, omitted });
                self.open = Some(Vec::new());
                return;
            }
        }
    }

    /// The frames and the folds.
    pub(crate) fn finish(mut self) -> (Vec<Frame>, Vec<Fold>) {
        self.frames.extend(self.open.take().unwrap_or_default());
        (self.frames, self.folds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Trust;
    use super::*;

    fn frame(address: u64, sp: u64) -> Frame {
        let trust = Trust::UnwindInfo;
        Frame { address, raw: address, is_return_address: true, sp, trust, image: None }
    }

    fn fold(addresses: impl Iterator<Item = u64>) -> (Vec<u64>, Vec<Fold>) {
        let mut folding = Folding::new(&Limits::default());
        for (sp, address) in addresses.enumerate() {
            folding.push(frame(address, sp as u64));
        }
        let (frames, folds) = folding.finish();
        (frames.iter().map(|frame| frame.address).collect(), folds)
    }

    /// What the folded frames stand for.
    fn unfold((frames, folds): &(Vec<u64>, Vec<Fold>)) -> Vec<u64> {
        let mut all = Vec::new();
        for (index, address) in frames.iter().enumerate() {
            all.push(*address);
            if let Some(fold) = folds.iter().find(|fold| fold.first + fold.length == index + 1) {
                for _ in 0..fold.omitted {
                    all.extend(&frames[fold.first..=index]);
                }
            }
        }
        all
    }

    #[test]
    fn a_function_that_calls_itself_keeps_its_first_and_last_frame() {
        let (frames, folds) = fold([1].into_iter().chain(std::iter::repeat_n(7, 100_000)).chain([8, 9]));
        assert_eq!(frames, [1, 7, 7, 8, 9]);
        assert_eq!(folds, [Fold { first: 1, length: 1, omitted: 99_998 }]);
    }

    #[test]
    fn the_last_occurrence_kept_is_the_outermost_one() {
        let mut folding = Folding::new(&Limits::default());
        for sp in 0..1000 {
            folding.push(frame(7, sp));
        }
        let (frames, _) = folding.finish();
        assert_eq!(frames.iter().map(|frame| frame.sp).collect::<Vec<_>>(), [0, 999]);
    }

    #[test]
    fn functions_that_call_each_other_are_folded_as_one_run() {
        let addresses = || [5, 6].into_iter().chain([1, 2, 3].into_iter().cycle().take(3 * 500 + 2)).chain([9]);
        let folded = fold(addresses());
        assert_eq!(folded.1, [Fold { first: 2, length: 3, omitted: 498 }]);
        assert_eq!(unfold(&folded), addresses().collect::<Vec<_>>());
    }

    #[test]
    fn two_recursions_on_one_stack_are_two_folds() {
        let addresses = || [1; 50].into_iter().chain([2]).chain([3, 4].into_iter().cycle().take(80)).chain([5]);
        let folded = fold(addresses());
        assert_eq!(folded.1.len(), 2);
        assert_eq!(unfold(&folded), addresses().collect::<Vec<_>>());
    }

    #[test]
    fn a_short_recursion_is_left_as_it_is() {
        let (frames, folds) = fold([7; 23].into_iter().chain([1]));
        assert_eq!((frames.len(), folds.len()), (24, 0));
    }

    #[test]
    fn limits_at_their_ends_fold_nothing_or_all_and_overflow_nothing() {
        let folds = |fold_period, fold_after| {
            let mut folding = Folding::new(&Limits { fold_period, fold_after, ..Limits::default() });
            (0..100).for_each(|sp| folding.push(frame(7, sp)));
            folding.finish().1.len()
        };
        assert_eq!([1, 2, 32, usize::MAX].map(|period| folds(period, usize::MAX)), [0; 4]);
        assert_eq!([0, 1, 100].map(|after| folds(usize::MAX, after)), [1; 3]);
        assert_eq!((folds(0, 0), folds(usize::MAX, 101)), (0, 0));
    }

    #[test]
    fn whatever_the_addresses_are_unfolding_gives_them_back() {
        // A linear congruential generator (Knuth, MMIX) makes sequences with runs of many kinds.
        let mut state = 1u64;
        let mut random = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let mut addresses = Vec::new();
            for _ in 0..random(6) {
                let cycle: Vec<u64> = (0..1 + random(5)).map(|_| random(4)).collect();
                let length = random(200) as usize;
                addresses.extend(cycle.iter().cycle().take(length));
            }
            assert_eq!(unfold(&fold(addresses.iter().copied())), addresses);
        }
    }
}
