//! The model file: a fitted model with everything that says which embeddings it is for.
//!
//! JSON, so that it can be read anywhere; numbers are written shortest and read back to the same bits, for which
//! serde_json's feature `float_roundtrip` must be on and the model must stay externally tagged (a buffered tag would
//! read f32 by way of f64). A file is input like any other: its size is checked before it is read, its version before
//! its contents, and the model before it is used, so that no file can make prediction leave its tables or not end.

use crate::forest::{Forest, ForestError};
use crate::linear::{LinearError, LinearProbe};
use crate::onnx::{OnnxError, regressor};
use crate::table::MAX_OUTPUTS;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version that this program writes, and the newest that it reads.
pub const MODEL_FORMAT: u32 = 1;
/// Largest model file. In memory a model takes at most about 8 times its file.
pub const MAX_MODEL_BYTES: usize = 256 << 20;
/// Most nodes of all trees of a model file.
pub const MAX_MODEL_NODES: usize = 1 << 24;
/// Most networks whose embeddings are concatenated.
pub const MAX_INPUTS: usize = 64;
/// Longest label or network name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Characters of a SHA-256 in hexadecimal.
const HASH_LENGTH: usize = 64;

/// Why a model file cannot be read or written.
#[derive(Debug, Error)]
pub enum ModelFileError {
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Not JSON, or not this JSON.
    #[error("this is no model file of chestnut: {0}")]
    Json(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("the model file has format {found}, this program reads up to {newest}; use the newer program", newest = MODEL_FORMAT)]
    Version {
        /// As found.
        found: u32,
    },
    /// Above a named limit.
    #[error("the model file has {found} {what}, more than the {limit} that this version reads")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Parts that do not fit each other.
    #[error("the model file does not hold together: {0}")]
    Inconsistent(String),
    /// The forest in it.
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// The linear probe in it.
    #[error(transparent)]
    Linear(#[from] LinearError),
}

/// Where a part of the embedding came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInput {
    /// Network, such as `xception`.
    pub network: String,
    /// SHA-256 of its weights in lower-case hexadecimal.
    pub weights_sha256: String,
    /// Features that it contributes.
    pub width: usize,
}

/// A model of any kind that this crate fits and keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// One forest for all labels.
    Forest(Forest),
    /// One forest per label, each with one output.
    SingleForests(Vec<Forest>),
    /// A linear probe for all labels.
    LinearProbe(LinearProbe),
}

/// A model and what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// [`MODEL_FORMAT`] of the program that wrote it.
    pub format_version: u32,
    /// Version of that program.
    pub chestnut: String,
    /// Names of the outputs, in order.
    pub labels: Vec<String>,
    /// SHA-256 of the recipe that made the images, in lower-case hexadecimal.
    pub recipe_hash: String,
    /// Networks whose embeddings were joined side by side, in order.
    pub inputs: Vec<ModelInput>,
    /// The model.
    pub model: Model,
}

