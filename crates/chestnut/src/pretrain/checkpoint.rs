//! Everything a run needs to go on exactly where it was, in one file (`crate::checkpoint`).
//!
//! Tensors: the learner's weights with running statistics, Adam's two moments, the averaged weights. Metadata, as JSON:
//! the settings, the place in the run, what each epoch gave, and how long the log was. It is input like any other: what
//! stands there is held to the settings before it is used.

use super::error::{PretrainError, Result};
use super::settings::Settings;
use crate::checkpoint;
use chestnut_train::State;
use chestnut_zoo::Weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Metadata key of the settings.
const SETTINGS: &str = "chestnut.pretrain.settings";
/// Metadata key of the place in the run.
const PLACE: &str = "chestnut.pretrain.place";
/// What stands before each tensor's name.
const KINDS: [&str; 4] = ["weights/", "mean/", "square/", "average/"];
/// More updates than any run makes; up to here they are counted exactly in an f64.
const MAX_STEPS: u64 = 1 << 53;

/// What one epoch gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Rate of its last update.
    pub rate: f64,
    /// Mean loss over its updates.
    pub loss: f64,
    /// Mean loss over the known cells of the validation images.
    pub validation_loss: Option<f64>,
    /// Mean over the labels whose AUC can be estimated.
    pub auc: Option<f64>,
    /// One per label.
    pub aucs: Vec<Option<f64>>,
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Epoch of the next update, from 0.
    pub epoch: usize,
    /// The next batch within it, from 0.
    pub batch: usize,
    /// Updates of this epoch so far: those whose batches teach something.
    pub taken: usize,
    /// Sum of their losses.
    pub loss: f64,
    /// Updates done.
    pub step: u64,
    /// The finished epochs.
    pub history: Vec<EpochRecord>,
    /// Length of the log, bytes.
    pub log_bytes: u64,
}

impl Place {
    /// Whether a run of these settings can stand there.
    fn check(&self, s: &Settings) -> std::result::Result<(), String> {
        let in_order = |(i, r): (usize, &EpochRecord)| r.epoch == i && r.aucs.len() == s.labels.len();
        let whole = self.history.len() == self.epoch && self.history.iter().enumerate().all(in_order);
        if !whole || self.epoch > s.epochs || self.taken > self.batch || self.step > MAX_STEPS {
            let (epoch, batch, records) = (self.epoch, self.batch, self.history.len());
            return Err(format!(
                "is damaged: it stands at epoch {epoch} of {}, batch {batch}, with the records of {records} epochs",
                s.epochs
            ));
        }
        Ok(())
    }
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) place: Place,
    pub(super) state: State,
    /// Averaged weights, if they are kept.
    pub(super) average: Option<Weights>,
}

impl Checkpoint {
    /// Replaces the file.
    pub(super) fn write(self, path: &Path, settings: &Settings) -> Result<()> {
        let json = |value: serde_json::Result<String>| value.map_err(|e| PretrainError::file(path, e.to_string()));
        let metadata = BTreeMap::from([
            (SETTINGS.to_owned(), json(serde_json::to_string(settings))?),
            (PLACE.to_owned(), json(serde_json::to_string(&self.place))?),
        ]);
        let [weights, mean, square, average] = KINDS;
        let State { weights: own, mean: first, square: second, .. } = self.state;
        let groups = [(weights, own), (mean, first), (square, second), (average, self.average.unwrap_or_default())];
        checkpoint::write(path, &metadata, groups).map_err(PretrainError::io(path))
    }

    /// Reads the file, if it is of these settings.
    pub(super) fn read(path: &Path, settings: &Settings) -> Result<Self> {
        let wrong = |problem: String| {
            let way = "choose another output folder, give the same settings, or remove the folder to begin anew";
            PretrainError::file(path, format!("{problem}; {way}"))
        };
        let (texts, [weights, mean, square, average]) = checkpoint::read(path, KINDS).map_err(&wrong)?;
        let text = |key: &str| {
            texts.get(key).ok_or_else(|| wrong(format!("is no checkpoint of a pretraining: {key} is missing")))
        };
        let made: Settings = serde_json::from_str(text(SETTINGS)?).map_err(|e| wrong(e.to_string()))?;
        settings.same_as(&made).map_err(&wrong)?;
        let place: Place = serde_json::from_str(text(PLACE)?).map_err(|e| wrong(e.to_string()))?;
        place.check(settings).map_err(&wrong)?;
        if settings.ema.is_some() == average.is_empty() {
            return Err(wrong("is damaged: it lacks the averaged weights, or has some that were not asked for".into()));
        }
        let state = State { weights, mean, square, step: place.step };
        Ok(Self { place, state, average: (!average.is_empty()).then_some(average) })
    }
}

