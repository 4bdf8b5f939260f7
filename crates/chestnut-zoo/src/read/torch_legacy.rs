//! PyTorch files from before version 1.6: five pickles, then the values of all storages one after the other.
//!
//! TorchXRayVision's published weights are such files. The pickles are a magic number, a protocol version, facts about
//! the writing machine, the model itself, and the keys of the storages in their order. Each storage is its number of
//! values in 8 bytes and the values. Nothing is executed; sizes are held to the file's length before memory is reserved.

use super::torch::source_model;
use super::torch_globals::Element;
use super::torch_pickle::{Machine, Value, broken};
use super::{MAX_HEADER_BYTES, MAX_TENSORS, ReadError, SourceModel, within};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The first pickle as PyTorch wrote it: the number 0x1950a86a20f9469cfc6c in pickle protocol 2.
const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// The only protocol version there ever was.
const PROTOCOL: i64 = 1001;
/// Bytes of the number of values before each storage.
const COUNT_BYTES: u64 = 8;

/// A storage in the file.
struct Place {
    /// First byte of its values.
    start: u64,
    bytes: usize,
    /// Number of values.
    count: usize,
}

/// Reads a state dictionary or model.
pub(super) fn read(file: File, length: u64, path: &Path) -> Result<SourceModel, ReadError> {
    let mut reader = BufReader::new(file);
    let mut front = Vec::new();
    reader.by_ref().take(MAX_HEADER_BYTES).read_to_end(&mut front).map_err(damaged)?;
    if !front.starts_with(&MAGIC) {
        return Err(ReadError::Unsupported(format!(
            "{} is a pickled Python object, not a PyTorch file; load it in Python where you trust it and write \
             torch.save(model.state_dict(), \"weights.pt\")",
            path.display()
        )));
    }
    let mut used = MAGIC.len();
    let version = next(&front, &mut used)?;
    if version.values[version.result] != Value::Int(PROTOCOL) {
        return Err(broken("an unknown protocol version"));
    }
    let about = next(&front, &mut used)?;
    if !is_little_endian(&about) {
        return Err(ReadError::Unsupported("the PyTorch file was written on a big-endian machine".into()));
    }
    let model = next(&front, &mut used)?;
    let keys = next(&front, &mut used)?;
    drop(front);
    let places = places(&model, &keys, used as u64, length)?;
    source_model(&model, &mut |key| {
        let place = places.get(key).ok_or_else(|| broken(format!("storage {key} has no values")))?;
        values(&mut reader, place).map_err(damaged)
    })
}

fn damaged(error: io::Error) -> ReadError {
    ReadError::Broken(format!("PyTorch file: {error}"))
}

/// Runs the pickle at `used` and moves behind it.
fn next(front: &[u8], used: &mut usize) -> Result<Machine, ReadError> {
    let (machine, bytes) = Machine::run_first(&front[*used..])?;
    *used += bytes;
    Ok(machine)
}

fn is_little_endian(about: &Machine) -> bool {
    let Value::Dict(pairs) = &about.values[about.result] else { return false };
    pairs.iter().any(|&(key, value)| {
        matches!(&about.values[key], Value::Text(text) if text == "little_endian")
            && about.values[value] == Value::Bool(true)
    })
}

/// Where the values of each storage lie; the first is at byte `at`.
fn places(model: &Machine, keys: &Machine, mut at: u64, length: u64) -> Result<BTreeMap<String, Place>, ReadError> {
    let mut described: BTreeMap<&str, (Element, usize)> = BTreeMap::new();
    for value in &model.values {
        if let Value::Storage(key, element, count) = value
            && described.insert(key, (*element, *count)).is_some_and(|other| other != (*element, *count))
        {
            return Err(broken(format!("storage {key} is described in two ways")));
        }
    }
    let Value::List(list) = &keys.values[keys.result] else { return Err(broken("the keys of storages are no list")) };
    within("the number of storages", list.len() as u64, MAX_TENSORS as u64)?;
    let mut places = BTreeMap::new();
    for &key in list {
        let Value::Text(key) = &keys.values[key] else { return Err(broken("the key of a storage is not a text")) };
        let Some(&(element, count)) = described.get(key.as_str()) else {
            return Err(broken(format!("storage {key} is not described")));
        };
        let start = at + COUNT_BYTES;
        let bytes = count
            .checked_mul(element.width())
            .filter(|&bytes| start.checked_add(bytes as u64).is_some_and(|end| end <= length));
        let Some(bytes) = bytes else { return Err(broken(format!("the file ends before storage {key} does"))) };
        at = start + bytes as u64;
        if places.insert(key.clone(), Place { start, bytes, count }).is_some() {
            return Err(broken(format!("storage {key} is listed twice")));
        }
    }
    Ok(places)
}

/// The bytes of one storage.
fn values(reader: &mut BufReader<File>, place: &Place) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(place.start - COUNT_BYTES))?;
    let mut count = [0_u8; COUNT_BYTES as usize];
    reader.read_exact(&mut count)?;
    if u64::from_le_bytes(count) != place.count as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a storage has another length than its description"));
    }
    let mut bytes = vec![0_u8; place.bytes];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
