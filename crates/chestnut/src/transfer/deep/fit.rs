//! One training run of a network's last part: epochs, validation AUC, early stopping, predictions.

use super::DeepOptions;
use super::maps::Maps;
use crate::error::Result;
use chestnut_forest::Labels;
use chestnut_stats::random::Stream;
use chestnut_stats::roc;
use chestnut_train::depth::learning;
use chestnut_train::{Batch, Cpu, Epoch, Learner, Update};
use chestnut_zoo::{Graph, Weights};
use serde::{Deserialize, Serialize};

/// Images that are predicted together.
const PREDICTED: usize = 16;

/// What a training run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Mean validation AUC before the first epoch: that of the head alone, trained on frozen features.
    pub start_auc: Option<f64>,
    /// One entry per epoch that ran.
    pub epochs: Vec<Epoch>,
    /// Epoch whose weights were kept, from 1; 0 are those of the start.
    pub best: usize,
}

/// What all runs of one fine-tuning share.
pub(super) struct Task<'a> {
    pub(super) tail: &'a Graph,
    pub(super) labels: &'a Labels,
    pub(super) options: &'a DeepOptions,
    pub(super) seed: u64,
}

/// Trains the tail from `start` and keeps the weights with the best validation AUC (the last ones where there is none).
///
/// `tick` is called with the epochs done.
pub(super) fn fit(
    task: &Task<'_>,
    start: &Weights,
    maps: &mut Maps,
    [train, validation]: [&[usize]; 2],
    tick: &dyn Fn(usize),
) -> Result<(Cpu, History)> {
    let Task { tail, labels, options, seed } = *task;
    let update = Update { weight_decay: options.weight_decay, ..Update::default() };
    let mut learner = Cpu::new(tail, start, update, &learning(tail, options.depth, options.norms)?)?;
    let start_auc = mean_auc(&mut learner, maps, labels, validation)?;
    let mut history = History { start_auc, epochs: Vec::new(), best: 0 };
    let (mut best, mut kept) = (start_auc, learner.state()?);
    let steps = train.len().div_ceil(options.batch) * options.epochs;
    let mut step = 0;
    for epoch in 1..=options.epochs {
        let mut order = train.to_vec();
        Stream::keyed(seed, "fine-tuning epochs").child(epoch as u64).shuffle(&mut order);
        let (mut loss, mut batches) = (0.0, 0_u32);
        for rows in order.chunks(options.batch) {
            let rate = options.rate_at(step, steps);
            step += 1;
            let (targets, weights) = targets(labels, rows);
            if weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let images = maps.read(rows)?;
            let (height, width) = (maps.shape.height, maps.shape.width);
            let batch = Batch { images: &images, height, width, targets: &targets, weights: &weights };
            loss += learner.step(&batch, rate)?;
            batches += 1;
        }
        let validation_auc = mean_auc(&mut learner, maps, labels, validation)?;
        history.epochs.push(Epoch { loss: loss / f64::from(batches.max(1)), validation_auc });
        tick(epoch);
        if best.is_none() || validation_auc.is_none() || validation_auc > best {
            best = validation_auc.or(best);
            history.best = epoch;
            kept = learner.state()?;
        } else if epoch - history.best >= options.patience {
            break;
        }
    }
    learner.restore(&kept)?;
    Ok((learner, history))
}

/// Probabilities of these images, `[image][label]`.
pub(super) fn predict(learner: &mut Cpu, maps: &mut Maps, rows: &[usize]) -> Result<Vec<f64>> {
    let mut probabilities = Vec::new();
    for rows in rows.chunks(PREDICTED) {
        let images = maps.read(rows)?;
        let sums = learner.logits(&images, maps.shape.height, maps.shape.width)?;
        probabilities.extend(sums.into_iter().map(|z| 1.0 / (1.0 + (-f64::from(z)).exp())));
    }
    Ok(probabilities)
}

/// Targets and how much each counts: unknown labels do not.
fn targets(labels: &Labels, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let of = |r: usize| (0..labels.outputs()).map(move |k| labels.get(r, k));
    let values: Vec<Option<bool>> = rows.iter().flat_map(|&r| of(r)).collect();
    let number = |yes: bool| if yes { 1.0 } else { 0.0 };
    let target = values.iter().map(|v| number(*v == Some(true))).collect();
    let weight = values.iter().map(|v| number(v.is_some())).collect();
    (target, weight)
}

