//! What a fine-tuning that did not come to its end leaves in the study, so that the same command goes on where it was.
//!
//! The folder `finetuned/<network>-<depth>.unfinished`: of each run that is done its history and predictions, of the
//! first its weights, too; of the one that was going on a checkpoint (`crate::checkpoint`). All of it names the key of
//! what it was made from. What has another key, or is damaged, is as good as none: it is made anew. The end is the same
//! bits as without the kill, on one instruction set.

use super::DeepOptions;
use super::fit::{Going, History};
use super::record::model_name;
use crate::checkpoint;
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::study::{Study, read_kept};
use chestnut_train::State;
use chestnut_zoo::Weights;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Metadata key of what a file was made from.
const KEY: &str = "chestnut.finetune.key";
/// Metadata key of the place in the run.
const PLACE: &str = "chestnut.finetune.place";
/// Groups of a checkpoint's tensors.
const KINDS: [&str; 4] = ["weights/", "mean/", "square/", "best/"];
/// The group of the taught weights.
const TAUGHT: [&str; 1] = ["weights/"];
/// Largest file of a run that is done.
const MAX_DONE_BYTES: u64 = 256 << 20;
/// More updates than any run makes.
const MAX_STEPS: u64 = 1 << 53;

/// A run that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    key: String,
    pub(super) history: History,
    /// Of the images that the run predicts, `[image][label]`.
    pub(super) predictions: Vec<f64>,
}

/// Where a run stands.
#[derive(Serialize, Deserialize)]
struct Place {
    run: usize,
    /// Updates done.
    step: u64,
    history: History,
}

/// The folder, for one request.
pub(super) struct Unfinished {
    folder: PathBuf,
    key: String,
    epochs: usize,
}

impl Unfinished {
    /// Of a fine-tuning whose record has this key; nothing is looked at yet.
    pub(super) fn new(
        study: &Study,
        network: &Network,
        options: &DeepOptions,
        record_key: &str,
        table: &EmbeddingTable,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{record_key}\n{options:?}\n{}\n", env!("CARGO_PKG_VERSION")));
        // The head to start from is trained on these, and another instruction set makes others of the same weights and images.
        table.embeddings.iter().for_each(|v| hash.update(v.to_le_bytes()));
        let folder = study.path(&format!("finetuned/{}.unfinished", model_name(network, options.depth)));
        Self { folder, key: crate::fs::to_hex(&hash.finalize()), epochs: options.epochs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A run that is done, if it gave so many predictions.
    pub(super) fn done(&self, run: usize, predictions: usize) -> Option<Done> {
        let text = read_kept(&self.path(&done_file(run)), MAX_DONE_BYTES).ok()?;
        let done: Done = serde_json::from_str(&text).ok()?;
        let whole = done.predictions.len() == predictions && done.predictions.iter().all(|p| (0.0..=1.0).contains(p));
        (whole && done.key == self.key && self.fits(&done.history)).then_some(done)
    }

    /// The weights that the first run taught.
    pub(super) fn taught(&self) -> Option<Weights> {
        let (texts, [weights]) = checkpoint::read(&self.path("taught.safetensors"), TAUGHT).ok()?;
        (texts.get(KEY) == Some(&self.key)).then_some(weights)
    }

    /// Keeps a run that is done, with the weights that it taught if they are wanted at the end.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn keep(
        &self,
        run: usize,
        history: &History,
        predictions: &[f64],
        taught: Option<&Weights>,
    ) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        if let Some(weights) = taught {
            let path = self.path("taught.safetensors");
            let texts = BTreeMap::from([(KEY.to_owned(), self.key.clone())]);
            checkpoint::write(&path, &texts, [(TAUGHT[0], weights.clone())]).map_err(Error::io(&path))?;
        }
        // After the weights, for which it vouches.
        let done = Done { key: self.key.clone(), history: history.clone(), predictions: predictions.to_vec() };
        let text = serde_json::to_string(&done).map_err(|e| Error::Request(e.to_string()))?;
        write_atomic(&self.path(&done_file(run)), text.as_bytes()).map_err(Error::Write)
    }

    /// Where the run was when its last checkpoint was written.
    pub(super) fn going(&self, run: usize) -> Option<Going> {
        let (texts, [weights, mean, square, best]) = checkpoint::read(&self.path("last.safetensors"), KINDS).ok()?;
        let place: Place = serde_json::from_str(texts.get(PLACE)?).ok()?;
        let ours = texts.get(KEY) == Some(&self.key) && place.run == run;
        if !ours || !self.fits(&place.history) || place.step > MAX_STEPS {
            return None;
        }
        let state = State { weights, mean, square, step: place.step };
        Some(Going { history: place.history, state, best })
    }

    /// Writes a checkpoint of the run.
    ///
    /// # Errors
    /// If the file cannot be written; the checkpoint before it stays.
    pub(super) fn save(&self, run: usize, going: Going) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let path = self.path("last.safetensors");
        let State { weights, mean, square, step } = going.state;
        let place = Place { run, step, history: going.history };
        let place = serde_json::to_string(&place).map_err(|e| Error::Request(e.to_string()))?;
        let texts = BTreeMap::from([(KEY.to_owned(), self.key.clone()), (PLACE.to_owned(), place)]);
        let groups = [(KINDS[0], weights), (KINDS[1], mean), (KINDS[2], square), (KINDS[3], going.best)];
        checkpoint::write(&path, &texts, groups).map_err(Error::io(&path))
    }

    /// Removes the folder: everything came to its end.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.folder)(e)),
            _ => Ok(()),
        }
    }

    fn fits(&self, history: &History) -> bool {
        history.epochs.len() <= self.epochs && history.best <= history.epochs.len()
    }
}

fn done_file(run: usize) -> String {
    format!("run-{run}.json")
}
