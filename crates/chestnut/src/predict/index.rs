//! `models/index.json`: which models a study keeps, what they are for, and what their scores mean.
//!
//! Beside it lie the model files of each approach (`chestnut_forest::ModelFile`): one per network, one for all of them, or
//! none, as [`Reads`] says. The index holds the SHA-256 of each, so that a file that was exchanged or only half renewed is
//! noticed. It is input like any other: its size is checked before it is read, its version before its contents, and its
//! parts against each other before they are used.

use super::score::Reads;
use super::space::MAX_OWN;
use super::store::plain;
use crate::cohort::BlankRules;
use crate::embed::Network;
use crate::error::{Error, Result};
use crate::evaluate::calibrate::LabelCalibration;
use crate::image::recipe::Recipe;
use crate::study::Study;
use chestnut_forest::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS, ModelFile, ModelInput};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Component, Path};

/// The index below the study's folder.
pub const MODELS: &str = "models/index.json";
/// Version that this program writes, and the newest that it reads. Before 2 every approach read embeddings.
pub const INDEX_FORMAT: u32 = 2;
/// Largest index that is read; isotonic curves of many labels take a few megabytes.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Most approaches of an index.
pub const MAX_APPROACHES: usize = 64;

/// Everything that `predict` must know of a study's models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelIndex {
    /// [`INDEX_FORMAT`] of the program that wrote it.
    pub format_version: u32,
    /// Version of that program.
    pub chestnut: String,
    /// Names of the labels, in the order of every model's outputs.
    pub labels: Vec<String>,
    /// Networks whose embeddings the models read.
    pub networks: Vec<NetworkRecord>,
    /// How an image becomes a network's input, but for the size, which is each network's own.
    pub recipe: Recipe,
    /// Regions that were blanked.
    pub blank: BlankRules,
    /// What was learned from.
    pub training: TrainingSet,
    /// Hash of the ids and contents of all images that every network had embedded.
    pub cohort_hash: String,
    /// Distance of the cohort's own images from their nearest others, ascending ([`super::space`]).
    pub own_distances: Vec<f64>,
    /// The first of them is used unless another is asked for.
    pub approaches: Vec<KeptApproach>,
}

/// A network as it was when the models were fitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecord {
    /// Name in the model store.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// SHA-256 of its weights, or a remark for seeded ones.
    pub weights: String,
    /// How grey values are standardised for it.
    pub standardisation: String,
    /// Side of its input in pixels.
    pub input_size: usize,
    /// Width of its embedding.
    pub width: usize,
}

/// The images that were learned from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSet {
    /// Training and validation images.
    pub images: usize,
    /// Their patients.
    pub patients: usize,
    /// Seed of the split and of the learners.
    pub seed: u64,
    /// Hash of the images' ids and contents.
    pub hash: String,
}

/// One approach: what it reads, its models, and what its scores mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptApproach {
    /// As in the tables.
    pub name: String,
    /// Settings, for people.
    pub settings: String,
    /// What the scores are made from.
    #[serde(default)]
    pub reads: Reads,
    /// One per network in their order, one for all of them, or none.
    pub models: Vec<KeptModel>,
    /// Per label, why nothing could be learned.
    pub untrained: Vec<Option<String>>,
    /// Per label, curves and thresholds for the score.
    pub calibrations: Vec<LabelCalibration>,
}

