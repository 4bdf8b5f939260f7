//! The ways from a network to a hospital's own labels (paper section 2.3), each on the same split.

pub mod deep;
pub mod embeddings;
pub mod ensemble;
pub mod fine_tune;
pub mod source;
pub mod stacking;

use crate::error::Result;
use chestnut_forest::Labels;

/// Predictions of one method for the test images.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Such as `Embeddings + RF`.
    pub approach: String,
    /// A network's name, or the ensemble's.
    pub source: String,
    /// `[test image][label]`, 0 to 1.
    pub probabilities: Vec<f64>,
}

/// Fits with `fit` those labels that have a known value among the rows `learned`, and predicts `predicted` rows,
/// `[row][label]`; the others get 0.5, which nobody scores. A fold or a small draw of patients may lack any value of a
/// label that the whole training part has. `fit` gets all rows of `labels`.
///
/// # Errors
/// Whatever `fit` answers.
pub(crate) fn with_known(
    labels: &Labels,
    learned: &[usize],
    predicted: usize,
    fit: impl FnOnce(&Labels) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    let outputs = labels.outputs();
    let is_known = |k: usize| learned.iter().any(|&r| labels.get(r, k).is_some());
    let known: Vec<usize> = (0..outputs).filter(|&k| is_known(k)).collect();
    if known.len() == outputs {
        return fit(labels);
    }
    let mut all = vec![0.5; predicted * outputs];
    if known.is_empty() {
        return Ok(all);
    }
    let found = fit(&labels.columns(&known))?;
    for (row, values) in all.chunks_mut(outputs).zip(found.chunks(known.len())) {
        known.iter().zip(values).for_each(|(&k, &p)| row[k] = p);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_without_a_known_value_is_left_out_of_the_fit() {
        // Label 1 is known in a row that is not learned from.
        let rows = [Some(true), None, Some(false), Some(false), None, Some(true), None, Some(true), None];
        let labels = Labels::new(&rows, 3).expect("whole");
        let fitted = with_known(&labels, &[0, 1], 3, |some| {
            assert_eq!((some.outputs(), some.rows()), (2, 3));
            assert_eq!((some.get(0, 0), some.get(1, 1)), (Some(true), Some(true)));
            Ok(vec![0.1, 0.2, 0.3, 0.4, 0.6, 0.7])
        });
        assert_eq!(fitted.expect("fits"), [0.1, 0.5, 0.2, 0.3, 0.5, 0.4, 0.6, 0.5, 0.7]);
        let nothing = Labels::new(&[None, None], 1).expect("whole");
        let fitted = with_known(&nothing, &[0, 1], 2, |_| panic!("there is nothing to fit"));
        assert_eq!(fitted.expect("no fit"), [0.5, 0.5]);
        let whole = Labels::new(&[Some(true), Some(false)], 1).expect("whole");
        assert_eq!(with_known(&whole, &[0, 1], 1, |some| Ok(vec![some.outputs() as f64])).expect("fits"), [1.0]);
    }
}
