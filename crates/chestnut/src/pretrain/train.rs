//! The loop: batches to updates, epochs to validation, and everything to disk so that a kill costs minutes.
//!
//! The loop knows a [`Learner`] and nothing of how it computes. `last.safetensors` is what a run goes on from,
//! `best.safetensors` the weights of the best epoch by validation AUC, `log.jsonl` what happened.

use super::augment::Moves;
use super::checkpoint::{Checkpoint, EpochRecord, Place};
use super::deal;
use super::error::{PretrainError, Result};
use super::feed::{Data, Made};
use super::journal::Journal;
use super::judge::{Judged, judge};
use super::schedule;
use super::settings::Settings;
use super::{BEST_FILE, CURVE_FILE, Event, Every, LAST_FILE, LOG_FILE, SETTINGS_FILE};
use crate::fs::write_atomic;
use crate::report::learning_curve::learning_curve;
use chestnut_train::{Batch, Learner, State, TrainError};
use chestnut_zoo::Weights;
use chestnut_zoo::read::safetensors::write_safetensors;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Batches between two lines of the log.
const LOG_EVERY: usize = 20;
/// Images of a failed batch that the message names; the log names all.
const SHOWN: usize = 8;

/// One run.
pub(super) struct Run<'a> {
    pub(super) data: &'a Data,
    pub(super) settings: &'a Settings,
    pub(super) folder: &'a Path,
    /// What `best.safetensors` says about itself.
    pub(super) metadata: &'a BTreeMap<String, String>,
    /// Threads that make batches.
    pub(super) workers: usize,
    pub(super) every: Every,
    pub(super) report: &'a dyn Fn(&Event<'_>),
}

/// What changes from update to update, beside the learner.
struct Going {
    place: Place,
    average: Option<Weights>,
    journal: Journal,
    saved: Instant,
}