/// One model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptModel {
    /// Path below the study's folder, with `/` between its parts.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// What is read before anything else.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl ModelIndex {
    /// Reads the index of a study and checks that it holds together; the model files are not looked at.
    ///
    /// # Errors
    /// If `compare` kept no models, or the index is too large, too new or damaged.
    pub fn read(study: &Study) -> Result<Self> {
        let path = study.path(MODELS);
        let command = format!("chestnut compare {}", study.root.display());
        if !path.is_file() {
            return Err(Error::StageMissing { study: study.root.clone(), what: MODELS.to_owned(), command });
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(Error::io(&path))?;
        file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        Self::from_bytes(&bytes)
            .map_err(|problem| Error::File { path, problem: format!("{problem}; run `{command}` again") })
    }

    /// Parses and checks an index.
    pub(crate) fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(format!("has more than the {MAX_INDEX_BYTES} bytes that are read"));
        }
        let unreadable = |e: serde_json::Error| format!("is no index of models: {e}");
        let Version { format_version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !(1..=INDEX_FORMAT).contains(&format_version) {
            return Err(format!("has format {format_version}, and this program reads up to {INDEX_FORMAT}"));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        index.check()?;
        Ok(index)
    }

    /// Checks limits, and that every list has the length that it must have.
    fn check(&self) -> std::result::Result<(), String> {
        let counts = [
            ("labels", self.labels.len(), MAX_OUTPUTS),
            ("networks", self.networks.len(), MAX_INPUTS),
            ("approaches", self.approaches.len(), MAX_APPROACHES),
        ];
        if let Some((what, found, limit)) = counts.into_iter().find(|c| c.1 == 0 || c.1 > c.2) {
            return Err(format!("has {found} {what}; 1 to {limit} are read"));
        }
        let mut names = self.labels.iter().chain(self.networks.iter().map(|n| &n.name));
        if let Some(name) = names.find(|n| n.is_empty() || n.len() > MAX_NAME_BYTES) {
            return Err(format!("has a name of {} bytes; 1 to {MAX_NAME_BYTES} are read", name.len()));
        }
        let ascending = self.own_distances.windows(2).all(|w| w[0] <= w[1]);
        if self.own_distances.len() > MAX_OWN || !ascending || self.own_distances.iter().any(|d| !d.is_finite()) {
            return Err("holds distances that are no ascending list".to_owned());
        }
        self.recipe.check().map_err(|e| e.to_string())?;
        self.blank.check().map_err(|e| e.to_string())?;
        for approach in &self.approaches {
            let fits = approach.models.len() == approach.reads.networks_of(&self.networks).len()
                && approach.reads.fits(self.labels.len())
                && approach.untrained.len() == self.labels.len()
                && approach.calibrations.len() == self.labels.len();
            if !fits {
                return Err(format!("does not hold together: {} fits neither networks nor labels", approach.name));
            }
            approach.calibrations.iter().try_for_each(LabelCalibration::check).map_err(|e| e.to_string())?;
            if let Some(model) = approach.models.iter().find(|m| !is_model_name(&m.file)) {
                return Err(format!("names the file {:?}, which is no model's", model.file));
            }
        }
        Ok(())
    }

    /// The approach of that name (as in the tables, or as its folder: `embeddings-rf`), or the first.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that there are.
    pub fn approach(&self, name: Option<&str>) -> Result<&KeptApproach> {
        let found = match name {
            None => self.approaches.first(),
            Some(name) => self.approaches.iter().find(|a| plain(&a.name) == plain(name)),
        };
        found.ok_or_else(|| {
            let names: Vec<String> = self.approaches.iter().map(|a| format!("\"{}\"", a.name)).collect();
            let asked = name.unwrap_or("any approach");
            Error::Request(format!("the study keeps no models of \"{asked}\"; it keeps {}", names.join(", ")))
        })
    }

    /// Reads the models of one approach, in the order of their networks.
    ///
    /// # Errors
    /// If a file is missing, was changed, or is for other networks, labels or pixels than the index says.
    pub fn models(&self, study: &Study, approach: &KeptApproach) -> Result<Vec<ModelFile>> {
        let command = format!("chestnut compare {}", study.root.display());
        let read = |(kept, networks): (&KeptModel, &[NetworkRecord])| -> Result<ModelFile> {
            let path = study.path(&kept.file);
            let fault = |problem: String| Error::File {
                path: path.clone(),
                problem: format!("{problem}; run `{command}` again"),
            };
            // Asked before opening: opening a named pipe would wait for ever.
            if !path.is_file() {
                return Err(fault("is missing or no regular file".to_owned()));
            }
            let mut bytes = Vec::new();
            let file = std::fs::File::open(&path).map_err(Error::io(&path))?;
            let limit = chestnut_forest::MAX_MODEL_BYTES as u64 + 1;
            file.take(limit).read_to_end(&mut bytes).map_err(Error::io(&path))?;
            if sha256(&bytes) != kept.sha256 {
                return Err(fault("is not the file that compare wrote".to_owned()));
            }
            let model = ModelFile::from_bytes(&bytes).map_err(|e| fault(e.to_string()))?;
            let is_for = |(input, network): (&ModelInput, &NetworkRecord)| {
                input.network == network.name
                    && input.weights_sha256 == weights_sha256(&network.weights)
                    && input.width == approach.reads.width(network)
            };
            let same = model.inputs.len() == networks.len()
                && model.inputs.iter().zip(networks).all(is_for)
                && model.labels == self.labels
                && model.recipe_hash == recipes_sha256(networks, &self.recipe, &self.blank);
            if !same {
                let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
                return Err(fault(format!("is not for {} and these labels and pixels", names.join(", "))));
            }
            Ok(model)
        };
        approach.models.iter().zip(approach.reads.networks_of(&self.networks)).map(read).collect()
    }
}

