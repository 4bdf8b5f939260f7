//! Isotonic calibration: the best non-decreasing map from scores to probabilities.
//!
//! Pool adjacent violators (Ayer et al. 1955) on the mean outcome per distinct score. Between the
//! scores seen the map is linear and outside them it is constant, as in scikit-learn's
//! `IsotonicRegression` with `out_of_bounds="clip"`. It needs more rows than Platt scaling and must
//! be fitted on out-of-fold predictions only.

use serde::{Deserialize, Serialize};

use crate::error::{StatsError, check_both_classes, check_finite};

/// A fitted map: a polygon through knots (score, probability), rising in both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(f64, f64)>", into = "Vec<(f64, f64)>")]
pub struct Isotonic {
    knots: Vec<(f64, f64)>,
}

/// Rows pooled to one value.
struct Block {
    first: f64,
    last: f64,
    positives: usize,
    rows: usize,
}

impl Isotonic {
    /// Fits the map by least squares.
    ///
    /// # Errors
    /// Empty input, unequal lengths, scores that are not finite, one class only.
    pub fn fit(scores: &[f64], truth: &[bool]) -> Result<Self, StatsError> {
        check_both_classes(scores, truth)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]));

        let mut distinct: Vec<Block> = Vec::new();
        for row in order {
            let positive = usize::from(truth[row]);
            match distinct.last_mut() {
                Some(block) if block.last == scores[row] => {
                    block.positives += positive;
                    block.rows += 1;
                }
                _ => distinct.push(Block { first: scores[row], last: scores[row], positives: positive, rows: 1 }),
            }
        }

        let mut pooled: Vec<Block> = Vec::new();
        for mut block in distinct {
            // Shares compared crosswise, as integers, so that equal shares are found exactly.
            while let Some(before) = pooled.pop_if(|before| {
                before.positives as u128 * block.rows as u128 >= block.positives as u128 * before.rows as u128
            }) {
                block.first = before.first;
                block.positives += before.positives;
                block.rows += before.rows;
            }
            pooled.push(block);
        }

        let mut knots = Vec::with_capacity(2 * pooled.len());
        for block in &pooled {
            let share = block.positives as f64 / block.rows as f64;
            knots.push((block.first, share));
            if block.last > block.first {
                knots.push((block.last, share));
            }
        }
        Ok(Self { knots })
    }

    /// A map through given knots (score, probability), for instance read from a file.
    ///
    /// # Errors
    /// No knots, scores that are not finite and strictly rising, probabilities that fall or leave
    /// [0, 1].
    pub fn from_knots(knots: Vec<(f64, f64)>) -> Result<Self, StatsError> {
        if knots.is_empty() {
            return Err(StatsError::Empty { what: "isotonic knots" });
        }
        let (mut score_before, mut share_before) = (f64::NEG_INFINITY, 0.0);
        for (row, &(score, share)) in knots.iter().enumerate() {
            if !score.is_finite() {
                return Err(StatsError::NotFinite { what: "isotonic knots", row, value: score });
            }
            let what = "isotonic knots";
            if score <= score_before {
                let (low, high) = (score_before, f64::INFINITY);
                return Err(StatsError::RowOutOfRange { what, row, value: score, low, high });
            }
            if !(share_before..=1.0).contains(&share) {
                let (low, high) = (share_before, 1.0);
                return Err(StatsError::RowOutOfRange { what, row, value: share, low, high });
            }
            (score_before, share_before) = (score, share);
        }
        Ok(Self { knots })
    }

    /// The knots (score, probability), rising; at least one.
    #[must_use]
    pub fn knots(&self) -> &[(f64, f64)] {
        &self.knots
    }

    /// Probabilities of the scores, in their order.
    ///
    /// # Errors
    /// A score that is not finite.
    pub fn apply(&self, scores: &[f64]) -> Result<Vec<f64>, StatsError> {
        check_finite("scores", scores)?;
        Ok(scores.iter().map(|&score| self.value(score)).collect())
    }

    fn value(&self, score: f64) -> f64 {
        let above = self.knots.partition_point(|knot| knot.0 <= score);
        if above == 0 {
            return self.knots[0].1;
        }
        let (x0, y0) = self.knots[above - 1];
        match self.knots.get(above) {
            // Clamped because rounding may step past the upper knot by one unit.
            Some(&(x1, y1)) => (y0 + (y1 - y0) * ((score - x0) / (x1 - x0))).clamp(y0, y1),
            None => y0,
        }
    }
}

