//! What is looked for in a radiograph: label sets.
//!
//! A [`LabelSet`] names the labels, the columns they stand in, and what a blank or an uncertain
//! value means, since that choice changes every number downstream (protocol 1.1: CheXpert's blanks
//! became negatives; here a blank stays unknown unless the set says otherwise).
//! Nothing here may guess the meaning of a value that the set does not state.

mod values;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use values::{DASH, Meaning, PLUS, fold};
pub use values::{MAX_WORD_BYTES, MAX_WORDS, ValueWords};

/// Most labels that a set may have.
pub const MAX_LABELS: usize = 256;
/// Longest label name, bytes.
pub const MAX_LABEL_NAME_BYTES: usize = 128;
/// Largest label set or label map file, bytes.
pub const MAX_LABEL_SET_BYTES: usize = 1 << 20;

/// What an empty cell means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlankPolicy {
    /// Nobody looked or nobody said: the label is unknown for this image and left out of its numbers.
    #[default]
    Unknown,
    /// Not mentioned counts as absent (as published for CheXpert).
    Negative,
    /// The row is refused.
    Exclude,
}

/// What the value -1 means, and every word for undecided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UncertainPolicy {
    /// -1 is not a value of this set: the row is refused.
    #[default]
    Refuse,
    /// Uncertain counts as unknown.
    Unknown,
    /// Uncertain counts as absent ("U-Zeros").
    Negative,
    /// Uncertain counts as present ("U-Ones").
    Positive,
}

/// Why a label set or a label map cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LabelSetError {
    /// Not TOML, or not the fields of a label set or map.
    #[error("the label file is not valid: {0}")]
    Toml(String),
    /// The text is longer than [`MAX_LABEL_SET_BYTES`].
    #[error("the label file has {0} bytes; at most {MAX_LABEL_SET_BYTES} are read")]
    TooLarge(usize),
    /// No label, or more than [`MAX_LABELS`].
    #[error("the label set {name:?} has {count} labels; it needs 1 to {MAX_LABELS}")]
    Count {
        /// The set.
        name: String,
        /// How many labels it has.
        count: usize,
    },
    /// A name that is empty, too long, padded, not printable or used by a column of `cohort.csv`.
    #[error("the label name {0:?} cannot be used: it must be 1 to {MAX_LABEL_NAME_BYTES} printable bytes, without space at its ends, and none of the columns of cohort.csv ({columns}); rename it and give the old name under [columns]", columns = super::FIXED_COLUMNS.join(", "))]
    Name(String),
    /// One name twice.
    #[error("the label {0:?} stands twice in the set; remove one")]
    Twice(String),
    /// `blank_for` or `columns` speaks of a label that is not in the set.
    #[error("{field} names {label:?}, which is not a label of the set {name:?}")]
    Stranger {
        /// The field of the file.
        field: &'static str,
        /// The unknown label.
        label: String,
        /// The set.
        name: String,
    },
    /// A word under `[values]` that is blank, too long or has two meanings.
    #[error("[values] of the label set: the word {word:?} {problem}")]
    Word {
        /// The word.
        word: String,
        /// What is wrong.
        problem: String,
    },
    /// No column of the table fits a label.
    #[error(
        "no column for the label {label:?}; the table has: {columns}. Name the column under [columns] in the label file, or choose the labels with --labels-columns"
    )]
    NoColumn {
        /// The label.
        label: String,
        /// The table's columns.
        columns: String,
    },
    /// Several columns fit a label, or one column fits several labels.
    #[error("the column for the label {label:?} is not clear: {columns}; name it under [columns] in the label file")]
    Ambiguous {
        /// The label.
        label: String,
        /// The columns that fit.
        columns: String,
    },
    /// A group of the map is empty or names a label that the source does not have.
    #[error("the map to {target:?} needs the source label {source_label:?}, which is not among: {known}")]
    MapSource {
        /// The local label.
        target: String,
        /// The missing source label, empty for an empty group.
        source_label: String,
        /// The source labels.
        known: String,
    },
}

/// The labels of a study and how they are read from a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSet {
    /// Name of the set, printed on tables.
    pub name: String,
    /// The labels, in the order of every matrix of the study.
    pub labels: Vec<String>,
    /// Meaning of an empty cell.
    #[serde(default)]
    pub blank: BlankPolicy,
    /// Meaning of -1.
    #[serde(default)]
    pub uncertain: UncertainPolicy,
    /// Meaning of an empty cell for single labels, instead of `blank`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blank_for: BTreeMap<String, BlankPolicy>,
    /// Other names of a label's column, tried after the label's own name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Vec<String>>,
    /// What words mean; by default yes, no and their like in some languages.
    #[serde(default, skip_serializing_if = "ValueWords::is_default")]
    pub values: ValueWords,
}

/// The 14 labels of CheXpert, in the order of every published network (protocol 1.1).
const CHEXPERT: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// The 7 labels kept of HUM-CXR, in the order of the authors' code (protocol 1.2).
const HUM_CXR: [&str; 7] = ["Pleura", "Device", "PNX", "Cardiac", "Lung", "Bone", "Normal"];