/// Whether a file has the name of a model, models/APPROACH/NETWORK.json: an edited index must not reach other files.
fn is_model_name(file: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(file).components().collect();
    let normal = parts.iter().all(|c| matches!(c, Component::Normal(_)));
    normal && parts.len() == 3 && file.starts_with("models/") && file.ends_with(".json")
}

impl NetworkRecord {
    /// What is kept of a network whose embeddings have `width` values.
    pub(crate) fn of(network: &Network, width: usize) -> Self {
        let record = &network.record;
        Self {
            name: network.name.clone(),
            architecture: record.architecture.clone(),
            weights: record.weights_sha256.clone(),
            standardisation: record.standardisation.clone(),
            input_size: record.input_size,
            width,
        }
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    crate::fs::to_hex(&Sha256::digest(bytes))
}

/// The hash of weights as a model file wants it; seeded networks have a remark instead, which is hashed.
pub(crate) fn weights_sha256(weights: &str) -> String {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if weights.len() == 64 && weights.bytes().all(digit) { weights.to_owned() } else { sha256(weights.as_bytes()) }
}

/// The same for a model that reads several networks.
pub(crate) fn recipes_sha256(networks: &[NetworkRecord], recipe: &Recipe, blank: &BlankRules) -> String {
    if let [only] = networks {
        return recipe_sha256(only, recipe, blank);
    }
    let all: String = networks.iter().map(|n| recipe_sha256(n, recipe, blank) + "\n").collect();
    sha256(all.as_bytes())
}

/// Hash of everything that turns a file into the network's input.
fn recipe_sha256(network: &NetworkRecord, recipe: &Recipe, blank: &BlankRules) -> String {
    let recipe = Recipe { size: network.input_size, ..recipe.clone() };
    sha256(format!("{}\n{}\n{blank:?}\n", recipe.hash(), network.standardisation).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::calibrate::Threshold;

    fn index() -> ModelIndex {
        let network = NetworkRecord {
            name: "xception".to_owned(),
            architecture: "xception".to_owned(),
            weights: "0f".repeat(32),
            standardisation: "imagenet".to_owned(),
            input_size: 224,
            width: 2048,
        };
        let approach = KeptApproach {
            name: "Embeddings + RF".to_owned(),
            settings: "RF".to_owned(),
            reads: Reads::Embeddings,
            models: vec![KeptModel { file: "models/rf/xception.json".to_owned(), sha256: "0f".repeat(32) }],
            untrained: vec![None],
            calibrations: vec![LabelCalibration::missing("too few".to_owned())],
        };
        ModelIndex {
            format_version: INDEX_FORMAT,
            chestnut: "0.1.0".to_owned(),
            labels: vec!["Edema".to_owned()],
            networks: vec![network],
            recipe: Recipe::default(),
            blank: BlankRules::default(),
            training: TrainingSet { images: 7, patients: 5, seed: 0, hash: "aa".to_owned() },
            cohort_hash: "bb".to_owned(),
            own_distances: vec![0.25, 0.5],
            approaches: vec![approach],
        }
    }

    #[test]
    fn a_good_index_comes_back_and_a_damaged_one_is_refused() {
        let good = index();
        let bytes = |index: &ModelIndex| serde_json::to_vec(index).expect("plain values");
        assert_eq!(ModelIndex::from_bytes(&bytes(&good)), Ok(good.clone()));
        let refused = |change: &dyn Fn(&mut ModelIndex)| {
            let mut bad = good.clone();
            change(&mut bad);
            ModelIndex::from_bytes(&bytes(&bad)).expect_err("must be refused")
        };
        assert!(refused(&|i| i.format_version = 9).contains("format 9"));
        assert!(refused(&|i| i.labels.clear()).contains("0 labels"));
        assert!(refused(&|i| i.networks[0].name.clear()).contains("0 bytes"));
        assert!(refused(&|i| i.labels.push("PNX".to_owned())).contains("Embeddings + RF"));
        assert!(refused(&|i| i.own_distances.reverse()).contains("ascending"));
        assert!(refused(&|i| i.approaches[0].calibrations[0].reason = None).contains("reason"));
        assert!(refused(&|i| i.approaches[0].reads = Reads::Outputs { outputs: 0 }).contains("Embeddings + RF"));
        let map = crate::cohort::LabelMap::chexpert_to_hum_cxr();
        let map = crate::transfer::source::SourceMap::new(&["Edema".to_owned()], &["Edema".to_owned()], &map);
        let mapped = |outputs| Reads::MappedOutputs { outputs, map: map.clone(), map_first: false };
        assert!(refused(&|i| i.approaches[0].reads = mapped(1)).contains("Embeddings + RF"), "it needs no model");
        let mut baseline = good.clone();
        (baseline.approaches[0].reads, baseline.approaches[0].models) = (mapped(1), Vec::new());
        assert_eq!(ModelIndex::from_bytes(&bytes(&baseline)), Ok(baseline.clone()));
        baseline.approaches[0].reads = mapped(0);
        assert!(ModelIndex::from_bytes(&bytes(&baseline)).is_err(), "an output that no network has");
        // Each image is compared with each threshold, and each rule with each other.
        let many = |i: &mut ModelIndex| {
            let rule = |n: usize| Threshold { rule: n.to_string(), score: 0.5 };
            i.approaches[0].calibrations[0].thresholds = (0..10_000).map(rule).collect();
        };
        assert!(refused(&many).contains("10000 thresholds"));
        for file in ["", "models/../rf.json", "/models/rf.json", "models/tuned.json", "cohort.csv"] {
            assert!(refused(&|i| i.approaches[0].models[0].file = file.to_owned()).contains("no model's"), "{file}");
        }
        assert!(ModelIndex::from_bytes(b"{}").is_err());
        let unknown = String::from_utf8(bytes(&good)).expect("UTF-8").replacen("\"labels\"", "\"labels2\"", 1);
        assert!(ModelIndex::from_bytes(unknown.as_bytes()).is_err());
    }

    #[test]
    fn an_index_of_before_reads_embeddings() {
        let mut old = serde_json::to_value(index()).expect("plain values");
        old["format_version"] = 1.into();
        old["approaches"][0].as_object_mut().expect("an approach").remove("reads").expect("was there");
        let read = ModelIndex::from_bytes(&serde_json::to_vec(&old).expect("plain values")).expect("still read");
        assert_eq!(read.approaches, index().approaches);
    }

    #[test]
    fn approaches_are_found_by_name() {
        let index = index();
        assert_eq!(index.approach(Some("embeddings-rf")).expect("by folder").name, "Embeddings + RF");
        assert_eq!(index.approach(None).expect("the first").name, "Embeddings + RF");
        assert_eq!(index.approach(Some("embeddings + rf")).expect("by name").name, "Embeddings + RF");
        let message = index.approach(Some("Stacking")).expect_err("not kept").to_string();
        assert!(message.contains("\"Stacking\"") && message.contains("\"Embeddings + RF\""), "{message}");
    }

    #[test]
    fn hashes_change_with_what_they_stand_for() {
        let index = index();
        let (network, recipe, blank) = (&index.networks[0], &index.recipe, &index.blank);
        let hash = recipe_sha256(network, recipe, blank);
        assert_eq!(hash.len(), 64);
        let bits = Recipe { clip_quantile: 1.0, ..recipe.clone() };
        assert_ne!(recipe_sha256(network, &bits, blank), hash);
        let larger = NetworkRecord { input_size: 299, ..network.clone() };
        assert_ne!(recipe_sha256(&larger, recipe, blank), hash);
        assert_eq!(weights_sha256(&network.weights), network.weights);
        assert_eq!(weights_sha256("seeded (not trained)").len(), 64);
    }
}
