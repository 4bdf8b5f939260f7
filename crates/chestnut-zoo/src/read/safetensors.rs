//! Safetensors: what `chestnut` keeps its networks in, and what others publish.
//!
//! The header is read first and held to the file's length; then tensor after tensor is read and converted to f32, so
//! that the file is never in memory beside its tensors. Files written here are the same bytes for the same weights.

use super::floats::FloatKind;
use super::match_names::natural;
use super::{
    Budget, MAX_HEADER_BYTES, MAX_WEIGHT_FILE_BYTES, ReadError, Recorded, SourceFormat, SourceLayer, SourceModel,
    torch_names, within,
};
use crate::weights::{Tensor, Weights};
use ::safetensors::tensor::{Dtype, Metadata};
use half::f16;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Metadata key: architecture name.
pub const META_ARCHITECTURE: &str = "chestnut.architecture";
/// Metadata key: the head as JSON.
pub const META_HEAD: &str = "chestnut.head";
/// Metadata key under which a file says which outputs hold only where another one is present, as JSON.
pub const META_CONDITIONAL: &str = "chestnut.conditional";
/// Metadata key: standardisation of the input.
pub const META_STANDARDISATION: &str = "chestnut.standardisation";
/// Metadata key: identities of the films that taught it, as JSON; see [`crate::store::ModelRecord::taught_on`].
pub const META_TAUGHT_ON: &str = "chestnut.taught_on";

/// Bytes read or written at a time.
const CHUNK: usize = 1 << 20;

/// Everything in a safetensors file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Floating-point tensors, converted to f32.
    pub tensors: Weights,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Names of tensors that hold something else (counters, for example), left out.
    pub left_out: Vec<String>,
}

/// Reads a safetensors file (F16, BF16, F32, F64).
///
/// # Errors
/// [`ReadError`] if it cannot be opened, is damaged, or is beyond a limit.
pub fn read_safetensors(path: &Path) -> Result<Contents, ReadError> {
    let failed = |source| ReadError::Io { file: path.display().to_string(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    within(&format!("the size of {} in bytes", path.display()), length, MAX_WEIGHT_FILE_BYTES)?;
    contents(file, length)
}

/// The same from memory.
///
/// # Errors
/// As [`read_safetensors`].
pub fn read_safetensors_bytes(bytes: &[u8]) -> Result<Contents, ReadError> {
    contents(io::Cursor::new(bytes), bytes.len() as u64)
}

fn contents(file: impl Read + Seek, length: u64) -> Result<Contents, ReadError> {
    let broken = |what: String| ReadError::Broken(format!("safetensors: {what}"));
    let mut reader = BufReader::with_capacity(CHUNK, file);
    let mut size = [0_u8; 8];
    reader.read_exact(&mut size).map_err(|e| broken(e.to_string()))?;
    let header_bytes = within("the size of the safetensors header", u64::from_le_bytes(size), MAX_HEADER_BYTES)?;
    let Some(data_bytes) = length.checked_sub(8 + header_bytes) else {
        return Err(broken("the header is longer than the file".into()));
    };
    let mut header = Vec::new();
    reader.by_ref().take(header_bytes).read_to_end(&mut header).map_err(|e| broken(e.to_string()))?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| broken(format!("header: {e}")))?;
    if header.data_len() as u64 != data_bytes {
        return Err(broken(format!("the tensors take {} bytes, the file has {data_bytes}", header.data_len())));
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut contents = Contents { metadata, ..Contents::default() };
    let mut budget = Budget::default();
    // Offsets are contiguous, so reading in their order needs no seeking.
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else {
            return Err(broken(format!("tensor {name} is not described")));
        };
        let elements = budget.take(&name, &info.shape)?;
        let kind = match info.dtype {
            Dtype::F16 => FloatKind::F16,
            Dtype::BF16 => FloatKind::Bf16,
            Dtype::F32 => FloatKind::F32,
            Dtype::F64 => FloatKind::F64,
            _ => {
                let bytes = info.data_offsets.1 - info.data_offsets.0;
                let bytes = i64::try_from(bytes).map_err(|e| broken(e.to_string()))?;
                reader.seek_relative(bytes).map_err(|e| broken(e.to_string()))?;
                contents.left_out.push(name);
                continue;
            }
        };
        let data = read_values(&mut reader, kind, elements).map_err(|e| broken(format!("tensor {name}: {e}")))?;
        contents.tensors.insert(name, Tensor { shape: info.shape.clone(), data });
    }
    Ok(contents)
}

/// Converts values where the reader's buffer holds them, without copying them first.
fn read_values(reader: &mut impl BufRead, kind: FloatKind, elements: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(elements);
    while values.len() < elements {
        let buffer = reader.fill_buf()?;
        let bytes = (buffer.len() / kind.width()).min(elements - values.len()) * kind.width();
        if bytes > 0 {
            kind.decode(&buffer[..bytes], &mut values);
            reader.consume(bytes);
        } else {
            // A value across the end of the buffer, or the end of the file.
            let mut value = [0_u8; 8];
            reader.read_exact(&mut value[..kind.width()])?;
            kind.decode(&value[..kind.width()], &mut values);
        }
    }
    Ok(values)
}

/// Reads a safetensors file as a source of weights.
pub(super) fn read(file: File, length: u64) -> Result<SourceModel, ReadError> {
    let contents = contents(file, length)?;
    let mut model = SourceModel::new(SourceFormat::Safetensors);
    let left_out: Vec<&str> =
        contents.left_out.iter().map(String::as_str).filter(|n| !n.ends_with("num_batches_tracked")).collect();
    if !left_out.is_empty() {
        let names = left_out.join(", ");
        model.notes.push(format!("left out tensors that are not floating-point values: {names}"));
    }
    model.recorded = Recorded {
        architecture: contents.metadata.get(META_ARCHITECTURE).cloned(),
        head: contents.metadata.get(META_HEAD).and_then(|text| serde_json::from_str(text).ok()),
        standardisation: contents.metadata.get(META_STANDARDISATION).cloned(),
        conditional: kept(&contents.metadata, META_CONDITIONAL)?,
        taught_on: kept(&contents.metadata, META_TAUGHT_ON)?,
    };
    let mut named: Vec<(String, Tensor)> = contents.tensors.into_iter().collect();
    if torch_names::looks_like_torch(named.iter().map(|(name, _)| name.as_str())) {
        model.layers = torch_names::layers(named, &mut model.notes)?;
        return Ok(model);
    }
    named.sort_by_cached_key(|(name, _)| natural(name));
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (name, tensor) in named {
        let (layer, kind) = split_name(&name);
        let place = *places.entry(layer.to_owned()).or_insert_with(|| {
            let class = layer.starts_with("head.").then(|| "Dense".to_owned());
            model.layers.push(SourceLayer { name: layer.to_owned(), class, ..SourceLayer::default() });
            model.layers.len() - 1
        });
        model.layers[place].tensors.push((kind.to_owned(), tensor));
    }
    Ok(model)
}

/// A value that stands in the metadata as JSON; the default if it is not there.
fn kept<T: DeserializeOwned + Default>(metadata: &BTreeMap<String, String>, key: &str) -> Result<T, ReadError> {
    let Some(text) = metadata.get(key) else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|e| ReadError::Broken(format!("safetensors: {key}: {e}")))
}

