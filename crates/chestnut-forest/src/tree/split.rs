//! The search for a node's best split: features in drawn order, thresholds of each.

use super::order::Index;
use super::{Grower, SAME};
use crate::params::Learner;
use crate::score::{Score, Totals};
use chestnut_stats::random::Stream;

/// A node with fewer rows than this share of the bit set's words is sorted by comparing instead.
const SPARSE: usize = 4;

pub(super) struct Split {
    pub(super) feature: u32,
    pub(super) threshold: f32,
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

impl<I: Index, S: Score> Grower<'_, I, S> {
    pub(super) fn best_split(&mut self, node: &[u32], totals: &Totals, path: u64) -> Option<Split> {
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
