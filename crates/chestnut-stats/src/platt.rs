//! Platt scaling: a logistic curve that turns scores into probabilities.
//!
//! Targets are smoothed as in Platt (1999), (n+ + 1) / (n+ + 2) for positives and 1 / (n- + 2) for
//! negatives, so the fit is finite even when the scores separate the classes; scikit-learn's
//! "sigmoid" calibration is the same estimate with both signs turned. Fit on out-of-fold
//! predictions only: on the rows a model was trained on the curve comes out too steep.

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes, check_finite};
use crate::logistic::{expit, fit_line};

/// A fitted curve, probability = 1 / (1 + exp(-(intercept + slope * score))).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// Log-odds at score 0.
    pub intercept: f64,
    /// Log-odds per unit of score; negative if high scores mean negative.
    pub slope: f64,
}

impl Platt {
    /// Fits the curve by maximum likelihood.
    ///
    /// # Errors
    /// Empty input, unequal lengths, scores that are not finite or all equal, one class only.
    pub fn fit(scores: &[f64], truth: &[bool]) -> Result<Self, StatsError> {
        let (positives, negatives) = check_both_classes(scores, truth)?;
        let high = (positives as f64 + 1.0) / (positives as f64 + 2.0);
        let low = 1.0 / (negatives as f64 + 2.0);
        let targets: Vec<f64> = truth.iter().map(|&positive| if positive { high } else { low }).collect();
        let line = fit_line("Platt scaling", scores, &targets)?;
        Ok(Self { intercept: line.intercept, slope: line.slope })
    }

    /// Probabilities of the scores, in their order.
    ///
    /// # Errors
    /// A score that is not finite.
    pub fn apply(&self, scores: &[f64]) -> Result<Vec<f64>, StatsError> {
        check_finite("scores", scores)?;
        Ok(scores.iter().map(|score| expit(self.intercept + self.slope * score)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn probabilities_rise_with_the_score_and_recover_the_curve() {
        let mut stream = Stream::keyed(1, "platt");
        let scores: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let truth: Vec<bool> = scores.iter().map(|s| stream.uniform() < expit(-1.0 + 2.0 * s)).collect();
        let curve = Platt::fit(&scores, &truth).unwrap();
        assert!((curve.slope - 2.0).abs() < 0.15 && (curve.intercept + 1.0).abs() < 0.1);
        let p = curve.apply(&[-3.0, 0.0, 3.0, 100.0]).unwrap();
        assert!(p[0] < p[1] && p[1] < p[2] && p[2] <= p[3] && p[3] <= 1.0);
    }

    #[test]
    fn turning_the_scores_turns_the_slope() {
        let scores = [0.1, 0.5, 0.4, 0.9, 0.7];
        let truth = [false, false, true, true, false];
        let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
        let a = Platt::fit(&scores, &truth).unwrap();
        let b = Platt::fit(&turned, &truth).unwrap();
        assert!((a.slope + b.slope).abs() < 1e-9 && (a.intercept - b.intercept).abs() < 1e-9);
    }

    #[test]
    fn separated_classes_have_a_finite_curve() {
        let curve = Platt::fit(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]).unwrap();
        assert!(curve.slope > 0.0 && curve.slope.is_finite());
        // The smoothed targets 0.25 and 0.75 keep the probabilities off 0 and 1.
        let p = curve.apply(&[1.0, 4.0]).unwrap();
        assert!(p[0] > 0.1 && p[1] < 0.9, "{p:?}");
    }

    #[test]
    fn not_estimable_is_an_error() {
        assert!(Platt::fit(&[0.1, 0.2], &[true, true]).is_err());
        assert_eq!(Platt::fit(&[0.3, 0.3], &[true, false]), Err(StatsError::Constant { what: "Platt scaling" }));
        let curve = Platt { intercept: 0.0, slope: 1.0 };
        assert!(matches!(curve.apply(&[0.0, f64::NAN]), Err(StatsError::NotFinite { row: 1, .. })));
    }
}
