//! Calibration: do the predicted probabilities come true?
//!
//! Brier score, reliability bins of equal mass with the expected calibration error, and the
//! calibration line (Cox 1958; Van Calster et al. 2019): slope below 1 means predictions too
//! extreme, an intercept above 0 means risk underestimated on the whole. To mend calibration see
//! [`crate::platt`] and [`crate::isotonic`].

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes, check_probabilities};
use crate::logistic::{check_overlap, fit_intercept, fit_line, logit};

/// Probabilities are kept this far from 0 and 1 before their logit is taken. A forest often says
/// exactly 0 or 1, whose logit is infinite; [`moved`] counts the rows that it happens to.
pub const PROBABILITY_FLOOR: f64 = 1e-6;

/// Bins of a reliability curve unless asked otherwise.
pub const DEFAULT_BINS: usize = 10;

/// One bin of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Smallest probability in the bin.
    pub low: f64,
    /// Largest probability in the bin.
    pub high: f64,
    /// Rows in the bin, at least 1.
    pub rows: usize,
    /// Positive rows in the bin.
    pub positives: usize,
    /// Mean probability of the bin.
    pub mean_predicted: f64,
    /// Share of positives in the bin. For its interval see [`crate::proportion::wilson`].
    pub observed: f64,
}

/// Logistic recalibration of the outcome on the logit of the prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationLine {
    /// Slope; 1 is ideal.
    pub slope: f64,
    /// Standard error of the slope.
    pub slope_standard_error: f64,
    /// Intercept fitted together with the slope.
    pub intercept: f64,
    /// Calibration in the large: the intercept with the slope held at 1; 0 is ideal.
    pub in_the_large: f64,
    /// Standard error of `in_the_large`.
    pub in_the_large_standard_error: f64,
    /// Rows whose probability was moved to [`PROBABILITY_FLOOR`] from 0 or 1.
    pub moved: usize,
}

/// Mean squared difference of probability and outcome (Brier 1950), in [0, 1]; lower is better.
///
/// # Errors
/// Empty input, unequal lengths, values that are no probabilities.
pub fn brier_score(probabilities: &[f64], truth: &[bool]) -> Result<f64, StatsError> {
    check_probabilities(probabilities, truth)?;
    let sum: f64 = probabilities
        .iter()
        .zip(truth)
        .map(|(p, &positive)| if positive { (1.0 - p) * (1.0 - p) } else { p * p })
        .sum();
    Ok(sum / truth.len() as f64)
}

/// Reliability bins of equal mass, lowest probabilities first.
///
/// The rule: with the n rows sorted by probability, bin k of B ends before row floor((k + 1) n / B).
/// Equal probabilities are never parted: an end inside a run of them moves to the end of the run,
/// and a bin left empty by that is dropped. So the result does not depend on the order of the rows,
/// and there may be fewer than `bins` bins.
///
/// # Errors
/// Empty input, unequal lengths, values that are no probabilities, `bins` 0 or above the number of
/// rows.
pub fn reliability(probabilities: &[f64], truth: &[bool], bins: usize) -> Result<Vec<ReliabilityBin>, StatsError> {
    check_probabilities(probabilities, truth)?;
    let rows = truth.len();
    if bins == 0 {
        return Err(StatsError::OutOfRange { what: "number of bins", value: 0.0, low: 1.0, high: rows as f64 });
    }
    if bins > rows {
        return Err(StatsError::TooFew { what: "rows for the bins", needed: bins, found: rows });
    }
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_unstable_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let mut curve = Vec::with_capacity(bins);
    let mut start = 0;
    for bin in 1..=bins {
        let mut end = (bin as u128 * rows as u128 / bins as u128) as usize;
        if end <= start {
            continue;
        }
        let high = probabilities[order[end - 1]];
        while end < rows && probabilities[order[end]] == high {
            end += 1;
        }
        let members = &order[start..end];
        let count = members.len();
        let positives = members.iter().filter(|&&row| truth[row]).count();
        curve.push(ReliabilityBin {
            low: probabilities[members[0]],
            high,
            rows: count,
            positives,
            mean_predicted: members.iter().map(|&row| probabilities[row]).sum::<f64>() / count as f64,
            observed: positives as f64 / count as f64,
        });
        start = end;
    }
    Ok(curve)
}

/// Expected calibration error: mean over rows of |mean prediction - share of positives| of their
/// bin, bins as in [`reliability`]. In [0, 1]; it falls with fewer bins, so state their number.
///
/// # Errors
/// As for [`reliability`].
pub fn expected_calibration_error(probabilities: &[f64], truth: &[bool], bins: usize) -> Result<f64, StatsError> {
    let curve = reliability(probabilities, truth, bins)?;
    let sum: f64 = curve.iter().map(|bin| bin.rows as f64 * (bin.mean_predicted - bin.observed).abs()).sum();
    Ok(sum / truth.len() as f64)
}

/// Rows that [`calibration_line`] moves: probabilities within [`PROBABILITY_FLOOR`] of 0 or 1.
///
/// The line then rests on where they are moved to: on the logit scale they lie at 13.8 from the middle, where most others
/// lie within 4.
#[must_use]
pub fn moved(probabilities: &[f64]) -> usize {
    let inside = PROBABILITY_FLOOR..=1.0 - PROBABILITY_FLOOR;
    probabilities.iter().filter(|p| !inside.contains(p)).count()
}

