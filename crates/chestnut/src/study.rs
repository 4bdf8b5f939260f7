//! A study is a folder; each stage reads files of earlier stages only.
//!
//! | file | made by | content |
//! |---|---|---|
//! | `study.toml` | ingest | what was asked; may be edited by hand |
//! | `cohort.csv`, `rejects.csv`, `warnings.txt`, `contact_sheet.png` | ingest | images used, items refused and why |
//! | `selection_rules.toml` | ingest | the rules that chose the images |
//! | `.pseudonym-key` | ingest | key of the patients' pseudonyms; stays in the study |
//! | `embeddings/<network>/*.parquet` | embed | embeddings and source probabilities |
//! | `tune/`, `models/tuned.json` | tune | scores of each piece of the search, chosen settings |
//! | `finetuned/*.json`, `models/<network>-<depth>/` | finetune | probabilities of taught networks, and those networks |
//! | `split.csv`, `predictions.csv`, `metrics.json`, `tables/`, `figures/`, `report/` | compare | results |
//! | `models/index.json`, `models/<approach>/*.json` | compare | the fitted models, for predict |
//! | `as_published/` | compare `--as-published` | the paper's tables by its own protocol |
//! | `explain/` | explain | heat maps, their page and tables |
//! | `manifest.json` | all | version, hashes and wall times of each stage |

use crate::cohort::{BlankRules, Cohort, LabelSet, Unit, ViewFilter};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::image::recipe::Recipe;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest settings or table file that is read back.
pub const MAX_TEXT_BYTES: u64 = 1 << 30;
/// Largest `manifest.json` that is read back; a stage takes about a kilobyte.
pub const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Largest file with the key of the pseudonyms; 64 hex digits are expected.
const MAX_KEY_BYTES: u64 = 4096;

/// What was asked, as `study.toml` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the images lie.
    pub images: PathBuf,
    /// Projections that are taken ([`ViewFilter::named`]): all frontal ones if absent, `any`, or this one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Regions whose pixels are blanked before anything looks at them.
    #[serde(default, skip_serializing_if = "BlankRules::is_empty")]
    pub blank: BlankRules,
    /// How an image becomes a network's input.
    #[serde(default)]
    pub recipe: Recipe,
    /// How the cohort is split.
    #[serde(default)]
    pub split: SplitSettings,
    /// Labels and what their values mean.
    pub labels: LabelSet,
}

/// The `[split]` table of `study.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSettings {
    /// Share of the patients whose images are tested on, between 0 and 1.
    pub test: f64,
    /// Share of the patients that fine-tuning watches to know when to stop; other approaches learn from them.
    pub validation: f64,
    /// Seed of the split and of all learners.
    pub seed: u64,
    /// What is kept whole: `patient`, or `image` as published.
    pub unit: Unit,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { test: 0.3, validation: 0.1, seed: 0, unit: Unit::Patient }
    }
}

/// What each stage did; `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the software that wrote last.
    pub version: String,
    /// Stage name to what it recorded.
    pub stages: BTreeMap<String, StageRecord>,
}

/// One stage of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Wall time in seconds.
    pub seconds: f64,
    /// Named facts: hashes, counts, settings.
    pub facts: BTreeMap<String, String>,
}

/// An opened study.
#[derive(Clone, Debug)]
pub struct Study {
    /// Its folder.
    pub root: PathBuf,
    /// Its settings.
    pub settings: Settings,
}

