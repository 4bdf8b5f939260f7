//! Teaching a whole network on a labelled collection of radiographs: the paper's first step (section 2.2, protocol 3).
//!
//! A set ([`set`]) becomes squares of bytes in one file ([`cache`]), a window of each ([`crop`]), moved a little
//! ([`augment`]), with targets by stated policies ([`targets`]); the loop teaches any [`chestnut_train::Learner`], judges
//! by whole patients it never saw, and can be killed at any moment. What comes out is a network of the model store.

pub mod augment;
pub mod cache;
mod checkpoint;
pub mod crop;
pub mod deal;
mod error;
mod feed;
mod journal;
mod judge;
mod publish;
pub mod schedule;
pub mod set;
mod settings;
mod start;
pub mod targets;
mod train;

pub(crate) use checkpoint::is_checkpoint;
pub use checkpoint::{EpochRecord, Place};
pub use error::{PretrainError, Result};
pub use publish::{Publication, publish};
pub use settings::{MAX_BATCH, MAX_EPOCHS, MAX_UPDATE, Settings};
pub use start::{BACKBONE, Start};

use crate::cohort::table::to_csv;
use crate::fs::{create_writable_folder, to_hex, write_atomic};
use crate::image::recipe::{Recipe, Standardisation};
use cache::{Cache, Refused};
use chestnut_train::{Learner, TrainError, Trained, Update};
use chestnut_zoo::read::safetensors::{
    META_ARCHITECTURE, META_CONDITIONAL, META_HEAD, META_STANDARDISATION, META_TAUGHT_ON,
};
use chestnut_zoo::{Graph, Head, Weights, store};
use crop::{Crop, Template};
use feed::Data;
use set::TrainingSet;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use targets::Targets;

/// What a run goes on from.
pub const LAST_FILE: &str = "last.safetensors";
/// Weights of the best epoch.
pub const BEST_FILE: &str = "best.safetensors";
/// What happened, one JSON object a line.
pub const LOG_FILE: &str = "log.jsonl";
/// The figure.
pub const CURVE_FILE: &str = "learning_curve.svg";
/// Images that could not be read.
pub const MISSING_FILE: &str = "missing.csv";
/// The settings, for people.
pub const SETTINGS_FILE: &str = "settings.json";

/// How often a checkpoint is written within an epoch; whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    /// Batches.
    pub batches: usize,
    /// Wall time.
    pub time: Duration,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The images and their labels.
    pub set: TrainingSet,
    /// Where checkpoints, log and figure go.
    pub folder: PathBuf,
    /// Where the cached images go; may be shared by runs.
    pub cache: PathBuf,
    /// Rows and columns of the cached images.
    pub cache_size: usize,
    /// An image to crop by; the mean of the training images if not given.
    pub template: Option<PathBuf>,
    /// The first weights.
    pub start: Start,
    /// How grey values become the network's input; that of the network to start from, or ImageNet's, if not given.
    pub standardisation: Option<Standardisation>,
    /// What changes the weights. `labels`, `start`, `images`, `table`, `template` and `standardisation` are filled in
    /// here.
    pub settings: Settings,
    /// Largest share of images that may be missing.
    pub max_missing: f64,
    /// Threads that make batches ahead of the learner.
    pub workers: usize,
    /// How often a checkpoint is written.
    pub every: Every,
}

/// What a run tells while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// Images in the cache.
    Cached {
        /// So many.
        done: usize,
        /// Of so many.
        all: usize,
    },
    /// Images whose window was placed.
    Cropped {
        /// So many.
        done: usize,
        /// Of so many.
        all: usize,
    },
    /// The parts.
    Dealt {
        /// Images to learn from.
        train: usize,
        /// Images to judge by.
        validation: usize,
    },
    /// It goes on from a checkpoint.
    Resumed {
        /// Epoch, from 0.
        epoch: usize,
        /// Batches already done in it.
        batch: usize,
    },
    /// An update.
    Batch {
        /// Epoch, from 0.
        epoch: usize,
        /// Of so many.
        epochs: usize,
        /// Batches done.
        batch: usize,
        /// Of so many.
        batches: usize,
        /// Mean loss of the epoch so far.
        loss: f64,
        /// Validation AUC of the epoch before.
        auc: Option<f64>,
        /// Speed.
        images_per_second: f64,
        /// At this speed, validation not counted.
        seconds_left: f64,
    },
    /// An epoch ended.
    Epoch {
        /// What it gave.
        record: &'a EpochRecord,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Finished {
    /// All epochs.
    pub history: Vec<EpochRecord>,
    /// Index of the best.
    pub best: usize,
    /// Images learned from.
    pub train: usize,
    /// Images judged by.
    pub validation: usize,
    /// Images that could not be read.
    pub refused: Vec<Refused>,
    /// The settings as they were used.
    pub settings: Settings,
    /// Sentences for the record of the network.
    pub notes: Vec<String>,
}

