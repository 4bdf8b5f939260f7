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
    let probabilities = head.predict(&embeddings_of(table, predict));
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
    let targets = |rows: &[usize]| -> Vec<Option<f32>> {
        let of = |r: usize| (0..labels.outputs()).map(move |k| labels.get(r, k).map(|p| if p { 1.0 } else { 0.0 }));
        rows.iter().flat_map(|&r| of(r)).collect()
    };
    let (train_x, train_y) = (embeddings_of(table, train), targets(train));
    let (validation_x, validation_y) = (embeddings_of(table, validation), targets(validation));
    let learn = Rows { embeddings: &train_x, targets: &train_y };
    let judge = Rows { embeddings: &validation_x, targets: &validation_y };
    Ok(TrainedHead::train(learn, judge, table.width, labels.outputs(), schedule, seed)?)
}

/// `[row][feature]` of the rows asked for.
fn embeddings_of(table: &EmbeddingTable, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&r| &table.embeddings[r * table.width..(r + 1) * table.width]).copied().collect()
}
