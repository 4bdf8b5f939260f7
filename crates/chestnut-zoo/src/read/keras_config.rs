//! The configuration that Keras saves with a model: layers in order, their classes and activations.
//!
//! Keras 2 keeps it in the attribute `model_config`, Keras 3 in `config.json`. Models inside models are flattened in
//! order. Only names, classes and a few settings are read; nothing is built or executed.

use super::{MAX_NESTING, MAX_TENSORS, ReadError, SourceLayer, within};
use serde_json::Value;
use std::collections::BTreeMap;

/// Layers that change the input before the network sees it.
const PREPROCESSING: [&str; 7] =
    ["Rescaling", "Normalization", "Lambda", "TFOpLambda", "SlicingOpLambda", "Resizing", "CenterCrop"];

/// One layer that is not itself a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ConfigLayer {
    /// Names of the models around it, outermost first, then its own.
    pub(super) path: Vec<String>,
    /// Where Keras 3 keeps its variables: `layers/functional/layers/conv2d_1`.
    pub(super) key: String,
    /// Class name.
    pub(super) class: String,
    /// As spelled in the file.
    pub(super) activation: Option<String>,
    /// Of a batch normalisation.
    pub(super) epsilon: Option<f32>,
    /// Of a batch normalisation: whether gamma exists.
    pub(super) scale: bool,
    /// Of a batch normalisation: whether beta exists.
    pub(super) center: bool,
}

impl ConfigLayer {
    /// Its own name.
    pub(super) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// The layer, still without tensors.
    pub(super) fn source(&self) -> SourceLayer {
        SourceLayer {
            name: self.name().to_owned(),
            class: Some(self.class.clone()),
            activation: self.activation.clone(),
            epsilon: self.epsilon,
            tensors: Vec::new(),
        }
    }
}

/// A model's configuration, flattened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Config {
    /// In Keras's order.
    pub(super) layers: Vec<ConfigLayer>,
    /// Rows and columns of the input, if known and equal.
    pub(super) input_size: Option<usize>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// Reads a configuration.
///
/// # Errors
/// [`ReadError::Broken`] if it is not JSON or has no layers, [`ReadError::TooLarge`] beyond a limit.
pub(super) fn parse(text: &[u8]) -> Result<Config, ReadError> {
    let model: Value = serde_json::from_slice(text)
        .map_err(|e| ReadError::Broken(format!("the model configuration is not valid JSON: {e}")))?;
    let layers = inner_layers(&model["config"])
        .ok_or_else(|| ReadError::Broken("the model configuration lists no layers".into()))?;
    let mut config = Config::default();
    walk(layers, &mut Vec::new(), "layers", &mut config)?;
    let mut own: Vec<&str> =
        config.layers.iter().map(|l| l.class.as_str()).filter(|c| PREPROCESSING.contains(c)).collect();
    own.sort_unstable();
    own.dedup();
    if !own.is_empty() {
        let note = format!(
            "the saved model changes its input itself (layers {}), which is not part of the network here: choose a \
             standardisation that gives the network the same values",
            own.join(", ")
        );
        config.notes.push(note);
    }
    Ok(config)
}

/// The layers of a model's `config`; old Sequential models are a bare list.
fn inner_layers(config: &Value) -> Option<&Vec<Value>> {
    config.get("layers").and_then(Value::as_array).or_else(|| config.as_array())
}

fn walk(layers: &[Value], path: &mut Vec<String>, key: &str, config: &mut Config) -> Result<(), ReadError> {
    within("the nesting of models in the configuration", path.len() as u64, MAX_NESTING as u64)?;
    // Keras 3 numbers the layers of a container per class, in this order, whatever their names.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for layer in layers {
        let settings = &layer["config"];
        let class = class_name(layer);
        let name = settings["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or(class).to_owned();
        let kind = snake_case(class);
        let count = counts.entry(kind.clone()).or_insert(0);
        let key = if *count == 0 { format!("{key}/{kind}") } else { format!("{key}/{kind}_{count}") };
        *count += 1;
        path.push(name);
        if config.input_size.is_none() {
            config.input_size = input_size(settings);
        }
        if let Some(inner) = inner_layers(settings) {
            walk(inner, path, &format!("{key}/layers"), config)?;
        } else {
            within("the number of layers in the configuration", config.layers.len() as u64 + 1, MAX_TENSORS as u64)?;
            config.layers.push(ConfigLayer {
                path: path.clone(),
                key,
                activation: activation(class, settings),
                class: class.to_owned(),
                epsilon: if class == "BatchNormalization" {
                    settings["epsilon"].as_f64().map(|e| e as f32)
                } else {
                    None
                },
                scale: settings["scale"].as_bool().unwrap_or(true),
                center: settings["center"].as_bool().unwrap_or(true),
            });
        }
        path.pop();
    }
    Ok(())
}

