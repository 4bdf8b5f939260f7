//! The whole grid from a few growths.
//!
//! Depth and `min_samples_split` only stop a tree earlier, and fewer trees are a prefix of more, so one growth with
//! the deepest depth, the smallest split and the most trees contains every combination of the three. Only criterion,
//! `min_samples_leaf`, `max_features` and bootstrap must be grown anew: 6 growths for the paper's 882 settings.

use crate::forest::{ForestError, check};
use crate::params::{ClassWeight, Criterion, Learner, MaxFeatures, Params};
use crate::table::{Features, Labels};
use crate::tree::{Ground, Sorted};
use chestnut_stats::{mean, roc};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Trees that are grown in parallel before their votes are added up: bounds the memory to this many trees per piece.
const TOGETHER: usize = 16;
/// Most settings of a grid.
pub const MAX_SETTINGS: usize = 1_000_000;
/// What a grid's file holds, for messages.
const FORM: &str = "a grid has a learner (\"decision-tree\", \"random-forest\" or \"extra-trees\"), lists of numbers \
                    (trees, max_depth, min_samples_split, min_samples_leaf), the lists criterion (of \"gini\", \
                    \"entropy\"), max_features (of \"sqrt\", \"log2\", \"all\", { count = 12 }) and bootstrap (of \
                    true, false), and may have class_weight (\"none\" or \"balanced\")";

/// Values to try for each setting; every combination is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Which learner.
    pub learner: Learner,
    /// Numbers of trees.
    pub trees: Vec<usize>,
    /// Depths.
    pub max_depth: Vec<usize>,
    /// Rows that a node needs to be split.
    pub min_samples_split: Vec<usize>,
    /// Rows that each side of a split needs.
    pub min_samples_leaf: Vec<usize>,
    /// Impurities.
    pub criterion: Vec<Criterion>,
    /// Features that compete at a node.
    pub max_features: Vec<MaxFeatures>,
    /// With or without resampling.
    pub bootstrap: Vec<bool>,
    /// Weights of the classes.
    #[serde(default)]
    pub class_weight: ClassWeight,
}

impl Grid {
    /// A grid of the paper's size (Table 4: 126 settings for DT, 882 for RF and XRT) around its final values. The
    /// table's single values are not restated in the sources at hand; only its extremes are (depth 20, split 2, 300 trees).
    #[must_use]
    pub fn paper(learner: Learner) -> Self {
        let forest = learner != Learner::DecisionTree;
        Self {
            learner,
            trees: if forest { vec![10, 20, 50, 100, 150, 200, 300] } else { vec![1] },
            max_depth: vec![2, 3, 4, 5, 10, 15, 20],
            min_samples_split: vec![2, 5, 10],
            min_samples_leaf: vec![1, 2, 4],
            criterion: vec![Criterion::Gini, Criterion::Entropy],
            max_features: vec![if forest { MaxFeatures::Sqrt } else { MaxFeatures::All }],
            bootstrap: vec![false],
            class_weight: ClassWeight::None,
        }
    }

