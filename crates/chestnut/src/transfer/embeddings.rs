//! Embeddings and a learner on top: the paper's winner (section 2.3, Table 6) and what the field uses beside it.
//!
//! One model per network is fitted to the embeddings of the training images; its probabilities for the test images are
//! then averaged over the networks (`ensemble`). Whatever a learner has to choose, it chooses on the training part.

use super::Predictions;
use crate::embed::EmbeddingTable;
use crate::error::Result;
use chestnut_forest::{
    Distance, Features, Fold, Forest, Labels, LinearProbe, Model, Neighbours, Params, default_lambdas,
    regularisation_path,
};
use std::fmt;

/// Neighbours that are asked; the paper's authors ran 10 with the L1 distance and did not report it (protocol 6.1).
const NEIGHBOURS: usize = 10;

/// What stands on the embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learner {
    /// Decision tree, random forest or extra trees, one model for all labels.
    Trees(Params),
    /// L2 logistic regression per label, with the regularisation that is best over folds of the training patients.
    Linear,
    /// Share of positives among the nearest training images.
    Neighbours,
}

impl Learner {
    /// Name in tables.
    #[must_use]
    pub fn short(&self) -> &'static str {
        match self {
            Self::Trees(params) => params.learner.short(),
            Self::Linear => "LR",
            Self::Neighbours => "kNN",
        }
    }
}

impl fmt::Display for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trees(params) => params.fmt(f),
            Self::Linear => {
                write!(f, "LR: L2 logistic regression, regularisation by cross-validation on the training part")
            }
            Self::Neighbours => write!(f, "kNN: {NEIGHBOURS} nearest neighbours, L1 distance"),
        }
    }
}

/// Fits `learner` on the training rows of `table` and predicts the test rows.
///
/// `labels` covers the whole cohort, in the order of `table`; `folds` are rows of the training part, counted within it.
///
/// # Errors
/// If a label has no known value in the training part, or an embedding is not finite.
pub fn fit_and_predict(
    source: &str,
    table: &EmbeddingTable,
    labels: &Labels,
    (train, test): (&[usize], &[usize]),
    folds: &[Fold],
    learner: &Learner,
) -> Result<Predictions> {
    let features = Features::new(table.embeddings.clone(), table.width)?;
    let probabilities = fit(&features, labels, train, folds, learner)?.predict(&features.select(test))?;
    Ok(Predictions { approach: format!("Embeddings + {}", learner.short()), source: source.to_owned(), probabilities })
}

/// A learner that has learned.
#[derive(Clone, Debug)]
pub enum Fitted {
    /// Trees.
    Forest(Forest),
    /// One regression per label.
    Linear(LinearProbe),
    /// The training images themselves.
    Neighbours(Neighbours),
}

impl Fitted {
    /// Probability of each label, `[row][label]`, 0 to 1.
    ///
    /// # Errors
    /// If the features are not those of the network that was learned from.
    pub fn predict(&self, features: &Features) -> Result<Vec<f64>> {
        Ok(match self {
            Self::Forest(forest) => forest.predict(features)?,
            Self::Linear(probe) => probe.predict(features)?,
            Self::Neighbours(neighbours) => neighbours.predict(features)?,
        })
    }

    /// What a model file keeps; `None` for nearest neighbours, which are the training images themselves.
    #[must_use]
    pub fn into_model(self) -> Option<Model> {
        match self {
            Self::Forest(forest) => Some(Model::Forest(forest)),
            Self::Linear(probe) => Some(Model::LinearProbe(probe)),
            Self::Neighbours(_) => None,
        }
    }
}

/// Fits `learner` on the rows `train` of `features`; the other arguments are those of [`fit_and_predict`].
///
/// # Errors
/// As [`fit_and_predict`].
pub fn fit(features: &Features, labels: &Labels, train: &[usize], folds: &[Fold], learner: &Learner) -> Result<Fitted> {
    let (features, labels) = (features.select(train), labels.select(train));
    Ok(match learner {
        Learner::Trees(params) => Fitted::Forest(Forest::fit(&features, &labels, params)?),
        Learner::Linear => Fitted::Linear(linear(&features, &labels, folds)?),
        Learner::Neighbours => {
            let k = NEIGHBOURS.min(train.len());
            Fitted::Neighbours(Neighbours::new(features, labels, k, Distance::L1)?)
        }
    })
}

/// One probe per label, side by side; a label with one class in the training part gets 0.5, which nobody scores.
fn linear(train: &Features, labels: &Labels, folds: &[Fold]) -> Result<LinearProbe> {
    let (width, outputs) = (train.width(), labels.outputs());
    let lambda = chosen_lambda(train, labels, folds)?;
    let mut all = LinearProbe {
        width,
        outputs,
        lambdas: vec![lambda; outputs],
        weights: vec![0.0; width * outputs],
        intercepts: vec![0.0; outputs],
    };
    for k in 0..outputs {
        let has = |class| (0..labels.rows()).any(|r| labels.get(r, k) == Some(class));
        if has(true) && has(false) {
            let single = LinearProbe::fit(train, &labels.single(k), &[lambda])?;
            all.weights[k * width..][..width].copy_from_slice(&single.weights);
            all.intercepts[k] = single.intercepts[0];
        }
    }
    Ok(all)
}

/// The regularisation that is best over the folds; the middle of the path (`default_lambdas`) where there are so few
/// patients that no fold holds both classes of any label.
fn chosen_lambda(train: &Features, labels: &Labels, folds: &[Fold]) -> Result<f64> {
    match regularisation_path(train, labels, folds, &default_lambdas()) {
        Ok(path) => Ok(path.common),
        Err(chestnut_forest::LinearError::NoFold) => Ok(100.0),
        Err(e) => Err(e.into()),
    }
}
