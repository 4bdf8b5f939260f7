//! The cohort: which radiographs a study uses, of whom, with which labels, and what was refused.
//!
//! `labels.csv` and a folder of images become [`Cohort`] (`cohort.csv`) and its rejects
//! (`rejects.csv`, with a reason each): paper section 2.1, protocol 1.2. Every image of the folder and
//! every row of the table ends in exactly one of the two. Nothing here may print or touch a network.

pub mod blank;
pub mod duplicates;
pub mod ingest;
mod join;
pub mod label_map;
pub mod label_set;
pub mod labels;
pub mod pseudonym;
pub mod rules;
pub mod sheet;
pub mod source;
pub mod split;
pub(crate) mod stored;
mod stratify;
pub mod summary;
pub mod table;
pub mod view;

use std::path::PathBuf;

use thiserror::Error;

pub use blank::BlankRules;
pub use duplicates::{Copies, SharedPicture};
pub use ingest::{IngestOptions, Progress, Step, ingest};
pub use label_map::{BoundMap, LabelMap};
pub use label_set::{BlankPolicy, LabelSet, LabelSetError, UncertainPolicy, ValueWords};
pub use labels::{ColumnNames, KeyKind};
pub use pseudonym::pseudonym;
pub use sheet::sheet;
pub use split::{Part, Split, SplitError, SplitPlan, Unit, folds, split};
use stored::Cells;
pub use summary::summary;
pub use table::TableError;
pub use view::ViewFilter;

/// Columns of `cohort.csv` before the labels.
pub(crate) const FIXED_COLUMNS: [&str; 12] = [
    "image",
    "row",
    "patient",
    "view",
    "age_years",
    "sex",
    "manufacturer",
    "width",
    "height",
    "bits",
    "format",
    "sha256",
];

/// Columns of `rejects.csv`.
const REJECT_COLUMNS: [&str; 4] = ["item", "row", "stage", "reason"];

/// Whether a finding is present in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Absent.
    Negative,
    /// Present.
    Positive,
    /// Not read, not said, or uncertain: left out of every number of this label.
    Unknown,
}

impl Label {
    /// Present, absent, or nothing known.
    #[must_use]
    pub fn known(self) -> Option<bool> {
        match self {
            Self::Negative => Some(false),
            Self::Positive => Some(true),
            Self::Unknown => None,
        }
    }

    /// `0`, `1` or blank, as in `cohort.csv`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "0",
            Self::Positive => "1",
            Self::Unknown => "",
        }
    }
}

/// One radiograph of the cohort.
#[derive(Clone, Debug, PartialEq)]
pub struct CohortImage {
    /// Path below the image folder, with `/` between its parts.
    pub id: String,
    /// Line of the labels table that gave the labels, the header being line 1.
    pub row: u64,
    /// Patient, pseudonymised if a key was given: the unit of splits and of resampling.
    pub patient: String,
    /// Projection as the table or the DICOM header names it.
    pub view: Option<String>,
    /// Age in years.
    pub age_years: Option<f32>,
    /// `M`, `F` or `O`.
    pub sex: Option<char>,
    /// Maker of the equipment, from the DICOM header.
    pub manufacturer: Option<String>,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits that a stored value has.
    pub bits: u32,
    /// File format, in words.
    pub format: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// One value per label of the cohort.
    pub labels: Vec<Label>,
}

/// At which step an item was refused. All but [`Stage::Row`] refuse a file of the image folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A row of the table: a bad value, a duplicate, no such image.
    Row,
    /// A file without a usable row.
    Labels,
    /// A file that cannot be read as an image.
    Read,
    /// Not a frontal chest radiograph.
    View,
    /// The same picture as another one.
    Duplicate,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 5] = [Self::Row, Self::Labels, Self::Read, Self::View, Self::Duplicate];

    /// What it means, for people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Row => "rows of the table with a bad value, a duplicate or no image",
            Self::Labels => "files without a usable row in the table",
            Self::Read => "files that cannot be read as a radiograph",
            Self::View => "not a frontal chest radiograph",
            Self::Duplicate => "copies of another picture",
        }
    }

    /// Its name in `rejects.csv`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Labels => "labels",
            Self::Read => "read",
            Self::View => "view",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Something that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The file below the image folder, or for [`Stage::Row`] the row's file name as written.
    pub item: String,
    /// The table row that is refused, or that belonged to the refused file.
    pub row: Option<u64>,
    /// The step.
    pub stage: Stage,
    /// What is wrong and what to do, for people.
    pub reason: String,
}

