//! Public and own collections as one kind of list: an image file, its patient, a cell per label.
//!
//! Each collection has a reader ([`csv`], [`chexpert`], [`nih14`]) that knows its table and its folders and nothing of
//! training. What a blank or uncertain cell becomes is decided later (`targets`), so that one list serves all policies.
//! A value that is no label stops the run with its row: half a million guesses would end in the weights.

pub mod chexpert;
pub mod csv;
pub mod nih14;
mod sheet;

use super::error::{PretrainError, Result};
use crate::cohort::table::read_bounded;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest patient id or image path, bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// What a table says of one label on one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Blank,
    /// The reader could not decide (-1).
    Uncertain,
    /// Absent (0).
    Negative,
    /// Present (1).
    Positive,
}

/// The part that a table's own split column gives an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To judge by.
    Validation,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The path as the table has it.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// Whose it is.
    pub patient: String,
    /// Its part, if the table says so.
    pub part: Option<Part>,
    /// One per label of the set.
    pub cells: Vec<Cell>,
}

/// A collection of labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingSet {
    /// Name for records: `csv`, `chexpert`, `nih14`.
    pub name: String,
    /// The labels, in the order of the network's outputs.
    pub labels: Vec<String>,
    /// The images, in the table's order.
    pub samples: Vec<Sample>,
    /// What people should know: rows left out, and why.
    pub notes: Vec<String>,
}

/// Projections to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// AP and PA.
    #[default]
    Frontal,
    /// Postero-anterior only.
    Pa,
    /// Antero-posterior only.
    Ap,
    /// All, lateral films too.
    All,
}

impl TrainingSet {
    /// Leaves out all images of the patients in `file` (one id a line, `#` begins a comment); gives their number.
    ///
    /// # Errors
    /// If the file cannot be read, is not text, or names nobody of this set: then it is probably another set's list.
    pub fn exclude_patients(&mut self, file: &Path) -> Result<usize> {
        let bytes = read_bounded(file)?;
        let text = String::from_utf8(bytes).map_err(|_| PretrainError::file(file, "is not UTF-8 text"))?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let wanted: BTreeSet<&str> = lines.filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let known: BTreeSet<&str> = self.samples.iter().map(|s| s.patient.as_str()).collect();
        let found = wanted.iter().filter(|p| known.contains(*p)).count();
        if found == 0 {
            let problem = "names no patient of this set; give one patient id a line, as the table writes them";
            return Err(PretrainError::file(file, problem));
        }
        let before = self.samples.len();
        self.samples.retain(|s| !wanted.contains(s.patient.as_str()));
        let images = before - self.samples.len();
        self.notes.push(format!(
            "{images} images of {found} excluded patients left out; {} ids of the list are not in this set",
            wanted.len() - found
        ));
        Ok(images)
    }

    /// Checks that there is something to learn and that the table's own split keeps patients whole (design rule 1).
    ///
    /// # Errors
    /// [`PretrainError::Request`] saying what is wrong.
    pub fn check(&self) -> Result<()> {
        if self.samples.is_empty() {
            return Err(PretrainError::Request(
                "no image is left to train on; look at the view filter, the exclusions and the table".into(),
            ));
        }
        let of = |part: Part| -> BTreeSet<&str> {
            self.samples.iter().filter(|s| s.part == Some(part)).map(|s| s.patient.as_str()).collect()
        };
        let (train, validation) = (of(Part::Train), of(Part::Validation));
        let both = train.intersection(&validation).count();
        if both > 0 {
            return Err(PretrainError::Request(format!(
                "the split column puts images of {both} patients into both parts; give each patient one part, or leave \
                 the column out and let the patients be dealt"
            )));
        }
        Ok(())
    }
}
