//! What experts outlined: masks, boxes and polygons of findings, from the files that people have (paper section 2.5).
//!
//! | what | how | code |
//! |---|---|---|
//! | masks | a folder of `<image>_<label>.png`, or a table image, label, file | `png_masks` |
//! | boxes | a table image, label, x, y and width, height or a second corner | `boxes_csv` |
//! | COCO | run lengths per image and label (CheXlocalize), or a COCO file | `json`, `coco_rle` |
//! | polygons | a table image, label, points `x y;x y`, or JSON | `polygons`, `json` |
//!
//! Coordinates are continuous: the image spans 0 to its width, pixel `i` spans `i` to `i + 1`, and it is inside if its
//! centre is. All that one file says of one label on one image is one [`ExpertRegion`], the union of its parts, at the
//! original image size. What does not fit is said in [`Read::problems`] and never stops the rest.

mod boxes_csv;
mod coco_rle;
mod collector;
mod json;
mod known;
mod png_masks;
mod polygons;
mod runs;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub(super) use known::without_ending;
pub use known::{Known, KnownImage};
pub(super) use png_masks::inside as mask_pixels;

use super::Mask;
use crate::cohort::TableError;
use crate::cohort::label_set::plain;
use crate::cohort::table::{parse_table, read_bounded};
use collector::Collector;
use runs::Runs;

/// Most mask files of a folder.
pub const MAX_MASK_FILES: usize = 200_000;
/// Largest JSON file, bytes.
pub const MAX_JSON_BYTES: usize = 64 << 20;
/// Most points of one polygon.
pub const MAX_POINTS: usize = 100_000;
/// Most runs of pixels of all regions together (8 bytes each); above it further items are refused.
pub const MAX_RUNS: usize = 64_000_000;
/// Most messages of each kind; those beyond are counted.
pub const MAX_MESSAGES: usize = 1000;

/// Names of the column that names the image, most telling first; without case and punctuation.
const IMAGE_COLUMNS: [&str; 9] =
    ["image", "imageid", "imageindex", "imagename", "imagefile", "imagepath", "filename", "dicomid", "patientid"];
/// Names of the column that names the label.
const LABEL_COLUMNS: [&str; 9] =
    ["label", "finding", "findinglabel", "structure", "class", "classname", "category", "pathology", "labelname"];
/// Names of the column that names a mask file.
const FILE_COLUMNS: [&str; 5] = ["mask", "maskfile", "maskpath", "file", "segmentation"];
/// Names of the column that holds a polygon.
const POINT_COLUMNS: [&str; 4] = ["points", "polygon", "contour", "vertices"];

/// What one source says of one label on one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertRegion {
    /// Path of the image below the image folder, as the study names it.
    pub image: String,
    /// Label of the study.
    pub label: String,
    /// Columns of the original image.
    pub width: usize,
    /// Rows of the original image.
    pub height: usize,
    /// Masks, boxes or polygons of which it is the union.
    pub parts: usize,
    runs: Runs,
}

impl ExpertRegion {
    /// Number of pixels inside, at least 1.
    #[must_use]
    pub fn area(&self) -> usize {
        self.runs.area()
    }

    /// The region as a mask of the original image's size.
    #[must_use]
    pub fn mask(&self) -> Mask {
        Mask { width: self.width, height: self.height, inside: self.runs.inside(self.width * self.height) }
    }
}

/// What was found in a file or folder of experts' outlines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// In the order of the study's images and labels; one per image and label.
    pub regions: Vec<ExpertRegion>,
    /// What could not be used and why, one sentence each.
    pub problems: Vec<String>,
    /// What was assumed or left out on purpose, one sentence each.
    pub notes: Vec<String>,
}