/// What is read before anything else.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl ModelFile {
    /// Puts a model and its provenance together.
    ///
    /// # Errors
    /// As [`ModelFile::validate`].
    pub fn new(
        labels: Vec<String>,
        recipe_hash: String,
        inputs: Vec<ModelInput>,
        model: Model,
    ) -> Result<Self, ModelFileError> {
        let chestnut = env!("CARGO_PKG_VERSION").to_owned();
        let file = Self { format_version: MODEL_FORMAT, chestnut, labels, recipe_hash, inputs, model };
        file.validate()?;
        Ok(file)
    }

    /// Checks limits, hashes, the fit of labels and inputs to the model, and the model itself.
    ///
    /// # Errors
    /// [`ModelFileError`] naming what is wrong.
    pub fn validate(&self) -> Result<(), ModelFileError> {
        let inconsistent = |what: String| Err(ModelFileError::Inconsistent(what));
        if self.format_version > MODEL_FORMAT || self.format_version == 0 {
            return Err(ModelFileError::Version { found: self.format_version });
        }
        within("labels", self.labels.len(), MAX_OUTPUTS)?;
        within("inputs", self.inputs.len(), MAX_INPUTS)?;
        for name in self.labels.iter().chain(self.inputs.iter().map(|i| &i.network)) {
            within("bytes in a name", name.len(), MAX_NAME_BYTES)?;
            if name.is_empty() {
                return inconsistent("a label or a network has no name".to_owned());
            }
        }
        for (what, hash) in self
            .inputs
            .iter()
            .map(|i| (i.network.as_str(), &i.weights_sha256))
            .chain([("the recipe", &self.recipe_hash)])
        {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if hash.len() != HASH_LENGTH || !hash.bytes().all(digit) {
                return inconsistent(format!("the hash of {what} is no SHA-256 in lower-case hexadecimal"));
            }
        }
        let (width, outputs) = self.shape()?;
        let given = self.inputs.iter().fold(0_usize, |sum, i| sum.saturating_add(i.width));
        if given != width {
            return inconsistent(format!("its inputs give {given} features and its model reads {width}"));
        }
        if self.labels.len() != outputs {
            return inconsistent(format!("it names {} labels and its model has {outputs}", self.labels.len()));
        }
        Ok(())
    }

    /// Features and labels of the model, which is checked on the way.
    fn shape(&self) -> Result<(usize, usize), ModelFileError> {
        let forests = match &self.model {
            Model::LinearProbe(probe) => {
                probe.validate()?;
                return Ok((probe.width, probe.outputs));
            }
            Model::Forest(forest) => std::slice::from_ref(forest),
            Model::SingleForests(forests) => forests.as_slice(),
        };
        let nodes = forests.iter().flat_map(|f| &f.trees).map(|t| t.nodes.len()).sum();
        within("nodes", nodes, MAX_MODEL_NODES)?;
        forests.iter().try_for_each(Forest::validate)?;
        let Some(first) = forests.first() else {
            return Err(ModelFileError::Inconsistent("it holds no forest".to_owned()));
        };
        if let Model::Forest(_) = self.model {
            return Ok((first.width, first.outputs));
        }
        if forests.iter().any(|f| f.width != first.width || f.outputs != 1) {
            return Err(ModelFileError::Inconsistent(
                "its forests are not for one label each, on the same features".to_owned(),
            ));
        }
        Ok((first.width, forests.len()))
    }

    /// The file's bytes; write them to a temporary sibling and rename it.
    ///
    /// # Errors
    /// As [`ModelFile::validate`]; [`ModelFileError::TooLarge`] for what could not be read back.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelFileError> {
        self.validate()?;
        let bytes = serde_json::to_vec(self)?;
        within("bytes", bytes.len(), MAX_MODEL_BYTES)?;
        Ok(bytes)
    }

    /// Reads and checks a model.
    ///
    /// # Errors
    /// [`ModelFileError`] naming what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        within("bytes", bytes.len(), MAX_MODEL_BYTES)?;
        let Version { format_version } = serde_json::from_slice(bytes)?;
        if format_version > MODEL_FORMAT || format_version == 0 {
            return Err(ModelFileError::Version { found: format_version });
        }
        let file: Self = serde_json::from_slice(bytes)?;
        file.validate()?;
        Ok(file)
    }

    /// Reads and checks the model file at `path`.
    ///
    /// # Errors
    /// [`ModelFileError`] naming what is wrong.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let io = |source| ModelFileError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large, also where its length is not known beforehand.
        File::open(path).map_err(io)?.take(MAX_MODEL_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::from_bytes(&bytes)
    }

    /// The forest as ONNX with labels, hashes and version as metadata; `None` for a model that is not one forest.
    ///
    /// # Errors
    /// As [`regressor`].
    pub fn to_onnx(&self) -> Result<Option<Vec<u8>>, OnnxError> {
        let Model::Forest(forest) = &self.model else { return Ok(None) };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut properties = vec![pair("chestnut", &self.chestnut), pair("recipe_hash", &self.recipe_hash)];
        for (i, label) in self.labels.iter().enumerate() {
            properties.push(pair(&format!("label.{i}"), label));
        }
        for (i, input) in self.inputs.iter().enumerate() {
            properties.push(pair(&format!("input.{i}.network"), &input.network));
            properties.push(pair(&format!("input.{i}.weights_sha256"), &input.weights_sha256));
            properties.push(pair(&format!("input.{i}.width"), &input.width.to_string()));
        }
        regressor(forest, &properties).map(Some)
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), ModelFileError> {
    if found > limit { Err(ModelFileError::TooLarge { what, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;
    use crate::table::{Features, Labels};
    use chestnut_stats::random::Stream;

    fn table() -> (Features, Labels) {
        let mut draw = Stream::keyed(8, "model file test");
        let features = Features::new((0..60 * 9).map(|_| (draw.normal() / 3.0) as f32).collect(), 9).expect("finite");
        let labels: Vec<_> = (0..120).map(|i| Some(features.row(i / 2)[i % 2] > 0.1)).collect();
        (features, Labels::new(&labels, 2).expect("whole"))
    }

    fn file(model: Model) -> Result<ModelFile, ModelFileError> {
        let input =
            |network: &str, width| ModelInput { network: network.into(), weights_sha256: "0f".repeat(32), width };
        let labels = vec!["Edema".to_owned(), "Effusion".to_owned()];
        ModelFile::new(labels, "a1".repeat(32), vec![input("xception", 5), input("vgg16", 4)], model)
    }

    #[test]
    fn every_bit_comes_back() {
        let (features, labels) = table();
        let params = Params { trees: 9, ..Params::extra_trees(1) };
        let models = [
            Model::Forest(Forest::fit(&features, &labels, &params).expect("fits")),
            Model::SingleForests(crate::forest::fit_single(&features, &labels, &params).expect("fits")),
            Model::LinearProbe(LinearProbe::fit(&features, &labels, &[0.3, 7.0]).expect("fits")),
        ];
        for model in models {
            let made = file(model).expect("holds together");
            let bytes = made.to_bytes().expect("writes");
            let back = ModelFile::from_bytes(&bytes).expect("reads");
            // Equal values and equal bytes: no bit of a float was lost (0.0 and -0.0 are told apart by their text).
            assert!(back == made && back.to_bytes().expect("writes") == bytes);
        }
    }

    #[test]
    fn awkward_floats_come_back() {
        let (features, labels) = table();
        let params = Params { max_depth: 1, ..Params::decision_tree(0) };
        let mut forest = Forest::fit(&features, &labels, &params).expect("fits");
        let mut draw = Stream::keyed(9, "floats");
        for _ in 0..2_000 {
            let threshold = f32::from_bits(draw.next_u64() as u32);
            if threshold.is_finite() {
                forest.trees[0].nodes[0].threshold = threshold;
                forest.trees[0].shares[0] = draw.uniform();
                let made = file(Model::Forest(forest.clone())).expect("holds together");
                let back = ModelFile::from_bytes(&made.to_bytes().expect("writes")).expect("reads");
                let Model::Forest(back) = back.model else { panic!("another kind came back") };
                assert_eq!(back.trees[0].nodes[0].threshold.to_bits(), threshold.to_bits());
                assert_eq!(back.trees[0].shares[0].to_bits(), forest.trees[0].shares[0].to_bits());
            }
        }
    }

    #[test]
    fn bad_files_are_refused() {
        let (features, labels) = table();
        let forest = Forest::fit(&features, &labels, &Params::decision_tree(1)).expect("fits");
        let good = file(Model::Forest(forest.clone())).expect("holds together");
        let text = String::from_utf8(good.to_bytes().expect("writes")).expect("UTF-8");
        let refused = |text: &str| ModelFile::from_bytes(text.as_bytes()).expect_err("must be refused").to_string();
        assert!(refused("").contains("no model file"));
        assert!(refused(&text[..text.len() / 2]).contains("no model file"));
        assert!(refused(&text.replace("\"format_version\":1", "\"format_version\":2")).contains("newer program"));
        assert!(refused(&text.replace("\"Edema\",", "")).contains("names 1 labels"));
        assert!(refused(&text.replace("a1a1", "A1A1")).contains("the recipe"));
        assert!(refused(&text.replace("\"width\":5", "\"width\":6")).contains("10 features"));
        let mut endless = forest.clone();
        endless.trees[0].nodes[0].right = 0;
        assert!(matches!(file(Model::Forest(endless)), Err(ModelFileError::Forest(_))));
        assert!(file(Model::SingleForests(vec![])).is_err());
        assert!(file(Model::SingleForests(vec![forest])).is_err(), "two outputs in a single forest");
    }

    #[test]
    fn only_a_single_forest_goes_to_onnx() {
        let (features, labels) = table();
        let forest = Forest::fit(&features, &labels, &Params::decision_tree(1)).expect("fits");
        let onnx = file(Model::Forest(forest)).expect("holds together").to_onnx().expect("exports").expect("a forest");
        let holds = |text: &str| onnx.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(holds("label.1") && holds("Effusion") && holds("input.0.weights_sha256"));
        let probe = LinearProbe::fit(&features, &labels, &[1.0; 2]).expect("fits");
        assert_eq!(file(Model::LinearProbe(probe)).expect("holds together").to_onnx(), Ok(None));
    }
}