impl LabelSet {
    /// A set with these labels, blanks unknown, -1 refused, standard words known. Call [`LabelSet::check`] before use.
    #[must_use]
    pub fn new(name: &str, labels: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
            blank: BlankPolicy::default(),
            uncertain: UncertainPolicy::default(),
            blank_for: BTreeMap::new(),
            columns: BTreeMap::new(),
            values: ValueWords::default(),
        }
    }

    /// CheXpert-14. A blank is a negative, as the authors trained and scored (protocol 1.1); -1 is
    /// unknown, because neither of the published readings (U-Ones, U-Zeros) is a fact. Its tables hold no words.
    #[must_use]
    pub fn chexpert() -> Self {
        Self {
            blank: BlankPolicy::Negative,
            uncertain: UncertainPolicy::Unknown,
            values: ValueWords::none(),
            ..Self::new("CheXpert-14", &CHEXPERT)
        }
    }

    /// HUM-CXR-7, the paper's local set. Blanks are unknown; its table holds no words.
    #[must_use]
    pub fn hum_cxr() -> Self {
        Self { values: ValueWords::none(), ..Self::new("HUM-CXR-7", &HUM_CXR) }
    }

    /// A ready-made set by its name: `chexpert`, `CheXpert-14`, `hum-cxr` or `HUM-CXR-7`.
    #[must_use]
    pub fn ready_made(name: &str) -> Option<Self> {
        match plain(name).as_str() {
            "chexpert" | "chexpert14" => Some(Self::chexpert()),
            "humcxr" | "humcxr7" => Some(Self::hum_cxr()),
            _ => None,
        }
    }

    /// The set made of these columns, blanks unknown (`--labels-columns A,B,C`).
    ///
    /// # Errors
    /// [`LabelSetError`] if the names cannot be labels.
    pub fn from_columns<S: AsRef<str>>(names: &[S]) -> Result<Self, LabelSetError> {
        let names: Vec<&str> = names.iter().map(|n| n.as_ref().trim()).collect();
        let set = Self::new("columns", &names);
        set.check()?;
        Ok(set)
    }

    /// Reads a set from TOML: `name`, `labels`, and optionally `blank`, `uncertain`, `[blank_for]`, `[columns]`, `[values]`.
    ///
    /// # Errors
    /// [`LabelSetError`] naming the field or label at fault.
    pub fn from_toml(text: &str) -> Result<Self, LabelSetError> {
        let set: Self = parse_toml(text)?;
        set.check()?;
        Ok(set)
    }

    /// Checks the rules that the fields cannot express: names, count, overrides.
    ///
    /// # Errors
    /// [`LabelSetError`] naming the label at fault.
    pub fn check(&self) -> Result<(), LabelSetError> {
        if self.labels.is_empty() || self.labels.len() > MAX_LABELS {
            return Err(LabelSetError::Count { name: self.name.clone(), count: self.labels.len() });
        }
        let mut seen = BTreeSet::new();
        for label in &self.labels {
            let fits = !label.is_empty()
                && label.len() <= MAX_LABEL_NAME_BYTES
                && label.trim() == label
                && !label.chars().any(char::is_control)
                && !super::FIXED_COLUMNS.contains(&label.as_str());
            if !fits {
                return Err(LabelSetError::Name(label.clone()));
            }
            if !seen.insert(label.as_str()) {
                return Err(LabelSetError::Twice(label.clone()));
            }
        }
        let named =
            [("blank_for", self.blank_for.keys().collect::<Vec<_>>()), ("columns", self.columns.keys().collect())];
        for (field, labels) in named {
            if let Some(stranger) = labels.into_iter().find(|l| !seen.contains(l.as_str())) {
                return Err(LabelSetError::Stranger { field, label: stranger.clone(), name: self.name.clone() });
            }
        }
        self.values.check()
    }

    /// What an empty cell of `label` means.
    #[must_use]
    pub fn blank_policy(&self, label: &str) -> BlankPolicy {
        self.blank_for.get(label).copied().unwrap_or(self.blank)
    }

    /// The column index of each label in a table with this header.
    ///
    /// A name that is equal to the letter wins; else names are compared without case, spaces and
    /// punctuation, so that `No_Finding` is found for `No Finding`.
    ///
    /// # Errors
    /// [`LabelSetError::NoColumn`] or [`LabelSetError::Ambiguous`].
    pub fn resolve(&self, header: &[String]) -> Result<Vec<usize>, LabelSetError> {
        let mut found: Vec<usize> = Vec::with_capacity(self.labels.len());
        for label in &self.labels {
            let aliases: &[String] = match self.columns.get(label) {
                Some(names) => names,
                None => &[],
            };
            let names: Vec<&str> = std::iter::once(label.as_str()).chain(aliases.iter().map(String::as_str)).collect();
            let mut hits = columns_named(header, &names);
            if hits.len() > 1 {
                // The label's own name comes before its aliases.
                let own = columns_named(header, &names[..1]);
                if own.len() == 1 {
                    hits = own;
                }
            }
            let show = |columns: &[usize]| columns.iter().map(|&c| header[c].as_str()).collect::<Vec<_>>().join(", ");
            match hits[..] {
                [] => {
                    return Err(LabelSetError::NoColumn { label: label.clone(), columns: header.join(", ") });
                }
                [one] if !found.contains(&one) => found.push(one),
                _ => return Err(LabelSetError::Ambiguous { label: label.clone(), columns: show(&hits) }),
            }
        }
        Ok(found)
    }
}