/// The images of a study, those refused, and what people should know about both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cohort {
    /// The labels, in the order of every image's `labels`.
    pub label_names: Vec<String>,
    /// Sorted by id.
    pub images: Vec<CohortImage>,
    /// Sorted by item, then row.
    pub rejects: Vec<Reject>,
    /// Sentences; not part of the CSV files.
    pub warnings: Vec<String>,
}

/// Why there is no cohort.
#[derive(Debug, Error)]
pub enum CohortError {
    /// No label set was named and none is obvious.
    #[error(
        "{file}: the columns are neither HUM-CXR-7's nor CheXpert-14's labels; name the label columns with \
         --labels-columns A,B,C or give --label-set FILE.toml (columns found: {columns})"
    )]
    NoLabelSet {
        /// The table.
        file: String,
        /// Its header.
        columns: String,
    },
    /// The labels table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The label set does not fit itself or the table.
    #[error(transparent)]
    LabelSet(#[from] LabelSetError),
    /// No column or more than one fits what is asked for.
    #[error("{table}: {problem}; its columns are: {columns}. Name it with {option}")]
    Column {
        /// The table's file name.
        table: String,
        /// What was looked for.
        problem: String,
        /// The header.
        columns: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// The image folder cannot be listed.
    #[error("cannot list the image folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More files than the limit.
    #[error("{path} holds more than {limit} files; point to the folder of the radiographs")]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// `cohort.csv`, `rejects.csv` or `split.csv` was changed so that it cannot be read back.
    #[error("{file} row {row}: {problem}; restore the file or run the ingest again")]
    Stored {
        /// Which file.
        file: &'static str,
        /// Line, the header being line 1.
        row: u64,
        /// What is wrong.
        problem: String,
    },
}

impl Cohort {
    /// The text of `cohort.csv`: the fixed columns, then one column per label (blank is unknown).
    #[must_use]
    pub fn to_csv(&self) -> String {
        let names = FIXED_COLUMNS.iter().map(|&c| c.to_owned()).chain(self.label_names.iter().cloned());
        let header: Vec<String> = names.collect();
        let rows = self.images.iter().map(|image| {
            let mut row = vec![
                image.id.clone(),
                image.row.to_string(),
                image.patient.clone(),
                image.view.clone().unwrap_or_default(),
                image.age_years.map(|a| a.to_string()).unwrap_or_default(),
                image.sex.map(String::from).unwrap_or_default(),
                image.manufacturer.clone().unwrap_or_default(),
                image.width.to_string(),
                image.height.to_string(),
                image.bits.to_string(),
                image.format.clone(),
                image.sha256.clone(),
            ];
            row.extend(image.labels.iter().map(|l| l.as_str().to_owned()));
            row
        });
        table::to_csv(std::iter::once(header).chain(rows))
    }

    /// The text of `rejects.csv`.
    #[must_use]
    pub fn rejects_to_csv(&self) -> String {
        let header: Vec<String> = REJECT_COLUMNS.iter().map(|&c| c.to_owned()).collect();
        let rows = self.rejects.iter().map(|reject| {
            let row = reject.row.map(|r| r.to_string()).unwrap_or_default();
            vec![reject.item.clone(), row, reject.stage.as_str().to_owned(), reject.reason.clone()]
        });
        table::to_csv(std::iter::once(header).chain(rows))
    }

    /// Reads `cohort.csv` and `rejects.csv` back. Warnings are not stored in them.
    ///
    /// # Errors
    /// [`CohortError::Stored`] naming the file, row and column at fault.
    pub fn from_csv(cohort: &str, rejects: &str) -> Result<Self, CohortError> {
        const FILE: &str = "cohort.csv";
        let content = table::parse_stored(FILE, cohort)?;
        let fixed = FIXED_COLUMNS.len();
        let stored = |row, problem| CohortError::Stored { file: FILE, row, problem };
        if content.header.get(..fixed).is_none_or(|h| h.iter().ne(FIXED_COLUMNS.iter())) {
            return Err(stored(1, format!("it must begin with the columns {}", FIXED_COLUMNS.join(","))));
        }
        let label_names = content.header[fixed..].to_vec();
        let mut images = Vec::with_capacity(content.rows.len());
        for row in &content.rows {
            let cells = Cells { file: FILE, row, header: &content.header };
            let mut labels = Vec::with_capacity(label_names.len());
            for column in fixed..content.header.len() {
                labels.push(match cells.text(column)? {
                    "0" => Label::Negative,
                    "1" => Label::Positive,
                    "" => Label::Unknown,
                    _ => return Err(cells.wrong(column)),
                });
            }
            images.push(CohortImage {
                id: cells.text(0)?.to_owned(),
                row: cells.parse(1)?,
                patient: cells.text(2)?.to_owned(),
                view: cells.optional(3)?,
                age_years: cells.optional(4)?,
                sex: cells.optional(5)?,
                manufacturer: cells.optional(6)?,
                width: cells.parse(7)?,
                height: cells.parse(8)?,
                bits: cells.parse(9)?,
                format: cells.text(10)?.to_owned(),
                sha256: cells.text(11)?.to_owned(),
                labels,
            });
        }
        if let Some(pair) = images.windows(2).position(|pair| pair[0].id >= pair[1].id) {
            let problem = format!("image {:?} is out of order or stands twice", images[pair + 1].id);
            return Err(stored(content.rows[pair + 1].row, problem));
        }
        Ok(Self { label_names, images, rejects: rejects_from_csv(rejects)?, warnings: Vec::new() })
    }

    /// The images as the items of a split.
    #[must_use]
    pub fn items(&self) -> Vec<split::Item<'_>> {
        self.images
            .iter()
            .map(|image| split::Item { id: &image.id, patient: &image.patient, labels: &image.labels })
            .collect()
    }

    /// Number of different patients.
    #[must_use]
    pub fn patients(&self) -> usize {
        let mut patients: Vec<&str> = self.images.iter().map(|i| i.patient.as_str()).collect();
        patients.sort_unstable();
        patients.dedup();
        patients.len()
    }

    /// The patient of each of these images.
    ///
    /// # Panics
    /// If there is no image of such a number.
    pub(crate) fn patients_of(&self, rows: &[usize]) -> Vec<&str> {
        rows.iter().map(|&row| self.images[row].patient.as_str()).collect()
    }

    /// Positives, negatives and unknowns of a label, in images.
    ///
    /// # Panics
    /// If there is no label `index`.
    #[must_use]
    pub fn label_counts(&self, index: usize) -> (usize, usize, usize) {
        assert!(index < self.label_names.len(), "no label {index}");
        let count = |wanted| self.images.iter().filter(|i| i.labels[index] == wanted).count();
        (count(Label::Positive), count(Label::Negative), count(Label::Unknown))
    }
}

fn rejects_from_csv(text: &str) -> Result<Vec<Reject>, CohortError> {
    const FILE: &str = "rejects.csv";
    let content = table::parse_stored(FILE, text)?;
    if content.header.iter().ne(REJECT_COLUMNS.iter()) {
        let problem = format!("its columns must be {}", REJECT_COLUMNS.join(","));
        return Err(CohortError::Stored { file: FILE, row: 1, problem });
    }
    let mut rejects = Vec::with_capacity(content.rows.len());
    for row in &content.rows {
        let cells = Cells { file: FILE, row, header: &content.header };
        let name = cells.text(2)?;
        let stage = Stage::ALL.into_iter().find(|s| s.as_str() == name).ok_or_else(|| cells.wrong(2))?;
        let reason = cells.text(3)?.to_owned();
        rejects.push(Reject { item: cells.text(0)?.to_owned(), row: cells.optional(1)?, stage, reason });
    }
    Ok(rejects)
}

#[cfg(test)]
pub(crate) mod tests;
