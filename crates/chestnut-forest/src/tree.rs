//! Growing one tree.
//!
//! Semantics are scikit-learn's: features are drawn without replacement, constant ones count as drawn but at least one
//! that varies is tried; a threshold lies halfway between two values; `x <= threshold` goes left; a split is made even
//! if it gains nothing, as long as the node is impure. Two things differ. Draws are keyed by (seed, tree, path from
//! the root), so a node's split does not depend on what else was grown: a tree with a smaller depth or a larger
//! `min_samples_split` is the same tree, cut. And values closer than 1e-7 in the whole table are one value, where
//! scikit-learn compares neighbours within the node.

mod order;
mod split;

use crate::params::{ClassWeight, Criterion, Learner, Params};
use crate::score::{Entropy, General, Gini, Row, Score, Totals, WideGini, balanced};
use crate::table::{Labels, MAX_OUTPUTS};
use chestnut_stats::random::{Stream, mix};
use order::{Columns, Index, Kind};
use serde::{Deserialize, Serialize};
use split::Found;
use std::sync::OnceLock;

pub(crate) use order::Sorted;

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

/// What all trees of a forest share.
pub(crate) struct Ground<'a> {
    labels: &'a Labels,
    params: Params,
    class_weights: Option<Vec<f64>>,
    /// `[feature]`: what it offers at the root, found once where all trees start from the same rows and want the best.
    roots: OnceLock<Vec<OnceLock<Found>>>,
}

