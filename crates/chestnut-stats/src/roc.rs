//! Discrimination: area under the ROC curve, the curve itself, average precision, thresholds.
//!
//! The AUC is the probability that a random positive scores above a random negative, ties counting
//! one half (Bamber 1975; Hanley and McNeil 1982), computed from midranks in O(n log n). A row is
//! called positive when its score is at or above the threshold. A threshold must be chosen on
//! training folds and only applied to test rows; nothing here can check that.

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes};

/// One corner of the ROC curve.
///
/// Not readable back from JSON: the first corner's threshold is infinite, which JSON cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RocPoint {
    /// Rows at or above it are called positive; infinite for the corner (0, 0).
    pub threshold: f64,
    /// 1 - specificity, in [0, 1].
    pub false_positive_rate: f64,
    /// Sensitivity, in [0, 1].
    pub true_positive_rate: f64,
}

/// A threshold and what it does on the rows it was chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Rows at or above it are called positive.
    pub threshold: f64,
    /// Share of positives at or above the threshold.
    pub sensitivity: f64,
    /// Share of negatives below the threshold.
    pub specificity: f64,
}

/// Ranks from 1, equal values sharing the mean of their ranks.
///
/// Values must not be NaN (each NaN would get a rank of its own). Twice a midrank is an integer.
#[must_use]
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == value {
            end += 1;
        }
        let rank = (start + 1 + end) as f64 / 2.0;
        for &row in &order[start..end] {
            ranks[row] = rank;
        }
        start = end;
    }
    ranks
}

/// Area under the ROC curve, in [0, 1].
///
/// # Errors
/// Empty input, unequal lengths, scores that are not finite, one class only.
pub fn auc(scores: &[f64], truth: &[bool]) -> Result<f64, StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    let (m, n) = (positives as f64, negatives as f64);
    let rank_sum: f64 = midranks(scores).iter().zip(truth).map(|(rank, &hit)| if hit { *rank } else { 0.0 }).sum();
    Ok((rank_sum - m * (m + 1.0) / 2.0) / (m * n))
}

/// Counts of rows at or above one distinct score.
struct Step {
    threshold: f64,
    true_positives: usize,
    false_positives: usize,
}

/// One step per distinct score, from the highest score down. At least one step for checked input.
fn steps(scores: &[f64], truth: &[bool]) -> Vec<Step> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut steps = Vec::new();
    let mut true_positives = 0;
    let mut false_positives = 0;
    for (position, &row) in order.iter().enumerate() {
        if truth[row] {
            true_positives += 1;
        } else {
            false_positives += 1;
        }
        let last_of_its_score = order.get(position + 1).is_none_or(|&next| scores[next] != scores[row]);
        if last_of_its_score {
            steps.push(Step { threshold: scores[row], true_positives, false_positives });
        }
    }
    steps
}

/// The ROC curve from (0, 0) to (1, 1), one corner per distinct score, highest threshold first.
///
/// # Errors
/// As for [`auc`].
pub fn roc_curve(scores: &[f64], truth: &[bool]) -> Result<Vec<RocPoint>, StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    let mut curve = vec![RocPoint { threshold: f64::INFINITY, false_positive_rate: 0.0, true_positive_rate: 0.0 }];
    curve.extend(steps(scores, truth).iter().map(|step| RocPoint {
        threshold: step.threshold,
        false_positive_rate: step.false_positives as f64 / negatives as f64,
        true_positive_rate: step.true_positives as f64 / positives as f64,
    }));
    Ok(curve)
}

/// Average precision: the sum over distinct scores of precision times gain in recall, without
/// interpolation (the definition of scikit-learn). Its chance level is the prevalence.
///
/// # Errors
/// As for [`auc`].
pub fn average_precision(scores: &[f64], truth: &[bool]) -> Result<f64, StatsError> {
    let (positives, _) = check_both_classes(scores, truth)?;
    let mut before = 0;
    let mut sum = 0.0;
    for step in steps(scores, truth) {
        let called = step.true_positives + step.false_positives;
        let precision = step.true_positives as f64 / called as f64;
        sum += precision * (step.true_positives - before) as f64;
        before = step.true_positives;
    }
    Ok(sum / positives as f64)
}

fn operating_point(step: &Step, positives: usize, negatives: usize) -> OperatingPoint {
    OperatingPoint {
        threshold: step.threshold,
        sensitivity: step.true_positives as f64 / positives as f64,
        specificity: (negatives - step.false_positives) as f64 / negatives as f64,
    }
}

/// The observed score that maximises sensitivity + specificity - 1 (Youden 1950). Among equals the
/// highest threshold wins. If no score does better than chance this calls every row positive.
///
/// # Errors
/// As for [`auc`].
pub fn youden_threshold(scores: &[f64], truth: &[bool]) -> Result<OperatingPoint, StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    // Youden's index times both class sizes: an integer, so that ties are found exactly.
    let merit = |step: &Step| {
        step.true_positives as i128 * negatives as i128 - step.false_positives as i128 * positives as i128
    };
    let steps = steps(scores, truth);
    let mut best = &steps[0];
    for step in &steps[1..] {
        if merit(step) > merit(best) {
            best = step;
        }
    }
    Ok(operating_point(best, positives, negatives))
}

