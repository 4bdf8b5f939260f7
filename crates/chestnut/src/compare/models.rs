//! The models of the first split, kept for `predict`.
//!
//! They are fitted once more after scoring: the same rows, settings and seeds give the same models, which is checked on
//! the test part; an approach whose models predict anything else is not kept, and that is said. Tables and predictions do
//! not depend on any of it. Stacking, the baseline and nearest neighbours are not kept: the first two read the networks'
//! own outputs, and the last would be a copy of the training embeddings. Nor is the learner on concatenated networks.

use super::Fitted;
use super::approaches::{Approach, Material, Rows};
use crate::embed::{EmbeddingTable, Network, unlike_plain};
use crate::error::Result;
use crate::evaluate::calibrate::LabelCalibration;
use crate::predict::store::{Kept, probabilities};
use crate::study::Study;
use crate::transfer::embeddings::{self, Learner};
use crate::transfer::fine_tune;
use chestnut_forest::{Features, LinearProbe, Model};
use chestnut_train::TrainedHead;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Largest difference between a model's predictions and those that were scored; a head's sums are rounded in another
/// order.
const SAME: f64 = 1e-9;

/// The models of every approach that has some, none if they are not to be kept, and what people should know of that;
/// `calibrations` by the name of the approach. Nothing is written yet.
pub(super) fn keep<'r>(
    study: &Study,
    material: &Material<'_>,
    names: &[String],
    rows: &Rows,
    results: &[Fitted],
    calibrations: &BTreeMap<String, Vec<LabelCalibration>>,
    reasons: &impl Fn(&Approach) -> &'r Vec<Option<String>>,
) -> Result<(Vec<Kept>, Vec<String>)> {
    if !material.options.models {
        return Ok((Vec::new(), Vec::new()));
    }
    if let Some((network, option)) = unlike_plain(study, material.networks) {
        let name = &network.name;
        let said = format!("no models are kept for predict: embeddings of {name} were made with --{option}");
        return Ok((Vec::new(), vec![said]));
    }
    let (mut kept, mut said) = (Vec::new(), Vec::new());
    for fitted in results {
        let Some(models) = material.models(&fitted.approach, rows)? else { continue };
        let name = fitted.approach.name();
        let untrained = reasons(&fitted.approach);
        if !material.is_same(&models, fitted, untrained, rows)? {
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
            models,
            untrained: untrained.clone(),
            calibrations: calibrations.get(&name).cloned().unwrap_or_else(missing),
            name,
        });
    }
    // The paper's winner is what predict uses unless another is asked for.
    kept.sort_by_key(|k| !k.name.starts_with("Embeddings"));
    Ok((kept, said))
}

impl Material<'_> {
    /// One model per network; `None` for an approach that keeps none.
    fn models(&self, approach: &Approach, rows: &Rows) -> Result<Option<Vec<Model>>> {
        let development = rows.development();
        match approach {
            Approach::Embeddings(Learner::Neighbours) => Ok(None),
            Approach::Embeddings(learner) => {
                let folds = self.choice_folds(learner, &development)?;
                let fit = |(network, table): (&Network, &EmbeddingTable)| -> Result<Option<Model>> {
                    let learner = self.options.learner(&network.name, learner)?;
                    let features = Features::new(table.embeddings.clone(), table.width)?;
                    Ok(embeddings::fit(&features, self.labels, &development, &folds, &learner)?.into_model())
                };
                self.networks.iter().zip(self.tables).map(fit).collect()
            }
            Approach::FineTuned(schedule) => {
                let parts = [&rows.train[..], &rows.validation[..]];
                let fit = |table: &EmbeddingTable| -> Result<Model> {
                    let head = fine_tune::fit(table, self.labels, parts, schedule, self.settings.seed)?;
                    Ok(head_model(&head))
                };
                self.tables.par_iter().map(fit).collect::<Result<Vec<Model>>>().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether the models predict what was scored, but for labels that nobody scores.
    fn is_same(&self, models: &[Model], fitted: &Fitted, untrained: &[Option<String>], rows: &Rows) -> Result<bool> {
        let outputs = self.labels.outputs();
        for ((model, table), scored) in models.iter().zip(self.tables).zip(&fitted.test) {
            let features = Features::new(table.embeddings.clone(), table.width)?.select(&rows.predict);
            let again = probabilities(model, &features)?;
            if again.len() != scored.probabilities.len() {
                return Ok(false);
            }
            let pairs = again.iter().zip(&scored.probabilities).enumerate();
            let mut scores = pairs.filter(|(i, _)| untrained.get(i % outputs).is_none_or(Option::is_none));
            if !scores.all(|(_, (a, b))| (a - b).abs() <= SAME) {
                return Ok(false);
            }
        }
        Ok(true)
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