impl<'a> Ground<'a> {
    /// Prepares to grow trees; `params` must have passed [`Params::check`].
    pub(crate) fn new(labels: &'a Labels, params: &Params) -> Self {
        let class_weights = (params.class_weight == ClassWeight::Balanced).then(|| balanced(labels));
        Self { labels, params: params.clone(), class_weights, roots: OnceLock::new() }
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

    /// Grows tree number `index`; `sorted` must be the same table each time.
    pub(crate) fn grow(&self, index: usize, sorted: &Sorted) -> Tree {
        match &sorted.0 {
            Kind::Narrow(columns) => self.grow_on(index, columns),
            Kind::Wide(columns) => self.grow_on(index, columns),
        }
    }

    fn grow_on<I: Index>(&self, index: usize, columns: &Columns<I>) -> Tree {
        let multiplicity = self.multiplicity(index);
        let rows: Vec<Row> = (0..self.labels.rows())
            .map(|r| Row {
                positive: self.labels.positive(r),
                known: self.labels.known(r),
                weight: f64::from(multiplicity[r]) * self.class_weights.as_ref().map_or(1.0, |w| w[r]),
            })
            .collect();
        let whole = self.labels.complete() && self.class_weights.is_none();
        let outputs = self.labels.outputs();
        match (self.params.criterion, whole) {
            (Criterion::Gini, true) => {
                if let Some(score) = Gini::<2>::new(&rows, outputs) {
                    self.grow_with(index, columns, &rows, score)
                } else if let Some(score) = Gini::<{ MAX_OUTPUTS / 4 }>::new(&rows, outputs) {
                    self.grow_with(index, columns, &rows, score)
                } else {
                    self.grow_with(index, columns, &rows, WideGini::new(&rows, outputs))
                }
            }
            (Criterion::Entropy, true) => {
                if let Some(score) = Entropy::<2>::new(&rows, outputs) {
                    self.grow_with(index, columns, &rows, score)
                } else if let Some(score) = Entropy::<{ MAX_OUTPUTS / 4 }>::new(&rows, outputs) {
                    self.grow_with(index, columns, &rows, score)
                } else {
                    self.grow_with(index, columns, &rows, General::new(&rows, Criterion::Entropy, outputs))
                }
            }
            (criterion, false) => self.grow_with(index, columns, &rows, General::new(&rows, criterion, outputs)),
        }
    }

    fn grow_with<I: Index, S: Score>(&self, index: usize, columns: &Columns<I>, rows: &[Row], score: S) -> Tree {
        let mut members: Vec<u32> = Vec::with_capacity(rows.len());
        members.extend((0..rows.len() as u32).filter(|&r| rows[r as usize].weight > 0.0));
        let mut buffer = members.clone();
        let mut grower = Grower::new(columns, score, &self.params, index);
        let criterion = self.params.criterion;
        let shared = self.params.trees > 1 && !self.params.bootstrap && self.params.learner != Learner::ExtraTrees;
        let roots =
            shared.then(|| self.roots.get_or_init(|| (0..columns.width).map(|_| OnceLock::new()).collect()).as_slice());
        let totals = grower.score.totals(&members);
        let root = Open { from: 0, to: members.len(), path: 1, depth: 0, parent: u32::MAX, totals };
        let mut open = vec![root];
        while let Some(Open { from, to, path, depth, parent, totals }) = open.pop() {
            let at = grower.tree.nodes.len();
            if parent != u32::MAX {
                grower.tree.nodes[parent as usize].right = at as u32;
            }
            let node = &mut members[from..to];
            grower.push(&totals, node.len(), parent);
            if depth >= self.params.max_depth
                || node.len() < self.params.min_samples_split
                || node.len() / 2 < self.params.min_samples_leaf
                || totals.pure()
            {
                continue;
            }
            let Some(split) = grower.best_split(node, &totals, path, roots.filter(|_| depth == 0)) else { continue };
            let values = &columns.values[split.feature as usize * rows.len()..][..rows.len()];
            let left = partition(node, &mut buffer, |r| values[r as usize] <= split.threshold);
            let l = grower.score.totals(&node[..left]);
            let r = grower.score.rest(&totals, &l, &node[left..]);
            let gain = totals.weight * totals.impurity(criterion)
                - l.weight * l.impurity(criterion)
                - r.weight * r.impurity(criterion);
            let this = &mut grower.tree.nodes[at];
            (this.feature, this.threshold, this.gain) = (split.feature, split.threshold, gain.max(0.0));
            let (left_path, right_path) = (mix(path ^ 0x4C45_4654), mix(path ^ 0x5249_4748_5400));
            let (depth, middle) = (depth + 1, from + left);
            open.push(Open { from: middle, to, path: right_path, depth, parent: at as u32, totals: r });
            open.push(Open { from, to: middle, path: left_path, depth, parent: u32::MAX, totals: l });
        }
        grower.tree.nodes.shrink_to_fit();
        grower.tree.shares.shrink_to_fit();
        grower.tree
    }
}

/// A node that is still to be made.
struct Open {
    from: usize,
    to: usize,
    path: u64,
    depth: usize,
    /// Node whose right child this is; `u32::MAX` for left children and the root.
    parent: u32,
    totals: Totals,
}

/// Moves the rows for which `left` holds to the front, keeping the order on both sides; returns how many.
fn partition(rows: &mut [u32], buffer: &mut [u32], left: impl Fn(u32) -> bool) -> usize {
    let (mut kept, mut moved) = (0, 0);
    for i in 0..rows.len() {
        // Written to both, counted in one: a branch here would be guessed wrong half the time.
        let row = rows[i];
        let goes_left = left(row);
        rows[kept] = row;
        buffer[moved] = row;
        kept += usize::from(goes_left);
        moved += usize::from(!goes_left);
    }
    rows[kept..].copy_from_slice(&buffer[..moved]);
    kept
}

struct Grower<'a, I, S> {
    columns: &'a Columns<I>,
    score: S,
    params: &'a Params,
    max_features: usize,
    draws: Stream,
    /// A permutation of the features; restored after each node.
    features: Vec<u32>,
    swaps: Vec<usize>,
    // The next four serve best thresholds, `cells` random ones.
    /// A bit per place: which places of a feature's order the node's rows hold; all 0 between features.
    present: Vec<u64>,
    /// The node's places in order, and room for two more.
    line: Vec<u32>,
    /// The node's rows that hold the smallest value of the column.
    floor: Vec<u32>,
    /// `[place]`: its row, for the node's rows.
    slots: Vec<I>,
    /// The node's values of a feature.
    cells: Vec<f32>,
    tree: Tree,
}

impl<'a, I: Index, S: Score> Grower<'a, I, S> {
    fn new(columns: &'a Columns<I>, score: S, params: &'a Params, index: usize) -> Self {
        let rows = if params.learner == Learner::ExtraTrees { 0 } else { columns.rows };
        let max_features = params.max_features.resolve(columns.width);
        Self {
            columns,
            score,
            params,
            max_features,
            draws: Stream::keyed(params.seed, "node").child(index as u64),
            features: (0..columns.width as u32).collect(),
            swaps: Vec::with_capacity(max_features),
            present: vec![0; rows.div_ceil(64)],
            line: vec![0; rows + 2],
            floor: vec![0; rows],
            slots: vec![I::from_usize(0); rows],
            cells: Vec::new(),
            tree: Tree { nodes: Vec::new(), shares: Vec::new() },
        }
    }

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
}
