//! Growing one tree.
//!
//! Semantics are scikit-learn's: features are drawn without replacement, constant ones count as drawn but at least one
//! that varies is tried; a threshold lies halfway between two values; `x <= threshold` goes left; a split is made even
//! if it gains nothing, as long as the node is impure. Two things differ. Draws are keyed by (seed, tree, path from
//! the root), so a node's split does not depend on what else was grown: a tree with a smaller depth or a larger
//! `min_samples_split` is the same tree, cut. And values closer than 1e-7 in the whole table are one value, where
//! scikit-learn compares neighbours within the node.

use crate::params::{ClassWeight, Criterion, Learner, Params};
use crate::score::{Entropy, General, Gini, Row, Score, Totals, balanced};
use crate::table::{Features, Labels};
use chestnut_stats::random::{Stream, mix};
use serde::{Deserialize, Serialize};

/// Values closer than this are one value (scikit-learn's FEATURE_THRESHOLD).
const SAME: f32 = 1e-7;
/// Marks a leaf in [`Node::feature`].
pub(crate) const LEAF: u32 = u32::MAX;

/// A node; the left child follows its parent directly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Feature that is compared, or `u32::MAX` in a leaf.
    pub feature: u32,
    /// Rows whose feature is at most this go left.
    pub threshold: f32,
    /// Index of the right child; 0 in a leaf.
    pub right: u32,
    /// Training rows that reached the node.
    pub rows: u32,
    /// Their weight.
    pub weight: f64,
    /// Impurity that the split removed, times weight; 0 in a leaf.
    pub gain: f64,
}

impl Node {
    /// True if no split was made here.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.feature == LEAF
    }
}

/// A grown tree. Every node, not only a leaf, knows the share of positives per output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// In depth-first order, root first.
    pub nodes: Vec<Node>,
    /// `[node][output]`.
    pub shares: Vec<f64>,
}

impl Tree {
    /// Index of the node where `row` ends if depth and rows per split are limited further.
    #[must_use]
    pub fn stop(&self, row: &[f32], max_depth: usize, min_samples_split: usize) -> usize {
        let mut at = 0;
        for _ in 0..max_depth {
            let node = &self.nodes[at];
            if node.is_leaf() || (node.rows as usize) < min_samples_split {
                break;
            }
            at = if row[node.feature as usize] <= node.threshold { at + 1 } else { node.right as usize };
        }
        at
    }

    /// Shares of positives where `row` ends.
    #[must_use]
    pub fn predict(&self, row: &[f32], outputs: usize) -> &[f64] {
        &self.shares[self.stop(row, usize::MAX, 0) * outputs..][..outputs]
    }
}

/// A table sorted once for all trees: for each feature the ranks of the rows and the rows by rank.
///
/// Memory: 12 bytes per value of the feature table, shared by all trees and threads.
pub(crate) struct Sorted {
    /// `[feature][row]`.
    values: Vec<f32>,
    /// `[feature][row]`: equal values share a rank.
    ranks: Vec<u32>,
    /// `[feature]`: rows by value.
    order: Vec<u32>,
    rows: usize,
    width: usize,
}

impl Sorted {
    /// A table without rows, where only the draws of a [`Ground`] are wanted.
    pub(crate) fn empty() -> Self {
        Self { values: vec![], ranks: vec![], order: vec![], rows: 0, width: 0 }
    }