/// Makes a learner of a graph, its weights, the update rule and what learns.
pub type Build<'a> =
    dyn FnMut(&Graph, &Weights, Update, &Trained) -> std::result::Result<Box<dyn Learner>, TrainError> + 'a;

/// Trains a network, or goes on where an earlier run of the same request was.
///
/// # Errors
/// [`PretrainError`]; what was written before stays, and is whole.
pub fn pretrain(request: &Request, build: &mut Build<'_>, report: &dyn Fn(&Event<'_>)) -> Result<Finished> {
    let mut settings = request.settings.clone();
    settings.labels.clone_from(&request.set.labels);
    settings.table = request.set.table_hash();
    settings.check().map_err(PretrainError::Request)?;
    if request.cache_size < settings.size {
        return Err(PretrainError::Request(format!(
            "an input of {} pixels cannot be cut from cached images of {}; raise --cache-size",
            settings.size, request.cache_size
        )));
    }
    if settings.crop == Crop::Whole && request.cache_size != settings.size {
        return Err(PretrainError::Request(format!(
            "--crop whole needs cached images of the input's size; give --cache-size {}",
            settings.size
        )));
    }
    request.set.check()?;
    let record = start::record(&request.start)?;
    let standardisation = match (request.standardisation, &record) {
        (Some(given), _) => given,
        (None, Some(record)) => {
            let parsed = record.standardisation.parse::<Standardisation>();
            parsed.map_err(|e| PretrainError::Request(format!("--init: {e}")))?
        }
        (None, None) => Standardisation::default(),
    };
    settings.standardisation = standardisation.to_string();
    let ready = start::ready(
        &request.start,
        &settings.network,
        &settings.labels,
        standardisation,
        settings.size,
        settings.seed,
    )?;
    settings.start.clone_from(&ready.origin);
    let trained = start::trained(&ready.graph, &settings.freeze)?;
    create_writable_folder(&request.folder).map_err(PretrainError::Write)?;
    remove_unfinished(&request.folder)?;
    let (data, refused) = prepare(request, &mut settings, standardisation, report)?;
    let mut learner = build(&ready.graph, &ready.weights, settings.update.clone(), &trained)?;
    // The learner has a copy, and the first weights of a large network take hundreds of megabytes.
    let start::Ready { mut notes, graph, weights, .. } = ready;
    drop(weights);
    let mut metadata = metadata(&graph, &settings)?;
    // What taught the network that it starts from is still in the weights.
    metadata.extend(record.and_then(|record| store::metadata(&record).remove_entry(META_TAUGHT_ON)));
    let run = train::Run {
        data: &data,
        settings: &settings,
        folder: &request.folder,
        metadata: &metadata,
        workers: request.workers,
        every: request.every,
        report,
    };
    let history = run.go(learner.as_mut())?;
    let aucs: Vec<Option<f64>> = history.iter().map(|r| r.auc).collect();
    let best = schedule::best(&aucs).unwrap_or(0);
    notes.extend(said(request, &settings, &data, &history, best));
    Ok(Finished { history, best, train: data.train.len(), validation: data.validation.len(), refused, settings, notes })
}

