//! Random draws keyed by what they are for.
//!
//! A study must give the same bytes for any number of threads, so no draw may depend on the order
//! of execution. A [`Stream`] is named by a seed and a purpose, and [`Stream::child`] derives an
//! independent stream for a tree, a node, a patient or a resample. The generator is SplitMix64
//! (Steele, Lea and Flood 2014): tiny state, passes BigCrush, cheap to key. It is not for secrets.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The SplitMix64 finaliser: a bijection of `u64` that scatters every input bit.
#[inline]
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a of `bytes`, 64 bit.
#[must_use]
pub const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01B3);
        i += 1;
    }
    hash
}

/// A pseudo-random stream that is a pure function of its key.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    state: u64,
}

impl Stream {
    /// The stream for `seed` and a `purpose` such as `"split"` or `"bootstrap"`.
    #[must_use]
    pub fn keyed(seed: u64, purpose: &str) -> Self {
        Self::from_key(mix(seed.wrapping_add(GOLDEN)) ^ fnv1a(purpose.as_bytes()))
    }

    /// The stream of `key` below this one. Does not advance `self`.
    #[inline]
    #[must_use]
    pub fn child(&self, key: u64) -> Self {
        Self::from_key(self.key.wrapping_mul(GOLDEN) ^ mix(key.wrapping_add(GOLDEN)))
    }

    #[inline]
    fn from_key(key: u64) -> Self {
        let key = mix(key);
        Self { key, state: key }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform on [0, 1), 53 bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform on [`lo`, `hi`).
    #[inline]
    pub fn range(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform on `0..n`, unbiased (Lemire 2019).
    ///
    /// # Panics
    /// If `n` is 0.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "no number is below 0");
        let n = n as u64;
        let mut wide = u128::from(self.next_u64()) * u128::from(n);
        if (wide as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (wide as u64) < threshold {
                wide = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (wide >> 64) as usize
    }

    /// Standard normal (Box and Muller 1958; the second value is not kept).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_hold_forever() {
        // Changing these changes every split and forest ever made: bump the study version if so.
        assert_eq!(mix(GOLDEN), 0xE220_A839_7B1D_CDAF, "SplitMix64's first output for state 0");
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C, "published FNV-1a test vector");
    }

    #[test]
    fn children_do_not_depend_on_position() {
        let mut a = Stream::keyed(7, "tree");
        let before = a.child(3).next_u64();
        a.next_u64();
        assert_eq!(before, a.child(3).next_u64());
        assert_ne!(before, a.child(4).next_u64());
        assert_ne!(before, Stream::keyed(7, "node").child(3).next_u64());
    }

    #[test]
    fn draws_are_uniform() {
        let mut s = Stream::keyed(1, "test");
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[s.below(7)] += 1;
        }
        // Six standard deviations of a binomial(70000, 1/7).
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 556), "{counts:?}");
        let mean = (0..10_000).map(|_| s.normal()).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.06, "{mean}");
    }
}