    /// Reads a grid of one's own from TOML, in the form of the fields of this struct.
    ///
    /// # Errors
    /// [`ForestError::Grid`] that names the line at fault and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, ForestError> {
        toml::from_str(text).map_err(|e| ForestError::Grid(format!("{}; {FORM}", e.to_string().trim_end())))
    }

    /// The settings that must be grown; each contains all depths, splits and numbers of trees.
    #[must_use]
    pub fn growths(&self, seed: u64) -> Vec<Params> {
        let most = |v: &[usize]| v.iter().copied().max().unwrap_or(1);
        let mut growths = Vec::new();
        for &criterion in &self.criterion {
            for &min_samples_leaf in &self.min_samples_leaf {
                for &max_features in &self.max_features {
                    for &bootstrap in &self.bootstrap {
                        growths.push(Params {
                            learner: self.learner,
                            trees: most(&self.trees),
                            max_depth: most(&self.max_depth),
                            min_samples_split: self.min_samples_split.iter().copied().min().unwrap_or(2),
                            min_samples_leaf,
                            max_features,
                            criterion,
                            bootstrap,
                            class_weight: self.class_weight,
                            seed,
                        });
                    }
                }
            }
        }
        growths
    }

    /// The settings inside one growth, in a fixed order: trees, then depth, then split.
    #[must_use]
    pub fn nested(&self, growth: &Params) -> Vec<Params> {
        let mut all = Vec::new();
        for &trees in &sorted(&self.trees) {
            for &max_depth in &sorted(&self.max_depth) {
                for &min_samples_split in &sorted(&self.min_samples_split) {
                    all.push(Params { trees, max_depth, min_samples_split, ..growth.clone() });
                }
            }
        }
        all
    }

    /// Number of settings.
    #[must_use]
    pub fn len(&self) -> usize {
        [
            self.trees.len(),
            self.max_depth.len(),
            self.min_samples_split.len(),
            self.min_samples_leaf.len(),
            self.criterion.len(),
            self.max_features.len(),
            self.bootstrap.len(),
        ]
        .into_iter()
        .fold(1, usize::saturating_mul)
    }

    /// True if some setting has no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the grid against the tables that it will be searched on.
    ///
    /// # Errors
    /// [`ForestError`] for an empty or too large grid, an impossible setting, or tables that do not match.
    pub fn check(&self, features: &Features, labels: &Labels) -> Result<(), ForestError> {
        if self.is_empty() || self.len() > MAX_SETTINGS {
            let made = self.len();
            let what = format!("its lists make {made} settings; between 1 and {MAX_SETTINGS} are possible");
            return Err(ForestError::Grid(what));
        }
        for growth in self.growths(0) {
            self.nested(&growth).iter().try_for_each(|p| p.check(features.width()))?;
            check(features, labels, &growth)?;
        }
        Ok(())
    }
}

fn sorted(values: &[usize]) -> Vec<usize> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

/// Rows to learn from and rows to be judged on.
#[derive(Clone, Debug)]
pub struct Fold {
    /// Training rows.
    pub train: Vec<usize>,
    /// Judged rows.
    pub test: Vec<usize>,
}

/// AUC per nested setting and label on one fold; `None` where the learned or the judged rows hold one class only.
pub type FoldScores = Vec<Vec<Option<f64>>>;

/// Votes for the judged rows of a fold, added up tree by tree: `[row][depth and split][output]`.
struct Votes {
    sums: Vec<f64>,
    /// Combinations of depth and split.
    stops: usize,
    outputs: usize,
}

impl Votes {
    /// Probabilities `[row][output]` at one depth and split, after the votes of so many trees.
    fn probabilities(&self, stop: usize, trees: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.sums.len() / self.stops);
        for row in self.sums.chunks_exact(self.stops * self.outputs) {
            out.extend(row[stop * self.outputs..][..self.outputs].iter().map(|sum| sum / trees as f64));
        }
        out
    }
}