/// Why nothing of a file or folder can be used.
#[derive(Debug, Error)]
pub enum ExpertError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the columns of masks, boxes or polygons.
    #[error(
        "{name} has no columns for experts' outlines: it needs image and label, and either file (a mask), or x, y, \
         width, height, or x1, y1, x2, y2, or points; its columns are: {columns}"
    )]
    Columns {
        /// The table.
        name: String,
        /// Its header.
        columns: String,
    },
    /// Not JSON, or JSON of another kind.
    #[error(
        "{name} is not a JSON file of outlines ({reason}); it must be a COCO file, or run lengths or polygons by image \
         and label as CheXlocalize gives them"
    )]
    Json {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Above [`MAX_JSON_BYTES`] or [`MAX_MASK_FILES`].
    #[error("{name} has {found} {what}; at most {limit} are read: split it")]
    TooMany {
        /// File or folder.
        name: String,
        /// Of what there is too much.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A renaming to a label that the study does not have.
    #[error("{there:?} is to mean {here:?}, but the study has no such label; its labels are: {labels}")]
    Renamed {
        /// Name in the experts' file.
        there: String,
        /// Label asked for.
        here: String,
        /// Labels of the study.
        labels: String,
    },
}

/// Reads a folder of masks, a table or a JSON file; which of them it is follows from its content.
///
/// # Errors
/// [`ExpertError`] if nothing of it can be used. A single bad item is one of [`Read::problems`] instead.
pub fn read(path: &Path, known: &Known) -> Result<Read, ExpertError> {
    let mut collector = Collector::new(known);
    let about = std::fs::metadata(path).map_err(|source| ExpertError::Io { path: path.to_owned(), source })?;
    if about.is_dir() {
        png_masks::read_folder(path, &mut collector)?;
        return Ok(collector.finish());
    }
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy()).into_owned();
    let content = read_bounded(path)?;
    let text = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&content);
    match text.trim_ascii_start().first() {
        Some(b'{' | b'[') => json::read(&name, text, &mut collector)?,
        _ => read_table(path, &name, &content, &mut collector)?,
    }
    Ok(collector.finish())
}

fn read_table(path: &Path, name: &str, content: &[u8], collector: &mut Collector<'_>) -> Result<(), ExpertError> {
    let table = parse_table(name, content)?;
    table.warnings.iter().for_each(|warning| collector.note(warning.clone()));
    let find = |names: &[&str]| column(&table.header, names);
    let unfit = || ExpertError::Columns { name: name.to_owned(), columns: table.header.join(", ") };
    let (Some(image), Some(label)) = (find(&IMAGE_COLUMNS), find(&LABEL_COLUMNS)) else { return Err(unfit()) };
    let place = |row: u64| format!("{name} row {row}");
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        match &row.fault {
            Some(fault) => collector.problem(format!("{}: {fault}", place(row.row))),
            None => rows.push(Row { place: place(row.row), image, label, cells: &row.cells }),
        }
    }
    if let Some(points) = find(&POINT_COLUMNS) {
        polygons::read_rows(&rows, points, collector);
    } else if let Some(columns) = boxes_csv::BoxColumns::find(&table.header) {
        boxes_csv::read_rows(name, &rows, columns, table.delimiter != b',', collector);
    } else if let Some(file) = find(&FILE_COLUMNS) {
        png_masks::read_rows(path, &rows, file, collector);
    } else {
        return Err(unfit());
    }
    Ok(())
}

/// A row of a table that can be used: where it stands, and what it is about.
struct Row<'a> {
    place: String,
    /// Column of the image's name.
    image: usize,
    /// Column of the label.
    label: usize,
    cells: &'a csv::StringRecord,
}

impl Row<'_> {
    /// Image and label of the study, if it has them.
    fn target(&self, collector: &mut Collector<'_>) -> Option<(usize, usize)> {
        collector.target(self.cell(self.image), self.cell(self.label))
    }

    fn cell(&self, column: usize) -> &str {
        self.cells.get(column).unwrap_or("").trim()
    }
}

/// The first column that bears one of `names`, which are given without case and punctuation.
fn column(header: &[String], names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| header.iter().position(|h| plain(h) == *name))
}

#[cfg(test)]
mod tests;
