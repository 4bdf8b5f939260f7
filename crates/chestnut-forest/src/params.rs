//! What to grow: learners, their settings, and the published final values.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// How impure a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// 1 - sum of squared class shares, averaged over the labels.
    Gini,
    /// Shannon entropy of the class shares, averaged over the labels.
    Entropy,
}

/// How many features compete at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxFeatures {
    /// Square root of the number of features, rounded down.
    Sqrt,
    /// Binary logarithm, rounded down.
    Log2,
    /// All of them.
    All,
    /// This many.
    Count(usize),
}

impl MaxFeatures {
    /// The number for a table of `width` features, at least 1.
    #[must_use]
    pub fn resolve(self, width: usize) -> usize {
        match self {
            Self::Sqrt => width.isqrt(),
            Self::Log2 => width.max(1).ilog2() as usize,
            Self::All => width,
            Self::Count(n) => n,
        }
        .max(1)
    }
}

/// The three tree learners of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learner {
    /// One tree, best split (DT).
    DecisionTree,
    /// Many trees, best split among random features (RF).
    RandomForest,
    /// Many trees, best of one random threshold per random feature (XRT; Geurts et al. 2006).
    ExtraTrees,
}

impl Learner {
    /// The paper's abbreviation.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::DecisionTree => "DT",
            Self::RandomForest => "RF",
            Self::ExtraTrees => "XRT",
        }
    }
}

/// How positives and negatives are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeight {
    /// All rows alike.
    #[default]
    None,
    /// n / (2 n_class) for each label, multiplied over the labels, as scikit-learn's `balanced`.
    Balanced,
}

/// Settings of a tree or forest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Which learner.
    pub learner: Learner,
    /// Trees; 1 for a decision tree.
    pub trees: usize,
    /// Deepest level, the root being 0.
    pub max_depth: usize,
    /// A node with fewer rows is a leaf.
    pub min_samples_split: usize,
    /// A split that leaves fewer rows on a side is not made.
    pub min_samples_leaf: usize,
    /// Features that compete at a node.
    pub max_features: MaxFeatures,
    /// Impurity.
    pub criterion: Criterion,
    /// Whether each tree sees a resample of the rows.
    pub bootstrap: bool,
    /// Weights of the classes.
    #[serde(default)]
    pub class_weight: ClassWeight,
    /// Seed of all draws.
    pub seed: u64,
}

/// A setting that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParamsError {
    /// Out of range.
    #[error("{name} = {value} is not possible; it must be {range}")]
    Range {
        /// Setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        range: String,
    },
}

/// Most trees of a forest.
pub const MAX_TREES: usize = 100_000;
/// Deepest tree.
pub const MAX_DEPTH: usize = 1_000;

impl Params {
    /// The paper's final random forest (Table 4): 100 trees, depth 10, leaf 4, split 10, gini; square root of the
    /// features and no bootstrap, as its code has it (protocol 6.1).
    #[must_use]
    pub const fn random_forest(seed: u64) -> Self {
        Self {
            learner: Learner::RandomForest,
            trees: 100,
            max_depth: 10,
            min_samples_split: 10,
            min_samples_leaf: 4,
            max_features: MaxFeatures::Sqrt,
            criterion: Criterion::Gini,
            bootstrap: false,
            class_weight: ClassWeight::None,
            seed,
        }
    }

    /// The paper's final extremely randomised trees (Table 4): 200 trees, depth 10, leaf 2, split 2, entropy.
    #[must_use]
    pub const fn extra_trees(seed: u64) -> Self {
        Self {
            learner: Learner::ExtraTrees,
            trees: 200,
            min_samples_split: 2,
            min_samples_leaf: 2,
            criterion: Criterion::Entropy,
            ..Self::random_forest(seed)
        }
    }

    /// The paper's final decision tree (Table 4): depth 10, leaf 1, split 2, gini, all features.
    #[must_use]
    pub const fn decision_tree(seed: u64) -> Self {
        Self {
            learner: Learner::DecisionTree,
            trees: 1,
            min_samples_split: 2,
            min_samples_leaf: 1,
            max_features: MaxFeatures::All,
            ..Self::random_forest(seed)
        }
    }

    /// Checks every setting against a table of `width` features.
    ///
    /// # Errors
    /// [`ParamsError`] naming the setting and its range.
    pub fn check(&self, width: usize) -> Result<(), ParamsError> {
        let within = |name, value, low: usize, high: usize| {
            let range = if high == usize::MAX { format!("at least {low}") } else { format!("{low} to {high}") };
            if (low..=high).contains(&value) { Ok(()) } else { Err(ParamsError::Range { name, value, range }) }
        };
        let most = if self.learner == Learner::DecisionTree { 1 } else { MAX_TREES };
        within("the number of trees", self.trees, 1, most)?;
        within("max_depth", self.max_depth, 1, MAX_DEPTH)?;
        within("min_samples_split", self.min_samples_split, 2, usize::MAX)?;
        within("min_samples_leaf", self.min_samples_leaf, 1, usize::MAX)?;
        within("max_features", self.max_features.resolve(width), 1, width)
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let criterion = if self.criterion == Criterion::Gini { "gini" } else { "entropy" };
        write!(
            f,
            "{} {} trees, depth {}, split {}, leaf {}, {criterion}",
            self.learner.short(),
            self.trees,
            self.max_depth,
            self.min_samples_split,
            self.min_samples_leaf
        )
    }
}
