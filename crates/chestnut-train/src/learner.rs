//! What every way of training a whole network offers: one update, predictions, and its whole state.
//!
//! The loop, the data and the files of `chestnut::pretrain` know only this trait; `chestnut::transfer::deep` makes a
//! [`crate::Cpu`] and uses it through the trait. That is the only learner there is. One for a graphics card would implement
//! this, be taught by the same experiment, and go on from the same checkpoints.

use crate::head::Adam;
use chestnut_zoo::Weights;
use chestnut_zoo::graph::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// Images and what should come out for them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[image][row][column][channel]`, standardised as the network expects.
    pub images: &'a [f32],
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// `[image][output]`: probabilities, 0 to 1; soft targets are allowed.
    pub targets: &'a [f32],
    /// `[image][output]`: how much each term of the loss counts; 0 where the label is unknown.
    pub weights: &'a [f32],
}

/// How weights follow their gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Adam's constants; epsilon is added to the corrected root, as in PyTorch.
    pub adam: Adam,
    /// Decoupled weight decay per update, times the rate (AdamW; Loshchilov and Hutter 2019); 0 is Adam. Applies to
    /// kernels only, not to biases and batch normalisation.
    pub weight_decay: f64,
    /// Share of the old running statistics that a batch leaves (Keras: 0.99).
    pub momentum: f32,
    /// Whether the batch's variance enters the running statistics divided by n - 1 (PyTorch) and not by n (Keras).
    pub unbiased_variance: bool,
}

impl Default for Update {
    /// Adam with Keras's statistics, as published (protocol 3).
    fn default() -> Self {
        Self {
            adam: Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
            weight_decay: 0.0,
            momentum: 0.99,
            unbiased_variance: false,
        }
    }
}

/// Everything that a training run has to keep to go on exactly where it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// All tensors of the graph, running statistics included.
    pub weights: Weights,
    /// Adam's mean gradient of each trained tensor, by its name; empty before the first update.
    pub mean: Weights,
    /// Adam's mean squared gradient of each trained tensor, by its name; empty before the first update.
    pub square: Weights,
    /// Updates done.
    pub step: u64,
}

/// What can stop training.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TrainError {
    /// The loss left the finite numbers; the weights are those before the update.
    #[error("the loss is not finite after {step} updates; lower the learning rate or look at this batch's images")]
    NotFinite {
        /// Updates done before.
        step: u64,
    },
    /// Weights, images or targets that do not fit the network.
    #[error("{0}")]
    Shape(String),
    /// The device cannot be used.
    #[error("{0}")]
    Device(String),
}

/// A network that learns.
pub trait Learner {
    /// One update: forward with the batch's own statistics, weighted binary cross-entropy on the last Dense layer's sums
    /// (its sigmoid is part of the loss), backward, Adam at `rate`. Gives the mean loss over the terms' weights.
    ///
    /// # Errors
    /// [`TrainError`]; after an error the state is that before the call.
    fn step(&mut self, batch: &Batch<'_>, rate: f64) -> Result<f64, TrainError> {
        self.step_many(std::slice::from_ref(batch), rate)
    }

    /// One update from several batches, which need memory for one: the loss is the mean over the terms of them all, and so
    /// is its gradient. Batch normalisation sees one batch at a time, and each batch moves the running statistics once, in
    /// their order; without batch normalisation the update is that of the batches joined, up to rounding.
    ///
    /// # Errors
    /// [`TrainError`]; after an error the state is that before the call. No batch at all is [`TrainError::Shape`].
    fn step_many(&mut self, batches: &[Batch<'_>], rate: f64) -> Result<f64, TrainError>;

    /// Sums of the last Dense layer, `[image][output]`, with running statistics.
    ///
    /// # Errors
    /// [`TrainError::Shape`] or [`TrainError::Device`].
    fn logits(&mut self, images: &[f32], height: usize, width: usize) -> Result<Vec<f32>, TrainError>;

    /// A copy of everything that has to be kept.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    fn state(&mut self) -> Result<State, TrainError>;

    /// Moves an average of the weights towards those of now, running statistics included: `average = decay * average +
    /// (1 - decay) * weights`, so computed that what does not move stays to the bit. Learners that can do it without a copy of
    /// their state should.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    fn blend_weights(&mut self, average: &mut Weights, decay: f32) -> Result<(), TrainError> {
        let weights = self.state()?.weights;
        for (name, average) in average.iter_mut() {
            if let Some(now) = weights.get(name) {
                blend(&mut average.data, &now.data, decay);
            }
        }
        Ok(())
    }

    /// Goes on from a kept state.
    ///
    /// # Errors
    /// [`TrainError::Shape`] if it is another network's.
    fn restore(&mut self, state: &State) -> Result<(), TrainError>;
}

/// One tensor's part of [`Learner::blend_weights`].
pub(crate) fn blend(average: &mut [f32], now: &[f32], decay: f32) {
    average.iter_mut().zip(now).for_each(|(a, w)| *a += (1.0 - decay) * (w - *a));
}

/// Which nodes learn. The others stay as they are; their batch normalisation uses running statistics, as in Keras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trained {
    /// All.
    All,
    /// These.
    Only(BTreeSet<NodeId>),
}

impl Trained {
    /// Whether a node learns.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Only(nodes) => nodes.contains(&node),
        }
    }
}
