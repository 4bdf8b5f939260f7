//! Variance, interval and paired test of the AUC after DeLong, DeLong and Clarke-Pearson (1988).
//!
//! The placements are taken from midranks in O(n log n) (Sun and Xu 2014). Where the variance
//! estimate is zero (an AUC of exactly 1 or 0, or all scores equal) the DeLong interval would be a
//! single point, as in R's pROC, which claims certainty from few patients; instead the score
//! interval of Newcombe (2006) is given and marked as such. Rows are taken as independent: with
//! several images per patient use the cluster bootstrap of [`crate::resample`].

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes};
use crate::interval::{Interval, IntervalMethod};
use crate::logistic::{expit, logit};
use crate::normal::{critical_value, two_sided_p};
use crate::roc::midranks;

/// Rows of each class that a variance needs.
const MIN_PER_CLASS: usize = 2;
/// Halvings of [0, 1] in the search for the ends of the score interval; reaches rounding error.
const BISECTIONS: u32 = 80;

/// An AUC with its DeLong variance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeLong {
    /// Area under the ROC curve, in [0, 1].
    pub auc: f64,
    /// Estimated variance of `auc`.
    pub variance: f64,
    /// Number of positive rows.
    pub positives: usize,
    /// Number of negative rows.
    pub negatives: usize,
}

/// Two scores of the same rows, compared by their AUC.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// AUC of the first score.
    pub auc_a: f64,
    /// AUC of the second score.
    pub auc_b: f64,
    /// `auc_a - auc_b`.
    pub difference: f64,
    /// Standard error of the difference, the correlation of the two AUCs taken into account.
    pub standard_error: f64,
    /// Difference divided by its standard error; 0 if both are 0.
    pub z: f64,
    /// Two-sided p-value; 1 if the two scores put every row in the same place.
    pub p_value: f64,
    /// Interval of the difference, cut to [-1, 1].
    pub interval: Interval,
    /// Number of positive rows.
    pub positives: usize,
    /// Number of negative rows.
    pub negatives: usize,
}

/// How many rows of the other class lie below each row, ties counting one half.
struct Placements {
    /// For each positive row, in row order: negatives below it.
    of_positives: Vec<f64>,
    /// For each negative row, in row order: positives below it.
    of_negatives: Vec<f64>,
}

fn placements(scores: &[f64], truth: &[bool]) -> Placements {
    let overall = midranks(scores);
    let of_class = |class: bool| -> Vec<f64> {
        let rows: Vec<usize> = (0..truth.len()).filter(|&row| truth[row] == class).collect();
        let own: Vec<f64> = rows.iter().map(|&row| scores[row]).collect();
        rows.iter().zip(midranks(&own)).map(|(&row, rank)| overall[row] - rank).collect()
    };
    Placements { of_positives: of_class(true), of_negatives: of_class(false) }
}

/// Variance of a sample with divisor n - 1. Exactly zero if all values are equal, because the
/// values are multiples of one half and their sum is exact.
fn sample_variance(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0)
}

/// Variance of a mean placement, given the placements of both classes (or differences of them).
fn variance_of_mean(of_positives: &[f64], of_negatives: &[f64]) -> f64 {
    let (m, n) = (of_positives.len() as f64, of_negatives.len() as f64);
    sample_variance(of_positives) / (n * n) / m + sample_variance(of_negatives) / (m * m) / n
}

fn check(scores: &[f64], truth: &[bool]) -> Result<(usize, usize), StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    for (what, found) in [("positives", positives), ("negatives", negatives)] {
        if found < MIN_PER_CLASS {
            return Err(StatsError::TooFew { what, needed: MIN_PER_CLASS, found });
        }
    }
    Ok((positives, negatives))
}

/// AUC and its DeLong variance.
///
/// # Errors
/// Empty input, unequal lengths, scores that are not finite, one class only, a class with fewer
/// than two rows.
pub fn delong(scores: &[f64], truth: &[bool]) -> Result<DeLong, StatsError> {
    let (positives, negatives) = check(scores, truth)?;
    let placed = placements(scores, truth);
    let pairs = positives as f64 * negatives as f64;
    Ok(DeLong {
        auc: placed.of_positives.iter().sum::<f64>() / pairs,
        variance: variance_of_mean(&placed.of_positives, &placed.of_negatives),
        positives,
        negatives,
    })
}

