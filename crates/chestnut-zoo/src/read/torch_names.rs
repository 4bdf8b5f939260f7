//! PyTorch's names and layouts to Keras's: torchvision's and timm's DenseNet and VGG, TorchXRayVision's DenseNet121.
//!
//! Convolutions go from `[out, in, height, width]` to `[height, width, in, out]`, linear layers from `[out, in]` to
//! `[in, out]`. PyTorch's batch normalisation adds 1e-5 to the variance where Keras's DenseNet adds 1.001e-5; the
//! difference is taken into account where names are matched.

use super::{ReadError, SourceLayer};
use crate::weights::Tensor;
use std::collections::BTreeMap;

/// The 18 outputs of TorchXRayVision's networks, in order (Cohen et al. 2022, arXiv:2111.00595).
pub(super) const TORCHXRAYVISION_18: [&str; 18] = [
    "Atelectasis",
    "Consolidation",
    "Infiltration",
    "Pneumothorax",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Effusion",
    "Pneumonia",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Nodule",
    "Mass",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
];

/// PyTorch's default for batch normalisation.
const EPSILON: f32 = 1e-5;

/// Whether names are a PyTorch module's.
pub(super) fn looks_like_torch<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| name.ends_with(".running_mean") || (name.contains("features.") && name.ends_with(".weight")))
}

/// Layers in Keras's names and layouts, in the order of the network.
pub(super) fn layers(named: Vec<(String, Tensor)>, notes: &mut Vec<String>) -> Result<Vec<SourceLayer>, ReadError> {
    let vgg = vgg_layers(&named);
    let mut found: BTreeMap<Place, SourceLayer> = BTreeMap::new();
    for (full, tensor) in named {
        if full.ends_with("num_batches_tracked") {
            continue;
        }
        if full.ends_with("op_threshs") {
            notes.push("left out op_threshs: the operating points of TorchXRayVision's calibration".into());
            continue;
        }
        let Some((module, parameter)) = full.rsplit_once('.') else {
            return Err(unknown(&full));
        };
        // Whole models, DataParallel and Lightning put their own names in front.
        let (place, name, class) = if let Some((_, inner)) = module.rsplit_once("features.") {
            match (vgg.get(inner), densenet_layer(inner)) {
                (Some((index, name)), _) => (Place(0, *index), name.clone(), "Conv2D"),
                (None, Some((index, name, class))) => (Place(0, index), name, class),
                (None, None) => return Err(unknown(&full)),
            }
        } else if let Some(index) = classifier_index(module) {
            (Place(1, index), module.to_owned(), "Dense")
        } else if module.contains("pre_logits") || module.ends_with("head.fc") {
            notes.push(format!("left out {full}: the embedding does not depend on it"));
            continue;
        } else {
            return Err(unknown(&full));
        };
        let (kind, tensor) = match (class, parameter, tensor.shape.len()) {
            ("Conv2D", "weight", 4) => ("kernel", out_in_last(tensor)),
            ("Dense", "weight", 2) => ("kernel", transposed(tensor)),
            ("Conv2D" | "Dense", "bias", 1) => ("bias", tensor),
            ("BatchNormalization", "weight", 1) => ("gamma", tensor),
            ("BatchNormalization", "bias", 1) => ("beta", tensor),
            ("BatchNormalization", "running_mean", 1) => ("moving_mean", tensor),
            ("BatchNormalization", "running_var", 1) => ("moving_variance", tensor),
            _ => return Err(unknown(&full)),
        };
        let epsilon = (class == "BatchNormalization").then_some(EPSILON);
        let layer = found.entry(place).or_insert_with(|| SourceLayer {
            name,
            class: Some(class.to_owned()),
            activation: None,
            epsilon,
            tensors: Vec::new(),
        });
        if layer.tensors.iter().any(|(k, _)| k == kind) {
            return Err(ReadError::Duplicate(full));
        }
        layer.tensors.push((kind.to_owned(), tensor));
    }
    Ok(found.into_values().collect())
}

/// Order of layers: features before classifier, then position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u8, usize);

fn unknown(name: &str) -> ReadError {
    ReadError::Unsupported(format!(
        "tensor {name} is not part of a network known here (torchvision's, timm's and TorchXRayVision's DenseNet, \
         torchvision's and timm's VGG)"
    ))
}

/// Position, Keras's name and class of a DenseNet module below `features`.
fn densenet_layer(module: &str) -> Option<(usize, String, &'static str)> {
    // Old torchvision checkpoints write `norm.1` for `norm1`.
    let module = module.replace("norm.", "norm").replace("conv.", "conv");
    let class = if module.contains("norm") { "BatchNormalization" } else { "Conv2D" };
    match module.as_str() {
        "conv0" => return Some((0, "conv1_conv".into(), class)),
        "norm0" => return Some((1, "conv1_bn".into(), class)),
        "norm5" => return Some((usize::MAX, "bn".into(), class)),
        _ => {}
    }
    let (group, rest) = module.split_once('.')?;
    if let Some(number) = group.strip_prefix("transition") {
        let number: usize = number.parse().ok().filter(|n| (1..=3).contains(n))?;
        let part = match rest {
            "norm" => "bn",
            "conv" => "conv",
            _ => return None,
        };
        let index = number * 10_000 + 9_000 + usize::from(part == "conv");
        return Some((index, format!("pool{}_{part}", number + 1), class));
    }
    let block: usize = group.strip_prefix("denseblock")?.parse().ok().filter(|n| (1..=4).contains(n))?;
    let (layer, part) = rest.split_once('.')?;
    let layer: usize = layer.strip_prefix("denselayer")?.parse().ok().filter(|n| (1..=999).contains(n))?;
    let (step, part) = match part {
        "norm1" => (0, "0_bn"),
        "conv1" => (1, "1_conv"),
        "norm2" => (2, "1_bn"),
        "conv2" => (3, "2_conv"),
        _ => return None,
    };
    Some((block * 10_000 + layer * 4 + step, format!("conv{}_block{layer}_{part}", block + 1), class))
}

