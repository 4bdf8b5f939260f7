//! One training run of a network's last part: epochs, validation AUC, early stopping, predictions.

use super::DeepOptions;
use super::maps::Maps;
use crate::error::Result;
use chestnut_forest::Labels;
use chestnut_stats::random::Stream;
use chestnut_stats::{mean, roc};
use chestnut_train::depth::learning;
use chestnut_train::{Batch, Cpu, Epoch, Learner, State, Update};
use chestnut_zoo::{Graph, Weights, weights};
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

/// Where a run stands after an epoch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Going {
    pub(super) history: History,
    /// Weights and moments now.
    pub(super) state: State,
    /// Weights of the best epoch.
    pub(super) best: Weights,
}

/// What all runs of one fine-tuning share.
pub(super) struct Task<'a> {
    pub(super) tail: &'a Graph,
    pub(super) labels: &'a Labels,
    pub(super) options: &'a DeepOptions,
    pub(super) seed: u64,
}

/// Called after each epoch with the history, the best weights and the learner.
pub(super) type After<'a> = dyn FnMut(&History, &Weights, &mut Cpu) -> Result<()> + 'a;

/// Trains the tail from `start`, or goes on from where an earlier process was, and keeps the weights with the best
/// validation AUC (the last ones where there is none).
pub(super) fn fit(
    task: &Task<'_>,
    start: &Weights,
    begun: Option<Going>,
    maps: &mut Maps,
    [train, validation]: [&[usize]; 2],
    after: &mut After<'_>,
) -> Result<(Cpu, History)> {
    let Task { tail, labels, options, seed } = *task;
    let update = Update { weight_decay: options.weight_decay, ..Update::default() };
    let mut learner = Cpu::new(tail, start, update, &learning(tail, options.depth, options.norms)?)?;
    // A checkpoint that does not fit the network, which its key rules out, is as good as none.
    let begun = begun.filter(|g| weights::check(tail, &g.best).is_ok() && learner.restore(&g.state).is_ok());
    let (mut history, mut kept) = match begun {
        Some(going) => (going.history, going.best),
        None => {
            let start_auc = mean_auc(&mut learner, maps, labels, validation)?;
            (History { start_auc, epochs: Vec::new(), best: 0 }, learner.state()?.weights)
        }
    };
    let mut best = history.best_auc();
    let updates = train.len().div_ceil(options.batch);
    let steps = updates * options.epochs;
    for epoch in history.epochs.len() + 1..=options.epochs {
        let waited = history.epochs.len() - history.best;
        if waited > 0 && waited >= options.patience {
            break;
        }
        let mut order = train.to_vec();
        Stream::keyed(seed, "fine-tuning epochs").child(epoch as u64).shuffle(&mut order);
        let (mut loss, mut batches) = (0.0, 0_u32);
        for (i, rows) in order.chunks(options.batch).enumerate() {
            let rate = options.rate_at((epoch - 1) * updates + i, steps);
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
        if is_better(validation_auc, best) {
            best = validation_auc.or(best);
            history.best = epoch;
            kept = learner.state()?.weights;
        }
        after(&history, &kept, &mut learner)?;
    }
    learner.restore(&State { weights: kept, ..State::default() })?;
    Ok((learner, history))
}

/// Whether an epoch's weights are kept rather than those with the AUC `best`.
fn is_better(auc: Option<f64>, best: Option<f64>) -> bool {
    best.is_none() || auc.is_none() || auc > best
}

impl History {
    /// The validation AUC that an epoch has to exceed.
    fn best_auc(&self) -> Option<f64> {
        let aucs = self.epochs.iter().map(|e| e.validation_auc);
        aucs.fold(self.start_auc, |best, auc| if is_better(auc, best) { auc.or(best) } else { best })
    }
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
    Ok(mean((0..outputs).filter_map(of_label)))
}

#[cfg(test)]
mod tests {
    use super::super::unfinished::Unfinished;
    use super::*;
    use crate::cohort::{BlankRules, LabelSet};
    use crate::embed::{EmbeddingTable, Network};
    use crate::error::Error;
    use crate::image::recipe::Recipe;
    use crate::study::{Settings, SplitSettings, Study};
    use chestnut_train::Depth;
    use chestnut_zoo::Head;
    use chestnut_zoo::graph::{Builder, Op, Padding, Shape, Window};
    use std::path::{Path, PathBuf};

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

    fn study(root: &Path) -> Study {
        let settings = Settings {
            images: PathBuf::new(),
            blank: BlankRules::default(),
            recipe: Recipe::default(),
            split: SplitSettings::default(),
            labels: LabelSet::chexpert(),
        };
        Study { root: root.to_path_buf(), settings }
    }

    #[test]
    fn a_tail_learns_and_the_best_epoch_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (values, labels) = images(72);
        let mut maps = Maps::of(&study(folder.path()), SHAPE, &values).expect("a file");
        let one = SHAPE.height * SHAPE.width * SHAPE.channels;
        let both = [&values[7 * one..8 * one], &values[3 * one..4 * one]].concat();
        assert!(maps.read(&[7, 3]).expect("read") == both, "in the order asked for");

        let (tail, rows) = (tail(), (0..72).collect::<Vec<usize>>());
        let start = weights::seeded(&tail, 1);
        let options = DeepOptions { epochs: 12, batch: 8, rate: 1e-2, ..DeepOptions::new(Depth::Block) };
        let task = Task { tail: &tail, labels: &labels, options: &options, seed: 0 };
        let parts = [&rows[..48], &rows[48..]];
        let (mut learner, history) = fit(&task, &start, None, &mut maps, parts, &mut |_, _, _| Ok(())).expect("trains");
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

    #[test]
    fn a_run_killed_after_each_epoch_ends_in_the_same_bits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let study = study(folder.path());
        let (values, labels) = images(48);
        let mut maps = Maps::of(&study, SHAPE, &values).expect("a file");
        let (tail, rows) = (tail(), (0..48).collect::<Vec<usize>>());
        let start = weights::seeded(&tail, 1);
        let options = DeepOptions { epochs: 7, batch: 7, rate: 1e-2, patience: 3, ..DeepOptions::new(Depth::Block) };
        let task = Task { tail: &tail, labels: &labels, options: &options, seed: 4 };
        let parts = [&rows[..32], &rows[32..]];
        let (mut whole, history) = fit(&task, &start, None, &mut maps, parts, &mut |_, _, _| Ok(())).expect("trains");

        let network = Network::find(Path::new(""), "seeded:vgg16").expect("a formula");
        let table = EmbeddingTable::default();
        let kept = |key: &str| Unfinished::new(&study, &network, &options, key, &table);
        let unfinished = kept("key");
        let mut kills = 0;
        let (mut resumed, same) = loop {
            // Each round is a new process: nothing but the file is left.
            let begun = unfinished.going(2);
            assert_eq!(begun.as_ref().map_or(0, |g| g.history.epochs.len()), kills);
            let found = fit(&task, &start, begun, &mut maps, parts, &mut |history, best, learner| {
                let going = Going { history: history.clone(), state: learner.state()?, best: best.clone() };
                unfinished.save(2, going)?;
                Err(Error::Request("killed".to_owned()))
            });
            match found {
                Ok(found) => break found,
                Err(e) => assert_eq!(e.to_string(), "killed"),
            }
            kills += 1;
            assert!(kills <= options.epochs, "it never ends");
        };
        assert_eq!((kills, &same), (history.epochs.len(), &history), "one epoch a life");
        assert!(resumed.state().expect("a state").weights == whole.state().expect("a state").weights);
        let predicted = |learner: &mut Cpu, maps: &mut Maps| predict(learner, maps, &rows).expect("predicts");
        assert_eq!(predicted(&mut resumed, &mut maps), predicted(&mut whole, &mut maps));

        // What is of another run or request, or damaged, is as good as none.
        assert!(unfinished.going(1).is_none() && kept("other").going(2).is_none());
        let more = DeepOptions { batch: 8, ..options.clone() };
        assert!(Unfinished::new(&study, &network, &more, "key", &table).going(2).is_none());
        let path = folder.path().join("finetuned/seeded-vgg16-block.unfinished/last.safetensors");
        let bytes = std::fs::read(&path).expect("read");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
        assert!(unfinished.going(2).is_none());

        // Runs that are done come back with their predictions, the first with its weights.
        let (predictions, weights) = (vec![0.25, 1.0], whole.state().expect("a state").weights);
        assert!(unfinished.done(0, 2).is_none() && unfinished.taught().is_none());
        unfinished.keep(0, &history, &predictions, Some(&weights)).expect("written");
        let done = unfinished.done(0, 2).expect("kept");
        assert_eq!((done.history, done.predictions), (history, predictions));
        assert!(unfinished.taught().expect("kept") == weights);
        assert!(unfinished.done(0, 3).is_none() && unfinished.done(1, 2).is_none());
        assert!(kept("other").done(0, 2).is_none() && kept("other").taught().is_none());
        unfinished.remove().expect("removed");
        unfinished.remove().expect("it is gone already");
        assert!(unfinished.done(0, 2).is_none());
    }

    #[test]
    fn a_checkpoint_of_another_network_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (values, labels) = images(24);
        let mut maps = Maps::of(&study(folder.path()), SHAPE, &values).expect("a file");
        let (tail, rows) = (tail(), (0..24).collect::<Vec<usize>>());
        let start = weights::seeded(&tail, 1);
        let options = DeepOptions { epochs: 1, batch: 8, ..DeepOptions::new(Depth::Block) };
        let task = Task { tail: &tail, labels: &labels, options: &options, seed: 0 };
        let parts = [&rows[..16], &rows[16..]];
        let epoch = Epoch { loss: 0.1, validation_auc: Some(1.0) };
        let history = History { start_auc: None, epochs: vec![epoch], best: 1 };
        let state = State { weights: start.clone(), ..State::default() };
        let mut run = |begun: Option<Going>| fit(&task, &start, begun, &mut maps, parts, &mut |_, _, _| Ok(()));
        let (_, anew) = run(None).expect("trains");
        for going in [
            Going { history: history.clone(), state: state.clone(), best: Weights::new() },
            Going { history: history.clone(), state: State::default(), best: start.clone() },
        ] {
            assert_eq!(run(Some(going)).expect("trains").1, anew);
        }
        let (_, same) =
            run(Some(Going { history: history.clone(), state, best: start.clone() })).expect("nothing to do");
        assert_eq!(same, history);
    }
}
