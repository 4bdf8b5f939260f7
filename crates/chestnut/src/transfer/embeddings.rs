//! Embeddings and a learner on top: the paper's winner (section 2.3, Table 6) and what the field uses beside it.
//!
//! One model per network is fitted to the embeddings of the training images; its probabilities for the test images are
//! then averaged over the networks (`ensemble`). Whatever a learner has to choose, it chooses on the training part.

use super::Predictions;
use crate::embed::EmbeddingTable;
use crate::error::Result;
use chestnut_forest::{
    Distance, Features, Fold, Forest, Labels, LinearProbe, Neighbours, Params, default_lambdas, regularisation_path,
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
    let (train_features, test_features) = (features.select(train), features.select(test));
    let train_labels = labels.select(train);
    let probabilities = match learner {
        Learner::Trees(params) => Forest::fit(&train_features, &train_labels, params)?.predict(&test_features)?,
        Learner::Linear => linear(&train_features, &train_labels, &test_features, folds)?,
        Learner::Neighbours => {
            let k = NEIGHBOURS.min(train.len());
            Neighbours::new(train_features, train_labels, k, Distance::L1)?.predict(&test_features)?
        }
    };
    Ok(Predictions { approach: format!("Embeddings + {}", learner.short()), source: source.to_owned(), probabilities })
}

/// One probe per label; a label with one class in the training part gets 0.5, which nobody scores.
fn linear(train: &Features, labels: &Labels, test: &Features, folds: &[Fold]) -> Result<Vec<f64>> {
    let outputs = labels.outputs();
    let lambda = chosen_lambda(train, labels, folds)?;
    let mut probabilities = vec![0.5; test.rows() * outputs];
    for k in 0..outputs {
        let has = |class| (0..labels.rows()).any(|r| labels.get(r, k) == Some(class));
        if has(true) && has(false) {
            let single = LinearProbe::fit(train, &labels.single(k), &[lambda])?.predict(test)?;
            single.into_iter().enumerate().for_each(|(row, p)| probabilities[row * outputs + k] = p);
        }
    }
    Ok(probabilities)
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