/// VGG's convolutions by module number below `features`: position and Keras's name. Empty for other networks.
fn vgg_layers(named: &[(String, Tensor)]) -> BTreeMap<String, (usize, String)> {
    let mut numbers: Vec<usize> = Vec::new();
    for (name, tensor) in named {
        if let Some((_, inner)) = name.rsplit_once("features.")
            && let Some(number) = inner.strip_suffix(".weight").and_then(|n| n.parse().ok())
            && tensor.shape.len() == 4
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let blocks: [usize; 5] = match numbers.len() {
        13 => [2, 2, 3, 3, 3],
        16 => [2, 2, 4, 4, 4],
        _ => return BTreeMap::new(),
    };
    let names = blocks
        .into_iter()
        .enumerate()
        .flat_map(|(block, count)| (1..=count).map(move |i| format!("block{}_conv{i}", block + 1)));
    numbers.iter().zip(names).enumerate().map(|(i, (number, name))| (number.to_string(), (i, name))).collect()
}

/// Position of a linear layer: 0 for `classifier`, n for `classifier.n`.
fn classifier_index(module: &str) -> Option<usize> {
    let at = module.rfind("classifier")?;
    match &module[at + "classifier".len()..] {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

/// `[out, in, height, width]` to `[height, width, in, out]`.
fn out_in_last(tensor: Tensor) -> Tensor {
    let [out, input, height, width] = [tensor.shape[0], tensor.shape[1], tensor.shape[2], tensor.shape[3]];
    let mut data = Vec::with_capacity(tensor.data.len());
    for y in 0..height {
        for x in 0..width {
            for i in 0..input {
                for o in 0..out {
                    data.push(tensor.data[((o * input + i) * height + y) * width + x]);
                }
            }
        }
    }
    Tensor { shape: vec![height, width, input, out], data }
}

/// `[out, in]` to `[in, out]`.
fn transposed(tensor: Tensor) -> Tensor {
    let (out, input) = (tensor.shape[0], tensor.shape[1]);
    let mut data = Vec::with_capacity(tensor.data.len());
    for i in 0..input {
        for o in 0..out {
            data.push(tensor.data[o * input + i]);
        }
    }
    Tensor { shape: vec![input, out], data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        let len = shape.iter().product::<usize>();
        Tensor { shape: shape.to_vec(), data: (0..len).map(|i| i as f32).collect() }
    }

    #[test]
    fn layouts_are_keras() {
        let conv = out_in_last(tensor(&[2, 3, 1, 1]));
        assert_eq!((conv.shape.as_slice(), conv.data.as_slice()), (&[1, 1, 3, 2][..], &[0., 3., 1., 4., 2., 5.][..]));
        let dense = transposed(tensor(&[2, 3]));
        assert_eq!((dense.shape.as_slice(), dense.data.as_slice()), (&[3, 2][..], &[0., 3., 1., 4., 2., 5.][..]));
        let spatial = out_in_last(tensor(&[1, 1, 2, 3]));
        assert_eq!(spatial.data, [0., 1., 2., 3., 4., 5.]);
    }

    #[test]
    fn densenet_names() {
        for (torch, keras) in [
            ("conv0", "conv1_conv"),
            ("norm0", "conv1_bn"),
            ("denseblock1.denselayer1.norm1", "conv2_block1_0_bn"),
            ("denseblock1.denselayer1.conv1", "conv2_block1_1_conv"),
            ("denseblock4.denselayer16.norm.2", "conv5_block16_1_bn"),
            ("denseblock4.denselayer16.conv2", "conv5_block16_2_conv"),
            ("transition1.norm", "pool2_bn"),
            ("transition3.conv", "pool4_conv"),
            ("norm5", "bn"),
        ] {
            assert_eq!(densenet_layer(torch).map(|(_, name, _)| name).as_deref(), Some(keras), "{torch}");
        }
        assert_eq!(densenet_layer("layer1.0.conv1"), None);
    }

    #[test]
    fn prefixes_are_ignored_and_strangers_named() {
        let mut notes = Vec::new();
        let named = vec![
            ("module.densenet121.features.norm0.running_mean".to_owned(), tensor(&[4])),
            ("module.densenet121.classifier.0.weight".to_owned(), tensor(&[2, 3])),
            ("module.densenet121.features.norm0.num_batches_tracked".to_owned(), tensor(&[])),
        ];
        let layers = layers(named, &mut notes).expect("known names");
        assert_eq!(layers.len(), 2);
        assert_eq!((layers[0].name.as_str(), layers[0].tensors[0].0.as_str()), ("conv1_bn", "moving_mean"));
        assert_eq!(layers[1].class.as_deref(), Some("Dense"));
        let error = super::layers(vec![("layer1.0.conv1.weight".to_owned(), tensor(&[1, 1, 1, 1]))], &mut notes);
        assert!(error.expect_err("ResNet").to_string().contains("layer1.0.conv1.weight"));
    }
}