/// Layer and kind: `block2_sepconv1.depthwise.kernel` is `depthwise.kernel` of `block2_sepconv1`.
fn split_name(name: &str) -> (&str, &str) {
    for end in [".depthwise.kernel", ".pointwise.kernel"] {
        if let Some(layer) = name.strip_suffix(end) {
            return (layer, &name[layer.len() + 1..]);
        }
    }
    name.rsplit_once('.').or_else(|| name.rsplit_once('/')).unwrap_or((name, "value"))
}

/// Writes weights as safetensors: to a temporary sibling, synced, renamed.
///
/// With `half`, tensors of two or more axes (kernels) are stored as F16, rounded to 11 bits, and the rest (biases,
/// statistics) as F32. The same weights and metadata give the same bytes.
///
/// # Errors
/// An I/O error, or [`io::ErrorKind::InvalidData`] naming a tensor with a value beyond the range of F16.
pub fn write_safetensors(
    path: &Path,
    weights: &Weights,
    metadata: &BTreeMap<String, String>,
    half: bool,
) -> io::Result<()> {
    let is_half = |tensor: &Tensor| half && tensor.shape.len() >= 2;
    // F32 first, so that every tensor is aligned to its width.
    let (narrow, wide): (Vec<_>, Vec<_>) = weights.iter().partition(|(_, tensor)| is_half(tensor));
    let ordered: Vec<(&String, &Tensor)> = wide.into_iter().chain(narrow).collect();
    let header = header(&ordered, metadata, &is_half);
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut bytes = Vec::with_capacity(CHUNK);
        for (name, tensor) in &ordered {
            for values in tensor.data.chunks(CHUNK / 4) {
                bytes.clear();
                if is_half(tensor) {
                    for &value in values {
                        let small = f16::from_f32(value);
                        if value.is_finite() && !small.is_finite() {
                            let message = format!("tensor {name} holds {value}, too large for F16; keep F32");
                            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                        }
                        bytes.extend_from_slice(&small.to_le_bytes());
                    }
                } else {
                    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                }
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    })
}

/// The same weights under the names that Keras gives: `block2_sepconv1.depthwise.kernel` is
/// `block2_sepconv1/depthwise_kernel`, and the head's Dense layers are `head_0`, `head_1`, ... Shapes are Keras's
/// already.
#[must_use]
pub fn keras_named(weights: Weights) -> Weights {
    weights.into_iter().map(|(name, tensor)| (keras_name(&name), tensor)).collect()
}

fn keras_name(name: &str) -> String {
    let (layer, kind) = split_name(name);
    let layer = layer.strip_prefix("head.").map_or_else(|| layer.to_owned(), |number| format!("head_{number}"));
    format!("{layer}/{}", kind.replace('.', "_"))
}

