//! The learner on a processor.

use super::passes::{Passes, Tape};
use super::tensors::Tensors;
use crate::learner::{Batch, Learner, State, TrainError, Trained, Update};
use chestnut_nn::training::Kernels;
use chestnut_zoo::{Graph, Tensor, Weights};
use rayon::prelude::*;

/// A network that learns on a processor. The same bits for any number of threads; not across instruction sets.
pub struct Cpu {
    passes: Passes,
    tensors: Tensors,
    update: Update,
    tape: Tape,
    k: Kernels,
}

/// Statistics of a batch that a normalisation used.
struct Observed {
    /// Name of the normalisation.
    name: String,
    mean: Vec<f32>,
    /// Divided by `count`.
    variance: Vec<f32>,
    /// Images times pixels.
    count: f64,
}

/// What some batches ask of an update.
struct Asked {
    /// Mean loss over the terms' weights.
    loss: f64,
    /// In the order of the tensors; empty for those that do not learn.
    gradients: Vec<Vec<f32>>,
    /// Batch by batch.
    observed: Vec<Observed>,
}

/// Loss and gradients of a batch, as [`Learner::step`] would use them.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Mean loss over the terms' weights.
    pub loss: f64,
    /// By tensor; only those that learn.
    pub tensors: Weights,
}

impl Cpu {
    /// A network with these weights, of which the nodes in `trained` learn.
    ///
    /// # Errors
    /// [`TrainError::Shape`] if weights do not fit, or the network has no head of independent probabilities.
    pub fn new(graph: &Graph, weights: &Weights, update: Update, trained: &Trained) -> Result<Self, TrainError> {
        Self::with(Kernels::detect(), graph, weights, update, trained)
    }

    /// The same, on a given instruction set (tests compare them).
    ///
    /// # Errors
    /// As [`Cpu::new`].
    pub fn with(
        k: Kernels,
        graph: &Graph,
        weights: &Weights,
        update: Update,
        trained: &Trained,
    ) -> Result<Self, TrainError> {
        let passes = Passes::new(graph, trained, k)?;
        let tensors = Tensors::new(graph, weights, trained)?;
        Ok(Self { passes, tensors, update, tape: Tape::default(), k })
    }

    /// Loss and gradients without an update.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn gradients(&mut self, batch: &Batch<'_>) -> Result<Gradients, TrainError> {
        self.gradients_of(std::slice::from_ref(batch))
    }

    /// Loss and gradients of several batches, as [`Learner::step_many`] would use them, without an update.
    ///
    /// # Errors
    /// As [`Learner::step_many`].
    pub fn gradients_of(&mut self, batches: &[Batch<'_>]) -> Result<Gradients, TrainError> {
        let Asked { loss, gradients, .. } = self.differentiate(batches)?;
        let all = self.tensors.all.iter().zip(gradients).filter(|(p, g)| p.learns && !g.is_empty());
        let tensors = all.map(|(p, g)| (p.name.clone(), Tensor { shape: p.shape.clone(), data: g })).collect();
        Ok(Gradients { loss, tensors })
    }

    /// Batch by batch with the same weights; changes nothing but the tape.
    fn differentiate(&mut self, batches: &[Batch<'_>]) -> Result<Asked, TrainError> {
        if batches.is_empty() {
            return Err(TrainError::Shape("there is no batch to learn from".into()));
        }
        let total: f64 = batches.iter().flat_map(|b| b.weights).map(|&w| f64::from(w)).sum();
        let mut asked = Asked { loss: 0.0, gradients: Vec::new(), observed: Vec::new() };
        for batch in batches {
            let (loss, gradients) = self.share(batch, total)?;
            asked.loss += loss;
            if asked.gradients.is_empty() {
                asked.gradients = gradients;
            } else {
                asked.gradients.par_iter_mut().zip(&gradients).for_each(|(sum, g)| {
                    sum.iter_mut().zip(g).for_each(|(s, v)| *s += v);
                });
            }
            let seen = self.passes.batch_statistics(&self.tape).map(|(name, mean, variance, count)| Observed {
                name: name.to_owned(),
                mean: mean.to_vec(),
                variance: variance.to_vec(),
                count,
            });
            asked.observed.extend(seen);
        }
        // Finite shares can have a sum that is not.
        if batches.len() > 1 && asked.gradients.iter().flatten().any(|g| !g.is_finite()) {
            return Err(TrainError::NotFinite { step: self.tensors.step });
        }
        Ok(asked)
    }

    /// What a batch adds to the loss and its gradients, where all terms together weigh `total`.
    fn share(&mut self, batch: &Batch<'_>, total: f64) -> Result<(f64, Vec<Vec<f32>>), TrainError> {
        let Self { passes, tensors, tape, .. } = self;
        passes.forward(tensors, batch.images, [batch.height, batch.width], true, tape)?;
        let logits = passes.logits(tape);
        if batch.targets.len() != logits.len() || batch.weights.len() != logits.len() {
            return Err(TrainError::Shape(format!(
                "{} targets and {} weights for {} outputs of this batch",
                batch.targets.len(),
                batch.weights.len(),
                logits.len()
            )));
        }
        let (loss, seed) = cross_entropy(logits, batch.targets, batch.weights, total);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step: tensors.step });
        }
        let gradients = passes.backward(tensors, tape, seed);
        if gradients.iter().flatten().any(|g| !g.is_finite()) {
            return Err(TrainError::NotFinite { step: tensors.step });
        }
        Ok((loss, gradients))
    }
}

