//! Fine-tuning below the head: the last stage of a network, or all of it, on a study's training patients.
//!
//! Starts from the head that is best on frozen features (Kumar et al. 2022: first the head, then the rest), so the
//! weights that validation chooses are never worse there than the head alone. Batch normalisation keeps its statistics
//! unless asked. Same split and test part as all other approaches. What it leaves: a network in the study's own model
//! store (`models/`), and predictions that `compare` puts beside the others. A killed one goes on where it was.

mod beside;
mod fit;
mod maps;
mod record;
mod unfinished;

pub use fit::History;
pub use maps::MAX_MAP_BYTES;
pub(crate) use record::{DeepPredictions, load, parse_record, rows_of};
pub use record::{Record, depths};

use crate::cohort::{Cohort, CohortImage};
use crate::compare::{Rows, common, label_table, not_taught_here, parts_of, patient_folds};
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::study::{StageRecord, Study};
use chestnut_forest::Labels;
use chestnut_train::depth::{learning, split, weights_of};
use chestnut_train::{Cpu, Depth, Learner, Schedule};
use chestnut_zoo::read::HeadHint;
use chestnut_zoo::read::safetensors::{META_TAUGHT_ON, write_safetensors};
use chestnut_zoo::store::{self, AddOptions, MAX_TAUGHT_ON, ModelRecord};
use chestnut_zoo::{Activation, Architecture, Head, Tensor, Weights};
use fit::Going;
use maps::Maps;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use unfinished::Unfinished;

/// Most epochs.
pub const MAX_EPOCHS: usize = 1_000;
/// Most images per update.
pub const MAX_BATCH: usize = 1_024;
/// How the note begins of a network that was taught before its films were listed.
pub(crate) const TAUGHT_UNLISTED: &str = "taught by finetune on the cohort ";

/// How a network is taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeepOptions {
    /// Which layers learn.
    pub depth: Depth,
    /// Epochs at most, 1 to [`MAX_EPOCHS`].
    pub epochs: usize,
    /// Images per update, 1 to [`MAX_BATCH`].
    pub batch: usize,
    /// First learning rate, above 0.
    pub rate: f64,
    /// Whether the rate falls to 0 on half a cosine over all epochs; else it stays.
    pub cosine: bool,
    /// Epochs without a better validation AUC before it stops.
    pub patience: usize,
    /// Decoupled weight decay, 0 or more.
    pub weight_decay: f64,
    /// Whether batch normalisation learns too, with the batches' own statistics.
    pub norms: bool,
    /// Whether out-of-fold predictions of the training patients are made, which takes five more runs. Thresholds,
    /// calibration and stacking need them.
    pub folds: bool,
}

impl DeepOptions {
    /// At most 20 epochs of Adam at 1e-4 on a cosine, batches of 16, stopping after 5 without a better AUC.
    #[must_use]
    pub fn new(depth: Depth) -> Self {
        Self {
            depth,
            epochs: 20,
            batch: 16,
            rate: 1e-4,
            cosine: true,
            patience: 5,
            weight_decay: 0.0,
            norms: false,
            folds: true,
        }
    }

    fn check(&self) -> Result<()> {
        let good = (1..=MAX_EPOCHS).contains(&self.epochs)
            && (1..=MAX_BATCH).contains(&self.batch)
            && self.rate.is_finite()
            && self.rate > 0.0
            && self.weight_decay.is_finite()
            && self.weight_decay >= 0.0;
        let problem = format!(
            "fine-tuning needs 1 to {MAX_EPOCHS} epochs, batches of 1 to {MAX_BATCH}, a rate above 0 and a weight decay of 0 or more"
        );
        if good { Ok(()) } else { Err(Error::Request(problem)) }
    }

    fn rate_at(&self, step: usize, steps: usize) -> f64 {
        if !self.cosine {
            return self.rate;
        }
        self.rate * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps.max(1) as f64).cos())
    }
}

/// Name in tables.
#[must_use]
pub const fn approach_name(depth: Depth) -> &'static str {
    match depth {
        Depth::Head => "Fine-tuning, head",
        Depth::Conv => "Fine-tuning, last convolutions",
        Depth::Block => "Fine-tuning, last block",
        Depth::All => "Fine-tuning, all layers",
    }
}

/// What [`finetune`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct Finetuned {
    /// The taught network in the study's model store.
    pub model: ModelRecord,
    /// The run for the test part, then one per fold.
    pub fits: Vec<History>,
    /// Values that learned.
    pub parameters: usize,
}