impl DeLong {
    /// Square root of the variance.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.variance.sqrt()
    }

    /// AUC plus or minus a multiple of its standard error, cut to [0, 1] (pROC's default).
    /// If the variance is zero, the score interval of Newcombe instead.
    ///
    /// # Errors
    /// `level` is not strictly between 0 and 1.
    pub fn interval(&self, level: f64) -> Result<Interval, StatsError> {
        let z = critical_value(level)?;
        if self.is_degenerate() {
            return Ok(self.newcombe(z, level));
        }
        let half_width = z * self.standard_error();
        Ok(Interval {
            low: (self.auc - half_width).max(0.0),
            high: (self.auc + half_width).min(1.0),
            level,
            method: IntervalMethod::Normal,
        })
    }

    /// The interval made on the logit scale and mapped back (Pepe 2003, section 5.2): it stays
    /// inside (0, 1) and covers better near the ends and with few positives, so reports use it.
    /// If the variance is zero, the score interval of Newcombe instead.
    ///
    /// # Errors
    /// `level` is not strictly between 0 and 1.
    pub fn logit_interval(&self, level: f64) -> Result<Interval, StatsError> {
        let z = critical_value(level)?;
        if self.is_degenerate() {
            return Ok(self.newcombe(z, level));
        }
        let half_width = z * self.standard_error() / (self.auc * (1.0 - self.auc));
        Ok(Interval {
            low: expit(logit(self.auc) - half_width),
            high: expit(logit(self.auc) + half_width),
            level,
            method: IntervalMethod::Logit,
        })
    }

    /// Whether the variance estimate says nothing. An AUC of 0 or 1 always has variance 0.
    fn is_degenerate(&self) -> bool {
        self.variance <= 0.0 || self.auc <= 0.0 || self.auc >= 1.0
    }

    /// Newcombe (2006), method 5: all `a` with |auc - a| <= z sqrt(V(a)), where V is Hanley and
    /// McNeil's variance under exponential scores with both class sizes set to their mean.
    fn newcombe(&self, z: f64, level: f64) -> Interval {
        let (m, n) = (self.positives as f64, self.negatives as f64);
        let star = 0.5 * (m + n) - 1.0;
        let variance = |a: f64| a * (1.0 - a) * (1.0 + star * ((1.0 - a) / (2.0 - a) + a / (1.0 + a))) / (m * n);
        let outside = |a: f64| (self.auc - a).abs() > z * variance(a).sqrt();
        // From `far`, an end of [0, 1], towards the estimate; the interval's end is where
        // "outside" turns into "inside".
        let end = |far: f64| {
            if !outside(far) {
                return far;
            }
            let (mut out, mut inside) = (far, self.auc);
            for _ in 0..BISECTIONS {
                let middle = 0.5 * (out + inside);
                if outside(middle) {
                    out = middle;
                } else {
                    inside = middle;
                }
            }
            inside
        };
        Interval { low: end(0.0), high: end(1.0), level, method: IntervalMethod::Newcombe }
    }
}

