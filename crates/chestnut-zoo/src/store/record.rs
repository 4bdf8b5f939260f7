//! The record of a network: `model.toml`.
//!
//! What one must know to use a set of weights and cannot see from them: the head, how the input was standardised, where
//! the weights come from and under which licence. It may be edited by hand, so it is checked when read.

use crate::graph::Graph;
use crate::head::{Activation, Head};
use crate::nets::Architecture;
use crate::read::safetensors::{META_ARCHITECTURE, META_CONDITIONAL, META_HEAD, META_STANDARDISATION, META_TAUGHT_ON};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ways to standardise an input: ImageNet's mean and deviation (the paper), -1 to 1 (Keras `tf`), ImageNet's mean in
/// BGR order (Keras `caffe`), -1024 to 1024 in one channel (TorchXRayVision).
pub const STANDARDISATIONS: [&str; 5] = ["imagenet", "keras-tf", "keras-caffe", "torchxrayvision", "none"];

/// Most films that a network may be taught on by fine-tuning, since all are listed in its record.
pub const MAX_TAUGHT_ON: usize = 500_000;

/// Rows and columns that an input may have: enough for every network, and no more than memory allows.
pub const INPUT_SIZES: std::ops::RangeInclusive<usize> = 32..=2048;
/// Most Dense layers of a head; VGG's has three.
const MAX_HEAD_LAYERS: usize = 16;
/// Most outputs of a Dense layer; the larger of ImageNet's lists has 21,843 classes.
const MAX_HEAD_UNITS: usize = 1 << 16;
/// Most labels from one that holds under others to its root; CheXpert's tree has three.
const MAX_PATH: usize = 32;

/// What the store knows about a network; `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name in the store.
    pub name: String,
    /// Name of the architecture.
    pub architecture: String,
    /// Channels of the input: 3, or 1.
    pub channels: usize,
    /// One of [`STANDARDISATIONS`].
    pub standardisation: String,
    /// Rows and columns of the input.
    pub input_size: usize,
    /// Rows and columns that the source file names, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_input_size: Option<usize>,
    /// Name of the source file, without folders.
    pub source_file: String,
    /// How the source file is built.
    pub source_format: String,
    /// SHA-256 of the source file, hexadecimal.
    pub source_sha256: String,
    /// SHA-256 of `weights.safetensors`, hexadecimal.
    pub weights_sha256: String,
    /// Licence of the weights, as text.
    pub licence: String,
    /// What was assumed or left out.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Identities of a study's films whose labels taught it, so that it is not compared on them as if it had never seen
    /// them: hashes of their contents, which name nobody. At most [`MAX_TAUGHT_ON`]; kept in copies of the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taught_on: Vec<String>,
    /// Version of `chestnut` that added it.
    pub added_by_version: String,
    /// What stands on the embedding.
    #[serde(default)]
    pub head: Head,
    /// Label to parent: the output of the label is its probability where the parent is present, so its probability is the
    /// product along the path (Pham et al., arXiv 1911.06475). Empty: every output stands for itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditional: BTreeMap<String, String>,
}

impl ModelRecord {
    /// The network without weights.
    ///
    /// # Errors
    /// A text that says what is wrong with the record.
    pub fn graph(&self) -> Result<Graph, String> {
        let architecture: Architecture = self.architecture.parse()?;
        if !matches!(self.channels, 1 | 3) {
            return Err(format!("channels is {}; it can be 1 or 3", self.channels));
        }
        if !STANDARDISATIONS.contains(&self.standardisation.as_str()) {
            return Err(unknown_standardisation(&self.standardisation));
        }
        if (self.standardisation == "torchxrayvision") != (self.channels == 1) {
            let channels = self.channels;
            return Err(format!("standardisation {} does not make {channels} channels", self.standardisation));
        }
        if !INPUT_SIZES.contains(&self.input_size) {
            let (low, high) = (INPUT_SIZES.start(), INPUT_SIZES.end());
            return Err(format!("input_size is {}; it can be {low} to {high}", self.input_size));
        }
        let labels = self.head.labels.len();
        if labels != 0 && labels != self.head.outputs() {
            return Err(format!("the head has {} outputs and {labels} labels", self.head.outputs()));
        }
        self.paths()?;
        let graph = architecture.graph_with_channels(&self.head, self.channels);
        graph.shapes(self.input_size, self.input_size).map_err(|e| e.to_string())?;
        Ok(graph)
    }

