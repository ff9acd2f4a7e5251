//! Numbers that look random and are the same in every run.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A number at an edge, or any.
    pub(crate) fn number(&mut self) -> u64 {
        let any = self.next();
        let near =
            self.pick(&[0, 1, 0x1000, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x7fff_0000_0000, 1 << 63, u64::MAX]);
        if self.one_in(4) { any } else { near.wrapping_add(any % 3).wrapping_sub(1) }
    }
}