/// The highest observed score at which at least the share `target` of the positives is called
/// positive, hence the most specific threshold that reaches the target.
///
/// # Errors
/// As for [`auc`]; a target that is not in (0, 1].
pub fn sensitivity_threshold(scores: &[f64], truth: &[bool], target: f64) -> Result<OperatingPoint, StatsError> {
    let (positives, negatives) = check_both_classes(scores, truth)?;
    if !(target > 0.0 && target <= 1.0) {
        return Err(StatsError::OutOfRange { what: "target sensitivity", value: target, low: 0.0, high: 1.0 });
    }
    let steps = steps(scores, truth);
    let reached = steps
        .iter()
        .find(|step| step.true_positives as f64 / positives as f64 >= target)
        .unwrap_or(&steps[steps.len() - 1]);
    Ok(operating_point(reached, positives, negatives))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Scores on a coarse grid (many ties) with both classes present.
    fn case(stream: &mut Stream) -> (Vec<f64>, Vec<bool>) {
        let rows = 4 + stream.below(40);
        let mut truth: Vec<bool> = (0..rows).map(|_| stream.uniform() < 0.4).collect();
        truth[0] = true;
        truth[1] = false;
        let scores = truth.iter().map(|&positive| stream.below(6) as f64 + if positive { 1.0 } else { 0.0 }).collect();
        (scores, truth)
    }

    #[test]
    fn midranks_share_ties() {
        assert_eq!(midranks(&[10.0, 30.0, 10.0, 20.0]), [1.5, 4.0, 1.5, 3.0]);
        assert_eq!(midranks(&[0.0, -0.0]), [1.5, 1.5]);
        assert!(midranks(&[]).is_empty());
    }

    #[test]
    fn auc_is_the_share_of_pairs_in_order() {
        let mut stream = Stream::keyed(1, "roc");
        for _ in 0..200 {
            let (scores, truth) = case(&mut stream);
            let mut won = 0.0;
            let mut pairs = 0.0;
            for (i, _) in truth.iter().enumerate().filter(|(_, t)| **t) {
                for (j, _) in truth.iter().enumerate().filter(|(_, t)| !**t) {
                    pairs += 1.0;
                    if scores[i] > scores[j] {
                        won += 1.0;
                    } else if scores[i] == scores[j] {
                        won += 0.5;
                    }
                }
            }
            assert!((auc(&scores, &truth).unwrap() - won / pairs).abs() < 1e-14);
        }
    }

    #[test]
    fn auc_knows_only_the_order() {
        let mut stream = Stream::keyed(2, "roc");
        for _ in 0..200 {
            let (scores, truth) = case(&mut stream);
            let value = auc(&scores, &truth).unwrap();
            let mapped: Vec<f64> = scores.iter().map(|s| (0.3 * s).exp() - 7.0).collect();
            assert_eq!(auc(&mapped, &truth).unwrap(), value);
            let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
            assert!((auc(&turned, &truth).unwrap() - (1.0 - value)).abs() < 1e-14);
        }
    }

    #[test]
    fn area_under_the_curve_is_the_auc() {
        let mut stream = Stream::keyed(3, "roc");
        for _ in 0..200 {
            let (scores, truth) = case(&mut stream);
            let curve = roc_curve(&scores, &truth).unwrap();
            let last = curve[curve.len() - 1];
            assert_eq!((last.false_positive_rate, last.true_positive_rate), (1.0, 1.0));
            let area: f64 = curve
                .windows(2)
                .map(|w| {
                    (w[1].false_positive_rate - w[0].false_positive_rate)
                        * (w[1].true_positive_rate + w[0].true_positive_rate)
                        / 2.0
                })
                .sum();
            assert!((area - auc(&scores, &truth).unwrap()).abs() < 1e-13);
            assert!(curve.windows(2).all(|w| w[0].threshold > w[1].threshold));
        }
    }

    #[test]
    fn average_precision_of_small_cases() {
        let truth = [false, false, true, true];
        let value = average_precision(&[0.1, 0.4, 0.35, 0.8], &truth).unwrap();
        assert!((value - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
        assert_eq!(average_precision(&[1.0, 1.0, 1.0, 1.0], &truth).unwrap(), 0.5);
        assert_eq!(average_precision(&[0.1, 0.2, 0.3, 0.4], &truth).unwrap(), 1.0);
    }

    #[test]
    fn youden_beats_every_other_threshold() {
        let mut stream = Stream::keyed(4, "roc");
        for _ in 0..200 {
            let (scores, truth) = case(&mut stream);
            let best = youden_threshold(&scores, &truth).unwrap();
            for point in &roc_curve(&scores, &truth).unwrap()[1..] {
                let index = point.true_positive_rate - point.false_positive_rate;
                assert!(best.sensitivity + best.specificity - 1.0 >= index - 1e-12);
            }
        }
        let tied = youden_threshold(&[1.0, 2.0, 3.0, 4.0], &[true, false, false, true]).unwrap();
        assert_eq!((tied.threshold, tied.sensitivity, tied.specificity), (4.0, 0.5, 1.0));
    }

    #[test]
    fn sensitivity_target_is_reached_as_high_as_possible() {
        let scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
        let truth = [false, true, false, true, true, true];
        let point = sensitivity_threshold(&scores, &truth, 0.75).unwrap();
        assert_eq!((point.threshold, point.sensitivity, point.specificity), (0.4, 0.75, 1.0));
        let all = sensitivity_threshold(&scores, &truth, 1.0).unwrap();
        assert_eq!((all.threshold, all.sensitivity, all.specificity), (0.2, 1.0, 0.5));
        for target in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(sensitivity_threshold(&scores, &truth, target).is_err());
        }
    }

    #[test]
    fn not_estimable_is_an_error() {
        assert_eq!(auc(&[0.2, 0.3], &[false, false]), Err(StatsError::OneClass { positives: 0, negatives: 2 }));
        assert!(roc_curve(&[f64::INFINITY, 0.3], &[true, false]).is_err());
        assert!(average_precision(&[], &[]).is_err());
        assert!(youden_threshold(&[1.0], &[true, false]).is_err());
    }
}
