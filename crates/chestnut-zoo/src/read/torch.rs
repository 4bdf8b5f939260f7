//! PyTorch files (`.pt`, `.pth`): a zip archive with a pickled index and one file of values per storage. Older ones are
//! in [`super::torch_legacy`].
//!
//! The index is read by [`super::torch_pickle`], its tensors are named by [`super::torch_modules`]; here their values are
//! fetched, storage by storage, and views are gathered within the bounds of their storage. Nothing is executed.

use super::floats::FloatKind;
use super::keras_zip::Archive;
use super::torch_globals::Element;
use super::torch_pickle::{Id, Machine, Value, broken};
use super::{
    Budget, MAX_HEADER_BYTES, MAX_WEIGHT_FILE_BYTES, ReadError, SourceFormat, SourceModel, torch_modules, torch_names,
};
use crate::weights::Tensor;
use std::collections::BTreeMap;

/// Gives the bytes of a storage by its key.
type Fetch<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, ReadError>;

/// Reads a state dictionary or model; `index` is the archive's entry `<name>/data.pkl`.
pub(super) fn read(archive: &mut Archive, index: &str) -> Result<SourceModel, ReadError> {
    let prefix = index.strip_suffix("data.pkl").unwrap_or("");
    let order = format!("{prefix}byteorder");
    if archive.contains(&order) && archive.entry(&order, 64)? != b"little" {
        return Err(ReadError::Unsupported("the PyTorch file was written on a big-endian machine".into()));
    }
    let pickle = archive.entry(index, MAX_HEADER_BYTES)?;
    let machine = Machine::run(&pickle)?;
    drop(pickle);
    source_model(&machine, &mut |key| archive.entry(&format!("{prefix}data/{key}"), MAX_WEIGHT_FILE_BYTES))
}

/// The layers of what a pickle holds.
pub(super) fn source_model(machine: &Machine, fetch: Fetch) -> Result<SourceModel, ReadError> {
    let found = torch_modules::tensors(machine)?;
    let whole = found.class.is_some();
    let mut model = SourceModel::new(if whole { SourceFormat::TorchModel } else { SourceFormat::TorchStateDict });
    if let Some(class) = found.class {
        model
            .notes
            .push(format!("the file holds a whole model ({class}): its tensors were read, nothing of it was run"));
    }
    let named = load(machine, &found.tensors, fetch, &mut model.notes)?;
    model.layers = torch_names::layers(named, &mut model.notes)?;
    Ok(model)
}

/// Fetches the values of each tensor, storage by storage.
fn load(
    machine: &Machine,
    tensors: &[(String, Id)],
    fetch: Fetch,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Tensor)>, ReadError> {
    let mut budget = Budget::default();
    // Tensors that share a storage are read together, so that each storage is read once and then forgotten.
    let mut by_storage: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, (_, id)) in tensors.iter().enumerate() {
        if let Value::Tensor(storage, ..) = &machine.values[*id]
            && let Value::Storage(key, ..) = &machine.values[*storage]
        {
            by_storage.entry(key).or_default().push(n);
        }
    }
    let mut loaded: BTreeMap<usize, Tensor> = BTreeMap::new();
    for (key, users) in by_storage {
        let mut stored: Option<(FloatKind, Vec<f32>)> = None;
        for n in users {
            let (name, id) = &tensors[n];
            let Value::Tensor(storage, offset, shape, strides) = &machine.values[*id] else { continue };
            let Value::Storage(_, kind, count) = &machine.values[*storage] else { continue };
            let Element::Float(kind) = *kind else {
                if !name.ends_with("num_batches_tracked") {
                    notes.push(format!("left out {name}: not floating-point values"));
                }
                continue;
            };
            if stored.as_ref().is_none_or(|(k, values)| *k != kind || values.len() != *count) {
                budget.take(&format!("storage {key}"), &[*count])?;
                let bytes = fetch(key)?;
                if count.checked_mul(kind.width()) != Some(bytes.len()) {
                    return Err(broken(format!("storage {key} has {} bytes for {count} values", bytes.len())));
                }
                let mut values = Vec::with_capacity(*count);
                kind.decode(&bytes, &mut values);
                stored = Some((kind, values));
            }
            let values = stored.as_ref().map_or(&[][..], |(_, values)| values.as_slice());
            let elements = budget.take(name, shape)?;
            let data = gather(values, *offset, shape, strides, elements)
                .ok_or_else(|| broken(format!("tensor {name} reaches beyond its storage")))?;
            loaded.insert(n, Tensor { shape: shape.clone(), data });
        }
    }
    Ok(loaded.into_iter().map(|(n, tensor)| (tensors[n].0.clone(), tensor)).collect())
}

/// The values of a strided view in row-major order; `None` if it reaches beyond `values`.
fn gather(values: &[f32], offset: usize, shape: &[usize], strides: &[usize], elements: usize) -> Option<Vec<f32>> {
    if shape.len() != strides.len() {
        return None;
    }
    if elements == 0 {
        return Some(Vec::new());
    }
    let mut last = offset;
    for (&extent, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((extent - 1).checked_mul(stride)?)?;
    }
    if last >= values.len() {
        return None;
    }
    let mut data = Vec::with_capacity(elements);
    let mut at = vec![0_usize; shape.len()];
    let mut position = offset;
    loop {
        data.push(values[position]);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return Some(data);
            }
            axis -= 1;
            at[axis] += 1;
            position += strides[axis];
            if at[axis] < shape[axis] {
                break;
            }
            position -= at[axis] * strides[axis];
            at[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_gathered_within_their_storage() {
        let values = [0., 1., 2., 3., 4., 5.];
        assert_eq!(gather(&values, 0, &[2, 3], &[3, 1], 6), Some(values.to_vec()));
        assert_eq!(gather(&values, 0, &[3, 2], &[1, 3], 6), Some(vec![0., 3., 1., 4., 2., 5.]), "transposed");
        assert_eq!(gather(&values, 5, &[], &[], 1), Some(vec![5.]));
        assert_eq!(gather(&values, 1, &[2, 3], &[3, 1], 6), None);
        assert_eq!(gather(&values, 0, &[2], &[usize::MAX], 2), None);
        assert_eq!(gather(&values, 0, &[0, 2], &[2, 1], 0), Some(vec![]));
    }
}