    /// Sorts every feature.
    pub(crate) fn new(features: &Features) -> Self {
        use rayon::prelude::*;
        let (rows, width) = (features.rows(), features.width());
        let mut values = vec![0.0; rows * width];
        let mut ranks = vec![0; rows * width];
        let mut order = vec![0; rows * width];
        values
            .par_chunks_mut(rows)
            .zip(ranks.par_chunks_mut(rows))
            .zip(order.par_chunks_mut(rows))
            .enumerate()
            .for_each(|(f, ((values, ranks), order))| {
                for (r, v) in values.iter_mut().enumerate() {
                    *v = features.row(r)[f];
                }
                // Value and row in one integer: sorting it is several times faster than sorting rows by their values.
                let mut keys: Vec<u64> =
                    values.iter().enumerate().map(|(r, &v)| u64::from(sortable(v)) << 32 | r as u64).collect();
                keys.sort_unstable();
                order.iter_mut().zip(&keys).for_each(|(o, k)| *o = *k as u32);
                let mut rank = 0;
                for i in 0..rows {
                    if i > 0 && values[order[i] as usize] - values[order[i - 1] as usize] > SAME {
                        rank += 1;
                    }
                    ranks[order[i] as usize] = rank;
                }
            });
        Self { values, ranks, order, rows, width }
    }
}

/// A finite float as an integer of the same order.
fn sortable(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// What all trees of a forest share.
pub(crate) struct Ground<'a> {
    sorted: &'a Sorted,
    labels: &'a Labels,
    params: Params,
    class_weights: Option<Vec<f64>>,
}

impl<'a> Ground<'a> {
    /// Prepares to grow trees; `params` must have passed [`Params::check`].
    pub(crate) fn new(sorted: &'a Sorted, labels: &'a Labels, params: &Params) -> Self {
        let class_weights = (params.class_weight == ClassWeight::Balanced).then(|| balanced(labels));
        Self { sorted, labels, params: params.clone(), class_weights }
    }

    /// How often each row is in the resample of tree `index`; all 1 without bootstrap.
    pub(crate) fn multiplicity(&self, index: usize) -> Vec<u32> {
        let rows = self.labels.rows();
        if !self.params.bootstrap {
            return vec![1; rows];
        }
        let mut draw = Stream::keyed(self.params.seed, "bootstrap").child(index as u64);
        let mut counts = vec![0; rows];
        (0..rows).for_each(|_| counts[draw.below(rows)] += 1);
        counts
    }

    /// Grows tree number `index`.
    pub(crate) fn grow(&self, index: usize) -> Tree {
        let multiplicity = self.multiplicity(index);
        let rows: Vec<Row> = (0..self.labels.rows())
            .map(|r| Row {
                positive: self.labels.positive(r),
                known: self.labels.known(r),
                weight: f64::from(multiplicity[r]) * self.class_weights.as_ref().map_or(1.0, |w| w[r]),
            })
            .collect();
        let whole = self.labels.complete() && self.class_weights.is_none();
        match (self.params.criterion, whole) {
            (Criterion::Gini, true) => self.grow_with(index, &rows, Gini::default()),
            (Criterion::Entropy, true) => {
                let weight = rows.iter().map(|r| r.weight).sum::<f64>() as usize;
                self.grow_with(index, &rows, Entropy::new(weight))
            }
            (criterion, false) => self.grow_with(index, &rows, General::new(criterion, self.labels.outputs())),
        }
    }