/// Removes checkpoints and weights that a killed run had begun to write: each is as large as the checkpoint, and after a
/// few kills none would fit the disk. The run has the folder to itself (`lock`).
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(PretrainError::io(folder))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = |file: &str| name.strip_prefix('.').is_some_and(|rest| rest.starts_with(&format!("{file}.")));
        if name.ends_with(".tmp") && [LAST_FILE, BEST_FILE].into_iter().any(ours) {
            std::fs::remove_file(entry.path()).map_err(PretrainError::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Images, windows, targets and parts.
fn prepare(
    request: &Request,
    settings: &mut Settings,
    standardisation: Standardisation,
    report: &dyn Fn(&Event<'_>),
) -> Result<(Data, Vec<Refused>)> {
    let set = &request.set;
    let absent = set.samples.iter().filter(|s| !s.file.is_file());
    let absent: Vec<Refused> =
        absent.map(|s| Refused { id: s.id.clone(), reason: "there is no such file".into() }).collect();
    // Before hours of decoding: a wrong folder misses everything.
    check_missing(request, &absent)?;
    let recipe = Recipe { size: request.cache_size, ..Recipe::default() };
    let cache = Cache::open(&request.cache, set, &recipe, &|done, all| report(&Event::Cached { done, all }))?;
    let refused = cache.refused().to_vec();
    check_missing(request, &refused)?;
    settings.images = cache.key().to_owned();
    let dealt = deal::deal(set, cache.there(), settings.validation, settings.seed);
    if dealt.train.len() < 2 || dealt.validation.is_empty() {
        return Err(PretrainError::Request(format!(
            "{} images to learn from and {} to judge by are too few; add images or change --validation",
            dealt.train.len(),
            dealt.validation.len()
        )));
    }
    report(&Event::Dealt { train: dealt.train.len(), validation: dealt.validation.len() });
    let template = match (settings.crop, &request.template) {
        (Crop::Template, Some(file)) => {
            let bytes = crate::image::read_bytes(file).map_err(|e| PretrainError::file(file, e.to_string()))?;
            settings.template = Some(to_hex(&Sha256::digest(&bytes)));
            Some(Template::read(file, settings.size)?)
        }
        (Crop::Template, None) => Some(Template::mean(&cache, &dealt.train, settings.size)?),
        _ => None,
    };
    let rows: Vec<usize> = dealt.train.iter().chain(&dealt.validation).copied().collect();
    let placed = |done, all| report(&Event::Cropped { done, all });
    let offsets = crop::kept_offsets(&request.cache, &cache, &rows, settings.size, template.as_ref(), &placed)?;
    let mut targets = Targets::new(set, &settings.policies, settings.seed);
    if settings.positive_weights {
        targets.balance(&dealt.train);
    }
    let data = Data {
        cache,
        ids: set.samples.iter().map(|s| s.id.clone()).collect(),
        targets,
        offsets,
        size: settings.size,
        standardisation,
        train: dealt.train,
        validation: dealt.validation,
        parents: settings.policies.conditional.then(|| targets::parents(&set.labels)),
    };
    Ok((data, refused))
}

/// Lists what is missing, and stops if it is too much.
fn check_missing(request: &Request, missing: &[Refused]) -> Result<()> {
    let list = request.folder.join(MISSING_FILE);
    if missing.is_empty() {
        // What an earlier start missed is there now.
        return match std::fs::remove_file(&list) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(PretrainError::io(&list)(e)),
            _ => Ok(()),
        };
    }
    let head = vec!["image".to_owned(), "reason".to_owned()];
    let rows = missing.iter().map(|m| vec![m.id.clone(), m.reason.clone()]);
    let text = to_csv(std::iter::once(head).chain(rows));
    write_atomic(&list, text.as_bytes()).map_err(PretrainError::Write)?;
    let total = request.set.samples.len();
    if missing.len() as f64 > request.max_missing * total as f64 {
        return Err(PretrainError::Missing { missing: missing.len(), total, allowed: request.max_missing, list });
    }
    Ok(())
}

/// What the best weights say about themselves, so that they are a source for the model store.
fn metadata(graph: &Graph, settings: &Settings) -> Result<BTreeMap<String, String>> {
    let json = |text: serde_json::Result<String>| text.map_err(|e| PretrainError::Request(e.to_string()));
    let head = json(serde_json::to_string(&Head::sigmoid(settings.labels.clone())))?;
    let mut metadata = BTreeMap::from([
        (META_ARCHITECTURE.to_owned(), graph.name.clone()),
        (META_HEAD.to_owned(), head),
        (META_STANDARDISATION.to_owned(), settings.standardisation.clone()),
    ]);
    let tree = targets::named_parents(&settings.labels);
    if settings.policies.conditional && !tree.is_empty() {
        metadata.insert(META_CONDITIONAL.to_owned(), json(serde_json::to_string(&tree))?);
    }
    Ok(metadata)
}

/// Sentences for the record: data, parts, preprocessing, result.
fn said(request: &Request, s: &Settings, data: &Data, history: &[EpochRecord], best: usize) -> Vec<String> {
    let crop = match s.crop {
        Crop::Whole => "whole image",
        Crop::Centre => "centre window",
        Crop::Template => "window placed by template matching",
    };
    let mut notes = vec![
        format!(
            "trained by chestnut {} on {} images of the set {}, judged by {} images of other patients",
            env!("CARGO_PKG_VERSION"),
            data.train.len(),
            request.set.name,
            data.validation.len()
        ),
        format!(
            "images: recipe {0} at {1} x {1} pixels, {2} of {3} x {3}, {4}",
            recipe_name(),
            request.cache_size,
            crop,
            s.size,
            s.standardisation
        ),
        format!("settings: {}", serde_json::to_string(s).unwrap_or_default()),
    ];
    if let Some(record) = history.get(best) {
        let auc = record.auc.map_or_else(|| "that cannot be estimated".to_owned(), |a| format!("{a:.4}"));
        notes.push(format!("best epoch {} of {}, mean validation AUC {auc}", best + 1, history.len()));
    }
    notes
}

fn recipe_name() -> String {
    Recipe::default().describe()[..2].join("; ")
}

/// The path of the best weights of a run.
#[must_use]
pub fn best_weights(folder: &Path) -> PathBuf {
    folder.join(BEST_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_run_had_begun_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let put = |name: &str| std::fs::write(folder.path().join(name), "x").expect("written");
        let kept =
            ["last.safetensors", "best.safetensors", ".last.safetensors", ".other.7.tmp", "last.safetensors.tmp"];
        kept.into_iter().for_each(put);
        [".last.safetensors.7.tmp", ".best.safetensors.123.tmp"].into_iter().for_each(put);
        remove_unfinished(folder.path()).expect("removed");
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert_eq!(names, kept);
    }
}
