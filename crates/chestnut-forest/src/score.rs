//! How good a split is, kept up to date while rows move from the right side to the left.
//!
//! For binary labels with positive weights p_k among n rows, the gini impurity of a side times n is
//! 2 (sum p_k - sum p_k^2 / n), and over both sides only sum p_k^2 / n changes. So one number per side is enough, and
//! moving a row costs its positive labels, not all of them. Weights are whole numbers unless classes are weighted, so
//! these sums are exact.

use crate::params::Criterion;
use crate::table::{Labels, MAX_OUTPUTS};

/// A row as the scores see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) positive: u32,
    pub(crate) known: u32,
    pub(crate) weight: f64,
}

/// Weight of the positive and of the known labels of a node, per output.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) positive: [f64; MAX_OUTPUTS],
    pub(crate) known: [f64; MAX_OUTPUTS],
    pub(crate) weight: f64,
    pub(crate) outputs: usize,
}

impl Totals {
    pub(crate) fn of(rows: impl Iterator<Item = Row>, outputs: usize) -> Self {
        let mut t = Self { positive: [0.0; MAX_OUTPUTS], known: [0.0; MAX_OUTPUTS], weight: 0.0, outputs };
        for row in rows {
            t.weight += row.weight;
            for k in 0..outputs {
                t.positive[k] += row.weight * f64::from(row.positive >> k & 1);
                t.known[k] += row.weight * f64::from(row.known >> k & 1);
            }
        }
        t
    }

    /// True if no output has both classes.
    pub(crate) fn pure(&self) -> bool {
        (0..self.outputs).all(|k| self.positive[k] == 0.0 || self.positive[k] == self.known[k])
    }

    /// Impurity averaged over the outputs that have a known value.
    pub(crate) fn impurity(&self, criterion: Criterion) -> f64 {
        let mut sum = 0.0;
        let mut counted = 0;
        for k in 0..self.outputs {
            if self.known[k] > 0.0 {
                let p = self.positive[k] / self.known[k];
                sum += match criterion {
                    Criterion::Gini => 2.0 * p * (1.0 - p),
                    Criterion::Entropy => -(xlnx(p) + xlnx(1.0 - p)) / std::f64::consts::LN_2,
                };
                counted += 1;
            }
        }
        if counted == 0 { 0.0 } else { sum / f64::from(counted) }
    }
}

