//! The models of the first split, kept for `predict`.
//!
//! They are fitted once more after scoring: the same rows, settings and seeds give the same models, which is checked on
//! the test part; an approach whose models predict anything else is not kept, and that is said. Tables and predictions do
//! not depend on any of it. Of the baseline its map is kept, since nothing is fitted, and of stacking the forest on raw
//! outputs. Nearest neighbours are not kept, who would be a copy of the training embeddings, nor the learner on
//! concatenated networks, nor the forest on heads, nor networks that `finetune` taught.

use super::Fitted;
use super::approaches::{Approach, Material, Rows};
use crate::cohort::Cohort;
use crate::embed::{EmbeddingTable, Network, unlike_plain};
use crate::error::Result;
use crate::evaluate::calibrate::LabelCalibration;
use crate::predict::Reads;
use crate::predict::store::{self, Kept, probabilities};
use crate::study::Study;
use crate::transfer::embeddings::{self, Learner};
use crate::transfer::{Predictions, fine_tune, source, stacking};
use chestnut_forest::{Features, Forest, LinearProbe, Model};
use chestnut_train::TrainedHead;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Largest difference between a model's predictions and those that were scored; a head's sums are rounded in another
/// order.
const SAME: f64 = 1e-9;

/// Keeps the models of every approach that has some; `calibrations` by the name of the approach. Answers what people
/// should know.
#[allow(clippy::too_many_arguments, reason = "everything that the models belong to")]
pub(super) fn keep<'r>(
    study: &Study,
    cohort: &Cohort,
    material: &Material<'_>,
    names: &[String],
    rows: &Rows,
    results: &[Fitted],
    calibrations: &BTreeMap<String, Vec<LabelCalibration>>,
    reasons: &impl Fn(&Approach) -> &'r Vec<Option<String>>,
) -> Result<Vec<String>> {
    if !material.options.models {
        store::remove(study)?;
        return Ok(Vec::new());
    }
    if let Some((network, option)) = unlike_plain(study, material.networks) {
        store::remove(study)?;
        let name = &network.name;
        return Ok(vec![format!("no models are kept for predict: embeddings of {name} were made with --{option}")]);
    }
    let (mut kept, mut said) = (Vec::new(), Vec::new());
    for fitted in results {
        let Some((reads, models)) = material.models(&fitted.approach, rows)? else { continue };
        let name = fitted.approach.name();
        let untrained = reasons(&fitted.approach);
        if !material.is_same(&reads, &models, fitted, untrained, rows)? {
            said.push(format!(
                "the models of {name}, fitted once more, predict other probabilities than those in the tables and are not kept; please report this"
            ));
            continue;
        }
        let missing = || {
            let reason = "compare was run with --quick, which makes no out-of-fold predictions".to_owned();
            vec![LabelCalibration::missing(reason); names.len()]
        };
        kept.push(Kept {
            settings: material.options.described(&fitted.approach, material.networks).join("; "),
            reads,
            models,
            untrained: untrained.clone(),
            calibrations: calibrations.get(&name).cloned().unwrap_or_else(missing),
            name,
        });
    }
    kept.sort_by_key(rank);
    let large = store::write(study, cohort, material.networks, material.tables, names, &rows.development(), kept)?;
    said.extend(large);
    Ok(said)
}

/// The paper's winner is what predict uses unless another is asked for, and the baseline, which has learned nothing here,
/// only where there is no other.
fn rank(kept: &Kept) -> usize {
    match kept.reads {
        Reads::Embeddings if kept.name.starts_with("Embeddings") => 0,
        Reads::Embeddings => 1,
        Reads::Outputs { .. } => 2,
        Reads::MappedOutputs { .. } => 3,
    }
}

