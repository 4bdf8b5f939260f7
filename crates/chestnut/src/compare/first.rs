//! The first split, which the tables show and whose models `predict` uses: in memory until all splits are worked out.
//!
//! A comparison of many splits runs for hours. Until its end the study holds the comparison before it, whole; then that
//! one's results go before anything of the new one is written, so that no interruption leaves models beside tables that
//! are not theirs.

use super::approaches::Rows;
use super::beyond::Beyond;
use super::describe::predictions_csv;
use super::published;
use crate::cohort::{Cohort, Split};
use crate::embed::{EmbeddingTable, Network};
use crate::error::Result;
use crate::evaluate::{MethodScore, PartCount};
use crate::predict::store::{self, Kept};
use crate::report;
use crate::study::Study;
use crate::transfer::Predictions;

/// What the first split came to.
pub(super) struct First {
    pub(super) scores: Vec<MethodScore>,
    pub(super) labels: Vec<String>,
    pub(super) counts: Vec<PartCount>,
    pub(super) marks: Vec<String>,
    pub(super) more: Beyond,
    pub(super) models: Vec<Kept>,
    pub(super) split: Split,
    pub(super) rows: Rows,
    /// Predictions of the test part, and its truth, `[row][label]`.
    pub(super) test: Vec<Predictions>,
    pub(super) truth: Vec<Option<bool>>,
}

impl First {
    /// Removes the results of an earlier comparison, those as published among them, and writes the models, split.csv and
    /// predictions.csv of this one. Answers which approaches have models that are too large to be kept.
    ///
    /// # Errors
    /// Any I/O error, naming the file.
    pub(super) fn write(
        &mut self,
        study: &Study,
        cohort: &Cohort,
        networks: &[Network],
        tables: &[EmbeddingTable],
    ) -> Result<Vec<String>> {
        report::forget(&study.root)?;
        published::forget(study)?;
        let models = std::mem::take(&mut self.models);
        let development = self.rows.development();
        let large = store::write(study, cohort, networks, tables, &self.labels, &development, models)?;
        study.write("split.csv", self.split.to_csv().as_bytes())?;
        let methods: Vec<&Predictions> = self.test.iter().collect();
        let csv = predictions_csv(cohort, &self.rows.predict, &self.labels, &methods, &self.truth);
        study.write("predictions.csv", csv.as_bytes())?;
        Ok(large)
    }
}