impl Run<'_> {
    /// Trains from the checkpoint, if there is one, to the end; gives the epochs.
    pub(super) fn go(&self, learner: &mut dyn Learner) -> Result<Vec<EpochRecord>> {
        let last = self.folder.join(LAST_FILE);
        let (place, average) = if last.is_file() {
            let checkpoint = Checkpoint::read(&last, self.settings)?;
            learner.restore(&checkpoint.state)?;
            let place = checkpoint.place;
            (self.report)(&Event::Resumed { epoch: place.epoch, batch: place.batch });
            (place, checkpoint.average)
        } else {
            let average = if self.settings.ema.is_some() { Some(learner.state()?.weights) } else { None };
            (Place::default(), average)
        };
        // Only now: the settings of an earlier run must not be overwritten by a request that was refused.
        let text = serde_json::to_string_pretty(self.settings).map_err(|e| PretrainError::Request(e.to_string()))?;
        write_atomic(&self.folder.join(SETTINGS_FILE), text.as_bytes()).map_err(PretrainError::Write)?;
        let journal = Journal::open(&self.folder.join(LOG_FILE), place.log_bytes)?;
        let mut going = Going { place, average, journal, saved: Instant::now() };
        while going.place.epoch < self.settings.epochs && !self.waited_enough(&going.place.history) {
            self.epoch(learner, &mut going)?;
        }
        Ok(going.place.history)
    }

    /// Early stopping.
    fn waited_enough(&self, history: &[EpochRecord]) -> bool {
        let best = schedule::best(&aucs(history));
        best.is_some_and(|best| history.len() - 1 - best >= self.settings.patience.max(1))
    }

    fn epoch(&self, learner: &mut dyn Learner, going: &mut Going) -> Result<()> {
        let (s, epoch, first) = (self.settings, going.place.epoch, going.place.batch);
        let batches = deal::batches(&self.data.train, s.batch, s.seed, epoch);
        let past = aucs(&going.place.history);
        let rate_of = |batch: usize| s.schedule.at(epoch, s.epochs, batch, batches.len(), &past);
        let moves = Moves { augment: &s.augment, seed: s.seed, epoch };
        let (clock, mut images) = (Instant::now(), 0);
        self.data.feed(batches.get(first..).unwrap_or(&[]), Some(moves), self.workers, &mut |i, made| {
            let (batch, rate) = (first + i, rate_of(first + i));
            if made.weights.iter().any(|&w| w > 0.0) {
                let loss = self.update(learner, going, &made, rate, batch)?;
                going.place.loss += loss;
                going.place.taken += 1;
            }
            going.place.batch = batch + 1;
            images += made.rows.len();
            let speed = images as f64 / clock.elapsed().as_secs_f64().max(1e-9);
            let mean = going.place.loss / going.place.taken.max(1) as f64;
            let last = batch + 1 == batches.len();
            if last || (batch + 1).is_multiple_of(LOG_EVERY) {
                going.journal.line(&json!({
                    "epoch": epoch + 1, "batch": batch + 1, "batches": batches.len(), "rate": rate, "mean_loss": mean,
                    "images_per_second": (speed * 10.0).round() / 10.0,
                }))?;
            }
            let left = (batches.len() - batch - 1) + (s.epochs - epoch - 1) * batches.len();
            (self.report)(&Event::Batch {
                epoch,
                epochs: s.epochs,
                batch: batch + 1,
                batches: batches.len(),
                loss: mean,
                auc: past.last().copied().flatten(),
                images_per_second: speed,
                seconds_left: (left * s.batch) as f64 / speed,
            });
            let due = (batch + 1).is_multiple_of(self.every.batches.max(1)) || going.saved.elapsed() >= self.every.time;
            if due && !last {
                self.save(learner, going)?;
            }
            Ok(())
        })?;
        self.close_epoch(learner, going, rate_of(batches.len().saturating_sub(1)), clock)
    }

    /// One update and the running average of the weights; gives the loss.
    fn update(
        &self,
        learner: &mut dyn Learner,
        going: &mut Going,
        made: &Made,
        rate: f64,
        batch: usize,
    ) -> Result<f64> {
        let size = self.data.size;
        let (images, targets, weights) = (&made.images, &made.targets, &made.weights);
        let input = Batch { images, height: size, width: size, targets, weights };
        let loss = match learner.step(&input, rate) {
            Ok(loss) if loss.is_finite() => loss,
            Ok(_) | Err(TrainError::NotFinite { .. }) => return Err(self.not_finite(going, made, batch)?),
            Err(e) => return Err(e.into()),
        };
        going.place.step += 1;
        if let (Some(decay), Some(average)) = (self.settings.ema, going.average.as_mut()) {
            // The first averages forget the random start sooner.
            let done = going.place.step as f64;
            blend(average, &learner.state()?.weights, decay.min((1.0 + done) / (10.0 + done)) as f32);
        }
        Ok(loss)
    }

    /// Says which batch it was; the images are all in the log.
    fn not_finite(&self, going: &mut Going, made: &Made, batch: usize) -> Result<PretrainError> {
        let names: Vec<&str> = made.rows.iter().map(|&row| self.data.ids[row].as_str()).collect();
        let (epoch, step) = (going.place.epoch + 1, going.place.step);
        going.journal.line(&json!({
            "event": "the loss is not finite", "epoch": epoch, "batch": batch + 1, "updates": step, "images": names,
        }))?;
        going.journal.synced()?;
        let mut images = names[..names.len().min(SHOWN)].join(", ");
        if names.len() > SHOWN {
            images += &format!(" and {} more (see {LOG_FILE})", names.len() - SHOWN);
        }
        Ok(PretrainError::NotFinite { epoch, batch: batch + 1, step, images })
    }

    /// Validation, best weights, log, checkpoint, figure.
    fn close_epoch(&self, learner: &mut dyn Learner, going: &mut Going, rate: f64, clock: Instant) -> Result<()> {
        let epoch = going.place.epoch;
        let judged = self.judge(learner, going.average.as_ref())?;
        let record = EpochRecord {
            epoch,
            rate,
            loss: going.place.loss / going.place.taken.max(1) as f64,
            validation_loss: judged.loss,
            auc: judged.auc,
            aucs: judged.aucs,
        };
        let labelled: BTreeMap<&str, Option<f64>> =
            self.settings.labels.iter().map(String::as_str).zip(record.aucs.iter().copied()).collect();
        going.journal.line(&json!({
            "epoch": epoch + 1, "rate": rate, "loss": record.loss, "validation_loss": record.validation_loss,
            "validation_auc": record.auc, "aucs": labelled, "updates": going.place.step,
            "seconds": (clock.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        }))?;
        going.place.history.push(record);
        let is_best = schedule::best(&aucs(&going.place.history)) == Some(epoch);
        if is_best {
            let path = self.folder.join(BEST_FILE);
            let weights = match &going.average {
                Some(average) => average.clone(),
                None => learner.state()?.weights,
            };
            write_safetensors(&path, &weights, self.metadata, false).map_err(PretrainError::io(&path))?;
        }
        let place = &mut going.place;
        (place.epoch, place.batch, place.taken, place.loss) = (epoch + 1, 0, 0, 0.0);
        self.save(learner, going)?;
        let history = &going.place.history;
        let points: Vec<(f64, Option<f64>, Option<f64>)> =
            history.iter().map(|r| (r.loss, r.validation_loss, r.auc)).collect();
        let figure = learning_curve(&format!("Training of {}", self.settings.network), &points);
        write_atomic(&self.folder.join(CURVE_FILE), figure.as_bytes()).map_err(PretrainError::Write)?;
        if let Some(record) = history.last() {
            (self.report)(&Event::Epoch { record, best: is_best });
        }
        Ok(())
    }

    /// Judges the averaged weights, if there are, and leaves the learner as it was.
    fn judge(&self, learner: &mut dyn Learner, average: Option<&Weights>) -> Result<Judged> {
        let kept = match average {
            Some(average) => {
                let state = learner.state()?;
                learner.restore(&State { weights: average.clone(), ..state.clone() })?;
                Some(state)
            }
            None => None,
        };
        let judged = judge(learner, self.data, self.settings.batch, self.workers);
        if let Some(state) = kept {
            learner.restore(&state)?;
        }
        judged
    }

    /// Replaces the checkpoint.
    fn save(&self, learner: &mut dyn Learner, going: &mut Going) -> Result<()> {
        going.place.log_bytes = going.journal.synced()?;
        let state = learner.state()?;
        // The learner counts its updates itself; the file has one number for both.
        going.place.step = state.step;
        let checkpoint = Checkpoint { place: going.place.clone(), state, average: going.average.clone() };
        checkpoint.write(&self.folder.join(LAST_FILE), self.settings)?;
        going.saved = Instant::now();
        Ok(())
    }
}

