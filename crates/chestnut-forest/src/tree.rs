//! Growing one tree.
//!
//! Semantics are scikit-learn's: features are drawn without replacement, constant ones count as drawn but at least one
//! that varies is tried; a threshold lies halfway between two values; `x <= threshold` goes left; a split is made even
//! if it gains nothing, as long as the node is impure. Two things differ. Draws are keyed by (seed, tree, path from
//! the root), so a node's split does not depend on what else was grown: a tree with a smaller depth or a larger
//! `min_samples_split` is the same tree, cut. And values closer than 1e-7 in the whole table are one value, where
//! scikit-learn compares neighbours within the node.

use crate::params::{ClassWeight, Criterion, Learner, Params};
use crate::score::{Entropy, General, Gini, Row, Score, Totals, WideGini, balanced};
use crate::table::{Features, Labels, MAX_OUTPUTS};
use chestnut_stats::random::{Stream, mix};
use serde::{Deserialize, Serialize};

/// Values closer than this are one value (scikit-learn's FEATURE_THRESHOLD).
const SAME: f32 = 1e-7;
/// A node with fewer rows than this share of the bit set's words is sorted by comparing instead.
const SPARSE: usize = 4;
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

/// A row's number or place: 16 bits where they are enough, because trees wait for memory more than for anything else.
trait Index: Copy + Send + Sync {
    fn from_usize(i: usize) -> Self;
    fn get(self) -> usize;
}

impl Index for u16 {
    fn from_usize(i: usize) -> Self {
        i as Self
    }

    #[inline]
    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Index for u32 {
    fn from_usize(i: usize) -> Self {
        i as Self
    }

    #[inline]
    fn get(self) -> usize {
        self as usize
    }
}

/// A row in the order of a feature; rows with equal values share a rank.
#[derive(Clone, Copy)]
struct Ranked<I> {
    rank: I,
    row: I,
}

struct Columns<I> {
    /// `[feature][row]`.
    values: Vec<f32>,
    /// `[feature][row]`: place of the row in `order`.
    places: Vec<I>,
    /// `[feature][place]`: rows by value.
    order: Vec<Ranked<I>>,
    rows: usize,
    width: usize,
}

impl<I: Index> Columns<I> {
    fn new(features: &Features) -> Self {
        use rayon::prelude::*;
        let (rows, width) = (features.rows(), features.width());
        let mut values = vec![0.0; rows * width];
        let zero = I::from_usize(0);
        let mut places = vec![zero; rows * width];
        let mut order = vec![Ranked { rank: zero, row: zero }; rows * width];
        // Sixteen columns at a time: one cache line of each row, read once.
        const BLOCK: usize = 16;
        values.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(block, columns)| {
            for r in 0..rows {
                let cells = &features.row(r)[BLOCK * block..];
                columns.iter_mut().skip(r).step_by(rows).zip(cells).for_each(|(to, from)| *to = *from);
            }
        });
        values.par_chunks(rows).zip(places.par_chunks_mut(rows)).zip(order.par_chunks_mut(rows)).for_each(
            |((values, places), order)| {
                // Value and row in one integer: sorting it is several times faster than sorting rows by their values.
                let mut keys: Vec<u64> =
                    values.iter().enumerate().map(|(r, &v)| u64::from(sortable(v)) << 32 | r as u64).collect();
                keys.sort_unstable();
                let row_of = |key: u64| (key & 0xFFFF_FFFF) as usize;
                let (mut rank, mut last) = (0, row_of(keys[0]));
                for (i, (place, &key)) in order.iter_mut().zip(&keys).enumerate() {
                    let row = row_of(key);
                    rank += usize::from(values[row] - values[last] > SAME);
                    last = row;
                    *place = Ranked { rank: I::from_usize(rank), row: I::from_usize(row) };
                    places[row] = I::from_usize(i);
                }
            },
        );
        Self { values, places, order, rows, width }
    }
}

/// A table sorted once for all trees.
///
/// Memory: 10 bytes per value of the feature table, 16 with more than 65,536 rows, shared by all trees and threads.
pub(crate) struct Sorted(Kind);

