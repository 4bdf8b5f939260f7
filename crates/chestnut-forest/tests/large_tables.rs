//! Tables at both ends, very long and very wide: right answers, and no more memory than the crate's documentation
//! states. One test in a file of its own, because it watches the peak of its whole process.

#![allow(missing_docs)]

use chestnut_forest::{
    Criterion, Distance, Features, Fold, Forest, Grid, Labels, Learner, LinearProbe, MaxFeatures, Neighbours, Params,
    grid_search,
};
use chestnut_stats::random::Stream;
use chestnut_stats::roc;
use std::io::Write as _;

/// What the allocator and the threads' stacks may take beside the stated bounds, in bytes.
const SLACK: usize = 24 << 20;

/// One of the two tables; label 0 is planted in some features and label 1 is its opposite.
struct Case {
    name: &'static str,
    rows: usize,
    width: usize,
    /// Planted are this feature and every so many after it.
    first: usize,
    every: usize,
    /// How much more they are, in widths of their noise, where label 0 is positive.
    shift: f32,
    /// Share of labels that are turned over in the rows to learn from.
    flips: f64,
    /// Features that compete in forests.
    max_features: MaxFeatures,
    lambda: f64,
    /// Rows that neighbours are looked up for.
    looked_up: usize,
    /// Lowest AUC of label 0 that is right.
    lowest: f64,
}

/// One feature tells the classes apart, without a gap between them.
const LONG: Case = Case {
    name: "long",
    rows: 1_000_000,
    width: 8,
    first: 3,
    every: 8,
    shift: 1.0,
    flips: 0.02,
    max_features: MaxFeatures::Count(4),
    lambda: 1e5,
    looked_up: 16,
    lowest: 0.9,
};

/// One feature in a hundred tells the classes apart; what the others say by chance must not matter.
const WIDE: Case = Case {
    name: "wide",
    rows: 50,
    width: 100_000,
    first: 77,
    every: 100,
    shift: 10.0,
    flips: 0.0,
    max_features: MaxFeatures::Sqrt,
    lambda: 1e4,
    looked_up: 40,
    lowest: 0.99,
};

impl Case {
    fn planted(&self, feature: usize) -> bool {
        feature % self.every == self.first
    }

    /// Rows of both classes in turn, with this share of `flips` among the labels.
    fn table(&self, rows: usize, flips: f64, purpose: &str) -> (Features, Labels) {
        let mut draw = Stream::keyed(1, purpose);
        let mut values = Vec::with_capacity(rows * self.width);
        let mut labels = Vec::with_capacity(rows * 2);
        for row in 0..rows {
            let positive = row % 2 == 0;
            for feature in 0..self.width {
                let shift = if positive && self.planted(feature) { self.shift } else { 0.0 };
                values.push(draw.uniform() as f32 + shift);
            }
            let mut label = |truth: bool| labels.push(Some(truth != (draw.uniform() < flips)));
            label(positive);
            label(!positive);
        }
        (Features::new(values, self.width).expect("finite"), Labels::new(&labels, 2).expect("whole"))
    }
}

fn auc(probabilities: &[f64], labels: &Labels) -> f64 {
    let scores: Vec<f64> = probabilities.iter().step_by(labels.outputs()).copied().collect();
    let truth: Vec<bool> = (0..labels.rows()).map(|r| labels.get(r, 0) == Some(true)).collect();
    roc::auc(&scores, &truth).expect("both classes")
}

/// Bytes of a line of /proc/self/status; `None` where there is no such line.
fn status(key: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? << 10)
}

/// Does `work`; fails if that takes more than `bound` bytes. Returns the bytes that it took, where they can be known.
#[track_caller]
fn within<T>(what: &str, bound: usize, work: impl FnOnce() -> T) -> (T, Option<usize>) {
    // Sets the peak to what is used now. Where that is not allowed, a higher peak of earlier work hides this one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = (status("VmRSS:"), status("VmHWM:"));
    let result = work();
    let (Some(used), Some(old), Some(peak)) = (before.0, before.1, status("VmHWM:")) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: the memory of {what}: this system does not tell it");
        return (result, None);
    };
    if peak == old {
        return (result, None);
    }
    let taken = peak.saturating_sub(used);
    assert!(taken <= bound + SLACK, "{what} took {} MB of {} MB", taken >> 20, bound >> 20);
    (result, Some(taken))
}

// The bounds of src/lib.rs, under the names that they have there.

fn sorted(rows: usize, width: usize, learner: Learner) -> usize {
    let each = match learner {
        Learner::ExtraTrees => 4,
        _ if rows > 65_536 => 12,
        _ => 8,
    };
    each * rows * width + 80 * width
}

fn tree(rows: usize, params: &Params) -> usize {
    let leaves = (1_usize << params.max_depth).min(rows / params.min_samples_leaf);
    2 * leaves * (32 + 8 * 2)
}

fn growing(rows: usize, width: usize, params: &Params) -> usize {
    let per_row = if rows > 16_383 { 60 } else { 130 };
    per_row * rows + 24 * width + 3 * tree(rows, params)
}

