//! Proportions with Wilson intervals: what a threshold does on a set of rows.
//!
//! Sensitivity, specificity and predictive values come from counts that are often below 20, where
//! the plain interval fails; Wilson's score interval (Wilson 1927; Agresti and Coull 1998) stays
//! inside [0, 1] and is not a single point at 0 or 1. A row is called positive when its score is at
//! or above the threshold. Thresholds are chosen elsewhere (see [`crate::roc`]), on other rows.

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_scores};
use crate::interval::{Interval, IntervalMethod};
use crate::normal::critical_value;

/// A share of rows with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Rows with the property.
    pub successes: usize,
    /// Rows looked at, at least 1.
    pub trials: usize,
    /// `successes / trials`.
    pub estimate: f64,
    /// Wilson interval.
    pub interval: Interval,
}

/// Counts of calls against the truth at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Positive rows called positive.
    pub true_positives: usize,
    /// Negative rows called positive.
    pub false_positives: usize,
    /// Negative rows called negative.
    pub true_negatives: usize,
    /// Positive rows called negative.
    pub false_negatives: usize,
}

/// The share `successes / trials` with its Wilson interval.
///
/// # Errors
/// No trials, more successes than trials, a `level` not strictly between 0 and 1.
pub fn wilson(successes: usize, trials: usize, level: f64) -> Result<Proportion, StatsError> {
    wilson_of("trials", successes, trials, level)
}

fn wilson_of(what: &'static str, successes: usize, trials: usize, level: f64) -> Result<Proportion, StatsError> {
    let z = critical_value(level)?;
    if trials == 0 {
        return Err(StatsError::TooFew { what, needed: 1, found: 0 });
    }
    if successes > trials {
        return Err(StatsError::OutOfRange {
            what: "successes",
            value: successes as f64,
            low: 0.0,
            high: trials as f64,
        });
    }
    let n = trials as f64;
    let estimate = successes as f64 / n;
    let z2 = z * z;
    let centre = (estimate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half_width = z / (1.0 + z2 / n) * (estimate * (1.0 - estimate) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the formula gives exactly 0 or 1; say so without rounding error.
    let low = if successes == 0 { 0.0 } else { (centre - half_width).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half_width).min(1.0) };
    let interval = Interval { low, high, level, method: IntervalMethod::Wilson };
    Ok(Proportion { successes, trials, estimate, interval })
}

impl Confusion {
    /// Counts at `threshold`; scores at or above it are called positive.
    ///
    /// # Errors
    /// Empty input, unequal lengths, scores that are not finite, a threshold that is NaN.
    pub fn at_threshold(scores: &[f64], truth: &[bool], threshold: f64) -> Result<Self, StatsError> {
        check_scores(scores, truth)?;
        if threshold.is_nan() {
            return Err(StatsError::OutOfRange {
                what: "threshold",
                value: threshold,
                low: f64::NEG_INFINITY,
                high: f64::INFINITY,
            });
        }
        let mut counts = Self { true_positives: 0, false_positives: 0, true_negatives: 0, false_negatives: 0 };
        for (&score, &positive) in scores.iter().zip(truth) {
            match (score >= threshold, positive) {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, false) => counts.true_negatives += 1,
                (false, true) => counts.false_negatives += 1,
            }
        }
        Ok(counts)
    }

    /// Share of the positive rows that were called positive.
    ///
    /// # Errors
    /// No positive rows; a `level` not strictly between 0 and 1.
    pub fn sensitivity(&self, level: f64) -> Result<Proportion, StatsError> {
        let trials = self.true_positives + self.false_negatives;
        wilson_of("positives", self.true_positives, trials, level)
    }

    /// Share of the negative rows that were called negative.
    ///
    /// # Errors
    /// No negative rows; a `level` not strictly between 0 and 1.
    pub fn specificity(&self, level: f64) -> Result<Proportion, StatsError> {
        let trials = self.true_negatives + self.false_positives;
        wilson_of("negatives", self.true_negatives, trials, level)
    }

    /// PPV: share of the rows called positive that are positive. Holds for this prevalence only.
    ///
    /// # Errors
    /// No row was called positive; a `level` not strictly between 0 and 1.
    pub fn positive_predictive_value(&self, level: f64) -> Result<Proportion, StatsError> {
        let trials = self.true_positives + self.false_positives;
        wilson_of("rows called positive", self.true_positives, trials, level)
    }

    /// NPV: share of the rows called negative that are negative. Holds for this prevalence only.
    ///
    /// # Errors
    /// No row was called negative; a `level` not strictly between 0 and 1.
    pub fn negative_predictive_value(&self, level: f64) -> Result<Proportion, StatsError> {
        let trials = self.true_negatives + self.false_negatives;
        wilson_of("rows called negative", self.true_negatives, trials, level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn counts_at_a_threshold() {
        let scores = [0.9, 0.5, 0.5, 0.1, 0.2];
        let truth = [true, true, false, false, true];
        let counts = Confusion::at_threshold(&scores, &truth, 0.5).unwrap();
        let expected = Confusion { true_positives: 2, false_positives: 1, true_negatives: 1, false_negatives: 1 };
        assert_eq!(counts, expected);
        assert_eq!(counts.sensitivity(0.95).unwrap().trials, 3);
        assert_eq!(counts.specificity(0.95).unwrap().estimate, 0.5);
        assert_eq!(counts.positive_predictive_value(0.95).unwrap().successes, 2);
        assert_eq!(counts.negative_predictive_value(0.95).unwrap().trials, 2);
    }

    #[test]
    fn wilson_stays_inside_and_contains_the_estimate() {
        let mut stream = Stream::keyed(1, "wilson");
        for _ in 0..500 {
            let trials = 1 + stream.below(60);
            let successes = stream.below(trials + 1);
            let one = wilson(successes, trials, 0.95).unwrap();
            assert!(one.interval.contains(one.estimate), "{one:?}");
            assert!(one.interval.low >= 0.0 && one.interval.high <= 1.0);
            assert!(one.interval.width() > 0.0);
            let mirror = wilson(trials - successes, trials, 0.95).unwrap();
            assert!((mirror.interval.low - (1.0 - one.interval.high)).abs() < 1e-12);
        }
        assert_eq!(wilson(0, 9, 0.95).unwrap().interval.low, 0.0);
        assert_eq!(wilson(9, 9, 0.95).unwrap().interval.high, 1.0);
    }

    #[test]
    fn not_estimable_is_an_error() {
        let counts = Confusion::at_threshold(&[0.1, 0.2], &[true, true], f64::INFINITY).unwrap();
        assert_eq!(counts.specificity(0.95), Err(StatsError::TooFew { what: "negatives", needed: 1, found: 0 }));
        assert!(counts.positive_predictive_value(0.95).is_err());
        assert_eq!(counts.sensitivity(0.95).unwrap().estimate, 0.0);
        assert!(Confusion::at_threshold(&[0.1], &[true], f64::NAN).is_err());
        assert!(wilson(3, 2, 0.95).is_err() && wilson(1, 2, 0.0).is_err());
    }
}
