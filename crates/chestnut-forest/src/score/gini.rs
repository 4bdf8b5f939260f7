//! Gini with every label known: in lanes where weights are small, else one label at a time.

use super::{Row, Score, Totals};
use crate::lanes::{Lanes, MAX_LANE};
use crate::table::MAX_OUTPUTS;

/// A row for [`Gini`].
#[derive(Clone, Copy)]
struct LaneRow<const N: usize> {
    positive: Lanes<N>,
    weight: u32,
    /// Square of the weight, times the positive labels.
    square: u32,
    /// Sum of the node's totals over the positive labels, times the weight.
    product: u32,
}

/// Gini with every label known, whole weights that sum to at most [`MAX_LANE`], at most `4 N` outputs.
///
/// Moving a row needs no branch, where [`WideGini`] has one per positive label and guesses half of them wrong.
pub(crate) struct Gini<const N: usize> {
    rows: Vec<LaneRow<N>>,
    /// The node's totals.
    total: Lanes<N>,
    /// `1 / weight`: two divisions for each place of each feature would be an eighth of the time.
    inverse: Vec<f64>,
    outputs: usize,
    weight: i64,
    /// Sum over outputs of total^2.
    total_square: i64,
}

/// The left side of [`Gini`].
pub(crate) struct GiniLeft<const N: usize> {
    counts: Lanes<N>,
    weight: i64,
    /// Sums over outputs: left^2, total * left.
    square: i64,
    product: i64,
}

impl<const N: usize> Gini<N> {
    /// `None` if the lanes are too few or too narrow.
    pub(crate) fn new(rows: &[Row], outputs: usize) -> Option<Self> {
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        let most = rows.iter().map(|r| r.weight).fold(0.0, f64::max);
        let fits =
            outputs <= 4 * N && total <= f64::from(MAX_LANE) && total * most * outputs as f64 <= f64::from(i32::MAX);
        let row = |r: &Row| {
            let weight = r.weight as u32;
            let square = weight * weight * r.positive.count_ones();
            LaneRow { positive: Lanes::mask(r.positive), weight, square, product: 0 }
        };
        fits.then(|| Self {
            rows: rows.iter().map(row).collect(),
            total: Lanes::ZERO,
            inverse: (0..=total as usize).map(|w| 1.0 / w as f64).collect(),
            outputs,
            weight: 0,
            total_square: 0,
        })
    }
}

impl<const N: usize> Score for Gini<N> {
    type Left = GiniLeft<N>;

    fn totals(&self, members: &[u32]) -> Totals {
        let (mut positive, mut weight) = (Lanes::<N>::ZERO, 0);
        for &r in members {
            let row = &self.rows[r as usize];
            weight += row.weight;
            positive.add(&row.positive, row.weight);
        }
        Totals::whole(weight, self.outputs, |k| positive.get(k))
    }

    fn rest(&self, node: &Totals, left: &Totals, _members: &[u32]) -> Totals {
        node.minus(left)
    }

    fn enter(&mut self, node: &Totals, members: &[u32]) {
        let total = Lanes::from_fn(|k| if k < self.outputs { node.positive[k] as u32 } else { 0 });
        self.total = total;
        self.weight = node.weight as i64;
        self.total_square = node.positive[..self.outputs].iter().map(|p| p * p).sum::<f64>() as i64;
        for &r in members {
            let row = &mut self.rows[r as usize];
            row.product = total.sum(&row.positive) * row.weight;
        }
    }

    #[inline]
    fn start(&self) -> GiniLeft<N> {
        GiniLeft { counts: Lanes::ZERO, weight: 0, square: 0, product: 0 }
    }

    #[inline]
    fn move_left(&self, left: &mut GiniLeft<N>, row: usize) {
        let row = &self.rows[row];
        left.square += i64::from(2 * row.weight * left.counts.sum(&row.positive) + row.square);
        left.product += i64::from(row.product);
        left.weight += i64::from(row.weight);
        left.counts.add(&row.positive, row.weight);
    }

    #[inline]
    fn gather(&self, rows: impl Iterator<Item = (u32, bool)>) -> GiniLeft<N> {
        // Squares and products follow from the counts in the end; no row needs them on its way.
        let (mut counts, mut weight) = (Lanes::<N>::ZERO, 0);
        for (row, goes_left) in rows {
            let row = &self.rows[row as usize];
            let moved = row.weight * u32::from(goes_left);
            counts.add(&row.positive, moved);
            weight += moved;
        }
        GiniLeft { counts, weight: i64::from(weight), square: counts.dot(&counts), product: counts.dot(&self.total) }
    }

    #[inline]
    fn value(&self, left: &GiniLeft<N>) -> f64 {
        let right_square = self.total_square - 2 * left.product + left.square;
        left.square as f64 * self.inverse[left.weight as usize]
            + right_square as f64 * self.inverse[(self.weight - left.weight) as usize]
    }
}

/// Gini with every label known, for any weights: one branch per positive label.
pub(crate) struct WideGini {
    rows: Vec<Row>,
    outputs: usize,
    total: [f64; MAX_OUTPUTS],
    weight: f64,
    /// Sum over outputs of total^2.
    total_square: f64,
}

/// The left side of [`WideGini`].
pub(crate) struct WideGiniLeft {
    counts: [f64; MAX_OUTPUTS],
    weight: f64,
    /// Sums over outputs: left^2, total * left.
    square: f64,
    product: f64,
}

impl WideGini {
    pub(crate) fn new(rows: &[Row], outputs: usize) -> Self {
        Self { rows: rows.to_vec(), outputs, total: [0.0; MAX_OUTPUTS], weight: 0.0, total_square: 0.0 }
    }
}

impl Score for WideGini {
    type Left = WideGiniLeft;

    fn totals(&self, members: &[u32]) -> Totals {
        Totals::of(&self.rows, members, self.outputs)
    }

    fn rest(&self, node: &Totals, left: &Totals, _members: &[u32]) -> Totals {
        node.minus(left)
    }

    fn enter(&mut self, node: &Totals, _members: &[u32]) {
        let used = self.outputs;
        self.total[..used].copy_from_slice(&node.positive[..used]);
        self.weight = node.weight;
        self.total_square = node.positive[..used].iter().map(|p| p * p).sum();
    }

    fn start(&self) -> WideGiniLeft {
        WideGiniLeft { counts: [0.0; MAX_OUTPUTS], weight: 0.0, square: 0.0, product: 0.0 }
    }

    #[inline]
    fn move_left(&self, left: &mut WideGiniLeft, row: usize) {
        let row = self.rows[row];
        left.weight += row.weight;
        let mut bits = row.positive;
        while bits != 0 {
            let k = bits.trailing_zeros() as usize % MAX_OUTPUTS;
            bits &= bits - 1;
            left.square += row.weight * (2.0 * left.counts[k] + row.weight);
            left.product += row.weight * self.total[k];
            left.counts[k] += row.weight;
        }
    }

    #[inline]
    fn value(&self, left: &WideGiniLeft) -> f64 {
        let right_square = self.total_square - 2.0 * left.product + left.square;
        left.square / left.weight + right_square / (self.weight - left.weight)
    }
}