    fn grow_with<S: Score>(&self, index: usize, rows: &[Row], score: S) -> Tree {
        let outputs = self.labels.outputs();
        let mut grower = Grower {
            sorted: self.sorted,
            rows,
            score,
            params: &self.params,
            max_features: self.params.max_features.resolve(self.sorted.width),
            draws: Stream::keyed(self.params.seed, "node").child(index as u64),
            features: (0..self.sorted.width as u32).collect(),
            inside: vec![false; rows.len()],
            keys: Vec::new(),
            tree: Tree { nodes: Vec::new(), shares: Vec::new() },
        };
        let mut members: Vec<u32> = (0..rows.len() as u32).filter(|&r| rows[r as usize].weight > 0.0).collect();
        let mut buffer = members.clone();
        // (rows, path, depth, parent whose right child this is)
        let mut open = vec![(0, members.len(), 1_u64, 0, u32::MAX)];
        while let Some((from, to, path, depth, parent)) = open.pop() {
            let at = grower.tree.nodes.len();
            if parent != u32::MAX {
                grower.tree.nodes[parent as usize].right = at as u32;
            }
            let node = &mut members[from..to];
            let totals = Totals::of(node.iter().map(|&r| rows[r as usize]), outputs);
            grower.push(&totals, node.len(), parent);
            if depth >= self.params.max_depth
                || node.len() < self.params.min_samples_split
                || node.len() < 2 * self.params.min_samples_leaf
                || totals.pure()
            {
                continue;
            }
            let Some(split) = grower.best_split(node, &totals, path) else { continue };
            let values = &self.sorted.values[split.feature as usize * rows.len()..][..rows.len()];
            let left = partition(node, &mut buffer, |r| values[r as usize] <= split.threshold);
            let side = |rows_of: &[u32]| Totals::of(rows_of.iter().map(|&r| rows[r as usize]), outputs);
            let (l, r) = (side(&node[..left]), side(&node[left..]));
            let criterion = self.params.criterion;
            let gain = totals.weight * totals.impurity(criterion)
                - l.weight * l.impurity(criterion)
                - r.weight * r.impurity(criterion);
            let this = &mut grower.tree.nodes[at];
            (this.feature, this.threshold, this.gain) = (split.feature, split.threshold, gain.max(0.0));
            open.push((from + left, to, mix(path ^ 0x5249_4748_5400), depth + 1, at as u32));
            open.push((from, from + left, mix(path ^ 0x4C45_4654), depth + 1, u32::MAX));
        }
        grower.tree
    }
}

/// Moves the rows for which `left` holds to the front, keeping the order on both sides; returns how many.
fn partition(rows: &mut [u32], buffer: &mut [u32], left: impl Fn(u32) -> bool) -> usize {
    let (mut kept, mut moved) = (0, 0);
    for i in 0..rows.len() {
        let row = rows[i];
        if left(row) {
            rows[kept] = row;
            kept += 1;
        } else {
            buffer[moved] = row;
            moved += 1;
        }
    }
    rows[kept..].copy_from_slice(&buffer[..moved]);
    kept
}

struct Split {
    feature: u32,
    threshold: f32,
    score: f64,
}

struct Grower<'a, S> {
    sorted: &'a Sorted,
    rows: &'a [Row],
    score: S,
    params: &'a Params,
    max_features: usize,
    draws: Stream,
    /// A permutation of the features; restored after each node.
    features: Vec<u32>,
    inside: Vec<bool>,
    /// rank << 32 | row of a node's rows.
    keys: Vec<u64>,
    tree: Tree,
}