enum Kind {
    Narrow(Columns<u16>),
    Wide(Columns<u32>),
}

impl Sorted {
    /// Sorts every feature.
    pub(crate) fn new(features: &Features) -> Self {
        let narrow = features.rows() <= 1 << 16;
        Self(if narrow { Kind::Narrow(Columns::new(features)) } else { Kind::Wide(Columns::new(features)) })
    }
}

/// A finite float as an integer of the same order.
fn sortable(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// What all trees of a forest share.
pub(crate) struct Ground<'a> {
    labels: &'a Labels,
    params: Params,
    class_weights: Option<Vec<f64>>,
}

impl<'a> Ground<'a> {
    /// Prepares to grow trees; `params` must have passed [`Params::check`].
    pub(crate) fn new(labels: &'a Labels, params: &Params) -> Self {
        let class_weights = (params.class_weight == ClassWeight::Balanced).then(|| balanced(labels));
        Self { labels, params: params.clone(), class_weights }
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
        let mut members: Vec<u32> = (0..rows.len() as u32).filter(|&r| rows[r as usize].weight > 0.0).collect();
        let mut buffer = members.clone();
        let mut grower = Grower {
            columns,
            score,
            params: &self.params,
            max_features: self.params.max_features.resolve(columns.width),
            draws: Stream::keyed(self.params.seed, "node").child(index as u64),
            features: (0..columns.width as u32).collect(),
            swaps: Vec::new(),
            present: vec![0; columns.rows.div_ceil(64)],
            line: Vec::new(),
            cells: Vec::new(),
            tree: Tree { nodes: Vec::new(), shares: Vec::new() },
        };
        let criterion = self.params.criterion;
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
                || node.len() < 2 * self.params.min_samples_leaf
                || totals.pure()
            {
                continue;
            }
            let Some(split) = grower.best_split(node, &totals, path) else { continue };
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

struct Split {
    feature: u32,
    threshold: f32,
}

/// A split that may turn out to be the best.
struct Candidate {
    feature: u32,
    score: f64,
    at: Cut,
}

enum Cut {
    At(f32),
    /// Halfway between these rows' values, which are looked up for the best candidate only: they are far away in memory.
    Between(u32, u32),
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
    /// A bit per place: which places of a feature's order the node's rows hold; all 0 between features.
    present: Vec<u64>,
    /// The node's places in order.
    line: Vec<u32>,
    /// The node's values of a feature.
    cells: Vec<f32>,
    tree: Tree,
}

impl<I: Index, S: Score> Grower<'_, I, S> {
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
        self.score.enter(totals, node);
        let mut best: Option<Candidate> = None;
        self.swaps.clear();
        let (mut visited, mut varying) = (0, 0);
        while visited < width && (visited < self.max_features || varying == 0) {
            // Fisher-Yates, one step at a time; undone below so that the next node starts from the same order.
            let pick = visited + draw.below(width - visited);
            self.features.swap(visited, pick);
            self.swaps.push(pick);
            let feature = self.features[visited];
            visited += 1;
            let found = match self.params.learner {
                Learner::ExtraTrees => self.random_threshold(node, feature, &mut draw),
                _ => self.best_threshold(node, feature),
            };
            let Some(candidate) = found else { continue };
            varying += 1;
            if let Some(candidate) = candidate
                && best.as_ref().is_none_or(|b| candidate.score > b.score)
            {
                best = Some(candidate);
            }
        }
        for (i, &pick) in self.swaps.iter().enumerate().rev() {
            self.features.swap(i, pick);
        }
        best.map(|Candidate { feature, at, .. }| {
            let value = |row: u32| self.columns.values[feature as usize * self.columns.rows + row as usize];
            let threshold = match at {
                Cut::Between(low, high) => halfway(value(low), value(high)),
                Cut::At(threshold) => threshold,
            };
            Split { feature, threshold }
        })
    }

