//! Correction of p-values for testing several labels at once.
//!
//! Holm's step-down procedure (Holm 1979) bounds the chance of any false claim over all labels
//! without assuming that the labels are independent, and is never weaker than Bonferroni's.

use crate::error::{StatsError, check_finite};

/// Adjusted p-values in the order given; compare each with the overall error level.
///
/// Leave tests that were not estimable out: they made no claim.
///
/// # Errors
/// No p-values, or one that is not in [0, 1].
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    if p_values.is_empty() {
        return Err(StatsError::Empty { what: "p-values" });
    }
    check_finite("p-values", p_values)?;
    if let Some(row) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatsError::RowOutOfRange { what: "p-values", row, value: p_values[row], low: 0.0, high: 1.0 });
    }
    let tests = p_values.len();
    let mut order: Vec<usize> = (0..tests).collect();
    order.sort_unstable_by(|&a, &b| p_values[a].total_cmp(&p_values[b]).then(a.cmp(&b)));
    let mut adjusted = vec![0.0; tests];
    let mut so_far = 0.0_f64;
    for (position, &test) in order.iter().enumerate() {
        so_far = so_far.max((p_values[test] * (tests - position) as f64).min(1.0));
        adjusted[test] = so_far;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn worked_example() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-15, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.2]).unwrap(), [0.2]);
    }

    #[test]
    fn keeps_the_order_and_lies_between_raw_and_bonferroni() {
        let mut stream = Stream::keyed(1, "holm");
        for _ in 0..300 {
            let tests = 1 + stream.below(12);
            let raw: Vec<f64> = (0..tests).map(|_| stream.uniform()).collect();
            let adjusted = holm(&raw).unwrap();
            let pairs: Vec<(f64, f64)> = raw.iter().copied().zip(adjusted.iter().copied()).collect();
            for &(p, p_adjusted) in &pairs {
                assert!(p_adjusted >= p);
                assert!(p_adjusted <= (p * tests as f64).min(1.0));
                for &(q, q_adjusted) in &pairs {
                    assert!(p > q || p_adjusted <= q_adjusted);
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_no_p_value() {
        assert!(holm(&[]).is_err());
        assert!(matches!(holm(&[0.1, 1.2]), Err(StatsError::RowOutOfRange { row: 1, .. })));
        assert!(holm(&[f64::NAN]).is_err());
    }
}
