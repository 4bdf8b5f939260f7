//! Fine-tuning the classification layer (paper section 2.3, Table 7): a new Dense layer on frozen features.
//!
//! With the network frozen its embeddings never change, so the same optimisation runs on cached embeddings.

use super::Predictions;
use crate::embed::EmbeddingTable;
use crate::error::Result;
use chestnut_forest::Labels;
use chestnut_train::{Rows, Schedule, TrainedHead};

/// Name in tables.
pub const APPROACH: &str = "Fine-tuned head";

/// Trains a head for one network on `train`, stops by `validation`, and predicts `predict`; rows of the cohort.
///
/// # Errors
/// If the loss is not finite.
pub fn fit_and_predict(
    source: &str,
    table: &EmbeddingTable,
    labels: &Labels,
    [train, validation, predict]: [&[usize]; 3],
    schedule: &Schedule,
    seed: u64,
) -> Result<Predictions> {
    let head = fit(table, labels, [train, validation], schedule, seed)?;
    let probabilities = head.predict(&material(table, labels, predict).0);
    Ok(Predictions { approach: APPROACH.to_owned(), source: source.to_owned(), probabilities })
}

/// The head alone; the arguments are those of [`fit_and_predict`].
///
/// # Errors
/// As [`fit_and_predict`].
pub fn fit(
    table: &EmbeddingTable,
    labels: &Labels,
    [train, validation]: [&[usize]; 2],
    schedule: &Schedule,
    seed: u64,
) -> Result<TrainedHead> {
    let (train_x, train_y) = material(table, labels, train);
    let (validation_x, validation_y) = material(table, labels, validation);
    let learn = Rows { embeddings: &train_x, targets: &train_y };
    let judge = Rows { embeddings: &validation_x, targets: &validation_y };
    Ok(TrainedHead::train(learn, judge, table.width, labels.outputs(), schedule, seed)?)
}

/// Embeddings `[row][feature]` and targets `[row][label]` of some rows of the cohort.
fn material(table: &EmbeddingTable, labels: &Labels, rows: &[usize]) -> (Vec<f32>, Vec<Option<f32>>) {
    let embedding = |r: usize| &table.embeddings[r * table.width..(r + 1) * table.width];
    let targets = |r: usize| (0..labels.outputs()).map(move |k| labels.get(r, k).map(|p| if p { 1.0 } else { 0.0 }));
    (rows.iter().flat_map(|&r| embedding(r)).copied().collect(), rows.iter().flat_map(|&r| targets(r)).collect())
}