impl Study {
    /// Makes or updates the folder and its `study.toml`.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create(root: &Path, settings: Settings) -> Result<Self> {
        crate::fs::create_writable_folder(root).map_err(Error::Write)?;
        let study = Self { root: root.to_path_buf(), settings };
        let body = toml::to_string_pretty(&study.settings)
            .map_err(|e| Error::File { path: study.path("study.toml"), problem: e.to_string() })?;
        let text = format!(
            "# What this study asks. [recipe] and [split] may be edited; then run embed and compare again.\n# The size of a network's input is the network's own, and [labels] is what ingest used.\n\n{body}"
        );
        study.write("study.toml", text.as_bytes())?;
        Ok(study)
    }

    /// Which projections the study takes.
    #[must_use]
    pub fn view(&self) -> ViewFilter {
        ViewFilter::named(self.settings.view.as_deref())
    }

    /// Opens an existing study.
    ///
    /// # Errors
    /// If there is no `study.toml` or it cannot be understood.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("study.toml");
        if !path.is_file() {
            let command = "chestnut ingest IMAGES --labels labels.csv -o STUDY".to_owned();
            return Err(Error::StageMissing { study: root.to_path_buf(), what: "study.toml".into(), command });
        }
        let text = read_text(&path)?;
        let settings: Settings =
            toml::from_str(&text).map_err(|e| Error::File { path: path.clone(), problem: e.to_string() })?;
        let fault = |problem: String| Error::File { path: path.clone(), problem };
        settings.labels.check().map_err(|e| fault(e.to_string()))?;
        settings.blank.check().map_err(|e| fault(e.to_string()))?;
        settings.recipe.check()?;
        if !(settings.split.test > 0.0 && settings.split.test < 1.0) {
            return Err(fault(format!("[split] test is {}; it must lie between 0 and 1", settings.split.test)));
        }
        let SplitSettings { test, validation, .. } = settings.split;
        if !(validation > 0.0 && validation + test < 1.0) {
            let problem = "it must be above 0 and leave room for training beside the test part";
            return Err(fault(format!("[split] validation is {validation}; {problem}")));
        }
        Ok(Self { root: root.to_path_buf(), settings })
    }

    /// A file of the study.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file of the study atomically, making its folder if needed.
    ///
    /// # Errors
    /// Any I/O error, naming the file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        write_atomic(&path, bytes).map_err(Error::Write)
    }

    /// Reads the cohort that ingest made.
    ///
    /// # Errors
    /// If ingest has not run, or its tables were damaged.
    pub fn cohort(&self) -> Result<Cohort> {
        let missing = || Error::StageMissing {
            study: self.root.clone(),
            what: "cohort.csv".into(),
            command: "chestnut ingest IMAGES --labels labels.csv -o STUDY".into(),
        };
        let path = self.path("cohort.csv");
        if !path.is_file() {
            return Err(missing());
        }
        let rejects = read_kept(&self.path("rejects.csv"), MAX_TEXT_BYTES)?;
        let mut cohort = Cohort::from_csv(&read_kept(&path, MAX_TEXT_BYTES)?, &rejects)?;
        let warnings = self.path("warnings.txt");
        if warnings.is_file() {
            cohort.warnings = read_kept(&warnings, MAX_TEXT_BYTES)?.lines().map(str::to_owned).collect();
        }
        Ok(cohort)
    }

    /// Stores what ingest found.
    ///
    /// # Errors
    /// Any I/O error, naming the file.
    pub fn write_cohort(&self, cohort: &Cohort) -> Result<()> {
        self.write("rejects.csv", cohort.rejects_to_csv().as_bytes())?;
        self.write("warnings.txt", cohort.warnings.join("\n").as_bytes())?;
        self.write("cohort.csv", cohort.to_csv().as_bytes())
    }

    /// The key of the patients' pseudonyms, made at the first call and kept in the study.
    ///
    /// # Errors
    /// If the file cannot be read or made, or was damaged.
    pub fn pseudonym_key(root: &Path) -> Result<[u8; 32]> {
        let path = root.join(".pseudonym-key");
        if path.is_file() {
            let text = read_kept(&path, MAX_KEY_BYTES)?;
            let bytes = crate::fs::from_hex(text.trim());
            return bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| {
                let problem =
                    "is damaged; remove it together with the study's other files and run ingest again".to_owned();
                Error::File { path, problem }
            });
        }
        let key = fresh_key();
        crate::fs::write_private(&path, crate::fs::to_hex(&key).as_bytes()).map_err(Error::io(&path))?;
        Ok(key)
    }

    /// Reads `manifest.json`, or an empty one.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let text = read_kept(&self.path("manifest.json"), MAX_MANIFEST_BYTES);
        text.ok().and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default()
    }

    /// Notes what a stage did.
    ///
    /// # Errors
    /// Any I/O error, naming the file.
    pub fn record(&self, stage: &str, record: StageRecord) -> Result<()> {
        let mut manifest = self.manifest();
        manifest.version = env!("CARGO_PKG_VERSION").to_owned();
        manifest.stages.insert(stage.to_owned(), record);
        let text = serde_json::to_string_pretty(&manifest).map_err(|e| Error::Request(e.to_string()))?;
        self.write("manifest.json", text.as_bytes())
    }
}

