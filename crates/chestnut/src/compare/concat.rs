//! All networks' embeddings side by side as one input (`--concat`): one model instead of an average of models.
//!
//! Not in the paper, which averages; widely used elsewhere. Trees and the linear probe do not mind that networks scale
//! their features differently; nearest neighbours do.

use super::approaches::Material;
use crate::embed::EmbeddingTable;
use crate::error::Result;
use crate::transfer::embeddings::{self, Learner};
use crate::transfer::{Predictions, with_known};

/// Its name where networks and averages have theirs.
pub(crate) const CONCATENATED: &str = "Concatenated";

/// Embeddings of all tables side by side; the tables hold the same images in the same order.
pub(crate) fn concatenated(tables: &[EmbeddingTable]) -> EmbeddingTable {
    let ids = tables.first().map_or_else(Vec::new, |t| t.ids.clone());
    let width = tables.iter().map(|t| t.width).sum();
    let mut embeddings = Vec::with_capacity(ids.len() * width);
    for row in 0..ids.len() {
        tables.iter().for_each(|t| embeddings.extend_from_slice(&t.embeddings[row * t.width..][..t.width]));
    }
    EmbeddingTable { ids, width, embeddings, ..EmbeddingTable::default() }
}

impl Material<'_> {
    /// One learner on all networks' embeddings.
    pub(super) fn concatenated(
        &self,
        learner: &Learner,
        development: &[usize],
        predict: &[usize],
    ) -> Result<Predictions> {
        let learner = self.options.learner(CONCATENATED, learner)?;
        let folds = self.choice_folds(&learner, development)?;
        let table = concatenated(self.tables);
        let probabilities = with_known(self.labels, development, predict.len(), |labels| {
            let rows = (development, predict);
            Ok(embeddings::fit_and_predict(CONCATENATED, &table, labels, rows, &folds, &learner)?.probabilities)
        })?;
        let (approach, source) = (format!("Embeddings + {}", learner.short()), CONCATENATED.to_owned());
        Ok(Predictions { approach, source, probabilities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_side_by_side() {
        let table = |width: usize, first: f32| EmbeddingTable {
            ids: vec!["a".to_owned(), "b".to_owned()],
            width,
            embeddings: (0..2 * width).map(|i| first + i as f32).collect(),
            ..EmbeddingTable::default()
        };
        let both = concatenated(&[table(2, 0.0), table(1, 10.0)]);
        assert_eq!((both.width, both.ids.len()), (3, 2));
        assert_eq!(both.embeddings, [0.0, 1.0, 10.0, 2.0, 3.0, 11.0]);
    }
}
