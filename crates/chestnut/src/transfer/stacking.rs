//! A random forest on the networks' probabilities (paper section 2.3; protocol 5 and 6.1).
//!
//! On source probabilities every row may be learned from: the networks never saw the hospital. On fine-tuned heads the
//! rows must be out-of-fold predictions, which the caller sees to; the published code fitted in-sample.

use super::with_known;
use crate::error::Result;
use chestnut_forest::{Features, Forest, Labels, MaxFeatures, Params};

/// Source of the forest that reads the networks' outputs as they come, in tables.
pub const RAW_OUTPUTS: &str = "Raw outputs";
/// Source of the forest that reads them as the hospital's labels, in tables.
pub const MAPPED_OUTPUTS: &str = "Mapped outputs";
/// The approach, and the row of other approaches whose members are stacked, in tables.
pub const STACKING: &str = "Stacking";

/// The authors' meta-learner: 1400 trees, depth 30, square root, 5 rows to split, 1 in a leaf, bootstrap.
#[must_use]
pub fn authors_forest(seed: u64) -> Params {
    Params {
        trees: 1400,
        max_depth: 30,
        max_features: MaxFeatures::Sqrt,
        min_samples_split: 5,
        min_samples_leaf: 1,
        bootstrap: true,
        ..Params::random_forest(seed)
    }
}

/// Members' probabilities `[member][row][output]` side by side as features `[row][member and output]`.
#[must_use]
pub fn side_by_side(members: &[Vec<f64>], outputs: usize) -> Vec<f32> {
    let rows = members.first().map_or(0, |m| m.len() / outputs);
    let cells =
        |row: usize| members.iter().flat_map(move |m| m[row * outputs..(row + 1) * outputs].iter().map(|&p| p as f32));
    (0..rows).flat_map(cells).collect()
}

/// Fits the forest to `train` (`[row][width]`) and predicts `test`; 0.5 for a label without any known value.
///
/// # Errors
/// If a table is empty or a probability is not finite.
pub fn stack(train: Vec<f32>, labels: &Labels, test: Vec<f32>, width: usize, params: &Params) -> Result<Vec<f64>> {
    let (train, test) = (Features::new(train, width)?, Features::new(test, width)?);
    let rows: Vec<usize> = (0..labels.rows()).collect();
    with_known(labels, &rows, test.rows(), |labels| Ok(Forest::fit(&train, labels, params)?.predict(&test)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_side_by_side() {
        let members = [vec![0.1, 0.2, 0.3, 0.4], vec![0.5, 0.6, 0.7, 0.8]];
        assert_eq!(side_by_side(&members, 2), [0.1, 0.2, 0.5, 0.6, 0.3, 0.4, 0.7, 0.8]);
    }
}
