//! Weight files of others: Keras HDF5 and `.keras`, safetensors, PyTorch state dictionaries and saved models.
//!
//! [`read`] recognises a file by its content and gives its tensors under the names they have there;
//! [`SourceModel::fit`] matches them to the graph of an architecture: every tensor used exactly once, shapes equal,
//! values finite. What stands on top of the embedding (other labels, logits, several layers, nothing) is recorded as
//! found. Nothing in a file is ever executed, and every size is checked before memory is reserved for it.

mod floats;
mod keras_config;
mod keras_h5;
mod keras_zip;
mod match_names;
pub mod safetensors;
mod torch;
mod torch_globals;
mod torch_legacy;
mod torch_modules;
mod torch_names;
mod torch_pickle;

use crate::head::{Activation, Head};
use crate::weights::{Misfit, Tensor};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use thiserror::Error;

pub use match_names::Fitted;

/// Largest weight file, in bytes (VGG19 with its fully connected layers and optimizer state is 1.7 GB).
pub const MAX_WEIGHT_FILE_BYTES: u64 = 2 << 30;
/// Most tensors in one file (DenseNet201 has 1,006).
pub const MAX_TENSORS: usize = 20_000;
/// Most values in one tensor (VGG's first fully connected layer has 103 million).
pub const MAX_TENSOR_ELEMENTS: usize = 1 << 28;
/// Most values in all tensors together: 2 GiB of f32.
pub const MAX_ELEMENTS: usize = 1 << 29;
/// Largest description inside a file: model configuration, safetensors header or pickled index, in bytes.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Deepest model inside a model.
pub const MAX_NESTING: usize = 8;
/// Most axes of a tensor.
pub const MAX_RANK: usize = 8;

/// What the user knows about the head that the file may not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadHint {
    /// Names of the outputs, as many as the network has.
    pub labels: Option<Vec<String>>,
    /// One activation per Dense layer, first to last; overrides what the file says.
    pub activations: Option<Vec<Activation>>,
}

/// How to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Larger files are refused; [`MAX_WEIGHT_FILE_BYTES`] by default.
    pub max_file_bytes: u64,
    /// What the user says about the head, for [`SourceModel::fit`].
    pub head: HeadHint,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_file_bytes: MAX_WEIGHT_FILE_BYTES, head: HeadHint::default() }
    }
}

/// How a file is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// HDF5 of a whole Keras model (`model.save`), with its configuration.
    KerasHdf5Model,
    /// HDF5 of Keras weights only (`save_weights` of Keras 2).
    KerasHdf5Weights,
    /// Keras 3 `.keras` archive.
    KerasV3,
    /// Keras 3 `.weights.h5`.
    KerasV3Weights,
    /// Safetensors.
    Safetensors,
    /// PyTorch state dictionary (`.pt`, `.pth`).
    TorchStateDict,
    /// A whole model written by `torch.save(model)`, such as TorchXRayVision's.
    TorchModel,
}

impl SourceFormat {
    /// Name for records and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KerasHdf5Model => "keras-hdf5-model",
            Self::KerasHdf5Weights => "keras-hdf5-weights",
            Self::KerasV3 => "keras-v3",
            Self::KerasV3Weights => "keras-v3-weights",
            Self::Safetensors => "safetensors",
            Self::TorchStateDict => "torch-state-dict",
            Self::TorchModel => "torch-model",
        }
    }
}

impl fmt::Display for SourceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One layer of a file, with or without tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceLayer {
    /// As in the file; Keras 2 names may hold `/`.
    pub name: String,
    /// Keras class, if the file says it.
    pub class: Option<String>,
    /// Activation as the file spells it, if it does.
    pub activation: Option<String>,
    /// Added to the variance by batch normalisation, if known.
    pub epsilon: Option<f32>,
    /// Kind (`kernel`, `bias`, `gamma`, `depthwise_kernel`, ...) and values, in Keras's layouts.
    pub tensors: Vec<(String, Tensor)>,
}