/// Compares two scores of the same rows: difference of AUCs, z, p and interval (paired DeLong).
///
/// If both scores put every row in the same place, the difference and its variance are exactly 0:
/// then z is 0, p is 1 and the interval is the single point 0.
///
/// # Errors
/// As for [`delong`], for either score; a `level` not strictly between 0 and 1;
/// [`StatsError::ZeroVariance`] for a difference that does not vary over the rows.
pub fn paired_delong(a: &[f64], b: &[f64], truth: &[bool], level: f64) -> Result<PairedComparison, StatsError> {
    let (positives, negatives) = check(a, truth)?;
    check(b, truth)?;
    let critical = critical_value(level)?;
    let (placed_a, placed_b) = (placements(a, truth), placements(b, truth));
    let minus = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x - y).collect() };
    let of_positives = minus(&placed_a.of_positives, &placed_b.of_positives);
    let of_negatives = minus(&placed_a.of_negatives, &placed_b.of_negatives);

    let pairs = positives as f64 * negatives as f64;
    let difference = of_positives.iter().sum::<f64>() / pairs;
    // The variance of the differences equals var(a) + var(b) - 2 cov(a, b) without its cancellation.
    let standard_error = variance_of_mean(&of_positives, &of_negatives).sqrt();
    let z = if standard_error > 0.0 {
        difference / standard_error
    } else if difference == 0.0 {
        0.0
    } else {
        return Err(StatsError::ZeroVariance { difference });
    };
    Ok(PairedComparison {
        auc_a: placed_a.of_positives.iter().sum::<f64>() / pairs,
        auc_b: placed_b.of_positives.iter().sum::<f64>() / pairs,
        difference,
        standard_error,
        z,
        p_value: two_sided_p(z),
        interval: Interval {
            low: (difference - critical * standard_error).max(-1.0),
            high: (difference + critical * standard_error).min(1.0),
            level,
            method: IntervalMethod::Normal,
        },
        positives,
        negatives,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::roc::auc;

    fn case(stream: &mut Stream) -> (Vec<f64>, Vec<f64>, Vec<bool>) {
        let rows = 8 + stream.below(40);
        let truth: Vec<bool> = (0..rows).map(|row| row < 2 || (row > 3 && stream.uniform() < 0.3)).collect();
        let mut score =
            || -> Vec<f64> { truth.iter().map(|&hit| stream.below(8) as f64 + if hit { 2.0 } else { 0.0 }).collect() };
        let (a, b) = (score(), score());
        (a, b, truth)
    }

    /// The definition: structural components from all pairs, and their sample covariances.
    fn by_definition(a: &[f64], b: &[f64], truth: &[bool]) -> f64 {
        let kernel = |s: &[f64], i: usize, j: usize| -> f64 {
            if s[i] > s[j] {
                1.0
            } else if s[i] == s[j] {
                0.5
            } else {
                0.0
            }
        };
        let pos: Vec<usize> = (0..truth.len()).filter(|&i| truth[i]).collect();
        let neg: Vec<usize> = (0..truth.len()).filter(|&i| !truth[i]).collect();
        let v10 = |s: &[f64]| -> Vec<f64> {
            let share = |&i: &usize| neg.iter().map(|&j| kernel(s, i, j)).sum::<f64>();
            pos.iter().map(|i| share(i) / neg.len() as f64).collect()
        };
        let v01 = |s: &[f64]| -> Vec<f64> {
            let share = |&j: &usize| pos.iter().map(|&i| kernel(s, i, j)).sum::<f64>();
            neg.iter().map(|j| share(j) / pos.len() as f64).collect()
        };
        let covariance = |x: &[f64], y: &[f64]| {
            let count = x.len() as f64;
            let (mx, my) = (x.iter().sum::<f64>() / count, y.iter().sum::<f64>() / count);
            x.iter().zip(y).map(|(p, q)| (p - mx) * (q - my)).sum::<f64>() / (count - 1.0)
        };
        covariance(&v10(a), &v10(b)) / pos.len() as f64 + covariance(&v01(a), &v01(b)) / neg.len() as f64
    }

    #[test]
    fn fast_algorithm_equals_the_definition() {
        let mut stream = Stream::keyed(1, "delong");
        for _ in 0..200 {
            let (a, b, truth) = case(&mut stream);
            let one = delong(&a, &truth).unwrap();
            assert!((one.auc - auc(&a, &truth).unwrap()).abs() < 1e-14);
            assert!((one.variance - by_definition(&a, &a, &truth)).abs() < 1e-14);
            let expected =
                by_definition(&a, &a, &truth) + by_definition(&b, &b, &truth) - 2.0 * by_definition(&a, &b, &truth);
            let pair = paired_delong(&a, &b, &truth, 0.95).unwrap();
            assert!((pair.standard_error * pair.standard_error - expected).abs() < 1e-14);
            assert!((pair.difference - (pair.auc_a - pair.auc_b)).abs() < 1e-14);
        }
    }

    #[test]
    fn a_score_does_not_differ_from_itself_or_its_monotone_map() {
        let mut stream = Stream::keyed(2, "delong");
        for _ in 0..100 {
            let (a, _, truth) = case(&mut stream);
            let mapped: Vec<f64> = a.iter().map(|s| s * s * s + s).collect();
            for other in [&a, &mapped] {
                let pair = paired_delong(&a, other, &truth, 0.95).unwrap();
                assert_eq!((pair.difference, pair.z, pair.p_value), (0.0, 0.0, 1.0));
                assert_eq!((pair.interval.low, pair.interval.high), (0.0, 0.0));
            }
        }
    }

    #[test]
    fn swapping_the_scores_turns_the_sign() {
        let mut stream = Stream::keyed(3, "delong");
        for _ in 0..100 {
            let (a, b, truth) = case(&mut stream);
            let forth = paired_delong(&a, &b, &truth, 0.9).unwrap();
            let back = paired_delong(&b, &a, &truth, 0.9).unwrap();
            assert_eq!((forth.difference, forth.z), (-back.difference, -back.z));
            assert_eq!(forth.p_value, back.p_value);
            assert!((0.0..=1.0).contains(&forth.p_value));
        }
    }

    #[test]
    fn intervals_contain_the_estimate_and_widen_with_the_level() {
        let mut stream = Stream::keyed(4, "delong");
        for _ in 0..100 {
            let (a, _, truth) = case(&mut stream);
            let one = delong(&a, &truth).unwrap();
            #[allow(clippy::type_complexity, reason = "two methods of one signature")]
            let kinds: [fn(&DeLong, f64) -> Result<Interval, StatsError>; 2] =
                [DeLong::interval, DeLong::logit_interval];
            for kind in kinds {
                let narrow = kind(&one, 0.8).unwrap();
                let wide = kind(&one, 0.99).unwrap();
                assert!(narrow.contains(one.auc) && wide.contains(one.auc));
                assert!(wide.width() > narrow.width());
                assert!(wide.low >= 0.0 && wide.high <= 1.0);
            }
        }
    }

    #[test]
    fn perfect_separation_still_has_a_wide_interval() {
        let truth = [true, true, true, false, false, false, false];
        let up = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let down: Vec<f64> = up.iter().map(|s| -s).collect();
        let best = delong(&up, &truth).unwrap();
        assert_eq!((best.auc, best.variance), (1.0, 0.0));
        let interval = best.interval(0.95).unwrap();
        assert_eq!(interval.method, IntervalMethod::Newcombe);
        assert_eq!(interval.high, 1.0);
        assert!(interval.low > 0.4 && interval.low < 0.8, "{interval:?}");
        assert_eq!(best.logit_interval(0.95).unwrap(), interval);
        let worst = delong(&down, &truth).unwrap().interval(0.95).unwrap();
        assert_eq!(worst.low, 0.0);
        assert!((worst.high - (1.0 - interval.low)).abs() < 1e-12);
    }

    #[test]
    fn constant_scores_are_not_certain_to_be_chance() {
        let one = delong(&[3.0; 6], &[true, true, true, false, false, false]).unwrap();
        assert_eq!((one.auc, one.variance), (0.5, 0.0));
        let interval = one.interval(0.95).unwrap();
        assert!(interval.low < 0.3 && interval.high > 0.7, "{interval:?}");
    }

    #[test]
    fn not_estimable_is_an_error() {
        let one_positive = delong(&[1.0, 2.0, 3.0], &[true, false, false]);
        assert_eq!(one_positive, Err(StatsError::TooFew { what: "positives", needed: 2, found: 1 }));
        let truth = [true, true, false, false];
        let perfect = [4.0, 3.0, 2.0, 1.0];
        assert_eq!(paired_delong(&perfect, &[1.0; 4], &truth, 0.95), Err(StatsError::ZeroVariance { difference: 0.5 }));
        assert!(paired_delong(&perfect, &perfect[..3], &truth, 0.95).is_err());
        assert!(delong(&perfect, &truth).unwrap().interval(1.0).is_err());
    }
}
