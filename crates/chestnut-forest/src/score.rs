//! How good a split is, kept up to date while rows move from the right side to the left.
//!
//! For binary labels with positive weights p_k among n rows, the gini impurity of a side times n is
//! 2 (sum p_k - sum p_k^2 / n), and over both sides only sum p_k^2 / n changes. So one number per side is enough, and
//! moving a row costs its positive labels, not all of them. Weights are whole numbers unless classes are weighted, so
//! these sums are exact.

mod gini;

use crate::lanes::{Lanes, MAX_LANE};
use crate::params::Criterion;
use crate::table::{Labels, MAX_OUTPUTS};

pub(crate) use gini::{Gini, WideGini};

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
    fn zero(outputs: usize) -> Self {
        Self { positive: [0.0; MAX_OUTPUTS], known: [0.0; MAX_OUTPUTS], weight: 0.0, outputs }
    }

    /// Counts where every label is known.
    fn whole(weight: u32, outputs: usize, positive: impl Fn(usize) -> u32) -> Self {
        let mut t = Self::zero(outputs);
        t.weight = f64::from(weight);
        for k in 0..outputs {
            (t.positive[k], t.known[k]) = (f64::from(positive(k)), t.weight);
        }
        t
    }

    /// What is left of whole numbers.
    fn minus(&self, other: &Self) -> Self {
        let mut t = Self::zero(self.outputs);
        t.weight = self.weight - other.weight;
        for k in 0..self.outputs {
            (t.positive[k], t.known[k]) = (self.positive[k] - other.positive[k], self.known[k] - other.known[k]);
        }
        t
    }

    fn of(rows: &[Row], members: &[u32], outputs: usize) -> Self {
        let mut t = Self::zero(outputs);
        for &r in members {
            let row = &rows[r as usize];
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
    /// Sums over the rows on the left: a value of its own, so that it can live in registers.
    type Left;
    /// Sums over the rows `members`.
    fn totals(&self, members: &[u32]) -> Totals;
    /// Sums over the rows that are in `node` and not in `left`; `members` are those rows.
    fn rest(&self, node: &Totals, left: &Totals, members: &[u32]) -> Totals;
    /// Turns to the node that holds `members`.
    fn enter(&mut self, node: &Totals, members: &[u32]);
    /// All rows on the right.
    fn start(&self) -> Self::Left;
    /// Row `row` to the left.
    fn move_left(&self, left: &mut Self::Left, row: usize);
    /// The rows that come with `true` on the left, all others on the right: the sums that moving them one by one gives.
    /// Scores that can do without a branch per row.
    #[inline]
    fn gather(&self, rows: impl Iterator<Item = (u32, bool)>) -> Self::Left {
        let mut left = self.start();
        for (row, goes_left) in rows {
            if goes_left {
                self.move_left(&mut left, row as usize);
            }
        }
        left
    }
    /// Score of the split between the rows moved so far and the rest; both sides hold at least one row.
    fn value(&self, left: &Self::Left) -> f64;
}

/// Entropy with every label known and whole weights that sum to at most [`MAX_LANE`]: x ln x comes from a table.
pub(crate) struct Entropy<const N: usize> {
    table: Vec<f64>,
    rows: Vec<(Lanes<N>, u32)>,
    outputs: usize,
    total: Lanes<N>,
    weight: u32,
}

impl<const N: usize> Entropy<N> {
    /// `None` if the lanes are too few or too narrow.
    pub(crate) fn new(rows: &[Row], outputs: usize) -> Option<Self> {
        let weight: f64 = rows.iter().map(|r| r.weight).sum();
        (outputs <= 4 * N && weight <= f64::from(MAX_LANE)).then(|| Self {
            table: (0..=weight as usize).map(|x| xlnx(x as f64)).collect(),
            rows: rows.iter().map(|r| (Lanes::mask(r.positive), r.weight as u32)).collect(),
            outputs,
            total: Lanes::ZERO,
            weight: 0,
        })
    }
}

impl<const N: usize> Score for Entropy<N> {
    type Left = (Lanes<N>, u32);

    fn totals(&self, members: &[u32]) -> Totals {
        let (mut positive, mut weight) = (Lanes::<N>::ZERO, 0);
        for &r in members {
            let (p, w) = &self.rows[r as usize];
            weight += w;
            positive.add(p, *w);
        }
        Totals::whole(weight, self.outputs, |k| positive.get(k))
    }

    fn rest(&self, node: &Totals, left: &Totals, _members: &[u32]) -> Totals {
        node.minus(left)
    }

    fn enter(&mut self, node: &Totals, _members: &[u32]) {
        self.weight = node.weight as u32;
        self.total = Lanes::from_fn(|k| if k < self.outputs { node.positive[k] as u32 } else { 0 });
    }

    #[inline]
    fn start(&self) -> (Lanes<N>, u32) {
        (Lanes::ZERO, 0)
    }

    #[inline]
    fn move_left(&self, left: &mut (Lanes<N>, u32), row: usize) {
        let (positive, weight) = &self.rows[row];
        left.1 += weight;
        left.0.add(positive, *weight);
    }

    #[inline]
    fn gather(&self, rows: impl Iterator<Item = (u32, bool)>) -> (Lanes<N>, u32) {
        let (mut counts, mut sum) = self.start();
        for (row, goes_left) in rows {
            let (positive, weight) = &self.rows[row as usize];
            let weight = weight * u32::from(goes_left);
            sum += weight;
            counts.add(positive, weight);
        }
        (counts, sum)
    }

    #[inline]
    fn value(&self, (counts, weight): &(Lanes<N>, u32)) -> f64 {
        let (left, right) = (*weight as usize, (self.weight - weight) as usize);
        let mut sum = 0.0;
        for k in 0..self.outputs {
            let (l, total) = (counts.get(k) as usize, self.total.get(k) as usize);
            let r = total - l;
            sum += (self.table[l] + self.table[left - l]) + (self.table[r] + self.table[right - r]);
        }
        sum - self.outputs as f64 * (self.table[left] + self.table[right])
    }
}

/// Either criterion with unknown labels or fractional weights: an output counts the rows in which it is known.
pub(crate) struct General {
    rows: Vec<Row>,
    criterion: Criterion,
    node: Totals,
}

impl General {
    pub(crate) fn new(rows: &[Row], criterion: Criterion, outputs: usize) -> Self {
        let node = Totals::zero(outputs);
        Self { rows: rows.to_vec(), criterion, node }
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
    /// Weight of the positive and of the known labels.
    type Left = [[f64; MAX_OUTPUTS]; 2];

    fn totals(&self, members: &[u32]) -> Totals {
        Totals::of(&self.rows, members, self.node.outputs)
    }

    fn rest(&self, _node: &Totals, _left: &Totals, members: &[u32]) -> Totals {
        // Fractional weights: a difference would leave crumbs where nothing is.
        self.totals(members)
    }

    fn enter(&mut self, node: &Totals, _members: &[u32]) {
        self.node = node.clone();
    }

    fn start(&self) -> Self::Left {
        [[0.0; MAX_OUTPUTS]; 2]
    }

    #[inline]
    fn move_left(&self, [positive, known]: &mut Self::Left, row: usize) {
        let row = self.rows[row];
        for k in 0..self.node.outputs {
            positive[k] += row.weight * f64::from(row.positive >> k & 1);
            known[k] += row.weight * f64::from(row.known >> k & 1);
        }
    }

    fn value(&self, [positive, known]: &Self::Left) -> f64 {
        let node = &self.node;
        (0..node.outputs)
            .map(|k| {
                self.side(positive[k], known[k]) + self.side(node.positive[k] - positive[k], node.known[k] - known[k])
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

    fn sixty_rows() -> Vec<Row> {
        let mut draw = Stream::keyed(5, "score");
        let row = |_| Row {
            positive: draw.next_u64() as u32 & 0b111_1111,
            known: 0b111_1111,
            weight: (1 + draw.below(3)) as f64,
        };
        (0..60).map(row).collect()
    }

    #[test]
    fn rows_gathered_are_rows_moved() {
        fn compare<S: Score>(mut score: S) {
            let members: Vec<u32> = (0..60).collect();
            let node = score.totals(&members);
            score.enter(&node, &members);
            for every in [1, 2, 7] {
                let goes_left = |row: u32| row.is_multiple_of(every) && row != 59;
                let mut moved = score.start();
                members.iter().filter(|&&r| goes_left(r)).for_each(|&r| score.move_left(&mut moved, r as usize));
                let gathered = score.gather(members.iter().map(|&r| (r, goes_left(r))));
                assert_eq!(score.value(&gathered).to_bits(), score.value(&moved).to_bits());
            }
        }
        let rows = sixty_rows();
        compare(Gini::<2>::new(&rows, 7).expect("small weights"));
        compare(Gini::<8>::new(&rows, 7).expect("small weights"));
        compare(WideGini::new(&rows, 7));
        compare(Entropy::<2>::new(&rows, 7).expect("enough lanes"));
        compare(General::new(&rows, Criterion::Gini, 7));
        compare(General::new(&rows, Criterion::Entropy, 7));
    }

    #[test]
    fn the_three_scores_order_splits_alike() {
        let rows = sixty_rows();
        let members: Vec<u32> = (0..60).collect();
        fn best<S: Score>(mut score: S, members: &[u32]) -> usize {
            let node = score.totals(members);
            score.enter(&node, members);
            let mut left = score.start();
            let mut values = Vec::new();
            for row in 0..59 {
                score.move_left(&mut left, row);
                values.push(score.value(&left));
            }
            (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
        }
        let general = |criterion| General::new(&rows, criterion, 7);
        let wide = best(WideGini::new(&rows, 7), &members);
        assert_eq!(wide, best(general(Criterion::Gini), &members));
        assert_eq!(wide, best(Gini::<2>::new(&rows, 7).expect("small weights"), &members));
        assert_eq!(wide, best(Gini::<8>::new(&rows, 7).expect("small weights"), &members));
        assert!(Gini::<1>::new(&rows, 7).is_none(), "too few lanes");
        let entropy = best(Entropy::<2>::new(&rows, 7).expect("enough lanes"), &members);
        assert_eq!(entropy, best(general(Criterion::Entropy), &members));
    }
}
