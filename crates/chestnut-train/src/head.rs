//! A Dense layer with sigmoids, trained by Adam on binary cross-entropy.
//!
//! With the network frozen, its embeddings never change, so the optimisation that the paper ran through whole
//! networks runs here on cached embeddings: the same batches, losses and updates in milliseconds. Unknown labels drop
//! their term of the loss. Everything is f64 and sequential, so results are the same bits everywhere.

use chestnut_stats::logistic::cross_entropy;
use chestnut_stats::random::Stream;
use chestnut_stats::{mean, roc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most epochs of a schedule.
pub const MAX_EPOCHS: usize = 100_000;

/// Adam's constants (Kingma and Ba 2015); Keras's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }
    }
}

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rate {
    /// `start * factor^epoch`, the first epoch being 0; published: 1e-4 and 0.1.
    Decay {
        /// First epoch's rate.
        start: f64,
        /// Factor per epoch.
        factor: f64,
    },
    /// Half a cosine from `start` to 0 over all epochs.
    Cosine {
        /// First epoch's rate.
        start: f64,
    },
}

/// How a head is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Epochs at most.
    pub epochs: usize,
    /// Rows per update.
    pub batch: usize,
    /// Learning rate.
    pub rate: Rate,
    /// Epochs without a better validation AUC before it stops.
    pub patience: usize,
    /// Whether rows are shuffled before each epoch.
    pub shuffle: bool,
    /// Adam's constants.
    pub adam: Adam,
}

impl Schedule {
    /// As published: 5 epochs, batch 8, 1e-4 divided by 10 each epoch, patience 3, file order (protocol 6.1). It moves
    /// an Adam weight by at most 0.01, so heads stay close to their random start (protocol 6.1, under-trained).
    #[must_use]
    pub fn as_published() -> Self {
        Self {
            epochs: 5,
            batch: 8,
            rate: Rate::Decay { start: 1e-4, factor: 0.1 },
            patience: 3,
            shuffle: false,
            adam: Adam::default(),
        }
    }

    /// A fair one: up to 200 epochs of 1e-3 on a cosine, shuffled, stopping after 20 without a better validation AUC.
    #[must_use]
    pub fn fair() -> Self {
        Self {
            epochs: 200,
            batch: 8,
            rate: Rate::Cosine { start: 1e-3 },
            patience: 20,
            shuffle: true,
            adam: Adam::default(),
        }
    }

    fn rate(&self, epoch: usize) -> f64 {
        match self.rate {
            Rate::Decay { start, factor } => start * factor.powi(epoch as i32),
            Rate::Cosine { start } => {
                start * 0.5 * (1.0 + (std::f64::consts::PI * epoch as f64 / self.epochs as f64).cos())
            }
        }
    }
}

/// A head that cannot be trained.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// Tables that do not match.
    #[error("{what}: {found} values, expected {expected}")]
    Length {
        /// Which table.
        what: &'static str,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// A schedule that makes no sense.
    #[error("a schedule needs 1 to {MAX_EPOCHS} epochs and a batch of at least 1")]
    Schedule,
    /// The loss left the finite numbers.
    #[error("the loss is not finite in epoch {epoch}; lower the learning rate")]
    NotFinite {
        /// Epoch, from 0.
        epoch: usize,
    },
}

/// What an epoch did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean binary cross-entropy over the training batches.
    pub loss: f64,
    /// Mean validation AUC over the labels that have both classes there.
    pub validation_auc: Option<f64>,
}

/// A trained Dense layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedHead {
    /// Width of the embedding.
    pub width: usize,
    /// `[feature][output]`.
    pub kernel: Vec<f64>,
    /// `[output]`.
    pub bias: Vec<f64>,
    /// One entry per epoch that ran.
    pub history: Vec<Epoch>,
    /// Epoch whose weights were kept: the best validation AUC, or the last where there is none.
    pub best: usize,
}

/// Rows to learn from or to judge by.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `[row][feature]`.
    pub embeddings: &'a [f32],
    /// `[row][output]`: a probability between 0 and 1, or `None` if unknown.
    pub targets: &'a [Option<f32>],
}

