//! The head of a file: which Dense layers form it, their activations, the names of its outputs.
//!
//! What the user says comes first, then what the file says, then the usual, noted as assumed.

use crate::head::{Activation, CHEXPERT_14, Head, HeadLayer};
use crate::read::torch_names::TORCHXRAYVISION_18;
use crate::read::{HeadHint, ReadError, SourceFormat, SourceModel};

/// Layers that do not compute anything at inference.
const SILENT: [&str; 6] = ["Dropout", "Flatten", "Reshape", "InputLayer", "GaussianNoise", "SpatialDropout2D"];

impl SourceModel {
    /// Units and activations of the Dense layers; the error says why they are not a chain on the embedding.
    pub(super) fn head(
        &self,
        dense: &[usize],
        behind: &[usize],
        width: usize,
        hint: &HeadHint,
        notes: &mut Vec<String>,
    ) -> Result<Head, String> {
        if let Some(&i) = behind.first() {
            return Err(format!("it has a layer {} that is not fully connected", self.layers[i].name));
        }
        let mut layers: Vec<HeadLayer> = Vec::new();
        let mut input = width;
        for &i in dense {
            let layer = &self.layers[i];
            let kernel = layer.tensors.iter().find(|(kind, _)| kind == "kernel").map(|(_, t)| t.shape.as_slice());
            let Some(&[rows, units]) = kernel else {
                return Err(format!("layer {} has no two-dimensional kernel", layer.name));
            };
            if layer.tensors.len() > 2 || layer.tensors.iter().any(|(k, t)| k == "bias" && t.shape != [units]) {
                return Err(format!("layer {} is not a plain Dense layer", layer.name));
            }
            if rows != input {
                let what = if layers.is_empty() && rows > width && rows % width == 0 {
                    "the flattened feature map, not its average".to_owned()
                } else {
                    format!("{rows} values where {input} come in")
                };
                return Err(format!("layer {} acts on {what}", layer.name));
            }
            layers.push(HeadLayer { units, activation: Activation::Linear });
            input = units;
        }
        if layers.is_empty() {
            return Ok(Head::none());
        }
        self.set_activations(dense, &mut layers, hint, notes)?;
        Ok(Head { layers, labels: Vec::new() })
    }

    /// Fills in activations: what the user says, what the file says, or the usual ones, noted as assumed.
    fn set_activations(
        &self,
        dense: &[usize],
        layers: &mut [HeadLayer],
        hint: &HeadHint,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        if let Some(given) = &hint.activations {
            if given.len() != layers.len() {
                return Err(format!("{} activations were given for {} Dense layers", given.len(), layers.len()));
            }
            for (layer, &activation) in layers.iter_mut().zip(given) {
                layer.activation = activation;
            }
            return Ok(());
        }
        if let Some(recorded) = &self.recorded.head
            && recorded.layers.len() == layers.len()
        {
            for (layer, known) in layers.iter_mut().zip(&recorded.layers) {
                layer.activation = known.activation;
            }
            return Ok(());
        }
        let count = layers.len();
        let mut assumed = false;
        for (n, layer) in layers.iter_mut().enumerate() {
            layer.activation = match self.activation(dense[n]) {
                Some(text) => parse_activation(text)
                    .ok_or_else(|| format!("layer {} has the activation {text}", self.layers[dense[n]].name))?,
                None => {
                    assumed = true;
                    if n + 1 == count { Activation::Sigmoid } else { Activation::Relu }
                }
            };
        }
        if assumed {
            notes.push(
                "the file does not say the activations of the head: ReLU on inner layers and a sigmoid on the last one \
                 are assumed"
                    .into(),
            );
        }
        Ok(())
    }

    /// The activation of a Dense layer: its own, or that of the activation layer right behind it.
    fn activation(&self, dense: usize) -> Option<&str> {
        let own = self.layers[dense].activation.as_deref()?;
        if own != "linear" {
            return Some(own);
        }
        let next = self.layers[dense + 1..]
            .iter()
            .find(|l| !l.class.as_deref().is_some_and(|class| SILENT.contains(&class)))
            .filter(|l| l.tensors.is_empty());
        Some(next.and_then(|l| l.activation.as_deref()).unwrap_or(own))
    }

    /// Names the outputs.
    pub(super) fn label(
        &self,
        mut head: Head,
        channels: usize,
        hint: &HeadHint,
        notes: &mut Vec<String>,
    ) -> Result<Head, ReadError> {
        let outputs = head.outputs();
        if let Some(labels) = &hint.labels {
            if labels.len() != outputs {
                return Err(ReadError::Labels { given: labels.len(), outputs });
            }
            head.labels.clone_from(labels);
            return Ok(head);
        }
        if let Some(recorded) = &self.recorded.head
            && recorded.labels.len() == outputs
        {
            head.labels.clone_from(&recorded.labels);
            return Ok(head);
        }
        let torch =
            matches!(self.format, SourceFormat::TorchStateDict | SourceFormat::TorchModel | SourceFormat::Safetensors);
        // The paper's networks are Keras's. In PyTorch 14 outputs can as well be ChestX-ray14's.
        if !torch && outputs == CHEXPERT_14.len() {
            head.labels = CHEXPERT_14.iter().map(ToString::to_string).collect();
            notes
                .push("14 outputs: CheXpert's 14 labels in the paper's order are assumed; give --labels if not".into());
        } else if torch && channels == 1 && outputs == TORCHXRAYVISION_18.len() {
            head.labels = TORCHXRAYVISION_18.iter().map(ToString::to_string).collect();
            notes.push("1 channel and 18 outputs: TorchXRayVision's labels are assumed; give --labels if not".into());
        } else if outputs > 0 {
            notes.push(format!(
                "the file does not say what its {outputs} outputs are; name them, in order, with --labels"
            ));
        }
        Ok(head)
    }
}

fn parse_activation(text: &str) -> Option<Activation> {
    match text {
        "linear" => Some(Activation::Linear),
        "relu" => Some(Activation::Relu),
        "sigmoid" => Some(Activation::Sigmoid),
        "softmax" => Some(Activation::Softmax),
        _ => None,
    }
}
