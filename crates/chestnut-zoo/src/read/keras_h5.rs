//! Keras's HDF5 files: whole models and weights of Keras 2, and the variable tree of Keras 3.
//!
//! Keras 2 lists layers in the attribute `layer_names` and their tensors in `weight_names` (split into `layer_names0`,
//! `layer_names1`, ... when long). Keras 3 stores `layers/<class counter>/vars/<i>`. Only the layers of the model are
//! read, tensor after tensor from the file; optimizer state, metrics and everything else stay where they are.

use super::keras_config::{self, Config, ConfigLayer};
use super::{
    Budget, MAX_HEADER_BYTES, MAX_NESTING, MAX_TENSORS, ReadError, SourceFormat, SourceLayer, SourceModel, within,
};
use crate::weights::Tensor;
use hdf5_pure::{AttrValue, Dataset, Datatype, FormatError, Group, ReadSeekSource, Source};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::{Mutex, PoisonError};

/// Bytes that may be read beyond twice the file's length, for listings that are read again.
const REREAD_BYTES: u64 = 512 << 20;

/// A file that refuses to be read over and over, so that a small hostile file cannot cost unlimited time or memory.
struct Metered<R> {
    inner: ReadSeekSource<R>,
    left: Mutex<u64>,
}

impl<R: Read + Seek> Source for Metered<R> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = left
                .checked_sub(buf.len() as u64)
                .ok_or_else(|| FormatError::Source("the same bytes are used too often".to_owned()))?;
        }
        self.inner.read_at(offset, buf)
    }
}

fn broken(error: &hdf5_pure::Error) -> ReadError {
    ReadError::Broken(format!("HDF5: {error}"))
}

/// Opens HDF5 for reading region by region.
pub(super) fn open<R: Read + Seek + Send + 'static>(reader: R, length: u64) -> Result<hdf5_pure::File, ReadError> {
    let inner = ReadSeekSource::new(reader).map_err(|e| ReadError::Broken(format!("HDF5: {e}")))?;
    let left = Mutex::new(length.saturating_mul(2).saturating_add(REREAD_BYTES));
    let h5 = hdf5_pure::File::from_source(Metered { inner, left }).map_err(|e| broken(&e))?;
    // Old HDF5 has no checksums; this is how a file that was cut off gives itself away.
    let announced = h5.superblock().eof_address;
    if announced > length {
        return Err(ReadError::Broken(format!("HDF5: only {length} of {announced} bytes are there")));
    }
    Ok(h5)
}

/// Reads an HDF5 weight file.
pub(super) fn read(file: File, length: u64) -> Result<SourceModel, ReadError> {
    let h5 = open(file, length)?;
    let root = h5.root();
    let attributes = root.attrs().map_err(|e| broken(&e))?;
    if let Some(text) = attributes.get("model_config") {
        let text = text.as_str().ok_or_else(|| ReadError::Broken("attribute model_config is not a text".into()))?;
        within("the length of model_config", text.len() as u64, MAX_HEADER_BYTES)?;
        let config = keras_config::parse(text.as_bytes())?;
        let weights = root.group("model_weights").map_err(|e| broken(&e))?;
        return legacy(&weights, Some(&config));
    }
    if string_list(&attributes, "layer_names")?.is_some() {
        return legacy(&root, None);
    }
    match root.group("layers") {
        Ok(layers) => unnamed_variables(&layers),
        Err(_) => {
            Err(ReadError::Unsupported("it is an HDF5 file, but not one of Keras (no layer_names, no layers)".into()))
        }
    }
}

/// A list of texts from an attribute, or from its numbered parts; `None` if it does not exist or holds no texts.
fn string_list(attributes: &HashMap<String, AttrValue>, name: &str) -> Result<Option<Vec<String>>, ReadError> {
    let mut list: Vec<String> = Vec::new();
    match attributes.get(name) {
        Some(value) => match value.as_strings() {
            Some(texts) => list.extend_from_slice(texts),
            None => return Ok(None),
        },
        None => {
            let mut parts = 0;
            while let Some(texts) = attributes.get(&format!("{name}{parts}")).and_then(AttrValue::as_strings) {
                list.extend_from_slice(texts);
                parts += 1;
            }
            if parts == 0 {
                return Ok(None);
            }
        }
    }
    within(&format!("the length of {name}"), list.len() as u64, MAX_TENSORS as u64)?;
    for text in &mut list {
        text.truncate(text.trim_end_matches('\0').len());
    }
    Ok(Some(list))
}

