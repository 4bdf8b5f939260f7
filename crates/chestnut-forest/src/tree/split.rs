//! The search for a node's best split: features in drawn order, thresholds of each.

use super::order::Index;
use super::{Grower, SAME};
use crate::params::Learner;
use crate::score::{Score, Totals};
use chestnut_stats::random::Stream;
use std::sync::OnceLock;

/// A node with fewer rows than this share of the bit set's words is sorted by comparing instead.
const SPARSE: usize = 4;

pub(super) struct Split {
    pub(super) feature: u32,
    pub(super) threshold: f32,
}

/// A split that may turn out to be the best.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    feature: u32,
    score: f64,
    at: Cut,
}

#[derive(Clone, Copy)]
enum Cut {
    At(f32),
    /// Halfway between these rows' values, which are looked up for the best candidate only: they are far away in memory.
    Between(u32, u32),
}

/// `None` if a feature is constant in the node, `Some(None)` if none of its thresholds will do.
pub(super) type Found = Option<Option<Candidate>>;

impl<I: Index, S: Score> Grower<'_, I, S> {
    /// `roots` collects what features offer at the root of any tree, where that is the same for all.
    pub(super) fn best_split(
        &mut self,
        node: &[u32],
        totals: &Totals,
        path: u64,
        roots: Option<&[OnceLock<Found>]>,
    ) -> Option<Split> {
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
            let found = match (self.params.learner, roots) {
                (Learner::ExtraTrees, _) => self.random_threshold(node, feature, &mut draw),
                // Another tree may have met better features before: every score must be beaten there, and none is here.
                (_, Some(roots)) => {
                    *roots[feature as usize].get_or_init(|| self.best_threshold(node, feature, f64::NEG_INFINITY))
                }
                (_, None) => self.best_threshold(node, feature, best.map_or(f64::NEG_INFINITY, |b| b.score)),
            };
            let Some(candidate) = found else { continue };
            varying += 1;
            if let Some(candidate) = candidate
                && best.is_none_or(|b| candidate.score > b.score)
            {
                best = Some(candidate);
            }
        }
        for (i, &pick) in self.swaps.iter().enumerate().rev() {
            self.features.swap(i, pick);
        }
        best.map(|candidate| self.split(&candidate))
    }

    fn split(&self, candidate: &Candidate) -> Split {
        let feature = candidate.feature;
        let value = |row: u32| self.columns.values[feature as usize * self.columns.rows + row as usize];
        let threshold = match candidate.at {
            Cut::Between(low, high) => halfway(value(low), value(high)),
            Cut::At(threshold) => threshold,
        };
        Split { feature, threshold }
    }

    /// Sorts the node's rows by a feature. Those with the smallest value of the whole column, zeros as a rule, need no
    /// sorting and go to `floor`; the places of all others go to `line`, in order, from index 1 on, while index 0 stands
    /// for the whole floor. `slots` knows the row at each place. Returns the length of `floor` and the end of `line`.
    fn line_up(&mut self, node: &[u32], feature: usize) -> (usize, usize) {
        let columns = self.columns;
        let places = &columns.places[feature * columns.rows..][..columns.rows];
        let smallest = columns.smallest[feature] as usize;
        let (slots, floor, line) = (&mut self.slots[..], &mut self.floor[..], &mut self.line[..]);
        let (mut low, mut end) = (0, 1);
        for &row in node {
            // Written to both, counted in one, as in `partition`.
            let place = places[row as usize].get();
            let above = usize::from(place >= smallest);
            slots[place] = I::from_usize(row as usize);
            floor[low] = row;
            line[end] = place as u32;
            low += 1 - above;
            end += above;
        }
        if low > 0 {
            slots[0] = I::from_usize(floor[0] as usize);
        }
        let first = smallest / 64;
        sort_places(&mut line[1..], end - 1, &mut self.present[first..], first);
        (low, end)
    }

    /// The best threshold of a feature, among those that score higher than `to_beat`.
    fn best_threshold(&mut self, node: &[u32], feature: u32, to_beat: f64) -> Found {
        let (low, end) = self.line_up(node, feature as usize);
        let line = &self.line[usize::from(low == 0)..end];
        let (slots, ranks) = (&self.slots[..], &self.columns.ranks[feature as usize][..]);
        let rank = |place: u32| ranks.get(place as usize).map_or(place, |rank| rank.get() as u32);
        let row = |place: u32| slots[place as usize].get();
        if rank(line[0]) == rank(line[line.len() - 1]) {
            return None;
        }
        // A cut behind `line[i]` leaves `head + i` rows on the left.
        let head = low.max(1);
        let leaf = self.params.min_samples_leaf.max(1);
        let from = leaf.saturating_sub(head);
        let to = (node.len() + 1).saturating_sub(leaf.saturating_add(head));
        if from >= to {
            return Some(None);
        }
        let score = &self.score;
        let mut left =
            if low == 0 { score.start() } else { score.gather(self.floor[..low].iter().map(|&row| (row, true))) };
        line[usize::from(low > 0)..=from].iter().for_each(|&place| score.move_left(&mut left, row(place)));
        let (mut best, mut at) = (to_beat, None);
        let mut here = rank(line[from]);
        for (i, &place) in (from..).zip(&line[from + 1..=to]) {
            let next = rank(place);
            if here != next {
                let value = score.value(&left);
                if value > best {
                    (best, at) = (value, Some(i));
                }
            }
            score.move_left(&mut left, row(place));
            here = next;
        }
        let cut = |i: usize| Cut::Between(row(line[i]) as u32, row(line[i + 1]) as u32);
        Some(at.map(|i| Candidate { feature, score: best, at: cut(i) }))
    }

    /// As [`Self::best_threshold`], for one threshold drawn between the smallest and the largest value.
    fn random_threshold(&mut self, node: &[u32], feature: u32, draw: &mut Stream) -> Found {
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
        let count = self.cells.iter().filter(|&&cell| cell <= threshold).count();
        let leaf = self.params.min_samples_leaf;
        if count < leaf || node.len() - count < leaf {
            return Some(None);
        }
        let left = self.score.gather(node.iter().zip(&self.cells).map(|(&row, &cell)| (row, cell <= threshold)));
        Some(Some(Candidate { feature, score: self.score.value(&left), at: Cut::At(threshold) }))
    }
}