fn xlnx(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// The score of the split at hand; higher is better, comparable within one node only.
pub(crate) trait Score {
    /// All rows on the right.
    fn start(&mut self, node: &Totals);
    /// One row to the left.
    fn move_left(&mut self, row: Row);
    /// Score of the split between the rows moved so far and the rest; both sides hold at least one row.
    fn value(&self) -> f64;
}

/// Gini with every label known.
#[derive(Default)]
pub(crate) struct Gini {
    total: [f64; MAX_OUTPUTS],
    left: [f64; MAX_OUTPUTS],
    weight: f64,
    left_weight: f64,
    /// Sums over outputs: total^2, left^2, total * left.
    total_square: f64,
    left_square: f64,
    product: f64,
}

impl Score for Gini {
    fn start(&mut self, node: &Totals) {
        let used = node.outputs;
        self.total[..used].copy_from_slice(&node.positive[..used]);
        self.left[..used].fill(0.0);
        self.weight = node.weight;
        self.total_square = node.positive[..used].iter().map(|p| p * p).sum();
        (self.left_weight, self.left_square, self.product) = (0.0, 0.0, 0.0);
    }

    #[inline]
    fn move_left(&mut self, row: Row) {
        self.left_weight += row.weight;
        let mut bits = row.positive;
        while bits != 0 {
            let k = bits.trailing_zeros() as usize % MAX_OUTPUTS;
            bits &= bits - 1;
            self.left_square += row.weight * (2.0 * self.left[k] + row.weight);
            self.product += row.weight * self.total[k];
            self.left[k] += row.weight;
        }
    }

    #[inline]
    fn value(&self) -> f64 {
        let right_square = self.total_square - 2.0 * self.product + self.left_square;
        self.left_square / self.left_weight + right_square / (self.weight - self.left_weight)
    }
}

/// Entropy with every label known and whole-number weights: x ln x comes from a table.
pub(crate) struct Entropy {
    table: Vec<f64>,
    total: [usize; MAX_OUTPUTS],
    left: [usize; MAX_OUTPUTS],
    weight: usize,
    left_weight: usize,
    outputs: usize,
}

impl Entropy {
    /// For weights that sum to at most `weight`.
    pub(crate) fn new(weight: usize) -> Self {
        let table = (0..=weight).map(|x| xlnx(x as f64)).collect();
        Self { table, total: [0; MAX_OUTPUTS], left: [0; MAX_OUTPUTS], weight: 0, left_weight: 0, outputs: 0 }
    }
}

impl Score for Entropy {
    fn start(&mut self, node: &Totals) {
        self.outputs = node.outputs;
        self.weight = node.weight as usize;
        self.left_weight = 0;
        self.left[..node.outputs].fill(0);
        for k in 0..node.outputs {
            self.total[k] = node.positive[k] as usize;
        }
    }

    #[inline]
    fn move_left(&mut self, row: Row) {
        let weight = row.weight as usize;
        self.left_weight += weight;
        let mut bits = row.positive;
        while bits != 0 {
            self.left[bits.trailing_zeros() as usize % MAX_OUTPUTS] += weight;
            bits &= bits - 1;
        }
    }

    #[inline]
    fn value(&self) -> f64 {
        let right = self.weight - self.left_weight;
        let mut sum = 0.0;
        for k in 0..self.outputs {
            let (l, r) = (self.left[k], self.total[k] - self.left[k]);
            sum += (self.table[l] + self.table[self.left_weight - l]) + (self.table[r] + self.table[right - r]);
        }
        sum - self.outputs as f64 * (self.table[self.left_weight] + self.table[right])
    }
}

/// Either criterion with unknown labels or fractional weights: an output counts the rows in which it is known.
pub(crate) struct General {
    criterion: Criterion,
    node: Totals,
    positive: [f64; MAX_OUTPUTS],
    known: [f64; MAX_OUTPUTS],
}

impl General {
    pub(crate) fn new(criterion: Criterion, outputs: usize) -> Self {
        let node = Totals::of(std::iter::empty(), outputs);
        Self { criterion, node, positive: [0.0; MAX_OUTPUTS], known: [0.0; MAX_OUTPUTS] }
    }

    fn side(&self, positive: f64, known: f64) -> f64 {
        let negative = known - positive;
        match self.criterion {
            _ if known <= 0.0 => 0.0,
            Criterion::Gini => (positive * positive + negative * negative) / known,
            Criterion::Entropy => xlnx(positive) + xlnx(negative) - xlnx(known),
        }
    }
}

impl Score for General {
    fn start(&mut self, node: &Totals) {
        self.node = node.clone();
        self.positive = [0.0; MAX_OUTPUTS];
        self.known = [0.0; MAX_OUTPUTS];
    }

    #[inline]
    fn move_left(&mut self, row: Row) {
        for k in 0..self.node.outputs {
            self.positive[k] += row.weight * f64::from(row.positive >> k & 1);
            self.known[k] += row.weight * f64::from(row.known >> k & 1);
        }
    }

    fn value(&self) -> f64 {
        (0..self.node.outputs)
            .map(|k| {
                self.side(self.positive[k], self.known[k])
                    + self.side(self.node.positive[k] - self.positive[k], self.node.known[k] - self.known[k])
            })
            .sum()
    }
}

/// Weights of all rows for balanced classes: the product over labels of n / (2 n_class); unknown labels count as 1.
pub(crate) fn balanced(labels: &Labels) -> Vec<f64> {
    let rows = labels.rows();
    let mut weights = vec![1.0; rows];
    for k in 0..labels.outputs() {
        let known = (0..rows).filter_map(|r| labels.get(r, k)).count() as f64;
        let positive = (0..rows).filter(|&r| labels.get(r, k) == Some(true)).count() as f64;
        for (r, weight) in weights.iter_mut().enumerate() {
            match labels.get(r, k) {
                Some(true) => *weight *= known / (2.0 * positive),
                Some(false) => *weight *= known / (2.0 * (known - positive)),
                None => {}
            }
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    #[test]
    fn the_three_scores_order_splits_alike() {
        let mut draw = Stream::keyed(5, "score");
        let rows: Vec<Row> = (0..60)
            .map(|_| Row {
                positive: draw.next_u64() as u32 & 0b111_1111,
                known: 0b111_1111,
                weight: (1 + draw.below(3)) as f64,
            })
            .collect();
        let node = Totals::of(rows.iter().copied(), 7);
        let best = |score: &mut dyn Score| {
            score.start(&node);
            let values: Vec<f64> = rows[..59]
                .iter()
                .map(|&row| {
                    score.move_left(row);
                    score.value()
                })
                .collect();
            (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
        };
        let weight = node.weight as usize;
        assert_eq!(best(&mut Gini::default()), best(&mut General::new(Criterion::Gini, 7)));
        assert_eq!(best(&mut Entropy::new(weight)), best(&mut General::new(Criterion::Entropy, 7)));
    }
}