fn aucs(history: &[EpochRecord]) -> Vec<Option<f64>> {
    history.iter().map(|r| r.auc).collect()
}

/// `average = decay * average + (1 - decay) * weights`, so that what does not move stays to the bit.
fn blend(average: &mut Weights, weights: &Weights, decay: f32) {
    for (name, kept) in average.iter_mut() {
        if let Some(now) = weights.get(name) {
            kept.data.iter_mut().zip(&now.data).for_each(|(a, w)| *a += (1.0 - decay) * (w - *a));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::tests::data;
    use super::super::settings::tests::settings;
    use super::*;
    use chestnut_zoo::Tensor;
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::time::Duration;

    /// Logistic regression on the mean of the lower half less that of the upper half, by gradient descent with momentum.
    struct Simple {
        state: State,
        /// Fails before this many more updates.
        lives: usize,
        nan_at: Option<u64>,
    }

    impl Simple {
        fn new() -> Self {
            let tensor = |v: f32| Tensor { shape: vec![2], data: vec![v, 0.0] };
            let named = |v: f32| Weights::from([("head.0.kernel".to_owned(), tensor(v))]);
            let state = State { weights: named(0.1), mean: named(0.0), square: Weights::new(), step: 0 };
            Self { state, lives: usize::MAX, nan_at: None }
        }

        fn features(images: &[f32], pixels: usize) -> Vec<f32> {
            let half = pixels * 3 / 2;
            let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
            images.chunks_exact(pixels * 3).map(|i| mean(&i[half..]) - mean(&i[..half])).collect()
        }
    }

    impl Learner for Simple {
        fn step(&mut self, batch: &Batch<'_>, rate: f64) -> std::result::Result<f64, TrainError> {
            if self.lives == 0 {
                return Err(TrainError::Device("killed".into()));
            }
            self.lives -= 1;
            if self.nan_at == Some(self.state.step) {
                return Err(TrainError::NotFinite { step: self.state.step });
            }
            let x = Self::features(batch.images, batch.height * batch.width);
            let (mut loss, mut gradient) = (0.0, [0.0_f32; 2]);
            let w = self.state.weights["head.0.kernel"].data.clone();
            for (&x, (&t, &weight)) in x.iter().zip(batch.targets.iter().zip(batch.weights)) {
                let p = 1.0 / (1.0 + (-(w[0] * x + w[1])).exp());
                loss -= f64::from(weight * (t * p.ln() + (1.0 - t) * (1.0 - p).ln()));
                gradient[0] += weight * (p - t) * x;
                gradient[1] += weight * (p - t);
            }
            let count = batch.weights.iter().sum::<f32>();
            let mean = &mut self.state.mean.get_mut("head.0.kernel").expect("there").data;
            let weights = &mut self.state.weights.get_mut("head.0.kernel").expect("there").data;
            for ((w, m), g) in weights.iter_mut().zip(mean).zip(gradient) {
                *m = 0.9 * *m + g / count;
                *w -= rate as f32 * *m;
            }
            self.state.step += 1;
            Ok(loss / f64::from(count))
        }

        fn logits(&mut self, images: &[f32], height: usize, width: usize) -> std::result::Result<Vec<f32>, TrainError> {
            let w = &self.state.weights["head.0.kernel"].data;
            Ok(Self::features(images, height * width).into_iter().map(|x| w[0] * x + w[1]).collect())
        }

        fn state(&mut self) -> std::result::Result<State, TrainError> {
            Ok(self.state.clone())
        }

        fn restore(&mut self, state: &State) -> std::result::Result<(), TrainError> {
            self.state = state.clone();
            Ok(())
        }
    }

    struct Place {
        _folder: tempfile::TempDir,
        data: Data,
        out: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let data = data(folder.path());
            let out = folder.path().join("run");
            std::fs::create_dir(&out).expect("made");
            Self { data, out, _folder: folder }
        }

        fn run(&self, learner: &mut Simple, settings: &Settings, every: usize) -> Result<Vec<EpochRecord>> {
            let every = Every { batches: every, time: Duration::from_secs(3600) };
            let metadata = BTreeMap::new();
            let (folder, data) = (self.out.as_path(), &self.data);
            Run { data, settings, folder, metadata: &metadata, workers: 2, every, report: &|_| {} }.go(learner)
        }

        fn bytes(&self, name: &str) -> Vec<u8> {
            std::fs::read(self.out.join(name)).expect(name)
        }
    }

    #[test]
    fn a_run_killed_again_and_again_ends_in_the_same_bits() {
        let whole = Place::new();
        let mut learner = Simple::new();
        let history = whole.run(&mut learner, &settings(), 1000).expect("trains");
        assert_eq!(history.len(), 4);
        assert!(history[3].loss < history[0].loss, "{history:?}");
        assert_eq!(history[3].auc, Some(1.0), "bright below is easy to tell");
        for (lives, every) in [(1, 1), (2, 1), (4, 2), (5, 1000)] {
            let killed = Place::new();
            let mut kills = 0;
            let resumed = loop {
                // Each start is a new process: nothing but the files is left.
                let mut learner = Simple { lives, ..Simple::new() };
                match killed.run(&mut learner, &settings(), every) {
                    Ok(history) => break history,
                    Err(e) => assert_eq!(e.to_string(), "killed"),
                }
                kills += 1;
                assert!(kills < 50, "no progress with {lives} updates a life");
            };
            assert!(kills > 1, "{kills} kills");
            assert_eq!(resumed, history);
            assert!(killed.bytes(BEST_FILE) == whole.bytes(BEST_FILE), "the best weights");
            let last = |p: &Place| Checkpoint::read(&p.out.join(LAST_FILE), &settings()).expect("whole");
            let (a, b) = (last(&killed), last(&whole));
            assert_eq!((a.state, a.average, a.place.history), (b.state, b.average, b.place.history));
        }
        // The log of the last run has each line once.
        let text = String::from_utf8(whole.bytes(LOG_FILE)).expect("text");
        assert_eq!(text.lines().filter(|l| l.contains("validation_auc")).count(), 4);
        assert!(String::from_utf8(whole.bytes(CURVE_FILE)).expect("text").contains("</svg>"));
    }

    #[test]
    fn a_loss_that_is_not_finite_keeps_the_checkpoint_and_names_the_batch() {
        let place = Place::new();
        let mut learner = Simple { nan_at: Some(4), ..Simple::new() };
        let error = place.run(&mut learner, &settings(), 1).expect_err("stops");
        let PretrainError::NotFinite { epoch, batch, step, images } = &error else { panic!("{error}") };
        assert_eq!((*epoch, *batch, *step), (2, 2, 4), "three batches an epoch");
        assert_eq!(images.matches(".png").count(), 3);
        let kept = Checkpoint::read(&place.out.join(LAST_FILE), &settings()).expect("whole");
        assert_eq!((kept.place.epoch, kept.place.batch, kept.state.step), (1, 1, 4));
        assert!(String::from_utf8(place.bytes(LOG_FILE)).expect("text").contains("not finite"));
    }

    #[test]
    fn it_stops_when_the_auc_does_not_rise_and_says_what_it_does() {
        let place = Place::new();
        let patient = Settings { epochs: 30, patience: 2, ..settings() };
        let seen = RefCell::new(Vec::new());
        let every = Every { batches: 5, time: Duration::from_secs(3600) };
        let run = Run {
            data: &place.data,
            settings: &patient,
            folder: &place.out,
            metadata: &BTreeMap::new(),
            workers: 1,
            every,
            report: &|event| {
                if let Event::Epoch { record, best } = event {
                    seen.borrow_mut().push((record.epoch, *best));
                }
            },
        };
        let history = run.go(&mut Simple::new()).expect("trains");
        assert!(history.len() < 30, "an AUC of 1 cannot rise");
        let best = schedule::best(&aucs(&history)).expect("epochs");
        assert_eq!(history.len(), best + 3);
        assert_eq!(seen.borrow().last(), Some(&(history.len() - 1, false)));
        // Asked again, there is nothing to do.
        assert_eq!(run.go(&mut Simple::new()).expect("done"), history);
    }
}