/// The JSON header, padded with spaces to a multiple of 8 bytes.
fn header(
    tensors: &[(&String, &Tensor)],
    metadata: &BTreeMap<String, String>,
    is_half: &dyn Fn(&Tensor) -> bool,
) -> String {
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut offset = 0;
    for (name, tensor) in tensors {
        let (dtype, width) = if is_half(tensor) { ("F16", 2) } else { ("F32", 4) };
        let end = offset + tensor.data.len() * width;
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        entries.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{offset},{end}]}}",
            quoted(name),
            shape.join(",")
        ));
        offset = end;
    }
    let mut header = format!("{{{}}}", entries.join(","));
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    header
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a file so that it is either complete or absent.
pub(crate) fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temporary = sibling(path);
    let result = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        write(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(|| "file".into(), |n| n.to_string_lossy());
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::SafeTensors;

    fn example() -> Weights {
        let kernel = Tensor { shape: vec![2, 3], data: vec![0.5, -1.0, 2.0, 0.0, 3.5, -0.25] };
        let bias = Tensor { shape: vec![3], data: vec![0.1, 0.2, 0.3] };
        BTreeMap::from([("head.0.kernel".to_owned(), kernel), ("head.0.bias".to_owned(), bias)])
    }

    #[test]
    fn what_is_written_is_read_here_and_by_the_reference_reader() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let metadata = BTreeMap::from([("note \"quoted\"".to_owned(), "ä\n".to_owned())]);
        for half in [false, true] {
            let path = folder.path().join("w.safetensors");
            write_safetensors(&path, &example(), &metadata, half).expect("written");
            let read = read_safetensors(&path).expect("read");
            assert_eq!(read.tensors, example(), "these kernels are exact in F16");
            assert_eq!(read.metadata, metadata);
            let bytes = fs::read(&path).expect("bytes");
            let reference = SafeTensors::deserialize(&bytes).expect("valid");
            let expected = if half { Dtype::F16 } else { Dtype::F32 };
            assert_eq!(reference.tensor("head.0.kernel").expect("there").dtype(), expected);
            assert_eq!(reference.tensor("head.0.bias").expect("there").dtype(), Dtype::F32);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_value_beyond_f16_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = BTreeMap::from([("a.kernel".to_owned(), Tensor { shape: vec![1, 1], data: vec![1e6] })]);
        let error =
            write_safetensors(&folder.path().join("w"), &weights, &BTreeMap::new(), true).expect_err("too large");
        assert!(error.to_string().contains("a.kernel"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn half_precision_rounds_to_nearest_and_ties_to_even() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("w.safetensors");
        // F16 keeps 10 bits after the point: 2^-11 lies half way between two values.
        let (step, half) = (1.0 / 1024.0, 1.0 / 2048.0_f32);
        let data = vec![1.0 + half, 1.0 + 3.0 * half, 1.0 + half * 1.01, -1.0 - half, 6.0e-8, 65504.0];
        let weights = BTreeMap::from([("a.kernel".to_owned(), Tensor { shape: vec![1, 6], data })]);
        write_safetensors(&path, &weights, &BTreeMap::new(), true).expect("written");
        let read = read_safetensors(&path).expect("read");
        let least = 1.0 / (1 << 24) as f32;
        assert_eq!(read.tensors["a.kernel"].data, [1.0, 1.0 + 2.0 * step, 1.0 + step, -1.0, least, 65504.0]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("w.safetensors");
        write_safetensors(&path, &example(), &BTreeMap::new(), false).expect("written");
        let bytes = fs::read(&path).expect("bytes");
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).expect("written");
            assert!(read_safetensors(&path).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn names_of_all_writers_are_split() {
        assert_eq!(split_name("b.depthwise.kernel"), ("b", "depthwise.kernel"));
        assert_eq!(split_name("head.0.bias"), ("head.0", "bias"));
        assert_eq!(split_name("conv1_conv/kernel"), ("conv1_conv", "kernel"));
        assert_eq!(split_name("scalar"), ("scalar", "value"));
    }

    #[test]
    fn keras_named_files_are_read_as_the_same_network() {
        use crate::read::{HeadHint, ReadOptions, read};
        use crate::{Architecture, Head, weights};
        assert_eq!(keras_name("block2_sepconv1.depthwise.kernel"), "block2_sepconv1/depthwise_kernel");
        assert_eq!(keras_name("block2_sepconv1.pointwise.kernel"), "block2_sepconv1/pointwise_kernel");
        assert_eq!(keras_name("conv1_bn.moving_mean"), "conv1_bn/moving_mean");
        assert_eq!(keras_name("head.0.bias"), "head_0/bias");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for architecture in [Architecture::Xception, Architecture::InceptionResNetV2] {
            let weights = weights::seeded(&architecture.graph(&Head::chexpert()), 5);
            let path = folder.path().join("keras.safetensors");
            write_safetensors(&path, &keras_named(weights.clone()), &BTreeMap::new(), false).expect("written");
            let fitted = read(&path, &ReadOptions::default())
                .and_then(|source| source.fit(architecture, &HeadHint::default()))
                .expect("fits");
            assert!(fitted.weights == weights, "{architecture}");
        }
    }
}
