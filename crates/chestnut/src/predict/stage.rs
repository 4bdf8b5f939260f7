//! The stage: models, calibrations and thresholds of a study on new images.
//!
//! Scores are made exactly as `compare` makes them ([`super::score`]), so that the study's own test images get the
//! probabilities of `predictions.csv`. Calibrated probabilities and thresholds come from out-of-fold predictions of the
//! training patients; their worth on other patients is what the study's report says. What could not be learned has no
//! number and a reason.

use super::index::{KeptApproach, ModelIndex};
use super::input::{self, CHUNK, NewImage, Reader};
use super::score::score;
use super::space::{EmbeddingSpace, MEAN_OF, SimilarImage, UNUSUAL_PERCENTILE, mean, percentile};
use super::store::cohort_hash;
use crate::cohort::source::list_any;
use crate::cohort::{Cohort, CohortImage};
use crate::compare::{common, parts_of};
use crate::embed::{Network, Refused, unlike_plain};
use crate::error::{Error, Result};
use crate::evaluate::calibrate::{LabelCalibration, Method};
use crate::study::Study;
use crate::tune::training_hash;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most similar cases per image.
pub const MAX_SIMILAR: usize = 1_000;

/// How to predict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PredictOptions {
    /// Name of an approach that the study keeps; the first if `None`.
    pub approach: Option<String>,
    /// Similar cases per image, at most [`MAX_SIMILAR`].
    pub similar: usize,
    /// Takes images of every projection, not only those that the study takes.
    pub any_view: bool,
}

/// Yes or no at one threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Such as `Youden`.
    pub rule: String,
    /// Positive at or above this probability, before any calibration.
    pub threshold: f64,
    /// Yes.
    pub positive: bool,
}

/// One label of one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelPrediction {
    /// Its name.
    pub label: String,
    /// As in predictions.csv, for most approaches the average over the networks; `None` if nothing could be learned.
    pub probability: Option<f64>,
    /// After calibration; `None` if there is no curve.
    pub calibrated: Option<f64>,
    /// Which curve: `Platt` or `isotonic`.
    pub calibration: Option<String>,
    /// One per threshold that could be chosen.
    pub decisions: Vec<Decision>,
    /// What is missing above and why.
    pub reason: Option<String>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImagePrediction {
    /// Path below the image folder.
    pub image: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// In the order of [`Predicted::labels`].
    pub labels: Vec<LabelPrediction>,
    /// Mean cosine distance from the nearest images of the cohort, 0 to 2; `None` if there is no other patient.
    pub distance: Option<f64>,
    /// Percentage of the cohort's own images that lie closer to their nearest ones.
    pub percentile: Option<f64>,
    /// Unlike the study's cohort.
    pub unusual: bool,
    /// What people should know of this image.
    pub remarks: Vec<String>,
    /// Nearest images of other patients.
    pub similar: Vec<SimilarImage>,
}

/// Everything that one run predicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predicted {
    /// Version of the software.
    pub chestnut: String,
    /// Approach, as in the tables.
    pub approach: String,
    /// Its settings, for people.
    pub settings: String,
    /// Which row of the tables: `Average`, the only network, or `Raw outputs` of stacking.
    pub source: String,
    /// Networks.
    pub networks: Vec<String>,
    /// Labels that are predicted.
    pub labels: Vec<String>,
    /// Names of the thresholds.
    pub rules: Vec<String>,
    /// Labels of the similar cases.
    pub cohort_labels: Vec<String>,
    /// In the order of their names.
    pub images: Vec<ImagePrediction>,
    /// What could not be used, and why.
    pub refused: Vec<Refused>,
    /// What people should know of all of it.
    pub warnings: Vec<String>,
}