/// Whether the file is a checkpoint of any settings at all: for the fuzz targets.
pub(crate) fn is_checkpoint(path: &Path) -> bool {
    let texts = checkpoint::read(path, KINDS).map(|(texts, _)| texts).unwrap_or_default();
    let made = texts.get(SETTINGS).and_then(|text| serde_json::from_str::<Settings>(text).ok());
    made.is_some_and(|made| made.check().is_ok() && Checkpoint::read(path, &made).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;
    use chestnut_zoo::Tensor;

    fn example() -> Checkpoint {
        let tensors = |v: f32| {
            let tensor = Tensor { shape: vec![2], data: vec![v, f32::MIN_POSITIVE / 2.0] };
            Weights::from([("head.0.kernel".to_owned(), tensor)])
        };
        let record = EpochRecord {
            epoch: 0,
            rate: 1e-4,
            loss: 0.1 + 0.2,
            validation_loss: None,
            auc: Some(1.0 / 3.0),
            aucs: vec![Some(1.0 / 3.0)],
        };
        Checkpoint {
            place: Place {
                epoch: 1,
                batch: 7,
                taken: 7,
                loss: 2.0 / 7.0,
                step: 31,
                history: vec![record],
                log_bytes: 99,
            },
            state: State { weights: tensors(1.1), mean: tensors(-0.3), square: tensors(1e-30), step: 31 },
            average: Some(tensors(0.7)),
        }
    }

    #[test]
    fn every_bit_comes_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.safetensors");
        example().write(&path, &settings()).expect("written");
        assert_eq!(Checkpoint::read(&path, &settings()).expect("read"), example());
        let fresh = Checkpoint { average: None, state: State { step: 31, ..State::default() }, ..example() };
        let plain = Settings { ema: None, ..settings() };
        fresh.clone().write(&path, &plain).expect("replaced");
        assert_eq!(Checkpoint::read(&path, &plain).expect("read"), fresh);
        assert!(is_checkpoint(&path) && !is_checkpoint(folder.path()));
    }

    #[test]
    fn a_place_that_no_run_reaches_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.safetensors");
        let changes: [fn(&mut Checkpoint); 8] = [
            |c| c.place.epoch = usize::MAX,
            |c| c.place.epoch = 0,
            |c| c.place.history.clear(),
            |c| c.place.history[0].epoch = 1,
            |c| c.place.history[0].aucs.clear(),
            |c| c.place.taken = c.place.batch + 1,
            |c| c.place.step = u64::MAX,
            |c| c.average = None,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut bad = example();
            change(&mut bad);
            bad.write(&path, &settings()).expect("written");
            let problem = Checkpoint::read(&path, &settings()).expect_err("refused").to_string();
            assert!(problem.contains("is damaged") && problem.contains("last.safetensors"), "{i}: {problem}");
        }
    }

    #[test]
    fn another_network_damage_and_other_files_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.safetensors");
        let other = Settings { network: "vgg16".into(), ..settings() };
        example().write(&path, &other).expect("written");
        let error = Checkpoint::read(&path, &settings()).expect_err("another network").to_string();
        assert!(error.contains("network \"vgg16\"") && error.contains("last.safetensors"), "{error}");
        let bytes = std::fs::read(&path).expect("bytes");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("cut");
        assert!(Checkpoint::read(&path, &other).is_err());
        checkpoint::write(&path, &BTreeMap::new(), [(KINDS[0], Weights::new())]).expect("written");
        let error = Checkpoint::read(&path, &settings()).expect_err("no checkpoint").to_string();
        assert!(error.contains("is no checkpoint"), "{error}");
    }
}
