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
        // A run that ended between the checkpoint of its last epoch and the figure has no other epoch to draw it in.
        self.draw(&going.place.history)?;
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
        let (train, targets) = (&self.data.train, &self.data.targets);
        let batches = if s.balanced {
            deal::balanced(train, targets, s.batch, s.seed, epoch)
        } else {
            deal::batches(train, s.batch, s.seed, epoch)
        };
        let past = aucs(&going.place.history);
        let updates = batches.len().div_ceil(s.accumulate);
        let rate_of = |batch: usize| s.schedule.at(epoch, s.epochs, batch / s.accumulate, updates, &past);
        let Some(rest) = batches.get(first..) else {
            let problem = format!(
                "stands at batch {first} of an epoch of {}; remove the folder to begin anew, or choose another",
                batches.len()
            );
            return Err(PretrainError::file(&self.folder.join(LAST_FILE), problem));
        };
        let moves = Moves { augment: &s.augment, seed: s.seed, epoch };
        let (clock, mut images) = (Instant::now(), 0);
        let mut waiting: Vec<Made> = Vec::with_capacity(s.accumulate);
        self.data.feed(rest, Some(moves), self.workers, &mut |i, made| {
            let (batch, rate) = (first + i, rate_of(first + i));
            let last = batch + 1 == batches.len();
            images += made.rows.len();
            // A batch without a known label teaches nothing, and would only move the running statistics.
            if made.weights.iter().any(|&w| w > 0.0) {
                waiting.push(made);
            }
            // The place in the run moves by whole updates, so a checkpoint never falls between the batches of one.
            if !last && !(batch + 1).is_multiple_of(s.accumulate) {
                return Ok(());
            }
            if !waiting.is_empty() {
                let loss = self.update(learner, going, &waiting, rate, batch)?;
                going.place.loss += loss;
                going.place.taken += 1;
                waiting.clear();
            }
            let before = std::mem::replace(&mut going.place.batch, batch + 1);
            let passed = |every: usize| (batch + 1) / every > before / every;
            let speed = images as f64 / clock.elapsed().as_secs_f64().max(1e-9);
            let mean = going.place.loss / going.place.taken.max(1) as f64;
            if last || passed(LOG_EVERY) {
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
            let due = passed(self.every.batches.max(1)) || going.saved.elapsed() >= self.every.time;
            if due && !last {
                self.save(learner, going)?;
            }
            Ok(())
        })?;
        self.close_epoch(learner, going, rate_of(batches.len().saturating_sub(1)), clock)
    }

    /// One update from the batches `made`, of which `batch` is the last, and the running average of the weights; gives
    /// the loss.
    fn update(
        &self,
        learner: &mut dyn Learner,
        going: &mut Going,
        made: &[Made],
        rate: f64,
        batch: usize,
    ) -> Result<f64> {
        let size = self.data.size;
        let input = made.iter().map(|m| {
            let (images, targets, weights) = (&m.images[..], &m.targets[..], &m.weights[..]);
            Batch { images, height: size, width: size, targets, weights }
        });
        let input: Vec<Batch<'_>> = input.collect();
        let loss = match learner.step_many(&input, rate) {
            Ok(loss) if loss.is_finite() => loss,
            Ok(_) | Err(TrainError::NotFinite { .. }) => return Err(self.not_finite(going, made, batch)),
            Err(e) => return Err(e.into()),
        };
        going.place.step += 1;
        if let (Some(decay), Some(average)) = (self.settings.ema, going.average.as_mut()) {
            // The first averages forget the random start sooner.
            let done = going.place.step as f64;
            learner.blend_weights(average, decay.min((1.0 + done) / (10.0 + done)) as f32)?;
        }
        Ok(loss)
    }

    /// Says which batch it was; the images are all in the log, if it has room.
    fn not_finite(&self, going: &mut Going, made: &[Made], batch: usize) -> PretrainError {
        let names: Vec<&str> = made.iter().flat_map(|m| &m.rows).map(|&row| self.data.ids[row].as_str()).collect();
        let (epoch, step) = (going.place.epoch + 1, going.place.step);
        let event = json!({
            "event": "the loss is not finite", "epoch": epoch, "batch": batch + 1, "updates": step, "images": names,
        });
        // Why it stops matters more than a log that has no room.
        let _ = going.journal.line(&event).and_then(|()| going.journal.synced());
        let mut images = names[..names.len().min(SHOWN)].join(", ");
        if names.len() > SHOWN {
            images += &format!(" and {} more (see {LOG_FILE})", names.len() - SHOWN);
        }
        PretrainError::NotFinite { epoch, batch: batch + 1, step, images }
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
        self.draw(history)?;
        if let Some(record) = history.last() {
            (self.report)(&Event::Epoch { record, best: is_best });
        }
        Ok(())
    }

    /// The figure of the epochs so far; none before the first.
    fn draw(&self, history: &[EpochRecord]) -> Result<()> {
        if history.is_empty() {
            return Ok(());
        }
        let points: Vec<(f64, Option<f64>, Option<f64>)> =
            history.iter().map(|r| (r.loss, r.validation_loss, r.auc)).collect();
        let figure = learning_curve(&format!("Training of {}", self.settings.network), &points);
        write_atomic(&self.folder.join(CURVE_FILE), figure.as_bytes()).map_err(PretrainError::Write)
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

#[cfg(test)]
mod tests;
