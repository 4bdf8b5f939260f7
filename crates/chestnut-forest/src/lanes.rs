//! Four counts in one word, so that all outputs of a row move in a few integer instructions and without a branch.

/// A one in every lane.
const ONES: u64 = 0x0001_0001_0001_0001;
/// Most that a lane may reach: four of them must add up to less than 2^16.
pub(crate) const MAX_LANE: u32 = 16_383;

/// `4 N` counts of at most [`MAX_LANE`], or as many masks of 0 or 0xFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes<const N: usize>([u64; N]);

impl<const N: usize> Lanes<N> {
    pub(crate) const ZERO: Self = Self([0; N]);

    /// All ones in the lanes whose bit is set.
    pub(crate) fn mask(bits: u32) -> Self {
        let lane = |k: usize| if bits >> k & 1 == 1 { 0xFFFF_u64 << (16 * (k % 4)) } else { 0 };
        Self(std::array::from_fn(|n| (4 * n..4 * n + 4).map(lane).sum()))
    }

    /// Counts.
    pub(crate) fn from_fn(count: impl Fn(usize) -> u32) -> Self {
        let lane = |k: usize| u64::from(count(k)) << (16 * (k % 4));
        Self(std::array::from_fn(|n| (4 * n..4 * n + 4).map(lane).sum()))
    }

    /// Adds `weight` to the lanes of `mask`.
    #[inline]
    pub(crate) fn add(&mut self, mask: &Self, weight: u32) {
        let weight = u64::from(weight) * ONES;
        self.0.iter_mut().zip(&mask.0).for_each(|(sum, mask)| *sum += mask & weight);
    }

    /// Sum of the lanes of `mask`.
    #[inline]
    pub(crate) fn sum(&self, mask: &Self) -> u32 {
        // The top lane of the product is the sum of all four.
        self.0.iter().zip(&mask.0).map(|(counts, mask)| ((counts & mask).wrapping_mul(ONES) >> 48) as u32).sum()
    }

    /// Sum over the lanes of the products of two counts.
    #[inline]
    pub(crate) fn dot(&self, other: &Self) -> i64 {
        (0..4 * N).map(|k| i64::from(self.get(k)) * i64::from(other.get(k))).sum()
    }

    /// One count.
    #[inline]
    pub(crate) fn get(&self, k: usize) -> u32 {
        (self.0[k / 4] >> (16 * (k % 4)) & 0xFFFF) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_count_like_numbers() {
        let mut counts = Lanes::<2>::from_fn(|k| 100 * k as u32);
        let mask = Lanes::<2>::mask(0b1010_0110);
        assert_eq!(counts.sum(&mask), 100 * (1 + 2 + 5 + 7));
        counts.add(&mask, 3);
        assert_eq!((0..8).map(|k| counts.get(k)).collect::<Vec<_>>(), [0, 103, 203, 300, 400, 503, 600, 703]);
        assert_eq!(
            counts.dot(&Lanes::from_fn(|k| k as u32)),
            103 + 2 * 203 + 3 * 300 + 4 * 400 + 5 * 503 + 6 * 600 + 7 * 703
        );
        let full = Lanes::<1>::from_fn(|_| MAX_LANE);
        assert_eq!(full.sum(&Lanes::mask(0b1111)), 4 * MAX_LANE);
    }
}
