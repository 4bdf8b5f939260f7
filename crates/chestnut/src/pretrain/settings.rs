//! What was asked of a training run, and whether a checkpoint was made by the same request.
//!
//! Everything here changes the weights, so everything here must be equal for a run to go on. What does not change them
//! (threads, how often a checkpoint is written, where files lie) is not here.

use super::augment::Augment;
use super::cache::MAX_CACHE_SIDE;
use super::crop::Crop;
use super::schedule::{Schedule, Shape};
use super::targets::Policies;
use crate::image::recipe::MIN_SIZE;
use chestnut_train::Update;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most epochs.
pub const MAX_EPOCHS: usize = 10_000;
/// Most images of a batch.
pub const MAX_BATCH: usize = 4096;
/// Most images of an update: all its batches wait for it in memory.
pub const MAX_UPDATE: usize = 16_384;

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the architecture.
    pub network: String,
    /// Labels, in the order of the outputs.
    pub labels: Vec<String>,
    /// What the weights start from: `seed`, or the name and hash of a network of the store.
    pub start: String,
    /// Nodes whose names begin so stay as they are.
    pub freeze: Vec<String>,
    /// Identity of the images: key of the cache.
    pub images: String,
    /// Identity of what the table says of them ([`super::set::TrainingSet::table_hash`]); empty in a checkpoint from
    /// before it was kept.
    #[serde(default)]
    pub table: String,
    /// Rows and columns of the input.
    pub size: usize,
    /// Where the input is cut from the cached image.
    pub crop: Crop,
    /// Identity of the template, if one was given.
    pub template: Option<String>,
    /// Name of the input's standardisation.
    pub standardisation: String,
    /// Movements.
    pub augment: Augment,
    /// From cells to targets.
    pub policies: Policies,
    /// Whether positive terms weigh by their rarity.
    pub positive_weights: bool,
    /// Whether each epoch draws images so that all labels' positives are seen about equally often ([`super::deal`]).
    #[serde(default)]
    pub balanced: bool,
    /// Share of the images to judge by, where the table has no split of its own.
    pub validation: f64,
    /// Images that the network sees at a time.
    pub batch: usize,
    /// Batches per update (gradient accumulation).
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation AUC before it stops.
    pub patience: usize,
    /// Rate.
    pub schedule: Schedule,
    /// How weights follow gradients.
    pub update: Update,
    /// Share of the old averages that an update leaves, if averages of the weights are kept (Polyak and Juditsky 1992).
    pub ema: Option<f64>,
    /// Seed of all draws.
    pub seed: u64,
}

impl Settings {
    /// Checks the numbers, once, before any image.
    ///
    /// # Errors
    /// A text that names the option.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=MAX_EPOCHS).contains(&self.epochs) {
            return Err(format!("--epochs is {}; give 1 to {MAX_EPOCHS}", self.epochs));
        }
        if !(MIN_SIZE..=MAX_CACHE_SIDE).contains(&self.size) {
            return Err(format!("--size is {}; give {MIN_SIZE} to {MAX_CACHE_SIDE}", self.size));
        }
        if !(1..=MAX_BATCH).contains(&self.batch) {
            return Err(format!("--batch is {}; give 1 to {MAX_BATCH}", self.batch));
        }
        let most = MAX_UPDATE / self.batch;
        if !(1..=most).contains(&self.accumulate) {
            let (accumulate, batch) = (self.accumulate, self.batch);
            return Err(format!("--accumulate is {accumulate}; with batches of {batch} images give 1 to {most}"));
        }
        if self.balanced && self.positive_weights {
            return Err("--balanced and --positive-weights both make up for rare labels; give one of them".into());
        }
        if !(self.schedule.rate > 0.0 && self.schedule.rate <= 1.0) {
            return Err(format!("--rate is {}; give a number above 0 and up to 1", self.schedule.rate));
        }
        if !(self.validation > 0.0 && self.validation < 1.0) {
            return Err(format!("--validation is {}; give a share between 0 and 1", self.validation));
        }
        if self.ema.is_some_and(|d| !(d > 0.0 && d < 1.0)) {
            return Err("--ema must lie between 0 and 1, such as 0.999".into());
        }
        if !(0.0..1.0).contains(&self.update.weight_decay) {
            return Err(format!("--weight-decay is {}; give a number from 0 to 1", self.update.weight_decay));
        }
        if let Shape::Steps { factor } | Shape::Plateau { factor, .. } = self.schedule.shape
            && !(factor > 0.0 && factor <= 1.0)
        {
            return Err(format!("--factor is {factor}; give a number above 0 and up to 1"));
        }
        self.augment.check(self.size)
    }

    /// Names the first setting in which a checkpoint differs; more epochs are allowed where they change nothing before.
    ///
    /// # Errors
    /// A text with the setting and both values.
    pub fn same_as(&self, checkpoint: &Self) -> Result<(), String> {
        let mut before = checkpoint.clone();
        before.patience = self.patience;
        if self.schedule.shape != Shape::Cosine && self.epochs >= before.epochs {
            before.epochs = self.epochs;
        }
        let (Ok(Value::Object(now)), Ok(Value::Object(then))) =
            (serde_json::to_value(self), serde_json::to_value(&before))
        else {
            return Err("settings that cannot be compared".into());
        };
        // `network` first: it is what people mix up.
        let order = std::iter::once("network").chain(now.keys().map(String::as_str));
        for key in order {
            let (now, then) = (now.get(key), then.get(key));
            if now != then {
                if key == "table" {
                    return Err(other_table(&before.table));
                }
                let show = |v: Option<&Value>| v.map_or_else(|| "nothing".to_owned(), short);
                return Err(format!("was made with {key} {}, asked is {}", show(then), show(now)));
            }
        }
        Ok(())
    }
}

