//! Decision curves: is acting on the prediction better than treating all or none?
//!
//! Net benefit (Vickers and Elkin 2006) counts a true positive as 1 and a false positive as the
//! odds of the threshold probability at which a clinician would act. It needs calibrated
//! probabilities; on raw scores it says nothing.

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes, check_probabilities};

/// Net benefit at one threshold probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DecisionPoint {
    /// Threshold probability, in (0, 1): act when the probability is at or above it.
    pub threshold: f64,
    /// Net benefit of acting on the prediction, in true positives per row.
    pub net_benefit: f64,
    /// Net benefit of acting on every row. Acting on none has net benefit 0.
    pub treat_all: f64,
}

/// The decision curve at the given threshold probabilities, in their order.
///
/// # Errors
/// Empty input, unequal lengths, values that are no probabilities, one class only, a threshold that
/// is not strictly between 0 and 1.
pub fn decision_curve(
    probabilities: &[f64],
    truth: &[bool],
    thresholds: &[f64],
) -> Result<Vec<DecisionPoint>, StatsError> {
    check_probabilities(probabilities, truth)?;
    let (positives, negatives) = check_both_classes(probabilities, truth)?;
    if let Some(&value) = thresholds.iter().find(|&&t| !(t > 0.0 && t < 1.0)) {
        return Err(StatsError::OutOfRange { what: "threshold probability", value, low: 0.0, high: 1.0 });
    }
    let sorted = |class: bool| -> Vec<f64> {
        let mut values: Vec<f64> =
            probabilities.iter().zip(truth).filter(|row| *row.1 == class).map(|row| *row.0).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (of_positives, of_negatives) = (sorted(true), sorted(false));
    let rows = truth.len() as f64;
    Ok(thresholds
        .iter()
        .map(|&threshold| {
            let acted_on = |values: &[f64]| values.len() - values.partition_point(|&p| p < threshold);
            let odds = threshold / (1.0 - threshold);
            let benefit = |hits: usize, false_alarms: usize| hits as f64 / rows - false_alarms as f64 / rows * odds;
            DecisionPoint {
                threshold,
                net_benefit: benefit(acted_on(&of_positives), acted_on(&of_negatives)),
                treat_all: benefit(positives, negatives),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn worked_example() {
        let curve =
            decision_curve(&[0.9, 0.6, 0.3, 0.2, 0.1], &[true, false, true, false, false], &[0.25, 0.5]).unwrap();
        assert!((curve[0].net_benefit - (2.0 / 5.0 - 1.0 / 5.0 / 3.0)).abs() < 1e-15);
        assert!((curve[0].treat_all - (2.0 / 5.0 - 3.0 / 5.0 / 3.0)).abs() < 1e-15);
        assert!(curve[1].net_benefit.abs() < 1e-15);
    }

    #[test]
    fn bounded_by_the_prevalence_and_equal_to_treat_all_below_every_probability() {
        let mut stream = Stream::keyed(1, "decision");
        for _ in 0..100 {
            let rows = 5 + stream.below(30);
            let truth: Vec<bool> = (0..rows).map(|row| row == 0 || (row > 1 && stream.below(3) == 0)).collect();
            let p: Vec<f64> = (0..rows).map(|_| stream.range(0.2, 0.9)).collect();
            let prevalence = truth.iter().filter(|t| **t).count() as f64 / rows as f64;
            let curve = decision_curve(&p, &truth, &[0.1, 0.4, 0.6, 0.95]).unwrap();
            assert_eq!(curve[0].net_benefit, curve[0].treat_all);
            assert_eq!(curve[3].net_benefit, 0.0);
            assert!(curve.iter().all(|point| point.net_benefit <= prevalence));
        }
    }

    #[test]
    fn not_estimable_is_an_error() {
        assert!(decision_curve(&[0.5, 0.6], &[true, true], &[0.5]).is_err());
        assert!(decision_curve(&[0.5, 1.6], &[true, false], &[0.5]).is_err());
        assert!(decision_curve(&[0.5, 0.6], &[true, false], &[1.0]).is_err());
    }
}
