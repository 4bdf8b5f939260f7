//! Permutation importance: how much AUC is lost when a feature's values are shuffled among the rows (Breiman 2001).
//!
//! Score: macro AUC, the mean over the labels that have both classes. Give it rows that the forest was not fitted on.
//! Exact and cheap: only trees that compare the feature are walked again, and only rows that then end in another leaf
//! are summed again, in the order of growth, so an untouched row keeps its very bits and no false ties are broken.

use crate::forest::{Forest, ForestError};
use crate::grid::label_aucs;
use crate::table::{Features, Labels, TableError};
use crate::tree::Tree;
use chestnut_stats::mean;
use chestnut_stats::random::Stream;
use rayon::prelude::*;

/// Loss of macro AUC by feature.
#[derive(Clone, Debug, PartialEq)]
pub struct PermutationImportance {
    /// Macro AUC of the rows as they are.
    pub baseline: f64,
    /// `[feature]`: mean over the repeats of baseline minus shuffled AUC; 0 for a feature that no tree uses.
    pub drops: Vec<f64>,
    /// `[feature]`: standard deviation over the repeats; 0 with one repeat.
    pub sds: Vec<f64>,
}

impl Forest {
    /// Permutation importance on `features` and `labels` with `repeats` shuffles of each used feature (at least 1).
    ///
    /// `None` if no label has both classes, so that there is no AUC to lose. Shuffles are keyed by (seed, feature,
    /// repeat). Memory: 4 bytes per row and tree.
    ///
    /// # Errors
    /// [`ForestError::Width`], or [`ForestError::Table`] if the labels do not match.
    pub fn permutation_importance(
        &self,
        features: &Features,
        labels: &Labels,
        repeats: usize,
        seed: u64,
    ) -> Result<Option<PermutationImportance>, ForestError> {
        let length = |what, found, expected| {
            if found == expected { Ok(()) } else { Err(TableError::Length { what, found, expected }) }
        };
        length("the label table's rows", labels.rows(), features.rows())?;
        length("the label table's columns", labels.outputs(), self.outputs)?;
        let predicted = self.predict(features)?;
        let Some(baseline) = macro_auc(&predicted, labels) else { return Ok(None) };
        let leaves: Vec<Vec<u32>> = (0..features.rows())
            .into_par_iter()
            .map(|r| self.trees.iter().map(|t| t.stop(features.row(r), usize::MAX, 0) as u32).collect())
            .collect();
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.width];
        for (t, tree) in self.trees.iter().enumerate() {
            for node in tree.nodes.iter().filter(|n| !n.is_leaf()) {
                let users = &mut users[node.feature as usize];
                if users.last() != Some(&t) {
                    users.push(t);
                }
            }
        }
        let measure = |(feature, users): (usize, &Vec<usize>)| {
            if users.is_empty() {
                return (0.0, 0.0);
            }
            let task = Shuffled { forest: self, features, leaves: &leaves, predicted: &predicted, feature, users };
            let drops: Vec<f64> = (0..repeats.max(1))
                .map(|i| {
                    baseline
                        - macro_auc(&task.predict(&order(features.rows(), seed, feature, i)), labels)
                            .unwrap_or(baseline)
                })
                .collect();
            let average = drops.iter().sum::<f64>() / drops.len() as f64;
            let squares: f64 = drops.iter().map(|d| (d - average).powi(2)).sum();
            (average, (squares / (drops.len() - 1).max(1) as f64).sqrt())
        };
        let (drops, sds) = users.par_iter().enumerate().map(measure).unzip();
        Ok(Some(PermutationImportance { baseline, drops, sds }))
    }
}

/// Which row lends its value to each row.
fn order(rows: usize, seed: u64, feature: usize, repeat: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    Stream::keyed(seed, "permutation importance").child(feature as u64).child(repeat as u64).shuffle(&mut order);
    order
}

fn macro_auc(probabilities: &[f64], labels: &Labels) -> Option<f64> {
    let rows: Vec<usize> = (0..labels.rows()).collect();
    mean(label_aucs(probabilities, labels, &rows).into_iter().flatten())
}

struct Shuffled<'a> {
    forest: &'a Forest,
    features: &'a Features,
    /// `[row][tree]`.
    leaves: &'a [Vec<u32>],
    predicted: &'a [f64],
    feature: usize,
    users: &'a [usize],
}