impl TrainedHead {
    /// Trains a head of `outputs` labels on embeddings of `width` features.
    ///
    /// # Errors
    /// [`HeadError`] for tables that do not match, an impossible schedule, or a loss that is not finite.
    pub fn train(
        train: Rows,
        validation: Rows,
        width: usize,
        outputs: usize,
        schedule: &Schedule,
        seed: u64,
    ) -> Result<Self, HeadError> {
        for rows in [train, validation] {
            let count = rows.embeddings.len().checked_div(width).unwrap_or(0);
            let checks = [
                ("embeddings", rows.embeddings.len(), count * width),
                ("targets", rows.targets.len(), count * outputs),
            ];
            if let Some((what, found, expected)) = checks.into_iter().find(|c| c.1 != c.2) {
                return Err(HeadError::Length { what, found, expected });
            }
        }
        if schedule.batch == 0 || !(1..=MAX_EPOCHS).contains(&schedule.epochs) || width == 0 || outputs == 0 {
            return Err(HeadError::Schedule);
        }
        let mut head = Self::glorot(width, outputs, seed);
        let (mut mean, mut square) = (vec![0.0; (width + 1) * outputs], vec![0.0; (width + 1) * outputs]);
        let mut order: Vec<usize> = (0..train.embeddings.len() / width).collect();
        let mut step = 0;
        let mut kept = (head.kernel.clone(), head.bias.clone());
        let mut best: Option<f64> = None;
        for epoch in 0..schedule.epochs {
            if schedule.shuffle {
                Stream::keyed(seed, "head epochs").child(epoch as u64).shuffle(&mut order);
            }
            let rate = schedule.rate(epoch);
            let (mut loss, mut batches) = (0.0, 0);
            for batch in order.chunks(schedule.batch) {
                let (batch_loss, gradient) = head.gradient(train, batch);
                loss += batch_loss;
                batches += 1;
                step += 1;
                head.update(&gradient, &mut mean, &mut square, rate, step, &schedule.adam);
            }
            let loss = if batches > 0 { loss / f64::from(batches) } else { 0.0 };
            if !loss.is_finite() {
                return Err(HeadError::NotFinite { epoch });
            }
            let validation_auc = head.mean_auc(validation);
            head.history.push(Epoch { loss, validation_auc });
            if best.is_none() || validation_auc.is_none() || validation_auc > best {
                best = validation_auc.or(best);
                head.best = epoch;
                kept = (head.kernel.clone(), head.bias.clone());
            } else if epoch - head.best >= schedule.patience {
                break;
            }
        }
        (head.kernel, head.bias) = kept;
        Ok(head)
    }

    /// Keras's default start: uniform within sqrt(6 / (inputs + outputs)), zero bias.
    fn glorot(width: usize, outputs: usize, seed: u64) -> Self {
        let mut draw = Stream::keyed(seed, "head start");
        let limit = (6.0 / (width + outputs) as f64).sqrt();
        let kernel = (0..width * outputs).map(|_| draw.range(-limit, limit)).collect();
        Self { width, kernel, bias: vec![0.0; outputs], history: Vec::new(), best: 0 }
    }

    /// Probabilities `[row][output]`.
    ///
    /// # Panics
    /// If `embeddings` are not whole rows.
    #[must_use]
    pub fn predict(&self, embeddings: &[f32]) -> Vec<f64> {
        assert!(embeddings.len().is_multiple_of(self.width), "whole rows of {} features", self.width);
        embeddings.chunks(self.width).flat_map(|row| self.logits(row)).map(|z| 1.0 / (1.0 + (-z).exp())).collect()
    }

    fn logits(&self, row: &[f32]) -> Vec<f64> {
        let outputs = self.bias.len();
        let mut z = self.bias.clone();
        for (x, weights) in row.iter().zip(self.kernel.chunks_exact(outputs)) {
            z.iter_mut().zip(weights).for_each(|(z, w)| *z += f64::from(*x) * w);
        }
        z
    }

    /// Mean loss of a batch over its known labels, and the gradient of kernel and bias.
    fn gradient(&self, rows: Rows, batch: &[usize]) -> (f64, Vec<f64>) {
        let outputs = self.bias.len();
        let known =
            batch.iter().map(|&r| rows.targets[r * outputs..][..outputs].iter().flatten().count()).sum::<usize>();
        let share = 1.0 / known.max(1) as f64;
        let mut gradient = vec![0.0; (self.width + 1) * outputs];
        let mut loss = 0.0;
        for &r in batch {
            let row = &rows.embeddings[r * self.width..][..self.width];
            let mut error = vec![0.0; outputs];
            for (k, z) in self.logits(row).into_iter().enumerate() {
                if let Some(t) = rows.targets[r * outputs + k].map(f64::from) {
                    loss += cross_entropy(z, t) * share;
                    error[k] = (1.0 / (1.0 + (-z).exp()) - t) * share;
                }
            }
            for (x, g) in row.iter().zip(gradient.chunks_exact_mut(outputs)) {
                g.iter_mut().zip(&error).for_each(|(g, e)| *g += f64::from(*x) * e);
            }
            gradient[self.width * outputs..].iter_mut().zip(&error).for_each(|(g, e)| *g += e);
        }
        (loss, gradient)
    }