/// What a safetensors file written by `chestnut` says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Architecture.
    pub architecture: Option<String>,
    /// Head with activations and labels.
    pub head: Option<Head>,
    /// How the input was standardised.
    pub standardisation: Option<String>,
    /// Label to parent; see [`crate::store::ModelRecord::conditional`].
    pub conditional: BTreeMap<String, String>,
    /// Films that taught it; see [`crate::store::ModelRecord::taught_on`].
    pub taught_on: Vec<String>,
}

/// A weight file in memory, its tensors under the file's own names.
#[derive(Clone, Debug)]
pub struct SourceModel {
    /// How the file is built.
    pub format: SourceFormat,
    /// Rows and columns of the input that the model was saved with, if it says so and they are equal.
    pub input_size: Option<usize>,
    /// In the order of the model's configuration if there is one, else of the file.
    pub layers: Vec<SourceLayer>,
    /// What the file itself records.
    pub recorded: Recorded,
    /// What was assumed or left out, for people.
    pub notes: Vec<String>,
}

impl SourceModel {
    /// An empty model.
    fn new(format: SourceFormat) -> Self {
        Self { format, input_size: None, layers: Vec::new(), recorded: Recorded::default(), notes: Vec::new() }
    }
}

/// Why a weight file cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system says no.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Path as given.
        file: String,
        /// Reason.
        source: std::io::Error,
    },
    /// Beyond a limit.
    #[error("{what} is {found}, more than the limit of {limit}; this is not a weight file of a known network")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Not recognised.
    #[error(
        "{file} is not a weight file that can be read: neither Keras (.hdf5, .h5, .keras), safetensors, nor a PyTorch \
         state dictionary or model (.pt, .pth)"
    )]
    UnknownFormat {
        /// Path as given.
        file: String,
    },
    /// Truncated or malformed.
    #[error("the weight file is damaged or incomplete: {0}; fetch or save it again")]
    Broken(String),
    /// Well-formed, but not usable.
    #[error("the weight file cannot be used: {0}")]
    Unsupported(String),
    /// Two tensors for one place.
    #[error("tensor {0} is in the weight file twice")]
    Duplicate(String),
    /// Not the weights of this network.
    #[error(transparent)]
    Misfit(Box<Misfit>),
    /// Not the weights of any network.
    #[error("the weight file fits none of the known networks; the closest one: {0}")]
    NoArchitecture(Box<Misfit>),
    /// The head is not what the user said.
    #[error("the head of the network: {0}")]
    Head(String),
    /// Wrong number of labels.
    #[error("{given} labels were given, but the network has {outputs} outputs; name each output once, in order")]
    Labels {
        /// Labels from the user.
        given: usize,
        /// Outputs of the network.
        outputs: usize,
    },
}