    /// The first 12 digits of the weights' hash, for people to recognise them by; what stands there instead, if no hash does.
    #[must_use]
    pub fn short_hash(&self) -> &str {
        self.weights_sha256.get(..12).unwrap_or(&self.weights_sha256)
    }

    /// Whether the weights' hash is one.
    pub(super) fn check_hash(&self) -> Result<(), String> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.weights_sha256.len() == 64 && self.weights_sha256.bytes().all(digit) {
            Ok(())
        } else {
            let found = &self.weights_sha256;
            Err(format!("weights_sha256 is {found:?}; it has 64 digits, 0 to 9 and a to f; add the network again"))
        }
    }

    /// For each output the outputs whose product is its label's probability, itself first; see [`Self::conditional`].
    ///
    /// # Errors
    /// A text that says what is wrong: a head beyond the limits, a name that is no label, a circle or a path that is too
    /// long, or outputs that are no independent probabilities.
    pub fn paths(&self) -> Result<Vec<Vec<usize>>, String> {
        self.check_head()?;
        let outputs = self.head.outputs();
        if self.conditional.is_empty() {
            return Ok((0..outputs).map(|output| vec![output]).collect());
        }
        if self.head.layers.last().is_none_or(|l| l.activation != Activation::Sigmoid) {
            return Err("conditional needs outputs that are probabilities: a head that ends in a sigmoid".into());
        }
        if self.head.labels.len() != outputs {
            return Err("conditional needs a head whose outputs all have a label".into());
        }
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, label) in self.head.labels.iter().enumerate() {
            places.entry(label.as_str()).or_insert(at);
        }
        let place = |name: &String| {
            let found = places.get(name.as_str()).copied();
            found.ok_or_else(|| format!("conditional names {name:?}, which is no label of the head"))
        };
        let mut parents = vec![None; outputs];
        for (child, parent) in &self.conditional {
            parents[place(child)?] = Some(place(parent)?);
        }
        let mut paths = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let mut path = vec![output];
            while let Some(parent) = parents[path[path.len() - 1]] {
                if path.contains(&parent) {
                    return Err(format!("conditional leads from {:?} in a circle", self.head.labels[output]));
                }
                if path.len() == MAX_PATH {
                    let label = &self.head.labels[output];
                    return Err(format!("conditional leads from {label:?} over more than {MAX_PATH} labels"));
                }
                path.push(parent);
            }
            paths.push(path);
        }
        Ok(paths)
    }

    /// Whether the head is one that a network may have: everything behind this makes lists as long as its layers are wide.
    fn check_head(&self) -> Result<(), String> {
        let layers = self.head.layers.len();
        if layers > MAX_HEAD_LAYERS {
            return Err(format!("the head has {layers} layers; at most {MAX_HEAD_LAYERS} are read"));
        }
        let mut units = self.head.layers.iter().map(|layer| layer.units);
        match units.find(|units| !(1..=MAX_HEAD_UNITS).contains(units)) {
            Some(units) => Err(format!("a layer of the head has {units} units; it can have 1 to {MAX_HEAD_UNITS}")),
            None => Ok(()),
        }
    }
}

/// What a weights file of the store says about itself, so that it can be read without its record.
#[must_use]
pub fn metadata(record: &ModelRecord) -> BTreeMap<String, String> {
    let head = serde_json::to_string(&record.head).expect("numbers and texts are valid JSON");
    let mut metadata = BTreeMap::from([
        (META_ARCHITECTURE.to_owned(), record.architecture.clone()),
        (META_HEAD.to_owned(), head),
        (META_STANDARDISATION.to_owned(), record.standardisation.clone()),
    ]);
    if !record.conditional.is_empty() {
        let text = serde_json::to_string(&record.conditional).expect("texts are valid JSON");
        metadata.insert(META_CONDITIONAL.to_owned(), text);
    }
    if !record.taught_on.is_empty() {
        let text = serde_json::to_string(&record.taught_on).expect("texts are valid JSON");
        metadata.insert(META_TAUGHT_ON.to_owned(), text);
    }
    metadata
}