/// Calibration slope and intercept.
///
/// # Errors
/// Empty input, unequal lengths, values that are no probabilities, one class only, all
/// probabilities equal, classes separated by the probabilities.
pub fn calibration_line(probabilities: &[f64], truth: &[bool]) -> Result<CalibrationLine, StatsError> {
    const WHAT: &str = "calibration slope";
    check_probabilities(probabilities, truth)?;
    check_both_classes(probabilities, truth)?;
    let logits: Vec<f64> =
        probabilities.iter().map(|p| logit(p.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR))).collect();
    check_overlap(WHAT, &logits, truth)?;
    let targets: Vec<f64> = truth.iter().map(|&positive| f64::from(u8::from(positive))).collect();
    let line = fit_line(WHAT, &logits, &targets)?;
    let (in_the_large, in_the_large_standard_error) = fit_intercept("calibration in the large", &logits, &targets)?;
    Ok(CalibrationLine {
        slope: line.slope,
        slope_standard_error: line.slope_standard_error,
        intercept: line.intercept,
        in_the_large,
        in_the_large_standard_error,
        moved: moved(probabilities),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logistic::expit;
    use crate::random::Stream;

    fn case(stream: &mut Stream, rows: usize) -> (Vec<f64>, Vec<bool>) {
        let p: Vec<f64> = (0..rows).map(|_| expit(stream.normal())).collect();
        let truth = p.iter().map(|&p| stream.uniform() < p).collect();
        (p, truth)
    }

    #[test]
    fn brier_of_small_cases() {
        let truth = [true, false];
        assert_eq!(brier_score(&[1.0, 0.0], &truth).unwrap(), 0.0);
        assert_eq!(brier_score(&[0.0, 1.0], &truth).unwrap(), 1.0);
        assert_eq!(brier_score(&[0.5, 0.5], &truth).unwrap(), 0.25);
        assert!(brier_score(&[0.5, 1.1], &truth).is_err());
        assert!(brier_score(&[], &[]).is_err());
    }

    #[test]
    fn calibrated_predictions_lie_on_the_ideal_line() {
        let mut stream = Stream::keyed(1, "calibration");
        let (p, truth) = case(&mut stream, 20_000);
        let line = calibration_line(&p, &truth).unwrap();
        assert!((line.slope - 1.0).abs() < 4.0 * line.slope_standard_error);
        assert!(line.in_the_large.abs() < 4.0 * line.in_the_large_standard_error);
        assert!(line.slope_standard_error < 0.03 && line.moved == 0);
        assert!(expected_calibration_error(&p, &truth, DEFAULT_BINS).unwrap() < 0.03);

        let extreme: Vec<f64> = p.iter().map(|&p| expit(2.0 * logit(p) - 1.0)).collect();
        let worse = calibration_line(&extreme, &truth).unwrap();
        assert!((worse.slope - line.slope / 2.0).abs() < 1e-6);
        assert!(worse.in_the_large > 0.5);
        assert!(brier_score(&extreme, &truth).unwrap() > brier_score(&p, &truth).unwrap());
    }

    #[test]
    fn bins_hold_all_rows_once_and_never_part_ties() {
        let mut stream = Stream::keyed(2, "calibration");
        for _ in 0..200 {
            let rows = 10 + stream.below(50);
            let p: Vec<f64> = (0..rows).map(|_| stream.below(9) as f64 / 8.0).collect();
            let truth: Vec<bool> = (0..rows).map(|_| stream.below(2) == 0).collect();
            let curve = reliability(&p, &truth, 10).unwrap();
            assert_eq!(curve.iter().map(|bin| bin.rows).sum::<usize>(), rows);
            assert!(curve.windows(2).all(|w| w[0].high < w[1].low));
            assert!(curve.iter().all(|bin| bin.low <= bin.mean_predicted + 1e-12));
            let error = expected_calibration_error(&p, &truth, 10).unwrap();
            assert!((0.0..=1.0).contains(&error));
        }
        let even: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0).collect();
        let curve = reliability(&even, &[true; 20], 5).unwrap();
        assert!(curve.len() == 5 && curve.iter().all(|bin| bin.rows == 4 && bin.observed == 1.0));
    }

    #[test]
    fn one_bin_compares_the_means() {
        let mut stream = Stream::keyed(3, "calibration");
        let (p, truth) = case(&mut stream, 50);
        let mean = p.iter().sum::<f64>() / 50.0;
        let share = truth.iter().filter(|t| **t).count() as f64 / 50.0;
        let error = expected_calibration_error(&p, &truth, 1).unwrap();
        assert!((error - (mean - share).abs()).abs() < 1e-12);
    }

    #[test]
    fn certain_predictions_are_counted_as_moved() {
        let p = [0.0, 0.0, 0.3, 0.4, 0.6, 1.0, 1.0];
        let truth = [false, true, false, true, false, true, true];
        let line = calibration_line(&p, &truth).unwrap();
        assert_eq!(line.moved, 4);
        assert!(line.slope.is_finite() && line.in_the_large.is_finite());
    }

    #[test]
    fn not_estimable_is_an_error() {
        let truth = [false, false, true, true];
        assert_eq!(
            calibration_line(&[0.1, 0.2, 0.8, 0.9], &truth),
            Err(StatsError::Separated { what: "calibration slope" })
        );
        assert_eq!(calibration_line(&[0.5; 4], &truth), Err(StatsError::Constant { what: "calibration slope" }));
        assert!(calibration_line(&[0.1, 0.2], &[true, true]).is_err());
        assert!(reliability(&[0.1, 0.2], &[true, false], 3).is_err());
        assert!(reliability(&[0.1, 0.2], &[true, false], 0).is_err());
    }
}