/// Sorts the first `count` numbers of `line`, all different and at least `64 first`, which has room for one more.
///
/// `words` are the bits from number `64 first` on, all 0 before and after.
fn sort_places(line: &mut [u32], count: usize, words: &mut [u64], first: usize) {
    if words.len() > SPARSE * count {
        line[..count].sort_unstable();
        return;
    }
    // Setting bits and reading them back sorts without comparing.
    for &place in &line[..count] {
        words[place as usize / 64 - first] |= 1 << (place % 64);
    }
    let mut read = 0;
    for (i, word) in words.iter_mut().enumerate() {
        let base = (first + i) as u32 * 64;
        let mut bits = std::mem::take(word);
        // Small nodes have a bit or two in a word, or none: taking two without asking saves wrong guesses.
        for _ in 0..2 {
            line[read] = base + bits.trailing_zeros();
            read += usize::from(bits != 0);
            bits &= bits.wrapping_sub(1);
        }
        while bits != 0 {
            line[read] = base + bits.trailing_zeros();
            read += 1;
            bits &= bits - 1;
        }
    }
}

/// The middle of two values as f32, or the lower one where rounding would reach the upper.
fn halfway(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle >= high { low } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Criterion, Params};
    use crate::score::{Entropy, General, Gini, Row, WideGini};
    use crate::table::Features;
    use crate::tree::order::Columns;

    const ROWS: usize = 1500;

    /// Columns with all kinds of equal values.
    fn table() -> Features {
        let mut draw = Stream::keyed(6, "columns");
        let mut values = Vec::new();
        for row in 0..ROWS {
            let x = draw.normal() as f32;
            let rectified = x.max(0.0);
            values.extend([
                x,
                rectified,
                -rectified,
                (2.0 * x).round(),
                // Closer than 1e-7 below 1, the smallest value among them, and farther apart above 1.
                x.trunc().abs() + draw.below(3) as f32 * 4e-8,
                if draw.uniform() < 0.5 { -0.0 } else { rectified },
                5.0,
                f32::from(u8::from(row == ROWS / 2)),
                f32::from(u8::from(row != ROWS / 2)),
            ]);
        }
        Features::new(values, 9).expect("finite")
    }

    /// The best threshold and its score, by scoring every cut of the sorted rows.
    fn plain<S: Score>(
        score: &S,
        features: &Features,
        node: &[u32],
        feature: usize,
        leaf: usize,
    ) -> Option<Option<(f64, f32)>> {
        let value = |row: u32| features.row(row as usize)[feature];
        let mut order: Vec<u32> = (0..ROWS as u32).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let mut ranks = vec![0; ROWS];
        for pair in order.windows(2) {
            let step = usize::from(value(pair[1]) - value(pair[0]) > SAME);
            ranks[pair[1] as usize] = ranks[pair[0] as usize] + step;
        }
        order.retain(|row| node.binary_search(row).is_ok());
        if ranks[order[0] as usize] == ranks[order[order.len() - 1] as usize] {
            return None;
        }
        let mut left = score.start();
        let mut best: Option<(f64, f32)> = None;
        for (i, pair) in order.windows(2).enumerate() {
            score.move_left(&mut left, pair[0] as usize);
            let cut = ranks[pair[0] as usize] != ranks[pair[1] as usize];
            if cut && i + 1 >= leaf && order.len() - i > leaf {
                let found = score.value(&left);
                if best.is_none_or(|(highest, _)| found > highest) {
                    best = Some((found, halfway(value(pair[0]), value(pair[1]))));
                }
            }
        }
        Some(best)
    }

    fn compare<S: Score>(make: impl Fn() -> S) {
        let features = table();
        let columns = Columns::<u16>::new(&features, true);
        let mut draw = Stream::keyed(7, "nodes");
        for leaf in [1, 4] {
            let params = Params { min_samples_leaf: leaf, ..Params::decision_tree(0) };
            let mut grower = Grower::new(&columns, make(), &params, 0);
            for share in [1.0, 0.6, 0.1, 0.02, 0.004, 0.003] {
                let node: Vec<u32> = (0..ROWS as u32).filter(|_| draw.uniform() < share).collect();
                if node.len() < 2 {
                    continue;
                }
                let totals = grower.score.totals(&node);
                grower.score.enter(&totals, &node);
                for feature in 0..features.width() {
                    let what = format!("feature {feature}, {} rows, leaf {leaf}", node.len());
                    let expected = plain(&grower.score, &features, &node, feature, leaf);
                    let mut found = |to_beat: f64| {
                        let found = grower.best_threshold(&node, feature as u32, to_beat);
                        assert!(grower.present.iter().all(|word| *word == 0), "{what}");
                        found.map(|c| c.map(|c| (c.score.to_bits(), grower.split(&c).threshold.to_bits())))
                    };
                    let bits = expected.map(|best| best.map(|(score, at)| (score.to_bits(), at.to_bits())));
                    assert_eq!(found(f64::NEG_INFINITY), bits, "{what}");
                    if let Some(Some((score, _))) = expected {
                        assert_eq!(found(score), Some(None), "{what}");
                        assert_eq!(found(score.next_down()), bits, "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_search_finds_what_scoring_every_cut_finds() {
        let mut draw = Stream::keyed(8, "rows");
        let mut row = |unit: f64, known: u32| {
            let positive = draw.next_u64() as u32 & 0b111_1111 & known;
            Row { positive, known, weight: (1 + draw.below(3)) as f64 * unit }
        };
        let whole: Vec<Row> = (0..ROWS).map(|_| row(1.0, 0b111_1111)).collect();
        // Label 2 is known in every third row, and sums of these weights depend on their order.
        let rest: Vec<Row> = (0..ROWS).map(|r| row(0.3, if r % 3 == 0 { 0b111_1111 } else { 0b111_1011 })).collect();
        compare(|| Gini::<2>::new(&whole, 7).expect("small weights"));
        compare(|| WideGini::new(&whole, 7));
        compare(|| Entropy::<2>::new(&whole, 7).expect("enough lanes"));
        compare(|| General::new(&rest, Criterion::Gini, 7));
        compare(|| General::new(&rest, Criterion::Entropy, 7));
    }
}