/// What to say of a checkpoint of another table; hashes would tell nobody anything.
fn other_table(before: &str) -> String {
    if before.is_empty() {
        "was made by an earlier version, which kept no identity of the table: nobody can tell whether labels, patients \
         and parts are still the same"
            .to_owned()
    } else {
        "was made with another table: labels, patients or parts of its images have changed since".to_owned()
    }
}

/// Batches per update where a checkpoint does not say.
fn one() -> usize {
    1
}

/// JSON of at most 120 characters.
fn short(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::targets::{Blank, Uncertain};
    use super::*;

    pub(in super::super) fn settings() -> Settings {
        Settings {
            network: "densenet121".into(),
            labels: vec!["Bright".into()],
            start: "seed".into(),
            freeze: Vec::new(),
            images: "key".into(),
            table: "hash".into(),
            size: 32,
            crop: Crop::Centre,
            template: None,
            standardisation: "none".into(),
            augment: Augment { rotation: 7.0, scale: 0.02, shear: 2.0, flip: false },
            policies: Policies {
                uncertain: Uncertain::Ignore,
                blank: Blank::Ignore,
                propagate: false,
                conditional: false,
            },
            positive_weights: false,
            balanced: false,
            validation: 0.1,
            batch: 3,
            accumulate: 1,
            epochs: 4,
            patience: 4,
            schedule: Schedule { rate: 0.5, shape: Shape::Steps { factor: 0.5 }, warm_up: 2 },
            update: Update::default(),
            ema: Some(0.9),
            seed: 5,
        }
    }

    #[test]
    fn another_setting_is_refused_by_name() {
        let s = settings();
        s.same_as(&s).expect("equal");
        for (other, says) in [
            (Settings { network: "vgg16".into(), ..s.clone() }, "network \"vgg16\", asked is \"densenet121\""),
            (Settings { seed: 6, ..s.clone() }, "seed 6, asked is 5"),
            (Settings { labels: vec!["Dark".into()], ..s.clone() }, "labels [\"Dark\"]"),
            (Settings { epochs: 9, ..s.clone() }, "epochs 9, asked is 4"),
            (Settings { table: "other".into(), ..s.clone() }, "another table: labels, patients or parts"),
            (Settings { table: String::new(), ..s.clone() }, "kept no identity of the table"),
        ] {
            let error = s.same_as(&other).expect_err("differs");
            assert!(error.contains(says), "{error}");
        }
        s.same_as(&Settings { epochs: 2, patience: 1, ..s.clone() }).expect("more epochs change nothing before");
        let cosine = Settings { schedule: Schedule { shape: Shape::Cosine, ..s.schedule }, ..s.clone() };
        assert!(cosine.same_as(&Settings { epochs: 2, ..cosine.clone() }).is_err(), "a cosine depends on its length");
    }

    #[test]
    fn numbers_out_of_range_are_named_and_settings_survive_json() {
        let s = settings();
        s.check().expect("valid");
        let text = serde_json::to_string(&s).expect("JSON");
        assert_eq!(serde_json::from_str::<Settings>(&text).expect("valid"), s);
        // A checkpoint from before these settings existed.
        let old = text.replace("\"accumulate\":1,", "").replace("\"balanced\":false,", "");
        assert!(old.len() < text.len());
        assert_eq!(serde_json::from_str::<Settings>(&old).expect("valid"), s);
        let older = text.replace("\"table\":\"hash\",", "");
        let older: Settings = serde_json::from_str(&older).expect("refused by name, not as unreadable");
        assert!(older.table.is_empty() && s.same_as(&older).is_err());
        for (bad, says) in [
            (Settings { epochs: 0, ..s.clone() }, "--epochs"),
            (Settings { batch: 0, ..s.clone() }, "--batch"),
            (Settings { accumulate: 0, ..s.clone() }, "--accumulate"),
            (Settings { batch: 64, accumulate: 257, ..s.clone() }, "give 1 to 256"),
            (Settings { balanced: true, positive_weights: true, ..s.clone() }, "--balanced"),
            (Settings { ema: Some(1.0), ..s.clone() }, "--ema"),
            (Settings { validation: f64::NAN, ..s.clone() }, "--validation"),
            (Settings { schedule: Schedule { rate: -1.0, ..s.schedule }, ..s.clone() }, "--rate"),
        ] {
            assert!(bad.check().expect_err("out of range").contains(says), "{says}");
        }
    }
}