/// Mean AUC over the labels that have both classes in `rows`.
fn mean_auc(learner: &mut Cpu, maps: &mut Maps, labels: &Labels, rows: &[usize]) -> Result<Option<f64>> {
    let outputs = labels.outputs();
    let p = predict(learner, maps, rows)?;
    let of_label = |k: usize| {
        let known = rows.iter().enumerate().filter_map(|(i, &r)| Some((p[i * outputs + k], labels.get(r, k)?)));
        let (scores, truth): (Vec<f64>, Vec<bool>) = known.unzip();
        roc::auc(&scores, &truth).ok()
    };
    let aucs: Vec<f64> = (0..outputs).filter_map(of_label).collect();
    Ok((!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::{BlankRules, LabelSet};
    use crate::image::recipe::Recipe;
    use crate::study::{Settings, SplitSettings, Study};
    use chestnut_train::Depth;
    use chestnut_zoo::graph::{Builder, Op, Padding, Shape, Window};
    use chestnut_zoo::{Head, weights};
    use std::path::PathBuf;

    const SHAPE: Shape = Shape { height: 6, width: 6, channels: 16 };

    /// Convolution, normalisation, ReLU, mean, two labels.
    fn tail() -> Graph {
        let mut b = Builder::new(SHAPE.channels);
        let window = Window { size: [3, 3], stride: 1, padding: Padding::Same };
        let x = b.push("conv", Op::Conv { window, filters: 16, bias: false }, &[0]);
        let x = b.batch_norm("norm", x, 1e-3, true);
        let x = b.relu("relu", x);
        b.finish("tiny", x, &Head::sigmoid(vec!["a".into(), "b".into()]))
    }

    /// Noise in which the mean of channel k says label k; every third image does not know its second label.
    fn images(count: usize) -> (Vec<f32>, Labels) {
        let mut draw = Stream::keyed(1, "fine-tuning test");
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let truth = [draw.uniform() < 0.5, draw.uniform() < 0.5];
            for j in 0..SHAPE.height * SHAPE.width * SHAPE.channels {
                let shift = truth.get(j % SHAPE.channels).map_or(0.0, |&yes| if yes { 0.5 } else { -0.5 });
                values.push((draw.normal() + shift) as f32);
            }
            labels.extend([Some(truth[0]), (i % 3 > 0).then_some(truth[1])]);
        }
        (values, Labels::new(&labels, 2).expect("whole rows"))
    }

    #[test]
    fn a_tail_learns_and_the_best_epoch_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = Settings {
            images: PathBuf::new(),
            view: None,
            blank: BlankRules::default(),
            recipe: Recipe::default(),
            split: SplitSettings::default(),
            labels: LabelSet::chexpert(),
        };
        let study = Study { root: folder.path().to_path_buf(), settings };
        let (values, labels) = images(72);
        let mut maps = Maps::of(&study, SHAPE, &values).expect("a file");
        let one = SHAPE.height * SHAPE.width * SHAPE.channels;
        let both = [&values[7 * one..8 * one], &values[3 * one..4 * one]].concat();
        assert!(maps.read(&[7, 3]).expect("read") == both, "in the order asked for");

        let (tail, rows) = (tail(), (0..72).collect::<Vec<usize>>());
        let start = weights::seeded(&tail, 1);
        let options = DeepOptions { epochs: 12, batch: 8, rate: 1e-2, ..DeepOptions::new(Depth::Block) };
        let task = Task { tail: &tail, labels: &labels, options: &options, seed: 0 };
        let parts = [&rows[..48], &rows[48..]];
        let (mut learner, history) = fit(&task, &start, &mut maps, parts, &|_| ()).expect("trains");
        let after = mean_auc(&mut learner, &mut maps, &labels, parts[1]).expect("predicts");
        assert!(after > Some(0.9), "{history:?}");
        let kept = history.best.checked_sub(1).map_or(history.start_auc, |i| history.epochs[i].validation_auc);
        assert_eq!(after, kept, "the weights are those of the best epoch");
        let losses: Vec<f64> = history.epochs.iter().map(|e| e.loss).collect();
        assert!(losses.last() < losses.first() || losses.len() == 1, "{losses:?}");

        // Batch normalisation keeps what it had; the convolution moved.
        let state = learner.state().expect("a state");
        let changed = |name: &str| state.weights[name] != start[name];
        assert!(["norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance"].iter().all(|n| !changed(n)));
        assert!(history.best == 0 || changed("conv.kernel"));
    }
}