impl TryFrom<Vec<(f64, f64)>> for Isotonic {
    type Error = StatsError;

    fn try_from(knots: Vec<(f64, f64)>) -> Result<Self, StatsError> {
        Self::from_knots(knots)
    }
}

impl From<Isotonic> for Vec<(f64, f64)> {
    fn from(map: Isotonic) -> Self {
        map.knots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn worked_example() {
        let scores = [1.0, 2.0, 3.0, 4.0, 5.0, 5.0];
        let truth = [false, true, false, true, true, false];
        let map = Isotonic::fit(&scores, &truth).unwrap();
        // 1 -> 0; 2 and 3 pool to 1/2; 4 (share 1) and 5 (share 1/2) pool to 2/3.
        let expected = [(1.0, 0.0), (2.0, 0.5), (3.0, 0.5), (4.0, 2.0 / 3.0), (5.0, 2.0 / 3.0)];
        assert_eq!(map.knots(), expected);
        let p = map.apply(&[-9.0, 1.5, 3.0, 4.5, 99.0]).unwrap();
        assert_eq!(p, [0.0, 0.25, 0.5, 2.0 / 3.0, 2.0 / 3.0]);
    }

    #[test]
    fn rises_keeps_the_mean_and_does_not_depend_on_row_order() {
        let mut stream = Stream::keyed(1, "isotonic");
        for _ in 0..200 {
            let rows = 2 + stream.below(60);
            let scores: Vec<f64> = (0..rows).map(|_| stream.below(20) as f64 * 0.1).collect();
            let truth: Vec<bool> = (0..rows).map(|row| row != 1 && (row == 0 || stream.below(2) == 0)).collect();
            let map = Isotonic::fit(&scores, &truth).unwrap();
            assert_eq!(Isotonic::from_knots(map.knots().to_vec()).as_ref(), Ok(&map));

            let grid: Vec<f64> = (-10..300).map(|i| f64::from(i) * 0.01).collect();
            let p = map.apply(&grid).unwrap();
            assert!(p.windows(2).all(|w| w[0] <= w[1]));
            assert!(p.iter().all(|p| (0.0..=1.0).contains(p)));

            let fitted: f64 = map.apply(&scores).unwrap().iter().sum();
            let observed = truth.iter().filter(|t| **t).count() as f64;
            assert!((fitted - observed).abs() < 1e-9, "{fitted} {observed}");

            let mut order: Vec<usize> = (0..rows).collect();
            stream.shuffle(&mut order);
            let shuffled_scores: Vec<f64> = order.iter().map(|&row| scores[row]).collect();
            let shuffled_truth: Vec<bool> = order.iter().map(|&row| truth[row]).collect();
            assert_eq!(Isotonic::fit(&shuffled_scores, &shuffled_truth).unwrap(), map);
        }
    }

    #[test]
    fn bad_knots_are_refused() {
        assert!(Isotonic::from_knots(vec![]).is_err());
        assert!(Isotonic::from_knots(vec![(1.0, 0.5), (1.0, 0.6)]).is_err());
        assert!(Isotonic::from_knots(vec![(1.0, 0.5), (2.0, 0.4)]).is_err());
        assert!(Isotonic::from_knots(vec![(1.0, 1.5)]).is_err());
        assert!(Isotonic::from_knots(vec![(f64::NAN, 0.5)]).is_err());
        assert!(Isotonic::from_knots(vec![(0.0, f64::NAN)]).is_err());
    }

    #[test]
    fn not_estimable_is_an_error() {
        assert!(Isotonic::fit(&[0.1, 0.2], &[false, false]).is_err());
        let map = Isotonic::fit(&[0.1, 0.2], &[false, true]).unwrap();
        assert!(map.apply(&[f64::NAN]).is_err());
    }
}
