//! Quantiles of grey values, counted where the values are whole numbers.
//!
//! Nearly all radiographs hold whole numbers of a modest spread. One pass then counts how often each occurs, which
//! takes a fraction of the time of selecting among them. Other values are selected. Both ways give the same bits.

use super::radiograph::range;

/// Widest spread of whole numbers that is counted: that of 16 bits.
const MAX_SPREAD: usize = 1 << 16;
/// Largest least value that is counted: with [`BASE`] it still makes a whole number that single precision holds.
const MAX_LEAST: f32 = 4_194_304.0;
/// 2^23: a whole number added to it lies in the last 23 bits of the sum.
const BASE: f32 = 8_388_608.0;

/// The `q` quantile by linear interpolation between order statistics at rank `(n - 1) q`: NumPy's
/// default, Hyndman and Fan's definition 7, computed in double precision.
///
/// # Panics
/// If `values` is empty or `q` is outside 0..1.
#[must_use]
pub fn quantile(values: &[f32], q: f64) -> f32 {
    let [quantile] = quantiles(values.iter().copied(), range(values).unwrap_or((0.0, 0.0)), [q]);
    quantile
}

/// Several quantiles of values that lie between the two of `range`, each as [`quantile`] gives it.
///
/// # Panics
/// If there are no values or one of `q` is outside 0..1.
pub(super) fn quantiles<const N: usize>(
    values: impl ExactSizeIterator<Item = f32> + Clone,
    range: (f32, f32),
    q: [f64; N],
) -> [f32; N] {
    let number = values.len();
    assert!(number > 0 && q.iter().all(|q| (0.0..=1.0).contains(q)), "a quantile of something, in 0..1");
    if let Some(counts) = counts(values.clone(), range) {
        return q.map(|q| {
            let (below, part) = place(number, q);
            let value = |rank: usize| f64::from(range.0) + nth(&counts, rank) as f64;
            between(value(below), value((below + 1).min(number - 1)), part)
        });
    }
    let mut values: Vec<f32> = values.collect();
    q.map(|q| {
        let (below, part) = place(number, q);
        let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
        let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
        between(f64::from(low), f64::from(high), part)
    })
}

/// The rank below a quantile, and how far it lies from there to the next.
fn place(number: usize, q: f64) -> (usize, f64) {
    let rank = (number - 1) as f64 * q;
    (rank.floor() as usize, rank - rank.floor())
}

fn between(low: f64, high: f64, part: f64) -> f32 {
    (low + (high - low) * part) as f32
}

/// How often each whole number from the least value on occurs. `None` if a value is not whole, or if there would be
/// more counts than values, of which most would then be 0.
fn counts(values: impl ExactSizeIterator<Item = f32>, (least, greatest): (f32, f32)) -> Option<Vec<u32>> {
    let spread = greatest - least;
    let is_narrow = (0.0..values.len().min(MAX_SPREAD) as f32).contains(&spread);
    if !is_narrow || least.fract() != 0.0 || least.abs() > MAX_LEAST {
        return None;
    }
    let mut counts = vec![0_u32; spread as usize + 1];
    let shift = BASE - least;
    for value in values {
        let shifted = value + shift;
        // What is not whole was rounded.
        if shifted - shift != value {
            return None;
        }
        *counts.get_mut((shifted.to_bits() & 0x007F_FFFF) as usize)? += 1;
    }
    Some(counts)
}

/// The position of the value of this rank, counted from 0, among counted ones.
fn nth(counts: &[u32], rank: usize) -> usize {
    let mut left = rank;
    for (position, &count) in counts.iter().enumerate() {
        let count = count as usize;
        if left < count {
            return position;
        }
        left -= count;
    }
    counts.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    /// By sorting, as the definition has it.
    fn plain(values: &[f32], q: f64) -> f32 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let rank = (sorted.len() - 1) as f64 * q;
        let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
        let (low, high) = (f64::from(sorted[below]), f64::from(sorted[above]));
        (low + (high - low) * (rank - below as f64)) as f32
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.9), 3.7);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
    }

    #[test]
    fn counted_and_selected_ones_equal_sorted_ones() {
        let mut draws = Stream::keyed(1, "quantile");
        let mut counted = 0;
        for round in 0..300 {
            let (number, spread) = (1 + draws.below(3000), 1 + draws.below(2000));
            let offset = draws.below(5000) as f32 - 2500.0;
            // Whole numbers of both signs; in every third round one value that is not.
            let mut values: Vec<f32> = (0..number).map(|_| offset + draws.below(spread) as f32).collect();
            if round % 3 == 0 {
                values[draws.below(number)] += 0.25;
            }
            let limits = range(&values).expect("values");
            counted += usize::from(counts(values.iter().copied(), limits).is_some());
            let q = [0.0, 0.01, draws.uniform(), 0.99, 1.0];
            let found = quantiles(values.iter().copied(), limits, q);
            for (q, found) in q.into_iter().zip(found) {
                assert_eq!(found.to_bits(), plain(&values, q).to_bits(), "{q} of {number} values");
                assert_eq!(found, quantile(&values, q));
            }
        }
        assert!((50..250).contains(&counted), "both ways are taken: {counted} of 300 were counted");
    }

    #[test]
    fn what_cannot_be_counted_is_selected() {
        let few = [0.0, 60_000.0, 5.0];
        let wide: Vec<f32> = (0..3000).map(|i| i as f32 * 100.0).collect();
        let huge: Vec<f32> = (0..3000).map(|i| 3e7 + 2.0 * (i % 100) as f32).collect();
        for values in [&few[..], &wide[..], &huge[..]] {
            assert!(counts(values.iter().copied(), range(values).expect("values")).is_none());
            assert_eq!(quantile(values, 0.3), plain(values, 0.3));
        }
        let endless = [1.0, f32::INFINITY, f32::NAN];
        assert!(counts(endless.into_iter(), (1.0, f32::INFINITY)).is_none());
        assert!(counts(endless.into_iter(), (f32::NAN, 2.0)).is_none());
        // A range that does not hold is no panic.
        let values = [1.0, 2.0, 3.0, 9.0];
        assert_eq!(quantiles(values.into_iter(), (1.0, 3.0), [1.0]), [9.0]);
    }

    #[test]
    #[should_panic(expected = "of something")]
    fn nothing_has_no_quantile() {
        let _ = quantile(&[], 0.5);
    }
}