fn fit(case: &Case, params: &Params) -> usize {
    let (rows, width) = (case.rows, case.width);
    sorted(rows, width, params.learner)
        + rayon::current_num_threads() * (growing(rows, width, params) + 12 * rows)
        + params.trees * tree(rows, params)
}

fn piece(rows: usize, width: usize, judged: usize, grid: &Grid, growth: &Params) -> usize {
    let stops = grid.max_depth.len() * grid.min_samples_split.len();
    sorted(rows, width, growth.learner)
        + growing(rows, width, growth)
        + (24 + 4 * width) * rows
        + 16 * tree(rows, growth)
        + (8 * 2 * (stops + 1) + 64) * judged
        + (40 + 16 * 2) * grid.len()
}

fn linear(case: &Case) -> usize {
    let (rows, width) = (case.rows, case.width);
    let (threads, size) = (rayon::current_num_threads(), rows.min(width) + 1);
    let pairs = if rows < width { 20 * rows * rows } else { 0 };
    let bound = if size <= 2_000 { 8 * (threads + 1) * size * size + 8_192 * size } else { 0 };
    8 * rows * width + pairs + bound + threads * (48 * rows + 320 * size) + (48 + 32 * 2) * width
}

#[test]
fn long_and_wide_tables_are_learned_within_the_stated_memory() {
    for case in [&LONG, &WIDE] {
        let (features, labels) = case.table(case.rows, case.flips, "learn");
        let (judged, truth) = case.table(100, 0.0, "judge");
        let shallow = |params: Params, trees| Params { trees, max_depth: 3, ..params };
        let forest = |params: Params, trees| Params { max_features: case.max_features, ..shallow(params, trees) };
        for params in [
            shallow(Params::decision_tree(1), 1),
            forest(Params::random_forest(2), 4),
            forest(Params::extra_trees(3), 8),
        ] {
            let what = format!("{} of the {} table", params.learner.short(), case.name);
            let (fitted, taken) =
                within(&what, fit(case, &params), || Forest::fit(&features, &labels, &params).expect("fits"));
            // The first of all: a peak that does not show a table sorted by every feature would show nothing.
            if let (Some(taken), Learner::DecisionTree, "long") = (taken, params.learner, case.name) {
                assert!(taken > 8 * case.rows * case.width, "{what} seems to take {taken} bytes only");
            }
            let shares = fitted.importances();
            let found: f64 = (0..case.width).filter(|&f| case.planted(f)).map(|f| shares[f]).sum();
            assert!(found > 0.5, "{what}: the planted features have {found} of the importance");
            let area = auc(&fitted.predict(&judged).expect("predicts"), &truth);
            assert!(area >= case.lowest, "{what}: AUC {area}");
            if params.learner == Learner::DecisionTree {
                assert!(case.planted(fitted.trees[0].nodes[0].feature as usize), "{what} splits by noise");
            }
        }
        let what = format!("the linear probe of the {} table", case.name);
        let lambdas = [case.lambda; 2];
        let (probe, _) =
            within(&what, linear(case), || LinearProbe::fit(&features, &labels, &lambdas).expect("converges"));
        let area = auc(&probe.predict(&judged).expect("predicts"), &truth);
        assert!(area >= case.lowest, "{what}: AUC {area}");

        let some: Vec<usize> = (0..case.looked_up).collect();
        let (judged, truth) = (judged.select(&some), truth.select(&some));
        let what = format!("neighbours in the {} table", case.name);
        let k = if case.rows > 1_000 { 50 } else { 5 };
        let near = Neighbours::new(features, labels, k, Distance::L1).expect("fits");
        let bound = rayon::current_num_threads() * 16 * case.rows;
        let (predicted, _) = within(&what, bound, || near.predict(&judged).expect("predicts"));
        let area = auc(&predicted, &truth);
        assert!(area >= case.lowest, "{what}: AUC {area}");
    }

    // Four pieces of a grid, each on half of the rows.
    let (rows, width) = (300_000, LONG.width);
    let (features, labels) = LONG.table(rows, LONG.flips, "grid");
    let half = |odd: usize| (0..rows).filter(|r| r % 4 / 2 == odd).collect::<Vec<usize>>();
    let folds = [Fold { train: half(0), test: half(1) }, Fold { train: half(1), test: half(0) }];
    let grid = Grid {
        trees: vec![1, 3],
        max_depth: vec![2, 3],
        min_samples_split: vec![2],
        min_samples_leaf: vec![1, 4],
        criterion: vec![Criterion::Gini],
        max_features: vec![LONG.max_features],
        ..Grid::paper(Learner::RandomForest)
    };
    let growths = grid.growths(0);
    let bound = rayon::current_num_threads() * piece(rows / 2, width, rows / 2, &grid, &growths[0]);
    let (ranked, _) = within("a grid", bound, || grid_search(&features, &labels, &folds, &grid, 0).expect("searches"));
    assert_eq!(ranked.len(), 8);
    assert!(ranked[0].mean >= 0.9, "{}", ranked[0].mean);
}
