//! How fast the network learns: the rate of every update, a pure function of place and past AUCs.
//!
//! Published: 1e-4 divided by 10 after each epoch (protocol 3). Being a function of the history, a schedule needs no state
//! of its own in a checkpoint.

use serde::{Deserialize, Serialize};

/// Shape of the rate over a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Multiplied by `factor` after each epoch; published: 0.1.
    Steps {
        /// Factor per epoch.
        factor: f64,
    },
    /// Half a cosine over all updates, down to 0.
    Cosine,
    /// Multiplied by `factor` whenever the validation AUC did not rise for `patience` epochs.
    Plateau {
        /// Factor.
        factor: f64,
        /// Epochs without a better AUC.
        patience: usize,
    },
    /// The same throughout.
    Constant,
}

/// The learning rate of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Highest rate.
    pub rate: f64,
    /// Shape.
    pub shape: Shape,
    /// Updates over which the rate rises from 0 in a straight line, before the shape applies.
    pub warm_up: usize,
}

impl Schedule {
    /// 1e-4, divided by 10 after each epoch.
    #[must_use]
    pub fn as_published() -> Self {
        Self { rate: 1e-4, shape: Shape::Steps { factor: 0.1 }, warm_up: 0 }
    }

    /// The rate of update `batch` of `batches` in `epoch` of `epochs`, all from 0; `aucs` of the epochs before.
    #[must_use]
    pub fn at(&self, epoch: usize, epochs: usize, batch: usize, batches: usize, aucs: &[Option<f64>]) -> f64 {
        let update = epoch * batches + batch;
        if update < self.warm_up {
            return self.rate * (update + 1) as f64 / self.warm_up as f64;
        }
        match self.shape {
            Shape::Constant => self.rate,
            Shape::Steps { factor } => self.rate * factor.powi(i32::try_from(epoch).unwrap_or(i32::MAX)),
            Shape::Cosine => {
                let all = (epochs * batches).saturating_sub(self.warm_up).max(1) as f64;
                let done = (update - self.warm_up) as f64 / all;
                self.rate * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
            Shape::Plateau { factor, patience } => self.rate * factor.powi(plateaus(aucs, patience)),
        }
    }
}

/// How often `patience` epochs in a row brought no better AUC.
fn plateaus(aucs: &[Option<f64>], patience: usize) -> i32 {
    let (mut best, mut waited, mut count) = (f64::NEG_INFINITY, 0, 0);
    for auc in aucs.iter().flatten() {
        if *auc > best {
            (best, waited) = (*auc, 0);
        } else {
            waited += 1;
            if waited >= patience.max(1) {
                (waited, count) = (0, count + 1);
            }
        }
    }
    count
}

/// Index of the best epoch: the highest AUC, the earliest of equals; the last epoch if none has an AUC.
#[must_use]
pub fn best(aucs: &[Option<f64>]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (epoch, auc) in aucs.iter().enumerate() {
        if let Some(auc) = *auc
            && best.is_none_or(|(_, b)| auc > b)
        {
            best = Some((epoch, auc));
        }
    }
    best.map(|(epoch, _)| epoch).or_else(|| aucs.len().checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_rate_falls_tenfold_each_epoch() {
        let s = Schedule::as_published();
        for (epoch, rate) in [(0, 1e-4), (1, 1e-5), (3, 1e-7)] {
            assert!((s.at(epoch, 5, 9, 10, &[]) / rate - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn warm_up_rises_and_cosine_falls_to_nothing() {
        let s = Schedule { rate: 1.0, shape: Shape::Cosine, warm_up: 4 };
        let rates: Vec<f64> = (0..20).map(|u| s.at(u / 10, 2, u % 10, 10, &[])).collect();
        assert_eq!(rates[..4], [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(rates[4], 1.0);
        assert!((rates[12] - 0.5).abs() < 1e-12, "half way after warm-up");
        assert!(rates[4..].windows(2).all(|w| w[1] < w[0]) && rates[19] < 0.02);
    }

    #[test]
    fn a_plateau_is_counted_from_the_history() {
        let s = Schedule { rate: 1.0, shape: Shape::Plateau { factor: 0.5, patience: 2 }, warm_up: 0 };
        let aucs = [0.7, 0.8, 0.8, 0.79, 0.81, 0.8, 0.8].map(Some);
        let rates: Vec<f64> = (0..=7).map(|e| s.at(e, 9, 0, 1, &aucs[..e])).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn the_best_epoch_is_the_first_of_equals() {
        assert_eq!(best(&[Some(0.6), Some(0.8), Some(0.8), None]), Some(1));
        assert_eq!(best(&[None, None]), Some(1));
        assert_eq!(best(&[]), None);
    }
}