/// Teaches one network of a study; `models` is the store that it comes from. One that was embedded by several looks or
/// in bf16, or that was taught on this study before, is refused.
///
/// `images` is called with (done, total) images, `epochs` with (done, at most) epochs over all runs. Runs that are done
/// are kept until the end, and so is a checkpoint of the one that is going on, written after an epoch if the last one is
/// older than `every`: a killed call that is made again goes on there.
///
/// # Errors
/// If the network was not embedded yet, an image cannot be read any more, a file cannot be written, or the loss leaves the
/// finite numbers.
pub fn finetune(
    study: &Study,
    models: &Path,
    network: &Network,
    options: &DeepOptions,
    every: Duration,
    images: &dyn Fn(usize, usize),
    epochs: &dyn Fn(usize, usize),
) -> Result<Finetuned> {
    options.check()?;
    store::check_name(&record::model_name(network, options.depth))?;
    let start = Instant::now();
    beside::one_look(study, std::slice::from_ref(network))?;
    let (cohort, tables) = common(study, &study.cohort()?, std::slice::from_ref(network))?;
    not_taught_here(std::slice::from_ref(network), &cohort)?;
    let Some(table) = tables.first() else { return Err(Error::Request("no embeddings".into())) };
    let settings = &study.settings.split;
    let [train, validation, test] = parts_of(&cohort, settings)?;
    let rows = Rows { train, validation, predict: test };
    let development = rows.development();
    let (names, labels) = label_table(&cohort, &development)?;
    let taught_on = taught_on(network, &cohort, &development)?;

    let (_, pretrained) = network.load(models)?;
    let fault = |problem: String| Error::Network { network: network.name.clone(), problem };
    let architecture: Architecture = network.record.architecture.parse().map_err(fault)?;
    let graph = architecture.graph_with_channels(&Head::sigmoid(names.clone()), network.record.channels);
    let cut = split(&graph, options.depth)?;
    let mut maps = match options.depth {
        Depth::Head => Maps::embeddings(study, table)?,
        _ => Maps::compute(study, &cohort, network, cut.front.as_ref(), &pretrained, images)?,
    };

    let mut runs = vec![rows.clone()];
    if options.folds {
        let folds = patient_folds(&cohort.items(), &development, settings)?;
        runs.extend(folds.iter().map(|fold| rows.without(fold)));
    }
    let parts = [&rows.train[..], &rows.validation[..], &rows.predict[..]];
    let key = record::key(study, network, &cohort, parts, &names, &labels);
    let unfinished = Unfinished::new(study, network, options, &key, table);
    let mut saved = Instant::now();
    let mut fits = Vec::new();
    let mut predictions = BTreeMap::new();
    let mut taught = Weights::new();
    let total = runs.len() * options.epochs;
    for (i, run) in runs.iter().enumerate() {
        let mut first = if i == 0 { unfinished.taught() } else { None };
        let done = unfinished.done(i, run.predict.len() * labels.outputs()).filter(|_| i > 0 || first.is_some());
        let (history, found) = match done {
            Some(done) => (done.history, done.predictions),
            None => {
                let parts = [&run.train[..], &run.validation[..]];
                let mut begin = weights_of(&cut.tail, &pretrained);
                begin.extend(head_weights(table, &labels, parts, settings.seed)?);
                let task = fit::Task { tail: &cut.tail, labels: &labels, options, seed: settings.seed };
                let mut after = |history: &History, best: &Weights, learner: &mut Cpu| -> Result<()> {
                    epochs(i * options.epochs + history.epochs.len(), total);
                    if saved.elapsed() >= every {
                        let going = Going { history: history.clone(), state: learner.state()?, best: best.clone() };
                        unfinished.save(i, going)?;
                        saved = Instant::now();
                    }
                    Ok(())
                };
                let begun = unfinished.going(i);
                let (mut learner, history) = fit::fit(&task, &begin, begun, &mut maps, parts, &mut after)?;
                let found = fit::predict(&mut learner, &mut maps, &run.predict)?;
                first = if i == 0 { Some(learner.state()?.weights) } else { None };
                unfinished.keep(i, &history, &found, first.as_ref())?;
                (history, found)
            }
        };
        epochs((i + 1) * options.epochs, total);
        for (&row, values) in run.predict.iter().zip(found.chunks(labels.outputs())) {
            predictions.insert(cohort.images[row].id.clone(), values.to_vec());
        }
        if let Some(weights) = first {
            taught = weights;
        }
        fits.push(history);
    }

    let learns = learning(&cut.tail, options.depth, options.norms)?;
    let owner = |name: &str| {
        let (owner, kind) = name.rsplit_once('.')?;
        let statistic = matches!(kind, "moving_mean" | "moving_variance");
        cut.tail.nodes.iter().position(|n| n.name == owner && !statistic)
    };
    let learned = taught.iter().filter(|(name, _)| owner(name).is_some_and(|id| learns.contains(id)));
    let parameters: usize = learned.map(|(_, tensor)| tensor.data.len()).sum();
    if let Some(front) = &cut.front {
        taught.extend(weights_of(front, &pretrained));
    }
    let model = save(study, network, architecture, options.depth, &taught, &names, &taught_on)?;
    let record = Record {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: network.name.clone(),
        options: options.clone(),
        key,
        labels: names,
        fits: fits.clone(),
        predictions,
    };
    let text = serde_json::to_string(&record).map_err(|e| Error::Request(e.to_string()))?;
    study.write(&record::file_name(network, options.depth), text.as_bytes())?;
    let facts = BTreeMap::from([
        ("settings".to_owned(), format!("{options:?}")),
        ("model".to_owned(), model.name.clone()),
        ("weights_sha256".to_owned(), model.weights_sha256.clone()),
    ]);
    let stage = format!("finetune {} {}", network.name, options.depth.name());
    study.record(&stage, StageRecord { seconds: start.elapsed().as_secs_f64(), facts })?;
    // Last: a kill before this costs nothing but what is written here.
    unfinished.remove()?;
    Ok(Finetuned { model, fits, parameters })
}

