//! What stands on top of the embedding: Dense layers and the names of their outputs.
//!
//! The paper's networks end in Dense(14, sigmoid) on CheXpert's labels. Published weights end in
//! anything: other labels, logits, several layers, or nothing. The head is recorded as found, and the
//! embedding never depends on it.

use serde::{Deserialize, Serialize};

/// CheXpert's 14 observations in the order that the paper's networks use (index 0 to 13).
pub const CHEXPERT_14: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// What a Dense layer applies to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Nothing: logits.
    Linear,
    /// max(x, 0), between Dense layers.
    Relu,
    /// One independent probability per label.
    Sigmoid,
    /// Probabilities that sum to 1: exclusive classes.
    Softmax,
}

/// One Dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadLayer {
    /// Outputs.
    pub units: usize,
    /// Applied to them.
    pub activation: Activation,
}

/// The Dense layers on the embedding, first to last, and the labels of the last one's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Empty: the network gives an embedding only.
    pub layers: Vec<HeadLayer>,
    /// As many as the last layer has units, or empty when unknown.
    pub labels: Vec<String>,
}

impl Head {
    /// The paper's head: Dense(14, sigmoid) on CheXpert's labels.
    #[must_use]
    pub fn chexpert() -> Self {
        Self::sigmoid(CHEXPERT_14.iter().map(ToString::to_string).collect())
    }

    /// One Dense layer with a sigmoid per label.
    #[must_use]
    pub fn sigmoid(labels: Vec<String>) -> Self {
        Self { layers: vec![HeadLayer { units: labels.len(), activation: Activation::Sigmoid }], labels }
    }

    /// No head.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Number of outputs; 0 without a head.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |l| l.units)
    }

    /// Labels, or `output_0`, `output_1`, ... where nobody named them.
    #[must_use]
    pub fn output_names(&self) -> Vec<String> {
        if self.labels.len() == self.outputs() {
            self.labels.clone()
        } else {
            (0..self.outputs()).map(|i| format!("output_{i}")).collect()
        }
    }
}