impl Shuffled<'_> {
    fn predict(&self, order: &[usize]) -> Vec<f64> {
        let outputs = self.forest.outputs;
        let mut probabilities = self.predicted.to_vec();
        for (r, out) in probabilities.chunks_exact_mut(outputs).enumerate() {
            let (row, value) = (self.features.row(r), self.features.row(order[r])[self.feature]);
            let moved: Vec<(usize, u32)> = self
                .users
                .iter()
                .map(|&t| (t, stop_with(&self.forest.trees[t], row, self.feature, value)))
                .filter(|&(t, leaf)| leaf != self.leaves[r][t])
                .collect();
            if moved.is_empty() {
                continue;
            }
            let mut leaves = self.leaves[r].clone();
            moved.into_iter().for_each(|(t, leaf)| leaves[t] = leaf);
            out.fill(0.0);
            for (tree, leaf) in self.forest.trees.iter().zip(leaves) {
                let shares = &tree.shares[leaf as usize * outputs..][..outputs];
                out.iter_mut().zip(shares).for_each(|(o, s)| *o += s);
            }
            out.iter_mut().for_each(|o| *o /= self.forest.trees.len() as f64);
        }
        probabilities
    }
}

/// Leaf of `row` with one feature's value replaced.
fn stop_with(tree: &Tree, row: &[f32], feature: usize, value: f32) -> u32 {
    let mut at = 0;
    while !tree.nodes[at].is_leaf() {
        let node = tree.nodes[at];
        let x = if node.feature as usize == feature { value } else { row[node.feature as usize] };
        at = if x <= node.threshold { at + 1 } else { node.right as usize };
    }
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;

    fn table() -> (Features, Labels) {
        let mut draw = Stream::keyed(3, "permutation test");
        let values = (0..150 * 6).map(|_| draw.normal() as f32).collect();
        let features = Features::new(values, 6).expect("finite");
        // Feature 2 makes both labels; feature 4 helps the second.
        let labels: Vec<_> = (0..300)
            .map(|i| {
                let row = features.row(i / 2);
                (i % 17 != 0).then_some(row[2] + if i % 2 == 1 { row[4] } else { 0.0 } > 0.2)
            })
            .collect();
        (features, Labels::new(&labels, 2).expect("whole"))
    }

    #[test]
    fn equals_predicting_the_shuffled_table() {
        let (features, labels) = table();
        let forest = Forest::fit(&features, &labels, &Params { trees: 20, ..Params::random_forest(1) }).expect("fits");
        let found = forest.permutation_importance(&features, &labels, 2, 9).expect("runs").expect("both classes");
        for feature in 0..6 {
            let drops: Vec<f64> = (0..2)
                .map(|repeat| {
                    let order = order(150, 9, feature, repeat);
                    let mut values = Vec::new();
                    for (r, &from) in order.iter().enumerate() {
                        let mut row = features.row(r).to_vec();
                        row[feature] = features.row(from)[feature];
                        values.extend(row);
                    }
                    let shuffled = Features::new(values, 6).expect("finite");
                    found.baseline
                        - macro_auc(&forest.predict(&shuffled).expect("predicts"), &labels).expect("both classes")
                })
                .collect();
            assert_eq!(found.drops[feature], (drops[0] + drops[1]) / 2.0, "feature {feature}");
        }
        let most = (0..6).max_by(|&a, &b| found.drops[a].total_cmp(&found.drops[b]));
        assert_eq!(most, Some(2), "{:?}", found.drops);
        assert_eq!(forest.permutation_importance(&features, &labels, 2, 9).expect("runs").as_ref(), Some(&found));
    }

    #[test]
    fn odd_tables() {
        let (features, labels) = table();
        let stump = Params { max_depth: 1, ..Params::decision_tree(0) };
        let tree = Forest::fit(&features, &labels, &stump).expect("fits");
        let found = tree.permutation_importance(&features, &labels, 1, 0).expect("runs").expect("both classes");
        assert_eq!(found.drops.iter().filter(|&&d| d != 0.0).count(), 1, "one feature is used");
        assert!(found.sds.iter().all(|&s| s == 0.0));
        let one_class = Labels::new(&[Some(true); 300], 2).expect("whole");
        assert_eq!(tree.permutation_importance(&features, &one_class, 1, 0), Ok(None));
        assert!(tree.permutation_importance(&features, &labels.single(0), 1, 0).is_err());
        assert!(tree.permutation_importance(&features.select(&[0, 1]), &labels, 1, 0).is_err());
    }
}