/// The head to start from, trained on frozen features.
fn head_weights(table: &EmbeddingTable, labels: &Labels, parts: [&[usize]; 2], seed: u64) -> Result<Weights> {
    let head = super::fine_tune::fit(table, labels, parts, &Schedule::fair(), seed)?;
    let tensor = |shape: Vec<usize>, values: &[f64]| Tensor { shape, data: values.iter().map(|&v| v as f32).collect() };
    Ok(Weights::from([
        ("head.0.kernel".to_owned(), tensor(vec![table.width, labels.outputs()], &head.kernel)),
        ("head.0.bias".to_owned(), tensor(vec![labels.outputs()], &head.bias)),
    ]))
}

/// Identity of a film for [`ModelRecord::taught_on`]: a hash of its content, which whoever has the film can tell again.
pub(crate) fn film(image: &CohortImage) -> String {
    crate::fs::to_hex(&Sha256::digest(format!("film {}", image.sha256))[..8])
}

/// The films that the taught network must not be compared on: those that it learns from or is stopped by, and those
/// that the network had seen before.
fn taught_on(network: &Network, cohort: &Cohort, rows: &[usize]) -> Result<Vec<String>> {
    let own = rows.iter().map(|&row| film(&cohort.images[row]));
    let films: BTreeSet<String> = network.record.taught_on.iter().cloned().chain(own).collect();
    if films.len() > MAX_TAUGHT_ON {
        let problem = format!("would be taught on {} films; at most {MAX_TAUGHT_ON} can be kept track of", films.len());
        return Err(Error::Network { network: network.name.clone(), problem });
    }
    Ok(films.into_iter().collect())
}

/// Puts the taught network into the study's own model store.
fn save(
    study: &Study,
    network: &Network,
    architecture: Architecture,
    depth: Depth,
    weights: &Weights,
    names: &[String],
    taught_on: &[String],
) -> Result<ModelRecord> {
    let name = record::model_name(network, depth);
    let folder = tempfile::Builder::new().prefix(".chestnut-").tempdir_in(&study.root);
    let folder = folder.map_err(Error::io(&study.root))?;
    let file = folder.path().join(format!("{name}.safetensors"));
    let films = serde_json::to_string(taught_on).map_err(|e| Error::Request(e.to_string()))?;
    let metadata = BTreeMap::from([(META_TAUGHT_ON.to_owned(), films)]);
    write_safetensors(&file, weights, &metadata, false).map_err(Error::io(&file))?;
    let options = AddOptions {
        head: HeadHint { labels: Some(names.to_vec()), activations: Some(vec![Activation::Sigmoid]) },
        standardisation: Some(network.record.standardisation.clone()),
        input_size: Some(network.record.input_size),
        licence: Some(network.record.licence.clone()),
        half: false,
        replace: true,
        notes: vec![format!("taught by finetune, from {}", network.name)],
    };
    Ok(store::add(&study.path("models"), &file, &name, Some(architecture), &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_to_nothing_or_stays() {
        let falling = DeepOptions::new(Depth::Block);
        assert_eq!(falling.rate_at(0, 100), 1e-4);
        assert!((falling.rate_at(50, 100) - 5e-5).abs() < 1e-12 && falling.rate_at(99, 100) < 1e-7);
        let flat = DeepOptions { cosine: false, ..falling };
        assert_eq!(flat.rate_at(99, 100), 1e-4);
    }

    #[test]
    fn settings_without_sense_are_refused() {
        let good = DeepOptions::new(Depth::All);
        assert!(good.check().is_ok());
        for bad in [
            DeepOptions { epochs: 0, ..good.clone() },
            DeepOptions { batch: MAX_BATCH + 1, ..good.clone() },
            DeepOptions { rate: 0.0, ..good.clone() },
            DeepOptions { rate: f64::NAN, ..good.clone() },
            DeepOptions { weight_decay: -1.0, ..good.clone() },
        ] {
            assert!(bad.check().expect_err("must be refused").to_string().contains("1000 epochs"), "{bad:?}");
        }
    }
}