/// Grows the trees of `growth` and lets `look` see their votes at each number of trees of the grid, fewest first.
fn vote(
    features: &Features,
    labels: &Labels,
    fold: &Fold,
    grid: &Grid,
    growth: &Params,
    mut look: impl FnMut(&Votes, usize),
) -> Result<(), ForestError> {
    let train = features.select(&fold.train);
    let train_labels = labels.select(&fold.train);
    check(&train, &train_labels, growth)?;
    let sorted_table = Sorted::new(&train, growth.learner);
    drop(train);
    let ground = Ground::new(&train_labels, growth);
    let outputs = labels.outputs();
    let (counts, depths, splits) = (sorted(&grid.trees), sorted(&grid.max_depth), sorted(&grid.min_samples_split));
    let stops: Vec<(usize, usize)> = depths.iter().flat_map(|&d| splits.iter().map(move |&s| (d, s))).collect();
    let sums = vec![0.0; fold.test.len() * stops.len() * outputs];
    let mut votes = Votes { sums, stops: stops.len(), outputs };
    let mut grown = 0;
    for &count in &counts {
        while grown < count {
            let next = (grown + TOGETHER).min(count);
            let trees: Vec<_> = (grown..next).into_par_iter().map(|i| ground.grow(i, &sorted_table)).collect();
            grown = next;
            votes.sums.par_chunks_mut(stops.len() * outputs).zip(&fold.test).for_each(|(sums, &row)| {
                let row = features.row(row);
                for tree in &trees {
                    for (sums, &(depth, split)) in sums.chunks_exact_mut(outputs).zip(&stops) {
                        let shares = &tree.shares[tree.stop(row, depth, split) * outputs..][..outputs];
                        sums.iter_mut().zip(shares).for_each(|(o, s)| *o += s);
                    }
                }
            });
        }
        look(&votes, count);
    }
    Ok(())
}

/// Probabilities `[setting][row][output]` of the judged rows for every setting nested in `growth`.
///
/// Each equals, bit for bit, the forest fitted with that setting alone.
///
/// # Errors
/// As [`crate::Forest::fit`].
pub fn nested_predictions(
    features: &Features,
    labels: &Labels,
    fold: &Fold,
    grid: &Grid,
    growth: &Params,
) -> Result<Vec<Vec<f64>>, ForestError> {
    let mut out = Vec::new();
    vote(features, labels, fold, grid, growth, |votes, trees| {
        out.extend((0..votes.stops).map(|stop| votes.probabilities(stop, trees)));
    })?;
    Ok(out)
}

/// Scores of every setting nested in `growth` on one fold: one resumable piece of a grid search.
///
/// A label without any known value among the fold's training rows is left out of its trees, whose votes for the other
/// labels are then those of a forest fitted without it. The memory of such a piece is stated at the head of the crate. Run
/// no more of them at once than there are threads.
///
/// # Errors
/// As [`crate::Forest::fit`], but for labels without a known value.
pub fn score_growth(
    features: &Features,
    labels: &Labels,
    fold: &Fold,
    grid: &Grid,
    growth: &Params,
) -> Result<FoldScores, ForestError> {
    let outputs = labels.outputs();
    let has = |k: usize, class: bool| fold.train.iter().any(|&r| labels.get(r, k) == Some(class));
    let seen: Vec<[bool; 2]> = (0..outputs).map(|k| [has(k, false), has(k, true)]).collect();
    let known: Vec<usize> = (0..outputs).filter(|&k| seen[k] != [false, false]).collect();
    if known.is_empty() {
        return Ok(vec![vec![None; outputs]; grid.nested(growth).len()]);
    }
    let learned = labels.columns(&known);
    let mut scores = FoldScores::new();
    vote(features, &learned, fold, grid, growth, |votes, trees| {
        let score = |stop| {
            let mut aucs = vec![None; outputs];
            for (&k, auc) in known.iter().zip(label_aucs(&votes.probabilities(stop, trees), &learned, &fold.test)) {
                // Of one class alone a forest has nothing to say: its AUC would be 0.5, and no estimate.
                aucs[k] = auc.filter(|_| seen[k] == [true, true]);
            }
            aucs
        };
        scores.par_extend((0..votes.stops).into_par_iter().map(score));
    })?;
    Ok(scores)
}

/// AUC of each label over `rows`, whose probabilities are `[row][output]`.
pub(crate) fn label_aucs(probabilities: &[f64], labels: &Labels, rows: &[usize]) -> Vec<Option<f64>> {
    let outputs = labels.outputs();
    (0..outputs)
        .map(|k| {
            let known = || rows.iter().enumerate().filter_map(|(i, &r)| labels.get(r, k).map(|l| (i, l)));
            let scores: Vec<f64> = known().map(|(i, _)| probabilities[i * outputs + k]).collect();
            let truth: Vec<bool> = known().map(|(_, l)| l).collect();
            roc::auc(&scores, &truth).ok()
        })
        .collect()
}