impl<S: Score> Grower<'_, S> {
    fn push(&mut self, totals: &Totals, rows: usize, parent: u32) {
        let at = self.tree.nodes.len();
        for k in 0..totals.outputs {
            // Without a known value the parent's share is the best guess; the left child's parent stands right before it.
            let inherited = match (parent, at) {
                (_, 0) => 0.5,
                (u32::MAX, _) => self.tree.shares[(at - 1) * totals.outputs + k],
                (p, _) => self.tree.shares[p as usize * totals.outputs + k],
            };
            self.tree.shares.push(if totals.known[k] > 0.0 { totals.positive[k] / totals.known[k] } else { inherited });
        }
        self.tree.nodes.push(Node {
            feature: LEAF,
            threshold: 0.0,
            right: 0,
            rows: rows as u32,
            weight: totals.weight,
            gain: 0.0,
        });
    }

    fn best_split(&mut self, node: &[u32], totals: &Totals, path: u64) -> Option<Split> {
        let mut draw = self.draws.child(path);
        let width = self.features.len();
        let large = node.len() * 8 > self.sorted.rows;
        if large {
            node.iter().for_each(|&r| self.inside[r as usize] = true);
        }
        let mut best: Option<Split> = None;
        let mut swaps = Vec::with_capacity(self.max_features);
        let (mut visited, mut varying) = (0, 0);
        while visited < width && (visited < self.max_features || varying == 0) {
            // Fisher-Yates, one step at a time; undone below so that the next node starts from the same order.
            let pick = visited + draw.below(width - visited);
            self.features.swap(visited, pick);
            swaps.push(pick);
            let feature = self.features[visited];
            visited += 1;
            let found = match self.params.learner {
                Learner::ExtraTrees => self.random_threshold(node, totals, feature, &mut draw),
                _ => self.best_threshold(node, totals, feature, large),
            };
            let Some(candidate) = found else { continue };
            varying += 1;
            if let Some(candidate) = candidate
                && best.as_ref().is_none_or(|b| candidate.score > b.score)
            {
                best = Some(candidate);
            }
        }
        for (i, pick) in swaps.into_iter().enumerate().rev() {
            self.features.swap(i, pick);
        }
        if large {
            node.iter().for_each(|&r| self.inside[r as usize] = false);
        }
        best
    }

    /// `None` if the feature is constant in the node, `Some(None)` if no threshold leaves enough rows on both sides.
    fn best_threshold(&mut self, node: &[u32], totals: &Totals, feature: u32, large: bool) -> Option<Option<Split>> {
        let n = self.sorted.rows;
        let column = feature as usize * n..(feature as usize + 1) * n;
        let ranks = &self.sorted.ranks[column.clone()];
        self.keys.clear();
        if large {
            // Most rows are in the node: read the feature's order and drop the others.
            for &r in &self.sorted.order[column.clone()] {
                if self.inside[r as usize] {
                    self.keys.push(u64::from(ranks[r as usize]) << 32 | u64::from(r));
                }
            }
        } else {
            self.keys.extend(node.iter().map(|&r| u64::from(ranks[r as usize]) << 32 | u64::from(r)));
            self.keys.sort_unstable();
        }
        let keys = &self.keys;
        let count = keys.len();
        if keys[0] >> 32 == keys[count - 1] >> 32 {
            return None;
        }
        self.score.start(totals);
        let leaf = self.params.min_samples_leaf;
        let mut best: Option<(f64, usize)> = None;
        for i in 0..count - leaf {
            self.score.move_left(self.rows[(keys[i] & 0xFFFF_FFFF) as usize]);
            if i + 1 >= leaf && keys[i] >> 32 != keys[i + 1] >> 32 {
                let value = self.score.value();
                if best.is_none_or(|(b, _)| value > b) {
                    best = Some((value, i));
                }
            }
        }
        Some(best.map(|(score, i)| {
            let value = |i: usize| self.sorted.values[column.start + (keys[i] & 0xFFFF_FFFF) as usize];
            Split { feature, threshold: halfway(value(i), value(i + 1)), score }
        }))
    }

    /// As [`Self::best_threshold`], for one threshold drawn between the smallest and the largest value.
    fn random_threshold(
        &mut self,
        node: &[u32],
        totals: &Totals,
        feature: u32,
        draw: &mut Stream,
    ) -> Option<Option<Split>> {
        let n = self.sorted.rows;
        let values = &self.sorted.values[feature as usize * n..][..n];
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &r in node {
            let v = values[r as usize];
            low = low.min(v);
            high = high.max(v);
        }
        if high - low <= SAME {
            return None;
        }
        let threshold = draw.range(f64::from(low), f64::from(high)) as f32;
        let threshold = if threshold >= high { low } else { threshold };
        self.score.start(totals);
        let mut left = 0;
        for &r in node {
            if values[r as usize] <= threshold {
                self.score.move_left(self.rows[r as usize]);
                left += 1;
            }
        }
        let leaf = self.params.min_samples_leaf;
        let enough = left >= leaf && node.len() - left >= leaf;
        Some(enough.then(|| Split { feature, threshold, score: self.score.value() }))
    }
}

/// The middle of two values as f32, or the lower one where rounding would reach the upper.
fn halfway(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle >= high { low } else { middle }
}