/// Keras 2's tree (also written by Keras 3 for `.h5`).
fn legacy(group: &Group, config: Option<&Config>) -> Result<SourceModel, ReadError> {
    let format = if config.is_some() { SourceFormat::KerasHdf5Model } else { SourceFormat::KerasHdf5Weights };
    let mut model = SourceModel::new(format);
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    if let Some(config) = config {
        model.input_size = config.input_size;
        model.notes.clone_from(&config.notes);
        for (i, layer) in config.layers.iter().enumerate() {
            let outer = layer.path.first().cloned().unwrap_or_default();
            places.entry((outer, layer.name().to_owned())).or_insert(i);
            model.layers.push(layer.source());
        }
    }
    let attributes = group.attrs().map_err(|e| broken(&e))?;
    let names = string_list(&attributes, "layer_names")?
        .ok_or_else(|| ReadError::Broken("attribute layer_names is missing".into()))?;
    let mut budget = Budget::default();
    for layer_name in &names {
        let layer = group.group(layer_name).map_err(|e| broken(&e))?;
        let attributes = layer.attrs().map_err(|e| broken(&e))?;
        let weight_names = match string_list(&attributes, "weight_names")? {
            Some(names) => names,
            // A layer without weights carries an empty list of numbers; anything else is damage.
            None if attributes.contains_key("weight_names") => continue,
            None if layer.groups().map_err(|e| broken(&e))?.is_empty() => continue,
            None => return Err(ReadError::Broken(format!("attribute weight_names of layer {layer_name} is missing"))),
        };
        let owners: Vec<&str> = weight_names.iter().map(|n| split_weight_name(n).0).collect();
        let single = owners.windows(2).all(|pair| pair[0] == pair[1]);
        for (weight_name, owner) in weight_names.iter().zip(owners) {
            let dataset = layer.dataset(weight_name).map_err(|e| broken(&e))?;
            let full = format!("{layer_name}/{weight_name}");
            let Some(tensor) = read_tensor(&full, &dataset, &mut budget)? else {
                model.notes.push(format!("left out {full}: not floating-point values"));
                continue;
            };
            let place = place_of(layer_name, owner, single, &mut places, &mut model.layers);
            let kind = split_weight_name(weight_name).1.to_owned();
            add_tensor(&mut model.layers[place], kind, tensor)?;
        }
    }
    Ok(model)
}