/// Reads a weight file, recognised by its content.
///
/// # Errors
/// [`ReadError`] if the file is unknown, damaged, beyond a limit, or holds more than tensors.
pub fn read(path: &Path, options: &ReadOptions) -> Result<SourceModel, ReadError> {
    let io = |source| ReadError::Io { file: path.display().to_string(), source };
    let mut file = File::open(path).map_err(io)?;
    let about = file.metadata().map_err(io)?;
    if !about.is_file() {
        return Err(io(std::io::Error::other("not a file; give the weight file itself")));
    }
    let length = about.len();
    within(&format!("the size of {} in bytes", path.display()), length, options.max_file_bytes)?;
    let mut start = Vec::new();
    file.by_ref().take(32).read_to_end(&mut start).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    match sniff(&start, length) {
        Kind::Hdf5 => keras_h5::read(file, length),
        Kind::Zip => keras_zip::read(file, length, path),
        Kind::Safetensors => safetensors::read(file, length),
        Kind::OldTorch => torch_legacy::read(file, length, path),
        Kind::LfsPointer => Err(ReadError::Unsupported(format!(
            "{} is a Git LFS pointer, not the weights; fetch the real file",
            path.display()
        ))),
        Kind::Unknown => Err(ReadError::UnknownFormat { file: path.display().to_string() }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Hdf5,
    Zip,
    Safetensors,
    OldTorch,
    LfsPointer,
    Unknown,
}

fn sniff(start: &[u8], length: u64) -> Kind {
    if start.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Kind::Hdf5;
    }
    if start.starts_with(b"PK\x03\x04") {
        return Kind::Zip;
    }
    if start.starts_with(b"version https://git-lfs") {
        return Kind::LfsPointer;
    }
    if let Some((size, rest)) = start.split_first_chunk::<8>() {
        let header = u64::from_le_bytes(*size);
        if rest.first() == Some(&b'{') && header >= 2 && header <= length.saturating_sub(8) {
            return Kind::Safetensors;
        }
    }
    if matches!(start, [0x80, 2..=5, ..]) { Kind::OldTorch } else { Kind::Unknown }
}

/// `found`, unless it is more than `limit`.
fn within(what: &str, found: u64, limit: u64) -> Result<u64, ReadError> {
    if found > limit { Err(ReadError::TooLarge { what: what.to_owned(), found, limit }) } else { Ok(found) }
}

/// What may still be read from one file.
#[derive(Debug, Default)]
struct Budget {
    tensors: usize,
    elements: usize,
}

impl Budget {
    /// Number of values of a tensor, once every limit is checked; call it before reserving memory.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<usize, ReadError> {
        within(&format!("the number of axes of tensor {name}"), shape.len() as u64, MAX_RANK as u64)?;
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        within(&format!("the number of values of tensor {name}"), elements as u64, MAX_TENSOR_ELEMENTS as u64)?;
        self.tensors += 1;
        self.elements += elements;
        within("the number of tensors", self.tensors as u64, MAX_TENSORS as u64)?;
        within("the number of values of all tensors", self.elements as u64, MAX_ELEMENTS as u64)?;
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_content() {
        assert_eq!(sniff(b"\x89HDF\r\n\x1a\n\0\0", 100), Kind::Hdf5);
        assert_eq!(sniff(b"PK\x03\x04....", 100), Kind::Zip);
        assert_eq!(sniff(b"\x10\0\0\0\0\0\0\0{\"a\":", 100), Kind::Safetensors);
        assert_eq!(sniff(b"\x10\0\0\0\0\0\0\0{\"a\":", 20), Kind::Unknown, "header longer than the file");
        assert_eq!(sniff(b"\x80\x02}q\0.", 6), Kind::OldTorch);
        assert_eq!(sniff(b"<html>", 6), Kind::Unknown);
        assert_eq!(sniff(b"", 0), Kind::Unknown);
    }

    #[test]
    fn limits_hold_before_memory_is_reserved() {
        let mut budget = Budget::default();
        assert_eq!(budget.take("a", &[]).expect("a scalar"), 1);
        assert!(matches!(budget.take("a", &[usize::MAX, 2]), Err(ReadError::TooLarge { .. })));
        assert!(matches!(budget.take("a", &[1; 9]), Err(ReadError::TooLarge { .. })));
        let mut budget = Budget::default();
        budget.take("a", &[MAX_TENSOR_ELEMENTS]).expect("exactly at the limit");
        budget.take("b", &[MAX_TENSOR_ELEMENTS]).expect("exactly at the limit of all");
        assert!(matches!(budget.take("c", &[1]), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn a_folder_or_a_text_is_named_in_the_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = folder.path().join("weights.h5");
        std::fs::write(&text, "no weights here").expect("written");
        for path in [folder.path(), text.as_path(), &folder.path().join("absent.h5")] {
            let error = read(path, &ReadOptions::default()).expect_err("not weights").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