/// One setting's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridRow {
    /// The setting.
    pub params: Params,
    /// Mean over the folds of the macro AUC (mean over the labels estimable in the fold).
    pub mean: f64,
    /// Standard deviation of the macro AUC over the folds.
    pub sd: f64,
    /// Mean AUC of each label over the folds in which it was estimable.
    pub labels: Vec<Option<f64>>,
    /// Folds in which a label had one class only, to learn from or to be judged by, summed over labels; never scored as
    /// 0.5.
    pub not_estimable: usize,
}

/// Puts the scores of all growths and folds together: `scores[growth][fold]`, best setting first.
///
/// Equal scores go to the simpler model: fewer trees, then shallower, then larger leaves, then larger splits, then gini.
#[must_use]
pub fn rank(grid: &Grid, seed: u64, scores: &[Vec<FoldScores>]) -> Vec<GridRow> {
    let mut rows = Vec::with_capacity(grid.len());
    for (growth, folds) in grid.growths(seed).iter().zip(scores) {
        for (i, params) in grid.nested(growth).into_iter().enumerate() {
            let outputs = folds.first().and_then(|f| f.get(i)).map_or(0, Vec::len);
            let macros: Vec<f64> = folds.iter().filter_map(|fold| mean(fold[i].iter().flatten().copied())).collect();
            let labels = (0..outputs).map(|k| mean(folds.iter().filter_map(|f| f[i][k]))).collect();
            let not_estimable = folds.iter().map(|f| f[i].iter().filter(|a| a.is_none()).count()).sum();
            let Some(average) = mean(macros.iter().copied()) else { continue };
            let spread = macros.iter().map(|m| (m - average).powi(2)).sum::<f64>();
            let sd = if macros.len() > 1 { (spread / (macros.len() - 1) as f64).sqrt() } else { 0.0 };
            rows.push(GridRow { params, mean: average, sd, labels, not_estimable });
        }
    }
    rows.sort_by(|a, b| {
        let simple = |p: &Params| {
            (
                p.trees,
                p.max_depth,
                usize::MAX - p.min_samples_leaf,
                usize::MAX - p.min_samples_split,
                p.criterion,
                p.max_features,
                p.bootstrap,
            )
        };
        b.mean.total_cmp(&a.mean).then_with(|| simple(&a.params).cmp(&simple(&b.params)))
    });
    rows
}

/// Evaluates a whole grid over `folds`, best setting first; empty if no fold could score any label.
///
/// # Errors
/// As [`Grid::check`] and [`score_growth`].
pub fn grid_search(
    features: &Features,
    labels: &Labels,
    folds: &[Fold],
    grid: &Grid,
    seed: u64,
) -> Result<Vec<GridRow>, ForestError> {
    grid.check(features, labels)?;
    let growths = grid.growths(seed);
    let pieces: Vec<(&Params, &Fold)> = growths.iter().flat_map(|g| folds.iter().map(move |f| (g, f))).collect();
    let mut scores = Vec::with_capacity(pieces.len());
    // In portions of one piece per thread: a thread that waits for the trees of a piece takes up whatever else there
    // is, and with all pieces at hand it would hold many sorted tables.
    for portion in pieces.chunks(rayon::current_num_threads()) {
        let piece = |&(growth, fold): &(&Params, &Fold)| score_growth(features, labels, fold, grid, growth);
        scores.extend(portion.par_iter().map(piece).collect::<Result<Vec<FoldScores>, ForestError>>()?);
    }
    let mut scores = scores.into_iter();
    let by_growth: Vec<Vec<FoldScores>> = growths.iter().map(|_| scores.by_ref().take(folds.len()).collect()).collect();
    Ok(rank(grid, seed, &by_growth))
}