    /// Puts the places of the node's rows into `line`, in order.
    fn line_up(&mut self, node: &[u32], places: &[I]) {
        if self.present.len() > SPARSE * node.len() {
            self.line.clear();
            self.line.extend(node.iter().map(|&r| places[r as usize].get() as u32));
            self.line.sort_unstable();
            return;
        }
        // Places are different numbers below the row count: setting bits and reading them back sorts them.
        for &r in node {
            let place = places[r as usize].get();
            self.present[place / 64] |= 1 << (place % 64);
        }
        self.line.resize(node.len(), 0);
        let mut line = self.line.iter_mut();
        for (i, word) in self.present.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                let Some(place) = line.next() else { break };
                *place = i as u32 * 64 + bits.trailing_zeros();
                bits &= bits - 1;
            }
        }
    }

    /// `None` if the feature is constant in the node, `Some(None)` if no threshold leaves enough rows on both sides.
    fn best_threshold(&mut self, node: &[u32], feature: u32) -> Option<Option<Candidate>> {
        let n = self.columns.rows;
        let column = feature as usize * n..(feature as usize + 1) * n;
        self.line_up(node, &self.columns.places[column.clone()]);
        let order = &self.columns.order[column];
        let line = &self.line[..];
        let count = line.len();
        if order[line[0] as usize].rank.get() == order[line[count - 1] as usize].rank.get() {
            return None;
        }
        let score = &self.score;
        let mut left = score.start();
        let leaf = self.params.min_samples_leaf.max(1);
        let (mut best, mut at) = (f64::NEG_INFINITY, None);
        for &place in &line[..(leaf - 1).min(count)] {
            score.move_left(&mut left, order[place as usize].row.get());
        }
        let last = count.saturating_sub(leaf);
        let mut here = order[line[(leaf - 1).min(count - 1)] as usize];
        for i in leaf - 1..last {
            let next = order[line[i + 1] as usize];
            score.move_left(&mut left, here.row.get());
            if here.rank.get() != next.rank.get() {
                let value = score.value(&left);
                if value > best {
                    (best, at) = (value, Some(i));
                }
            }
            here = next;
        }
        let row = |i: usize| order[line[i] as usize].row.get() as u32;
        Some(at.map(|i| Candidate { feature, score: best, at: Cut::Between(row(i), row(i + 1)) }))
    }

    /// As [`Self::best_threshold`], for one threshold drawn between the smallest and the largest value.
    fn random_threshold(&mut self, node: &[u32], feature: u32, draw: &mut Stream) -> Option<Option<Candidate>> {
        let n = self.columns.rows;
        let values = &self.columns.values[feature as usize * n..][..n];
        self.cells.clear();
        self.cells.extend(node.iter().map(|&r| values[r as usize]));
        // Four at a time: one running minimum would wait for itself.
        let (mut lows, mut highs) = ([f32::INFINITY; 4], [f32::NEG_INFINITY; 4]);
        let (fours, rest) = self.cells.as_chunks::<4>();
        for four in fours {
            for k in 0..4 {
                lows[k] = if four[k] < lows[k] { four[k] } else { lows[k] };
                highs[k] = if four[k] > highs[k] { four[k] } else { highs[k] };
            }
        }
        let low = lows.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
        let high = highs.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        if high - low <= SAME {
            return None;
        }
        let threshold = draw.range(f64::from(low), f64::from(high)) as f32;
        let threshold = if threshold >= high { low } else { threshold };
        let mut left = self.score.start();
        let mut count = 0;
        for (&r, &cell) in node.iter().zip(&self.cells) {
            let here = cell <= threshold;
            self.score.move_left_if(&mut left, r as usize, here);
            count += usize::from(here);
        }
        let leaf = self.params.min_samples_leaf;
        let enough = count >= leaf && node.len() - count >= leaf;
        Some(enough.then(|| Candidate { feature, score: self.score.value(&left), at: Cut::At(threshold) }))
    }
}

/// The middle of two values as f32, or the lower one where rounding would reach the upper.
fn halfway(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle >= high { low } else { middle }
}