impl Material<'_> {
    /// The models of an approach and what they read; `None` for one that keeps none.
    fn models(&self, approach: &Approach, rows: &Rows) -> Result<Option<(Reads, Vec<Model>)>> {
        let development = rows.development();
        let outputs = self.tables.first().map_or(0, |t| t.outputs);
        match approach {
            Approach::Baseline => {
                let kept = |map: &source::SourceMap| {
                    let (map, map_first) = (map.clone(), self.options.map_first);
                    (Reads::MappedOutputs { outputs, map, map_first }, Vec::new())
                };
                Ok(self.map.map(kept))
            }
            Approach::Stacking if self.map.is_none() => Ok(None),
            Approach::Stacking => {
                let labels = self.labels.select(&development);
                let params = stacking::authors_forest(self.settings.seed);
                let forest = Forest::fit(&self.own_outputs(&development)?, &labels, &params)?;
                Ok(Some((Reads::Outputs { outputs }, vec![Model::Forest(forest)])))
            }
            Approach::Embeddings(Learner::Neighbours) | Approach::DeepTuned(_) => Ok(None),
            Approach::Embeddings(learner) => {
                let folds = self.choice_folds(learner, &development)?;
                let fit = |(network, table): (&Network, &EmbeddingTable)| -> Result<Option<Model>> {
                    let learner = self.options.learner(&network.name, learner, self.training)?;
                    let features = Features::new(table.embeddings.clone(), table.width)?;
                    Ok(embeddings::fit(&features, self.labels, &development, &folds, &learner)?.into_model())
                };
                let models: Option<Vec<Model>> =
                    self.networks.iter().zip(self.tables).map(fit).collect::<Result<_>>()?;
                Ok(models.map(|models| (Reads::Embeddings, models)))
            }
            Approach::FineTuned(schedule) => {
                let parts = [&rows.train[..], &rows.validation[..]];
                let fit = |table: &EmbeddingTable| -> Result<Model> {
                    let head = fine_tune::fit(table, self.labels, parts, schedule, self.settings.seed)?;
                    Ok(head_model(&head))
                };
                let models = self.tables.par_iter().map(fit).collect::<Result<Vec<Model>>>()?;
                Ok(Some((Reads::Embeddings, models)))
            }
        }
    }

    /// All networks' own outputs of some rows side by side, as stacking reads them.
    fn own_outputs(&self, rows: &[usize]) -> Result<Features> {
        let outputs = self.tables.first().map_or(0, |t| t.outputs);
        let members: Vec<Vec<f64>> = self.tables.iter().map(|t| source::outputs_of(t, rows)).collect();
        Ok(Features::new(stacking::side_by_side(&members, outputs), members.len() * outputs)?)
    }

    /// Whether the models predict what was scored, but for labels that nobody scores.
    fn is_same(
        &self,
        reads: &Reads,
        models: &[Model],
        fitted: &Fitted,
        untrained: &[Option<String>],
        rows: &Rows,
    ) -> Result<bool> {
        let embedded = |(model, table): (&Model, &EmbeddingTable)| -> Result<Vec<f64>> {
            let features = Features::new(table.embeddings.clone(), table.width)?.select(&rows.predict);
            probabilities(model, &features)
        };
        // In the order of the rows of the tables, so that each stands for the row that it was fitted again for.
        let again: Vec<Vec<f64>> = match reads {
            Reads::Embeddings => models.iter().zip(self.tables).map(embedded).collect::<Result<_>>()?,
            Reads::Outputs { .. } => {
                let features = self.own_outputs(&rows.predict)?;
                models.iter().map(|model| probabilities(model, &features)).collect::<Result<_>>()?
            }
            // Nothing is fitted that could be another one.
            Reads::MappedOutputs { .. } => return Ok(true),
        };
        let outputs = self.labels.outputs();
        let is_scored = |i: usize| untrained.get(i % outputs).is_none_or(Option::is_none);
        let same = |(again, scored): (&Vec<f64>, &Predictions)| {
            let mut pairs = again.iter().zip(&scored.probabilities).enumerate();
            again.len() == scored.probabilities.len() && pairs.all(|(i, (a, b))| !is_scored(i) || (a - b).abs() <= SAME)
        };
        Ok(again.iter().zip(&fitted.test).all(same))
    }
}

/// A Dense layer with sigmoids is a linear probe; it was not regularised, so its lambdas are 0.
fn head_model(head: &TrainedHead) -> Model {
    let (width, outputs) = (head.width, head.bias.len());
    let weights = (0..outputs).flat_map(|k| (0..width).map(move |f| head.kernel[f * outputs + k])).collect();
    let (lambdas, intercepts) = (vec![0.0; outputs], head.bias.clone());
    Model::LinearProbe(LinearProbe { width, outputs, lambdas, weights, intercepts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_and_its_probe_predict_the_same() {
        let kernel = (0..6).map(|i| f64::from(i) / 3.0 - 0.7).collect();
        let head = TrainedHead { width: 3, kernel, bias: vec![0.1, -0.2], history: Vec::new(), best: 0 };
        let rows: Vec<f32> = (0..12).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
        let features = Features::new(rows.clone(), 3).expect("finite");
        let model = head_model(&head);
        let found = probabilities(&model, &features).expect("predicts");
        let expected = head.predict(&rows);
        assert_eq!(found.len(), 8);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
        assert!(expected[0] != expected[1], "the labels differ, else this shows nothing");
    }
}
