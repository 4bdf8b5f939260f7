//! Embeddings and trees: the paper's winner (section 2.3, Table 6).
//!
//! One multi-output forest per network is fitted to the embeddings of the training images; its probabilities for the
//! test images are then averaged over the networks (`ensemble`).

use super::Predictions;
use crate::embed::EmbeddingTable;
use crate::error::Result;
use chestnut_forest::{Features, Forest, Labels, Params};

/// Fits `params` on the training rows of `table` and predicts the test rows.
///
/// `labels` covers the whole cohort, in the order of `table`.
///
/// # Errors
/// If a label has no known value in the training part, or an embedding is not finite.
pub fn fit_and_predict(
    source: &str,
    table: &EmbeddingTable,
    labels: &Labels,
    train: &[usize],
    test: &[usize],
    params: &Params,
) -> Result<(Forest, Predictions)> {
    let features = Features::new(table.embeddings.clone(), table.width)?;
    let forest = Forest::fit(&features.select(train), &labels.select(train), params)?;
    let probabilities = forest.predict(&features.select(test))?;
    let approach = format!("Embeddings + {}", params.learner.short());
    Ok((forest, Predictions { approach, source: source.to_owned(), probabilities }))
}