/// Predicts the images below `images` (a folder, an archive or one file) with the networks of the store `models`.
///
/// `progress` is called with (done, total) passes of an image through a network.
///
/// # Errors
/// If the study keeps no models, or its cohort, recipe, embeddings or networks have changed since it was compared, or
/// there is no file to look at. A single bad image is none.
pub fn predict(
    study: &Study,
    models: &Path,
    images: &Path,
    options: &PredictOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Predicted> {
    if options.similar > MAX_SIMILAR {
        let problem = format!("{} similar cases are more than the {MAX_SIMILAR} that can be listed", options.similar);
        return Err(Error::Request(problem));
    }
    let index = ModelIndex::read(study)?;
    let approach = index.approach(options.approach.as_deref())?;
    let changed = |what: &str| {
        let (what, root) = (what.to_owned(), study.root.display());
        Error::Request(format!("the study's {what} since its models were fitted; run `chestnut compare {root}` again"))
    };
    if index.recipe != study.settings.recipe || index.blank != study.settings.blank {
        return Err(changed("recipe or blanked regions have changed"));
    }
    let networks = input::networks(&index, models)?;
    if let Some((Network { name, .. }, option)) = unlike_plain(study, &networks) {
        let problem = format!(
            "its embeddings were made with --{option}, and predict makes plain ones; run embed without --{option} and \
             compare again"
        );
        return Err(Error::Network { network: name.clone(), problem });
    }
    let fitted = index.models(study, approach)?;
    let (cohort, tables) = common(study, &study.cohort()?, &networks)?;
    if cohort_hash(&cohort) != index.cohort_hash {
        return Err(changed("images, patients or labels have changed"));
    }
    let listing = list_any(images)?;
    if listing.sources.is_empty() && listing.rejects.is_empty() {
        return Err(Error::Request(format!("{} holds no file; name the images", images.display())));
    }
    let known = Known::new(study, &index, approach, &cohort, EmbeddingSpace::new(&tables), options.similar);
    drop(tables);

    let reader = Reader::new(study, models, &networks, &cohort, options.any_view)?;
    let mut refused: Vec<Refused> =
        listing.rejects.into_iter().map(|r| Refused { image: r.item, reason: r.reason }).collect();
    let (mut done, total) = (0, listing.sources.len() * networks.len());
    progress(0, total);
    let mut found = Vec::with_capacity(listing.sources.len());
    for chunk in listing.sources.chunks(CHUNK) {
        let mut tick = |passes: usize| {
            done += passes;
            progress(done, total);
        };
        let (images, not_used) = reader.embed(chunk, &mut tick)?;
        refused.extend(not_used);
        if images.is_empty() {
            continue;
        }
        let scores = score(&approach.reads, &index.networks, &fitted, &images)?;
        found.extend(images.iter().zip(scores.chunks(index.labels.len())).map(|(i, s)| known.describe(i, s)));
    }
    found.sort_by(|a, b| a.image.cmp(&b.image));
    refused.sort_by(|a, b| a.image.cmp(&b.image));
    let mut warnings = listing.warnings;
    if found.iter().any(|i| i.percentile.is_none()) {
        warnings.push("the study has too few patients to say which images are unlike its cohort".to_owned());
    }
    let mut rules: Vec<String> = Vec::new();
    for threshold in approach.calibrations.iter().flat_map(|c| &c.thresholds) {
        if !rules.contains(&threshold.rule) {
            rules.push(threshold.rule.clone());
        }
    }
    let names: Vec<String> = networks.iter().map(|n| n.name.clone()).collect();
    Ok(Predicted {
        chestnut: env!("CARGO_PKG_VERSION").to_owned(),
        approach: approach.name.clone(),
        settings: approach.settings.clone(),
        source: approach.reads.source(&names),
        networks: names,
        labels: index.labels.clone(),
        rules,
        cohort_labels: cohort.label_names.clone(),
        images: found,
        refused,
        warnings,
    })
}

/// What the study knows.
struct Known<'a> {
    index: &'a ModelIndex,
    approach: &'a KeptApproach,
    cohort: &'a Cohort,
    /// One per image of the cohort.
    patients: Vec<&'a str>,
    /// Row of each file's hash.
    rows: BTreeMap<&'a str, usize>,
    /// Rows that the models learned from; `None` if the split's settings have changed since.
    learned: Option<BTreeSet<usize>>,
    space: EmbeddingSpace,
    similar: usize,
}

impl<'a> Known<'a> {
    fn new(
        study: &Study,
        index: &'a ModelIndex,
        approach: &'a KeptApproach,
        cohort: &'a Cohort,
        space: EmbeddingSpace,
        similar: usize,
    ) -> Self {
        let learned: Option<BTreeSet<usize>> =
            parts_of(cohort, &study.settings.split).ok().and_then(|[train, validation, _]| {
                let mut rows = [train, validation].concat();
                rows.sort_unstable();
                (training_hash(cohort, &rows) == index.training.hash).then(|| rows.into_iter().collect())
            });
        Self {
            index,
            approach,
            cohort,
            patients: cohort.images.iter().map(|i| i.patient.as_str()).collect(),
            rows: rows_by_file(&cohort.images, learned.as_ref()),
            learned,
            space,
            similar,
        }
    }

    /// Everything about one image from its scores, one per label.
    fn describe(&self, image: &NewImage, scores: &[f64]) -> ImagePrediction {
        let row = self.rows.get(image.sha256.as_str()).copied();
        let patient = row.map(|r| self.patients[r]).or(image.patient.as_deref());
        let parts: Vec<&[f32]> = image.embeddings.iter().map(Vec::as_slice).collect();
        let near =
            self.space.similar(&EmbeddingSpace::point(&parts), self.similar.max(MEAN_OF), patient, &self.patients);
        let distance = mean(&near[..near.len().min(MEAN_OF)]);
        let percentile = distance.and_then(|d| percentile(&self.index.own_distances, d));
        let unusual = percentile.is_some_and(|p| p > UNUSUAL_PERCENTILE);
        let mut remarks = Vec::new();
        if unusual {
            remarks.push(
                "unlike the study's cohort: farther from its nearest images than almost all of the cohort's own; look at it before you believe any number"
                    .to_owned(),
            );
        }
        if let Some(row) = row {
            remarks.push(self.membership(row).to_owned());
        } else if let Some(row) = patient.and_then(|p| self.patients.iter().position(|&q| q == p)) {
            let id = &self.cohort.images[row].id;
            remarks
                .push(format!("of a patient of the study, as {id} is; the models may have learned from that patient"));
        }
        let labels = (0..scores.len()).map(|k| {
            let (untrained, calibration) = (&self.approach.untrained[k], &self.approach.calibrations[k]);
            label(&self.index.labels[k], scores[k], untrained.as_deref(), calibration)
        });
        ImagePrediction {
            image: image.id.clone(),
            sha256: image.sha256.clone(),
            labels: labels.collect(),
            distance,
            percentile,
            unusual,
            remarks,
            similar: near.iter().take(self.similar).map(|n| SimilarImage::of(n, self.cohort)).collect(),
        }
    }

