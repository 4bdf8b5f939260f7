//! What a fine-tuning leaves in the study, and how `compare` reads it: predictions by networks that had not seen the
//! image's patient, for the test part and, fold by fold, for the rest.

use super::DeepOptions;
use super::fit::History;
use crate::cohort::Cohort;
use crate::embed::Network;
use crate::error::{Error, Result};
use crate::image::recipe::Recipe;
use crate::study::{Study, read_text};
use chestnut_forest::Labels;
use chestnut_train::Depth;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// `finetuned/<network>-<depth>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version that wrote it.
    pub version: String,
    /// Network that was taught.
    pub network: String,
    /// How it was taught.
    pub options: DeepOptions,
    /// Identity of everything that it was taught on.
    pub key: String,
    /// Labels that it learned.
    pub labels: Vec<String>,
    /// The training run for the test part, then one per fold of the other patients.
    pub fits: Vec<History>,
    /// Probabilities by image id, one per label.
    pub predictions: BTreeMap<String, Vec<f64>>,
}

/// Probabilities by network and depth, then by row of the cohort.
pub(crate) type DeepPredictions = BTreeMap<(String, Depth), BTreeMap<usize, Vec<f64>>>;

/// Name of the taught network in `models/`, and of its record.
pub(super) fn model_name(network: &Network, depth: Depth) -> String {
    format!("{}-{}", network.name.replace(':', "-"), depth.name())
}

pub(super) fn file_name(network: &Network, depth: Depth) -> String {
    format!("finetuned/{}.json", model_name(network, depth))
}

/// Depths to which all of these networks were taught, for `compare`; and for each other depth to which some were, a
/// sentence that says why it is left out and what to do.
#[must_use]
pub fn depths(study: &Study, networks: &[Network]) -> (Vec<Depth>, Vec<String>) {
    let names = |networks: &[&Network]| networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(",");
    let (mut all, mut left_out) = (Vec::new(), Vec::new());
    for depth in [Depth::Head, Depth::Conv, Depth::Block, Depth::All] {
        let is_taught = |n: &&Network| study.path(&file_name(n, depth)).is_file();
        let (taught, others): (Vec<&Network>, Vec<&Network>) = networks.iter().partition(is_taught);
        if taught.is_empty() {
            continue;
        }
        let approach = super::approach_name(depth);
        if !others.is_empty() {
            let (taught, others, depth) = (names(&taught), names(&others), depth.name());
            left_out.push(format!(
                "{approach} is left out, because only {taught} was taught so: run finetune --net {others} --depth \
                 {depth}, or compare with --net {taught}"
            ));
        } else if let Err(e) = super::beside::one_look(study, networks) {
            left_out.push(format!("{approach} is left out: {e}"));
        } else {
            all.push(depth);
        }
    }
    (all, left_out)
}

/// Identity of weights, recipe, split and labels.
pub(super) fn key(
    study: &Study,
    network: &Network,
    cohort: &Cohort,
    parts: [&[usize]; 3],
    names: &[String],
    labels: &Labels,
) -> String {
    let settings = &study.settings;
    let recipe = Recipe { size: network.record.input_size, ..settings.recipe.clone() };
    let mut hash = Sha256::new();
    hash.update(format!("{}\n{}\n", network.record.weights_sha256, network.record.standardisation));
    hash.update(format!("{}\n{:?}\n{:?}\n{names:?}\n", recipe.hash(), settings.blank, settings.split));
    for (part, rows) in parts.into_iter().enumerate() {
        for &row in rows {
            let image = &cohort.images[row];
            hash.update(format!("{part}\t{}\t{}\t{}\n", image.id, image.sha256, image.patient));
            (0..labels.outputs()).for_each(|k| hash.update([labels.get(row, k).map_or(2, u8::from)]));
        }
    }
    crate::fs::to_hex(&hash.finalize()[..16])
}

/// Reads what `finetune` predicted for these networks and depths.
///
/// # Errors
/// If a network was not taught to a depth, or on other images, labels or patients.
pub(crate) fn load(
    study: &Study,
    networks: &[Network],
    depths: &[Depth],
    cohort: &Cohort,
    parts: [&[usize]; 3],
    (names, labels): (&[String], &Labels),
) -> Result<DeepPredictions> {
    if !depths.is_empty() {
        super::beside::one_look(study, networks)?;
    }
    let mut all = DeepPredictions::new();
    for network in networks {
        for &depth in depths {
            let name = file_name(network, depth);
            let path = study.path(&name);
            let command =
                format!("chestnut finetune {} --net {} --depth {}", study.root.display(), network.name, depth.name());
            if !path.is_file() {
                return Err(Error::StageMissing { study: study.root.clone(), what: name, command });
            }
            let fault = |problem: String| Error::File { path: path.clone(), problem };
            let record: Record = serde_json::from_str(&read_text(&path)?).map_err(|e| fault(e.to_string()))?;
            if record.key != key(study, network, cohort, parts, names, labels) {
                if let Some(problem) = super::beside::lacking(study, network, cohort, &record.key)? {
                    return Err(fault(problem));
                }
                let problem = "was made from other weights, images, labels or another split";
                return Err(fault(format!("{problem}; run `{command}` again")));
            }
            let mut rows = BTreeMap::new();
            for (id, probabilities) in record.predictions {
                let row = cohort.images.binary_search_by(|i| i.id.as_str().cmp(&id));
                let fits = probabilities.len() == names.len() && probabilities.iter().all(|p| (0.0..=1.0).contains(p));
                match row {
                    Ok(row) if fits => rows.insert(row, probabilities),
                    _ => return Err(fault(format!("does not fit the cohort at {id}; run `{command}` again"))),
                };
            }
            all.insert((network.name.clone(), depth), rows);
        }
    }
    Ok(all)
}