/// Class name without a registered package (`Custom>Dense`).
fn class_name(layer: &Value) -> &str {
    let full = layer["class_name"].as_str().unwrap_or("");
    full.rsplit('>').next().unwrap_or(full)
}

/// The activation as text: `linear`, `relu`, `sigmoid`, `softmax`, or whatever else the file says.
fn activation(class: &str, settings: &Value) -> Option<String> {
    match class {
        "ReLU" if settings["max_value"].is_null() && settings["negative_slope"].as_f64().unwrap_or(0.0) == 0.0 => {
            Some("relu".into())
        }
        "Softmax" => Some("softmax".into()),
        "ReLU" | "LeakyReLU" | "PReLU" | "ELU" | "ThresholdedReLU" => Some(class.into()),
        _ => match &settings["activation"] {
            Value::String(name) => Some(name.clone()),
            object @ Value::Object(_) => {
                let name = object["config"].as_str().or_else(|| object["class_name"].as_str());
                Some(name.unwrap_or("unknown").to_owned())
            }
            _ => None,
        },
    }
}

/// Rows and columns from `[null, 224, 224, 3]` or `[null, 3, 224, 224]`.
fn input_size(settings: &Value) -> Option<usize> {
    let shape = settings.get("batch_shape").or_else(|| settings.get("batch_input_shape"))?.as_array()?;
    let sizes: Vec<u64> = shape.iter().skip(1).map(|v| v.as_u64().unwrap_or(0)).collect();
    let [first, second, third]: [u64; 3] = sizes.try_into().ok()?;
    let (rows, columns) = if first <= 4 { (second, third) } else { (first, second) };
    if rows == columns && (1..=65_536).contains(&rows) { usize::try_from(rows).ok() } else { None }
}

/// Keras's snake case of a class name: `SeparableConv2D` becomes `separable_conv2d`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut text = String::with_capacity(letters.len() + 4);
    for (i, &c) in letters.iter().enumerate() {
        let after_lower = i > 0 && letters[i - 1].is_ascii_lowercase();
        let starts_word = i > 0 && letters.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (after_lower || starts_word) {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_become_group_names() {
        for (class, group) in [
            ("Conv2D", "conv2d"),
            ("SeparableConv2D", "separable_conv2d"),
            ("BatchNormalization", "batch_normalization"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("ZeroPadding2D", "zero_padding2d"),
            ("InputLayer", "input_layer"),
            ("ReLU", "re_lu"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("Functional", "functional"),
        ] {
            assert_eq!(snake_case(class), group);
        }
    }

    #[test]
    fn nested_models_are_flattened_and_counted_per_container() {
        let config = parse(
            br#"{"class_name": "Sequential", "config": {"name": "s", "layers": [
                {"class_name": "Functional", "config": {"name": "net", "layers": [
                    {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 299, 299, 3]}},
                    {"class_name": "Conv2D", "config": {"name": "a"}},
                    {"class_name": "Conv2D", "config": {"name": "b"}},
                    {"class_name": "BatchNormalization", "config": {"name": "n", "epsilon": 0.5, "scale": false}}]}},
                {"class_name": "Dense", "config": {"name": "out", "activation": {"class_name": "function", "config": "relu"}}},
                {"class_name": "ReLU", "config": {"name": "r", "max_value": 6.0}}]}}"#,
        )
        .expect("valid");
        assert_eq!(config.input_size, Some(299));
        let keys: Vec<_> = config.layers.iter().map(|l| l.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "layers/functional/layers/input_layer",
                "layers/functional/layers/conv2d",
                "layers/functional/layers/conv2d_1",
                "layers/functional/layers/batch_normalization",
                "layers/dense",
                "layers/re_lu",
            ]
        );
        assert_eq!(config.layers[2].path, ["net", "b"]);
        assert_eq!(
            (config.layers[3].epsilon, config.layers[3].scale, config.layers[3].center),
            (Some(0.5), false, true)
        );
        assert_eq!(config.layers[4].activation.as_deref(), Some("relu"));
        assert_eq!(config.layers[5].activation.as_deref(), Some("ReLU"), "a clipped ReLU is not a ReLU");
    }

    #[test]
    fn hostile_configurations_are_errors() {
        for text in [&b""[..], b"[1, 2]", b"{\"config\": 3}", b"{\"config\": {\"layers\": 1}}", b"\xff"] {
            assert!(matches!(parse(text), Err(ReadError::Broken(_))), "{text:?}");
        }
        let mut deep = r#"{"class_name": "Conv2D", "config": {"name": "c"}}"#.to_owned();
        for _ in 0..12 {
            deep = format!(r#"{{"class_name": "Model", "config": {{"layers": [{deep}]}}}}"#);
        }
        assert!(matches!(parse(deep.as_bytes()), Err(ReadError::TooLarge { .. })));
    }
}
