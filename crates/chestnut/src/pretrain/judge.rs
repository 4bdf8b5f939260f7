//! How good a network is on the validation images: loss and AUC per label, with running statistics.
//!
//! Only plain cells count: an uncertain one is no truth. A label whose AUC cannot be estimated has none, never 0.5 (design
//! rule 2). After conditional training a label's probability is the product along its path to the root.

use super::error::Result;
use super::feed::Data;
use chestnut_stats::logistic::softplus;
use chestnut_stats::{mean, roc};
use chestnut_train::Learner;

/// What the validation images say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// Mean binary cross-entropy over the known cells.
    pub(super) loss: Option<f64>,
    /// Mean over the labels that have one.
    pub(super) auc: Option<f64>,
    /// One per label.
    pub(super) aucs: Vec<Option<f64>>,
}

/// Runs the validation images through the network.
pub(super) fn judge(learner: &mut dyn Learner, data: &Data, batch: usize, workers: usize) -> Result<Judged> {
    let batches: Vec<Vec<usize>> = data.validation.chunks(batch.max(1)).map(<[usize]>::to_vec).collect();
    let mut logits: Vec<f32> = Vec::with_capacity(data.validation.len() * data.targets.outputs);
    data.feed(&batches, None, workers, &mut |_, made| {
        logits.extend(learner.logits(&made.images, data.size, data.size)?);
        Ok(())
    })?;
    Ok(score(data, &logits))
}

/// Scores of `[validation image][label]`.
fn score(data: &Data, logits: &[f32]) -> Judged {
    let outputs = data.targets.outputs;
    let truth = |image: usize, label: usize| data.targets.truth[data.validation[image] * outputs + label];
    let known = logits.len().checked_div(outputs).unwrap_or(0).min(data.validation.len());
    let (mut loss, mut terms) = (0.0, 0_usize);
    let mut aucs = Vec::with_capacity(outputs);
    for label in 0..outputs {
        let (mut scores, mut truths) = (Vec::new(), Vec::new());
        for image in 0..known {
            let Some(present) = truth(image, label) else { continue };
            let row = &logits[image * outputs..][..outputs];
            let log = log_probability(row, label, data.parents.as_deref());
            loss += if present { -log } else { log_complement(log, f64::from(row[label]), data.parents.is_some()) };
            terms += 1;
            // Without parents the sum itself orders as its probability does, and does not saturate.
            scores.push(if data.parents.is_some() { log } else { f64::from(row[label]) });
            truths.push(present);
        }
        aucs.push(roc::auc(&scores, &truths).ok());
    }
    Judged { loss: (terms > 0).then(|| loss / terms as f64), auc: mean(aucs.iter().flatten().copied()), aucs }
}

/// Logarithm of a label's probability, along its path if there are parents.
fn log_probability(row: &[f32], label: usize, parents: Option<&[Option<usize>]>) -> f64 {
    let mut at = Some(label);
    let mut sum = 0.0;
    while let Some(l) = at {
        sum -= softplus(-f64::from(row[l]));
        at = parents.and_then(|p| p[l]);
    }
    sum
}

/// Minus the logarithm of 1 - p.
fn log_complement(log: f64, logit: f64, along_path: bool) -> f64 {
    // By exp_m1, which keeps what lies below the rounding of p; the logarithm stays finite.
    if along_path { -(-log.exp_m1()).max(f64::MIN_POSITIVE).ln() } else { softplus(logit) }
}

#[cfg(test)]
mod tests {
    use super::super::feed::tests::data;
    use super::*;

    #[test]
    fn auc_and_loss_are_those_of_the_known_cells() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut data = data(folder.path());
        // Truth of the validation rows 8 to 11: absent, present, absent, present.
        let judged = score(&data, &[-1.0, 2.0, 0.5, 0.25]);
        assert_eq!(judged.aucs, [Some(0.75)]);
        let p = |z: f64| 1.0 / (1.0 + (-z).exp());
        let direct = -((1.0 - p(-1.0)).ln() + p(2.0).ln() + (1.0 - p(0.5)).ln() + p(0.25).ln()) / 4.0;
        assert!((judged.loss.expect("a loss") - direct).abs() < 1e-12);
        data.targets.truth[9] = None;
        assert_eq!(score(&data, &[-1.0, 2.0, 0.5, 0.25]).aucs, [Some(0.5)]);
        data.targets.truth[11] = None;
        let none = score(&data, &[-1.0, 2.0, 0.5, 0.25]);
        assert_eq!((none.aucs, none.auc), (vec![None], None), "one class only");
    }

    #[test]
    fn a_childs_probability_is_the_product_along_its_path() {
        let row = [0.3_f32, -1.2, 2.0];
        let parents = [None, Some(0), Some(1)];
        let p = |z: f32| 1.0 / (1.0 + f64::from(-z).exp());
        let product = p(0.3) * p(-1.2) * p(2.0);
        let log = log_probability(&row, 2, Some(&parents));
        assert!((log - product.ln()).abs() < 1e-12);
        assert!((log_complement(log, 2.0, true) + (1.0 - product).ln()).abs() < 1e-12);
        assert!((log_probability(&row, 2, None) - p(2.0).ln()).abs() < 1e-12);
    }
}