/// What to say about a standardisation that is not one of [`STANDARDISATIONS`].
pub(super) fn unknown_standardisation(name: &str) -> String {
    format!("unknown standardisation {name:?}; known are {}", STANDARDISATIONS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::HeadLayer;

    #[test]
    fn records_survive_toml() {
        let layers = vec![
            HeadLayer { units: 128, activation: Activation::Relu },
            HeadLayer { units: 2, activation: Activation::Linear },
        ];
        let record = ModelRecord {
            name: "a".into(),
            architecture: "xception".into(),
            channels: 3,
            standardisation: "keras-tf".into(),
            input_size: 224,
            saved_input_size: Some(150),
            source_file: "x \"y\".keras".into(),
            source_format: "keras-v3".into(),
            source_sha256: "0".into(),
            weights_sha256: "1".into(),
            licence: "two\nlines".into(),
            notes: vec!["first".into(), "second".into()],
            taught_on: vec!["0123456789abcdef".into()],
            added_by_version: "0".into(),
            head: Head { layers, labels: vec!["ill".into(), "well".into()] },
            conditional: BTreeMap::new(),
        };
        let text = toml::to_string_pretty(&record).expect("TOML");
        assert_eq!(toml::from_str::<ModelRecord>(&text).expect("valid"), record, "{text}");
        assert!(record.graph().is_ok());
        assert!(ModelRecord { input_size: 6, ..record.clone() }.graph().is_err());
        assert!(ModelRecord { channels: 4, ..record.clone() }.graph().is_err());
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(child, parent)| (child.to_owned(), parent.to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert!(ModelRecord { conditional: pairs(&[("ill", "well")]), ..record.clone() }.graph().is_err(), "logits");
        let tree = |conditional| {
            let head = Head::sigmoid(["a", "b", "c", "d"].map(str::to_owned).to_vec());
            ModelRecord { head, conditional, ..record.clone() }
        };
        let tall = tree(pairs(&[("a", "c"), ("c", "b")]));
        assert_eq!(tall.paths().expect("a tree"), [vec![0, 2, 1], vec![1], vec![2, 1], vec![3]]);
        let text = toml::to_string_pretty(&tall).expect("TOML");
        assert_eq!(toml::from_str::<ModelRecord>(&text).expect("valid"), tall, "{text}");
        assert!(metadata(&tall).contains_key(META_CONDITIONAL) && !metadata(&record).contains_key(META_CONDITIONAL));
        for (wrong, says) in [(pairs(&[("a", "x")]), "\"x\""), (pairs(&[("a", "b"), ("b", "a")]), "circle")] {
            let error = tree(wrong).graph().expect_err("wrong");
            assert!(error.contains(says), "{error}");
        }
        assert!(tree(pairs(&[("a", "a")])).graph().is_err(), "its own parent");
    }

    /// A record of a few bytes must not make lists of billions.
    #[test]
    fn heads_and_paths_have_limits() {
        let record = |head: Head, conditional: BTreeMap<String, String>| ModelRecord {
            name: "a".into(),
            architecture: "vgg16".into(),
            channels: 3,
            standardisation: "imagenet".into(),
            input_size: 224,
            saved_input_size: None,
            source_file: "a".into(),
            source_format: "keras-v3".into(),
            source_sha256: "0".into(),
            weights_sha256: "1".into(),
            licence: "CC0".into(),
            notes: Vec::new(),
            added_by_version: "0".into(),
            head,
            conditional,
            taught_on: Vec::new(),
        };
        let layer = |units| HeadLayer { units, activation: Activation::Linear };
        let unnamed = |layers| record(Head { layers, labels: Vec::new() }, BTreeMap::new());
        assert!(unnamed(vec![layer(4096), layer(1000)]).graph().is_ok());
        for units in [0, MAX_HEAD_UNITS + 1, 1 << 40, usize::MAX] {
            let error = unnamed(vec![layer(units)]).graph().expect_err("no such head");
            assert!(error.contains(&units.to_string()), "{error}");
        }
        let error = unnamed(vec![layer(2); MAX_HEAD_LAYERS + 1]).graph().expect_err("too many layers");
        assert!(error.contains("17 layers"), "{error}");
        let chain = |length: usize| {
            let labels: Vec<String> = (0..length).map(|i| format!("label {i}")).collect();
            let parents = labels.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            record(Head::sigmoid(labels), parents).paths()
        };
        assert_eq!(chain(MAX_PATH).expect("just short enough")[0].len(), MAX_PATH);
        assert!(chain(MAX_PATH + 1).expect_err("too long").contains("more than 32 labels"));
    }
}