/// The columns that bear one of `names`: equal to the letter, else equal but for case and punctuation.
fn columns_named(header: &[String], names: &[&str]) -> Vec<usize> {
    let exact: Vec<usize> = (0..header.len()).filter(|&c| names.contains(&header[c].as_str())).collect();
    if !exact.is_empty() {
        return exact;
    }
    let loose: Vec<String> = names.iter().map(|n| plain(n)).filter(|n| !n.is_empty()).collect();
    (0..header.len()).filter(|&c| loose.contains(&plain(&header[c]))).collect()
}

/// A name without case, spaces and punctuation.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Reads TOML within [`MAX_LABEL_SET_BYTES`].
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, LabelSetError> {
    if text.len() > MAX_LABEL_SET_BYTES {
        return Err(LabelSetError::TooLarge(text.len()));
    }
    toml::from_str(text).map_err(|e| LabelSetError::Toml(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn ready_made_sets_are_valid_and_say_their_policy() {
        for name in ["chexpert", "HUM-CXR-7"] {
            LabelSet::ready_made(name).expect("ready-made").check().expect("valid");
        }
        assert_eq!(LabelSet::chexpert().labels.len(), 14);
        assert_eq!(LabelSet::chexpert().blank_policy("Edema"), BlankPolicy::Negative);
        assert_eq!(LabelSet::hum_cxr().blank_policy("PNX"), BlankPolicy::Unknown);
        assert!(LabelSet::ready_made("mimic").is_none());
    }

    #[test]
    fn toml_round_trip_and_refusals() {
        let text = "name = \"ours\"\nlabels = [\"Effusion\", \"Oedema\"]\nblank = \"negative\"\n\
                    [blank_for]\nOedema = \"exclude\"\n[columns]\nOedema = [\"edema_yn\"]\n";
        let set = LabelSet::from_toml(text).expect("valid");
        assert_eq!(set.blank_policy("Effusion"), BlankPolicy::Negative);
        assert_eq!(set.blank_policy("Oedema"), BlankPolicy::Exclude);
        let again = LabelSet::from_toml(&toml::to_string(&set).expect("serialises")).expect("valid");
        assert_eq!(set, again);
        assert_eq!(set.resolve(&header(&["image", "edema_yn", "effusion"])), Ok(vec![2, 1]));
        assert!(matches!(LabelSet::from_toml("name = \"x\"\nlabels = []"), Err(LabelSetError::Count { .. })));
        assert!(matches!(LabelSet::from_toml("nam = 3"), Err(LabelSetError::Toml(_))));
        assert_eq!(LabelSet::from_columns(&["A", "A"]), Err(LabelSetError::Twice("A".to_owned())));
        assert_eq!(LabelSet::from_columns(&["view"]), Err(LabelSetError::Name("view".to_owned())));
        let stranger = LabelSet::from_toml("name = \"x\"\nlabels = [\"A\"]\n[columns]\nB = [\"b\"]");
        assert!(matches!(stranger, Err(LabelSetError::Stranger { .. })));
    }

    #[test]
    fn the_words_of_a_set_survive_toml_and_are_checked() {
        let text = "name = \"ours\"\nlabels = [\"A\"]\n[values]\npositive = [\"Nachweis\"]\nunknown = [\"-\"]\n";
        let set = LabelSet::from_toml(text).expect("valid");
        assert_eq!((set.values.positive.as_slice(), set.values.standard), (&["Nachweis".to_owned()][..], true));
        for set in [set, LabelSet::chexpert(), LabelSet::hum_cxr(), LabelSet::new("plain", &["A"])] {
            assert_eq!(LabelSet::from_toml(&toml::to_string_pretty(&set).expect("serialises")).expect("valid"), set);
        }
        let strange = text.replace("unknown", "unknwon");
        assert!(matches!(LabelSet::from_toml(&strange), Err(LabelSetError::Toml(_))));
        let twice = text.replace("unknown = [\"-\"]", "negative = [\"nachweis\"]");
        assert!(matches!(LabelSet::from_toml(&twice), Err(LabelSetError::Word { .. })));
    }

    #[test]
    fn columns_are_found_by_letter_then_loosely_and_never_guessed() {
        let set = LabelSet::new("s", &["No Finding"]);
        assert_eq!(set.resolve(&header(&["no_finding", "No Finding"])), Ok(vec![1]));
        assert_eq!(set.resolve(&header(&["image", "no_finding"])), Ok(vec![1]));
        let twice = set.resolve(&header(&["no_finding", "NO FINDING"]));
        assert!(matches!(twice, Err(LabelSetError::Ambiguous { .. })));
        let none = set.resolve(&header(&["image", "Edema"])).expect_err("no such column");
        assert!(none.to_string().contains("image, Edema"), "{none}");
    }
}