    fn membership(&self, row: usize) -> &'static str {
        match &self.learned {
            // The baseline has learned nothing.
            Some(rows) if rows.contains(&row) && self.approach.models.is_empty() => {
                "an image of the study that thresholds and calibration were learned from"
            }
            Some(rows) if rows.contains(&row) => {
                "an image of the study that the models learned from; its prediction says nothing about new patients"
            }
            Some(_) => "an image of the study's test part",
            None => "an image of the study; the models may have learned from it",
        }
    }
}

/// The row of each file's hash. Where a film stands twice (`--keep-copies`), and once among those that were learned from,
/// that row counts.
fn rows_by_file<'c>(images: &'c [CohortImage], learned: Option<&BTreeSet<usize>>) -> BTreeMap<&'c str, usize> {
    let mut rows = BTreeMap::new();
    for (row, image) in images.iter().enumerate() {
        let known = rows.entry(image.sha256.as_str()).or_insert(row);
        if learned.is_some_and(|learned| learned.contains(&row)) {
            *known = row;
        }
    }
    rows
}

/// What one score means.
fn label(name: &str, score: f64, untrained: Option<&str>, calibration: &LabelCalibration) -> LabelPrediction {
    let mut prediction = LabelPrediction {
        label: name.to_owned(),
        probability: None,
        calibrated: None,
        calibration: None,
        decisions: Vec::new(),
        reason: untrained.map(str::to_owned),
    };
    if untrained.is_some() {
        return prediction;
    }
    prediction.probability = Some(score);
    prediction.reason.clone_from(&calibration.reason);
    // Platt's curve keeps the order of all images; the polygon stands in where there is no curve.
    for method in [Method::Platt, Method::Isotonic] {
        if let Some(p) = calibration.apply(method, score) {
            prediction.calibrated = Some(p);
            prediction.calibration = Some(method.name().to_owned());
            break;
        }
    }
    let decide = |t: &crate::evaluate::calibrate::Threshold| Decision {
        rule: t.rule.clone(),
        threshold: t.score,
        positive: score >= t.score,
    };
    prediction.decisions = calibration.thresholds.iter().map(decide).collect();
    prediction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_becomes_a_probability_and_decisions() {
        let scores: Vec<f64> = (0..40).map(|i| f64::from(i) / 40.0).collect();
        let truth: Vec<Option<bool>> = (0..40).map(|i| Some(i >= 20 || i == 10)).collect();
        let calibration = LabelCalibration::fit(&scores, &truth, 0.9);
        let [low, high] = [0.01, 0.95].map(|s| label("Edema", s, None, &calibration));
        assert_eq!((low.probability, high.probability), (Some(0.01), Some(0.95)));
        assert!(
            low.calibrated < Some(0.3) && high.calibrated > Some(0.7) && low.calibration.as_deref() == Some("Platt")
        );
        assert_eq!(high.decisions.len(), 2);
        assert!(high.decisions.iter().all(|d| d.positive) && low.decisions.iter().all(|d| !d.positive));
        // At the threshold itself it is positive.
        let at = label("Edema", calibration.thresholds[0].score, None, &calibration);
        assert!(at.decisions[0].positive);
    }

    #[test]
    fn a_film_that_was_learned_from_is_no_test_image() {
        let mut images = ["a", "b", "c", "d"].map(|id| crate::cohort::tests::image(id, "p", "+")).to_vec();
        images[2].sha256 = images[0].sha256.clone();
        images[3].sha256 = images[1].sha256.clone();
        let learned = BTreeSet::from([0, 3]);
        let rows = rows_by_file(&images, Some(&learned));
        let of = |row: usize| rows[images[row].sha256.as_str()];
        assert_eq!([of(0), of(1), of(2), of(3)], [0, 3, 0, 3]);
        assert_eq!(rows_by_file(&images, None).into_values().max(), Some(1), "the first row where nothing is known");
    }

    #[test]
    fn what_was_not_learned_has_no_number() {
        let missing = LabelCalibration::missing("too few images".to_owned());
        let untrained = label("PNX", 0.5, Some("no positive image"), &missing);
        assert_eq!((untrained.probability, untrained.calibrated), (None, None));
        assert_eq!(untrained.reason.as_deref(), Some("no positive image"));
        let raw = label("PNX", 0.25, None, &missing);
        assert_eq!((raw.probability, raw.calibrated, raw.decisions.len()), (Some(0.25), None, 0));
        assert_eq!(raw.reason.as_deref(), Some("too few images"));
    }
}
