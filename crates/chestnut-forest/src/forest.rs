//! Fitting and using a tree or forest.

use crate::params::{Learner, Params, ParamsError};
use crate::table::{Features, Labels, TableError};
use crate::tree::{Ground, Sorted, Tree};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a forest cannot be fitted or used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ForestError {
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The settings.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Another number of features than it was fitted on.
    #[error("the forest was fitted on {expected} features and was given {found}; is it another network's embedding?")]
    Width {
        /// Features given.
        found: usize,
        /// Features fitted on.
        expected: usize,
    },
    /// A model file that does not hold together.
    #[error("the forest file is damaged: {0}")]
    Damaged(String),
}

/// A fitted decision tree, random forest or extra trees; one model for all labels (protocol 6.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    /// As fitted.
    pub params: Params,
    /// Number of features.
    pub width: usize,
    /// Number of labels.
    pub outputs: usize,
    /// In order of growth.
    pub trees: Vec<Tree>,
}

impl Forest {
    /// Fits `params` to rows of embeddings and their labels; unknown labels count for their own output only.
    ///
    /// The most memory that this takes is stated at the head of the crate.
    ///
    /// # Errors
    /// [`ForestError`] for tables that do not match, a label without any known value, or impossible settings.
    pub fn fit(features: &Features, labels: &Labels, params: &Params) -> Result<Self, ForestError> {
        check(features, labels, params)?;
        let sorted = Sorted::new(features, params.learner);
        let ground = Ground::new(labels, params);
        let trees = (0..params.trees).into_par_iter().map(|i| ground.grow(i, &sorted)).collect();
        Ok(Self { params: params.clone(), width: features.width(), outputs: labels.outputs(), trees })
    }

    /// Probability of each label, `[row][output]`: the mean over the trees of the share of positives in the leaf.
    ///
    /// # Errors
    /// [`ForestError::Width`].
    pub fn predict(&self, features: &Features) -> Result<Vec<f64>, ForestError> {
        if features.width() != self.width {
            return Err(ForestError::Width { found: features.width(), expected: self.width });
        }
        let mut out = vec![0.0; features.rows() * self.outputs];
        out.par_chunks_mut(self.outputs).enumerate().for_each(|(r, out)| {
            // Summed in the order of growth, so that a prefix of the trees gives a smaller forest's very bits.
            for tree in &self.trees {
                let shares = tree.predict(features.row(r), self.outputs);
                out.iter_mut().zip(shares).for_each(|(o, s)| *o += s);
            }
            out.iter_mut().for_each(|o| *o /= self.trees.len() as f64);
        });
        Ok(out)
    }

    /// Out-of-bag probabilities `[row][output]` of the training rows: each row is judged by the trees that did not see it.
    ///
    /// `None` where every tree saw the row, and always without bootstrap. `features` and `labels` must be the training tables.
    ///
    /// # Errors
    /// [`ForestError::Width`].
    pub fn out_of_bag(&self, features: &Features, labels: &Labels) -> Result<Vec<Option<f64>>, ForestError> {
        if features.width() != self.width {
            return Err(ForestError::Width { found: features.width(), expected: self.width });
        }
        let mut sums = vec![0.0; features.rows() * self.outputs];
        let mut counts = vec![0_u32; features.rows()];
        let ground = Ground::new(labels, &self.params);
        for (i, tree) in self.trees.iter().enumerate() {
            for (r, times) in ground.multiplicity(i).into_iter().enumerate().filter(|&(_, m)| m == 0) {
                debug_assert_eq!(times, 0);
                let shares = tree.predict(features.row(r), self.outputs);
                sums[r * self.outputs..][..self.outputs].iter_mut().zip(shares).for_each(|(o, s)| *o += s);
                counts[r] += 1;
            }
        }
        let judged = |i: usize| counts[i / self.outputs] > 0;
        Ok((0..sums.len()).map(|i| judged(i).then(|| sums[i] / f64::from(counts[i / self.outputs]))).collect())
    }

    /// Share of the impurity removed by each feature, normalised per tree and averaged; sums to 1 unless no tree split.
    #[must_use]
    pub fn importances(&self) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        let mut counted = 0;
        for tree in &self.trees {
            let total: f64 = tree.nodes.iter().map(|n| n.gain).sum();
            if total > 0.0 {
                counted += 1;
                tree.nodes.iter().filter(|n| !n.is_leaf()).for_each(|n| sum[n.feature as usize] += n.gain / total);
            }
        }
        sum.iter_mut().for_each(|s| *s /= f64::from(counted.max(1)));
        sum
    }

    /// Checks that a forest read from a file holds together, so that prediction cannot leave its tables or run forever.
    ///
    /// # Errors
    /// [`ForestError::Damaged`] naming the tree.
    pub fn validate(&self) -> Result<(), ForestError> {
        let damaged = |tree: usize, what: &str| Err(ForestError::Damaged(format!("tree {tree} {what}")));
        self.params.check(self.width)?;
        if self.trees.len() != self.params.trees || self.outputs == 0 {
            return Err(ForestError::Damaged(format!("{} trees instead of {}", self.trees.len(), self.params.trees)));
        }
        for (t, tree) in self.trees.iter().enumerate() {
            if tree.nodes.is_empty() || tree.shares.len() != tree.nodes.len() * self.outputs {
                return damaged(t, "has the wrong number of shares");
            }
            if tree.shares.iter().any(|s| !(0.0..=1.0).contains(s)) {
                return damaged(t, "has a share that is no probability");
            }
            for (i, n) in tree.nodes.iter().enumerate().filter(|(_, n)| !n.is_leaf()) {
                // Children lie behind their parent, so every walk ends.
                let right = n.right as usize;
                if n.feature as usize >= self.width
                    || right <= i + 1
                    || right >= tree.nodes.len()
                    || !n.threshold.is_finite()
                {
                    return damaged(t, "has a node that leads nowhere");
                }
            }
        }
        Ok(())
    }
}

/// What `fit` and `grid_search` demand of their tables.
pub(crate) fn check(features: &Features, labels: &Labels, params: &Params) -> Result<(), ForestError> {
    params.check(features.width())?;
    if features.rows() != labels.rows() {
        return Err(
            TableError::Length { what: "the label table", found: labels.rows(), expected: features.rows() }.into()
        );
    }
    let unknown = (0..labels.outputs()).find(|&k| (0..labels.rows()).all(|r| labels.get(r, k).is_none()));
    match unknown {
        Some(output) => Err(TableError::NoKnownValue { output }.into()),
        None => Ok(()),
    }
}

/// The same settings for every label alone: as many forests as labels.
///
/// # Errors
/// As [`Forest::fit`].
pub fn fit_single(features: &Features, labels: &Labels, params: &Params) -> Result<Vec<Forest>, ForestError> {
    debug_assert!(params.learner != Learner::DecisionTree || params.trees == 1);
    (0..labels.outputs()).map(|k| Forest::fit(features, &labels.single(k), params)).collect()
}