/// Layer part and kind of `conv1/bn/gamma:0`: `conv1/bn` and `gamma`.
fn split_weight_name(name: &str) -> (&str, &str) {
    let bare = match name.rsplit_once(':') {
        Some((bare, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => name,
    };
    bare.rsplit_once('/').unwrap_or(("", bare))
}

/// Index of the layer that a tensor belongs to; a new one if the configuration does not know it.
///
/// `single`: all tensors of the group carry the same layer part, so it is a plain layer, perhaps renamed after its
/// variables were made; otherwise the group is a model whose inner layers are named by the tensors.
fn place_of(
    group: &str,
    owner: &str,
    single: bool,
    places: &mut BTreeMap<(String, String), usize>,
    layers: &mut Vec<SourceLayer>,
) -> usize {
    if single && let Some(&place) = places.get(&(group.to_owned(), group.to_owned())) {
        return place;
    }
    let mut rest = owner;
    loop {
        if let Some(&place) = places.get(&(group.to_owned(), rest.to_owned())) {
            return place;
        }
        match rest.split_once('/') {
            Some((_, inner)) => rest = inner,
            None => break,
        }
    }
    let name = if single || owner.is_empty() { group } else { owner };
    layers.push(SourceLayer { name: name.to_owned(), ..SourceLayer::default() });
    let place = layers.len() - 1;
    // Later tensors of the same layer find it under the same owner.
    let known_as = if single { group } else { owner };
    places.insert((group.to_owned(), known_as.to_owned()), place);
    place
}

fn add_tensor(layer: &mut SourceLayer, kind: String, tensor: Tensor) -> Result<(), ReadError> {
    if layer.tensors.iter().any(|(k, _)| *k == kind) {
        return Err(ReadError::Duplicate(format!("{}/{kind}", layer.name)));
    }
    layer.tensors.push((kind, tensor));
    Ok(())
}

/// Values of a floating-point dataset; `None` if it holds something else (seeds, counters).
fn read_tensor(name: &str, dataset: &Dataset, budget: &mut Budget) -> Result<Option<Tensor>, ReadError> {
    let failed = |e: &hdf5_pure::Error| ReadError::Broken(format!("tensor {name}: {e}"));
    if !matches!(dataset.datatype().map_err(|e| failed(&e))?, Datatype::FloatingPoint { .. }) {
        return Ok(None);
    }
    let mut shape = Vec::new();
    for extent in dataset.shape().map_err(|e| failed(&e))? {
        shape.push(usize::try_from(extent).unwrap_or(usize::MAX));
    }
    let elements = budget.take(name, &shape)?;
    let data = dataset.read_f32().map_err(|e| failed(&e))?;
    if data.len() != elements {
        return Err(ReadError::Broken(format!("tensor {name} has {} values, its shape needs {elements}", data.len())));
    }
    Ok(Some(Tensor { shape, data }))
}

/// The variables of one Keras 3 layer.
struct Variables {
    /// Attribute `name` of the group, written by newer Keras versions.
    name: Option<String>,
    /// Number and dataset, in order.
    datasets: BTreeMap<usize, Dataset>,
}

/// Finds every `vars` group below a `layers` group.
fn collect(
    group: &Group,
    path: &str,
    depth: usize,
    visited: &mut usize,
    found: &mut BTreeMap<String, Variables>,
) -> Result<(), ReadError> {
    within("the nesting of models in the file", depth as u64, MAX_NESTING as u64)?;
    for (key, layer) in group.iter_groups().map_err(|e| broken(&e))? {
        *visited += 1;
        within("the number of layers in the file", *visited as u64, MAX_TENSORS as u64)?;
        let path = format!("{path}/{key}");
        for (inner_key, inner) in layer.iter_groups().map_err(|e| broken(&e))? {
            if inner_key == "layers" {
                collect(&inner, &format!("{path}/layers"), depth + 1, visited, found)?;
            } else if inner_key == "vars" {
                let mut datasets = BTreeMap::new();
                for (number, dataset) in inner.iter_datasets().map_err(|e| broken(&e))? {
                    let number = number
                        .parse::<usize>()
                        .map_err(|_| ReadError::Broken(format!("{path}/vars/{number} is not a numbered variable")))?;
                    datasets.insert(number, dataset);
                }
                if !datasets.is_empty() {
                    let attributes = inner.attrs().map_err(|e| broken(&e))?;
                    let name = attributes.get("name").and_then(AttrValue::as_str).map(str::to_owned);
                    found.insert(path.clone(), Variables { name, datasets });
                }
            }
        }
    }
    Ok(())
}

/// Keras 3's tree with the configuration that gives its keys a meaning.
pub(super) fn named_variables(h5: &hdf5_pure::File, config: &Config) -> Result<SourceModel, ReadError> {
    let layers = h5.root().group("layers").map_err(|_| {
        ReadError::Unsupported(
            "model.weights.h5 has no group `layers`; load it in Keras 3 and save it again as .keras".into(),
        )
    })?;
    let mut found = BTreeMap::new();
    collect(&layers, "layers", 0, &mut 0, &mut found)?;
    let mut model = SourceModel::new(SourceFormat::KerasV3);
    model.input_size = config.input_size;
    model.notes.clone_from(&config.notes);
    let mut budget = Budget::default();
    for layer in &config.layers {
        let mut source = layer.source();
        if let Some(variables) = found.remove(&layer.key) {
            read_variables(layer, variables, &mut source, &mut model.notes, &mut budget)?;
        }
        model.layers.push(source);
    }
    if let Some(path) = found.keys().next() {
        return Err(ReadError::Broken(format!(
            "{} layers with variables are not in config.json, the first is {path}",
            found.len()
        )));
    }
    Ok(model)
}

/// Keras 3's tree alone (`.weights.h5`), whose layers are named only by newer Keras versions.
fn unnamed_variables(layers: &Group) -> Result<SourceModel, ReadError> {
    let mut found = BTreeMap::new();
    collect(layers, "layers", 0, &mut 0, &mut found)?;
    let mut ordered: Vec<(String, Variables)> = found.into_iter().collect();
    ordered.sort_by_cached_key(|(key, _)| super::match_names::natural(key));
    let mut model = SourceModel::new(SourceFormat::KerasV3Weights);
    let mut budget = Budget::default();
    for (key, variables) in ordered {
        let Some(name) = variables.name.clone() else {
            return Err(ReadError::Unsupported(
                "this .weights.h5 does not name its layers; save the whole model as .keras instead".into(),
            ));
        };
        let kind = key.rsplit('/').next().unwrap_or("").trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let class = match kind {
            "conv2d" => "Conv2D",
            "separable_conv2d" => "SeparableConv2D",
            "depthwise_conv2d" => "DepthwiseConv2D",
            "batch_normalization" => "BatchNormalization",
            "dense" => "Dense",
            other => other,
        }
        .to_owned();
        let layer = ConfigLayer {
            path: vec![name],
            key,
            class,
            scale: variables.datasets.len() > 3,
            center: true,
            ..ConfigLayer::default()
        };
        let mut source = layer.source();
        read_variables(&layer, variables, &mut source, &mut model.notes, &mut budget)?;
        model.layers.push(source);
    }
    Ok(model)
}

fn read_variables(
    layer: &ConfigLayer,
    variables: Variables,
    source: &mut SourceLayer,
    notes: &mut Vec<String>,
    budget: &mut Budget,
) -> Result<(), ReadError> {
    let kinds = kinds(layer);
    for (number, dataset) in variables.datasets {
        let name = format!("{}/vars/{number}", layer.key);
        match read_tensor(&name, &dataset, budget)? {
            Some(tensor) => {
                let kind = kinds.get(number).map_or_else(|| format!("variable_{number}"), |k| (*k).to_owned());
                add_tensor(source, kind, tensor)?;
            }
            None => notes.push(format!("left out {name}: not floating-point values")),
        }
    }
    Ok(())
}

/// Kinds of a layer's variables in Keras 3's order.
fn kinds(layer: &ConfigLayer) -> Vec<&'static str> {
    match layer.class.as_str() {
        "Conv2D" | "DepthwiseConv2D" | "Dense" => vec!["kernel", "bias"],
        "SeparableConv2D" => vec!["depthwise_kernel", "pointwise_kernel", "bias"],
        "BatchNormalization" => {
            let mut kinds = Vec::new();
            if layer.scale {
                kinds.push("gamma");
            }
            if layer.center {
                kinds.push("beta");
            }
            kinds.extend(["moving_mean", "moving_variance"]);
            kinds
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_names_of_every_keras() {
        assert_eq!(split_weight_name("conv1/bn/gamma:0"), ("conv1/bn", "gamma"));
        assert_eq!(split_weight_name("conv1_bn/gamma"), ("conv1_bn", "gamma"));
        assert_eq!(split_weight_name("kernel:0"), ("", "kernel"));
        assert_eq!(split_weight_name("a:b/kernel"), ("a:b", "kernel"));
    }

    #[test]
    fn long_lists_are_joined_and_empty_ones_are_none() {
        let mut attributes = HashMap::new();
        attributes.insert("weight_names".to_owned(), AttrValue::F64Array(Vec::new()));
        attributes.insert("layer_names0".to_owned(), AttrValue::StringArray(vec!["a".into(), "b\0".into()]));
        attributes.insert("layer_names1".to_owned(), AttrValue::StringArray(vec!["c".into()]));
        assert_eq!(string_list(&attributes, "weight_names").expect("no limit"), None);
        let joined = string_list(&attributes, "layer_names").expect("no limit");
        assert_eq!(joined, Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        assert_eq!(string_list(&attributes, "other").expect("no limit"), None);
    }

    #[test]
    fn renamed_layers_and_inner_layers_are_told_apart() {
        let mut places =
            BTreeMap::from([(("top".to_owned(), "top".to_owned()), 0), (("net".to_owned(), "conv1/bn".to_owned()), 1)]);
        let mut layers = vec![SourceLayer::default(), SourceLayer::default()];
        assert_eq!(place_of("top", "dense_7", true, &mut places, &mut layers), 0, "renamed after building");
        assert_eq!(place_of("net", "net/conv1/bn", false, &mut places, &mut layers), 1, "prefixed");
        let new = place_of("net", "unknown", false, &mut places, &mut layers);
        assert_eq!((new, layers[new].name.as_str()), (2, "unknown"));
        assert_eq!(place_of("net", "unknown", false, &mut places, &mut layers), 2);
    }
}