/// Reads a text file that somebody named, of at most [`MAX_TEXT_BYTES`]; a pipe is one, too.
///
/// # Errors
/// Any I/O error, a file that is too large or no UTF-8; the message names it.
pub fn read_text(path: &Path) -> Result<String> {
    read_at_most(path, MAX_TEXT_BYTES)
}

/// A study that was made in no other way than by naming its folder and one label, for tests of single files in it.
#[cfg(test)]
pub(crate) fn bare(root: &Path) -> Study {
    let settings = Settings {
        images: root.to_path_buf(),
        view: None,
        blank: Default::default(),
        recipe: Default::default(),
        split: Default::default(),
        labels: LabelSet::new("s", &["A"]),
    };
    Study { root: root.to_path_buf(), settings }
}

/// Reads a text file of a study, of at most `limit` bytes.
///
/// # Errors
/// As [`read_text`]; also anything but a regular file: opening a named pipe would wait for ever, and some devices never
/// end.
pub fn read_kept(path: &Path, limit: u64) -> Result<String> {
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
        let problem = "is no regular file; remove it".to_owned();
        return Err(Error::File { path: path.to_path_buf(), problem });
    }
    read_at_most(path, limit)
}

fn read_at_most(path: &Path, limit: u64) -> Result<String> {
    let too_large = |bytes: u64| {
        let problem = format!("has {bytes} bytes or more, and at most {limit} are read");
        Error::File { path: path.to_path_buf(), problem }
    };
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let bytes = file.metadata().map_err(Error::io(path))?.len();
    if bytes > limit {
        return Err(too_large(bytes));
    }
    let mut text = String::new();
    // A pipe has length 0 and a file may grow: the limit holds for what is read.
    file.take(limit + 1).read_to_string(&mut text).map_err(Error::io(path))?;
    if text.len() as u64 > limit {
        return Err(too_large(text.len() as u64));
    }
    Ok(text)
}

/// 32 bytes that nobody else knows: the standard library's per-process random keys, the clock and the process,
/// hashed. Good enough to keep pseudonyms from being guessed; it is not a key for encryption.
fn fresh_key() -> [u8; 32] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hash = Sha256::new();
    for i in 0..8_u64 {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(i);
        hash.update(hasher.finish().to_le_bytes());
    }
    if let Ok(now) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        hash.update(now.as_nanos().to_le_bytes());
    }
    hash.update(std::process::id().to_le_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_has_a_limit_and_is_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("kept.json");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read_kept(&path, 5).expect("just small enough"), "12345");
        let message = read_kept(&path, 4).expect_err("too large").to_string();
        assert!(message.contains("kept.json") && message.contains("at most 4"), "{message}");
        assert!(read_kept(folder.path(), 4).expect_err("a folder").to_string().contains("no regular file"));
        // A character across the limit is too large, too, and no damage of the text.
        std::fs::write(&path, "1234\u{e9}").expect("written");
        assert!(read_kept(&path, 6).is_ok() && read_kept(&path, 5).is_err());
    }

    /// A device that never ends: were it opened, this test would not come to its end.
    #[cfg(unix)]
    #[test]
    fn a_device_is_no_file_of_a_study() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("manifest.json");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        assert!(read_kept(&path, MAX_MANIFEST_BYTES).expect_err("a device").to_string().contains("no regular file"));
    }
}