impl Learner for Cpu {
    fn step_many(&mut self, batches: &[Batch<'_>], rate: f64) -> Result<f64, TrainError> {
        let Asked { loss, gradients, observed } = self.differentiate(batches)?;
        self.tensors.update(self.k, &self.update, rate, &gradients);
        let old = self.update.momentum;
        for Observed { name, mean, variance, count: n } in &observed {
            let n = *n;
            let correction = if self.update.unbiased_variance && n > 1.0 { (n / (n - 1.0)) as f32 } else { 1.0 };
            for (kind, new, factor) in [("moving_mean", mean, 1.0), ("moving_variance", variance, correction)] {
                let running = self.tensors.get_mut(name, kind);
                running.iter_mut().zip(new).for_each(|(r, v)| *r = old * *r + (1.0 - old) * v * factor);
            }
        }
        Ok(loss)
    }

    fn logits(&mut self, images: &[f32], height: usize, width: usize) -> Result<Vec<f32>, TrainError> {
        self.passes.forward(&self.tensors, images, [height, width], false, &mut self.tape)?;
        Ok(self.passes.logits(&self.tape).to_vec())
    }

    fn state(&mut self) -> Result<State, TrainError> {
        Ok(self.tensors.state())
    }

    fn blend_weights(&mut self, average: &mut Weights, decay: f32) -> Result<(), TrainError> {
        self.tensors.blend(average, decay);
        Ok(())
    }

    fn restore(&mut self, state: &State) -> Result<(), TrainError> {
        self.tensors.restore(&self.passes.graph, state)
    }
}

/// Weighted binary cross-entropy of probabilities given as logits, divided by `total`, and its gradient. Nothing to learn
/// from gives 0.
fn cross_entropy(logits: &[f32], targets: &[f32], weights: &[f32], total: f64) -> (f64, Vec<f32>) {
    if total == 0.0 {
        return (0.0, vec![0.0; logits.len()]);
    }
    let mut loss = 0.0;
    let terms = logits.iter().zip(targets).zip(weights);
    let gradient = terms.map(|((&z, &t), &w)| {
        let (z, t, share) = (f64::from(z), f64::from(t), f64::from(w) / total);
        if w == 0.0 {
            return 0.0;
        }
        loss += share * (z.max(0.0) - z * t + (-z.abs()).exp().ln_1p());
        (share * (1.0 / (1.0 + (-z).exp()) - t)) as f32
    });
    let gradient = gradient.collect();
    (loss, gradient)
}