    /// One Adam step in Keras's form: epsilon is added to the uncorrected root.
    fn update(&mut self, gradient: &[f64], mean: &mut [f64], square: &mut [f64], rate: f64, step: i32, adam: &Adam) {
        let rate = rate * (1.0 - adam.beta2.powi(step)).sqrt() / (1.0 - adam.beta1.powi(step));
        let weights = self.kernel.iter_mut().chain(&mut self.bias);
        for (((w, &g), m), v) in weights.zip(gradient).zip(mean).zip(square) {
            *m += (g - *m) * (1.0 - adam.beta1);
            *v += (g * g - *v) * (1.0 - adam.beta2);
            *w -= rate * *m / (v.sqrt() + adam.epsilon);
        }
    }

    fn mean_auc(&self, rows: Rows) -> Option<f64> {
        let outputs = self.bias.len();
        let p = self.predict(rows.embeddings);
        mean((0..outputs).filter_map(|k| {
            let column = rows.targets.iter().skip(k).step_by(outputs).zip(p.iter().skip(k).step_by(outputs));
            let (scores, truth): (Vec<f64>, Vec<bool>) = column.filter_map(|(t, &p)| t.map(|t| (p, t > 0.0))).unzip();
            roc::auc(&scores, &truth).ok()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, seed: u64) -> (Vec<f32>, Vec<Option<f32>>) {
        let mut draw = Stream::keyed(seed, "rows");
        let mut x = Vec::new();
        let mut y = Vec::new();
        for i in 0..n {
            let row: Vec<f32> = (0..6).map(|_| draw.normal() as f32).collect();
            y.push(Some(f32::from(row[0] + 0.5 * row[1] > 0.0)));
            y.push((i % 3 != 0).then(|| f32::from(row[2] > 0.5)));
            x.extend(row);
        }
        (x, y)
    }

    #[test]
    fn gradient_equals_finite_differences() {
        let (x, y) = rows(10, 1);
        let data = Rows { embeddings: &x, targets: &y };
        let mut head = TrainedHead::glorot(6, 2, 3);
        let batch: Vec<usize> = (0..10).collect();
        let (_, gradient) = head.gradient(data, &batch);
        for i in [0, 3, 7, 11] {
            let h = 1e-6;
            head.kernel[i] += h;
            let up = head.gradient(data, &batch).0;
            head.kernel[i] -= 2.0 * h;
            let down = head.gradient(data, &batch).0;
            head.kernel[i] += h;
            assert!(((up - down) / (2.0 * h) - gradient[i]).abs() < 1e-8, "weight {i}");
        }
    }

    #[test]
    fn a_fair_schedule_learns_and_the_published_one_hardly_moves() {
        let ((x, y), (vx, vy)) = (rows(300, 1), rows(100, 2));
        let (train, validation) = (Rows { embeddings: &x, targets: &y }, Rows { embeddings: &vx, targets: &vy });
        let run = |s: &Schedule| TrainedHead::train(train, validation, 6, 2, s, 4).expect("trains");
        let fair = run(&Schedule::fair());
        assert!(fair.history[fair.best].validation_auc > Some(0.95), "{:?}", fair.history[fair.best]);
        let start = TrainedHead::glorot(6, 2, 4);
        let published = run(&Schedule::as_published());
        let moved = start.kernel.iter().zip(&published.kernel).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(moved > 0.0 && moved < 0.01, "{moved}");
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let (x, y) = rows(4, 1);
        let good = Rows { embeddings: &x, targets: &y };
        let bad = Rows { embeddings: &x, targets: &y[1..] };
        let message = TrainedHead::train(good, bad, 6, 2, &Schedule::fair(), 0).expect_err("must fail").to_string();
        assert!(message.contains("targets: 7 values, expected 8"), "{message}");
    }
}
