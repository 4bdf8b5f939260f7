//! A table of labels, with errors that name file, row and column.

use super::super::error::{PretrainError, Result};
use super::{Cell, MAX_NAME_BYTES};
use crate::cohort::ValueWords;
use crate::cohort::label_set::{Meaning, fold};
use crate::cohort::stored::quote;
use crate::cohort::table::{Table, TableRow, parse_table, read_bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// An open table.
pub(super) struct Sheet {
    file: String,
    table: Table,
    words: BTreeMap<String, Meaning>,
}

impl Sheet {
    pub(super) fn open(path: &Path, words: &ValueWords) -> Result<Self> {
        let file = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let table = parse_table(&file, &read_bounded(path)?)?;
        Ok(Self { file, table, words: words.meanings(false) })
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn header(&self) -> &[String] {
        &self.table.header
    }

    pub(super) fn rows(&self) -> &[TableRow] {
        &self.table.rows
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.table.warnings
    }

    /// The first of `names` that is a column.
    pub(super) fn column(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.table.header.iter().position(|h| h == name))
    }

    pub(super) fn needed(&self, names: &[&str], mend: &'static str) -> Result<usize> {
        self.column(names).ok_or_else(|| PretrainError::Column {
            file: self.file.clone(),
            name: names.join(" or "),
            columns: self.table.header.join(", "),
            mend,
        })
    }

    /// An error about one row.
    pub(super) fn fault(&self, row: &TableRow, problem: impl Into<String>) -> PretrainError {
        PretrainError::Row { file: self.file.clone(), row: row.row, problem: problem.into() }
    }

    /// The row, if it is whole.
    pub(super) fn whole(&self, row: &TableRow) -> Result<()> {
        match &row.fault {
            Some(fault) => Err(self.fault(row, format!("{fault}; correct or remove the row"))),
            None => Ok(()),
        }
    }

    /// A cell that must say something, within [`MAX_NAME_BYTES`].
    pub(super) fn name<'r>(&self, row: &'r TableRow, column: usize) -> Result<&'r str> {
        let text = row.cells.get(column).unwrap_or("").trim();
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            let problem = format!(
                "column {} is {}; fill it or remove the row",
                self.table.header[column],
                if text.is_empty() { "blank" } else { "too long" }
            );
            return Err(self.fault(row, problem));
        }
        Ok(text)
    }

    /// The file of a row, if it lies below the image folder: no table is a way to other files.
    pub(super) fn below(&self, row: &TableRow, images: &Path, file: PathBuf) -> Result<PathBuf> {
        let inner = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if file.strip_prefix(images).is_ok_and(|rest| rest.components().all(inner)) {
            return Ok(file);
        }
        let problem = format!(
            "{} does not lie below the image folder {}; give paths from there on",
            quote(&file.to_string_lossy()),
            images.display()
        );
        Err(self.fault(row, problem))
    }

    /// The cell of a label: 1, 0, -1, blank or a known word.
    pub(super) fn label(&self, row: &TableRow, column: usize) -> Result<Cell> {
        let text = row.cells.get(column).unwrap_or("").trim();
        if text.is_empty() {
            return Ok(Cell::Blank);
        }
        if let Some(meaning) = self.words.get(&fold(text)) {
            return Ok(match meaning {
                Meaning::Positive => Cell::Positive,
                Meaning::Negative => Cell::Negative,
                Meaning::Unknown => Cell::Blank,
                Meaning::Uncertain => Cell::Uncertain,
            });
        }
        let value = text.parse::<f64>().ok();
        let known = [(1.0, Cell::Positive), (0.0, Cell::Negative), (-1.0, Cell::Uncertain)];
        if let Some(&(_, cell)) = known.iter().find(|(number, _)| value == Some(*number)) {
            return Ok(cell);
        }
        let short: String = text.chars().take(40).collect();
        let column = &self.table.header[column];
        let problem = format!(
            "{column} is {short:?}; a label is 1, 0, -1 (uncertain), blank or a word that the label set explains"
        );
        Err(self.fault(row, problem))
    }
}

/// Refuses an image that comes twice: its labels could contradict each other, and it could fall into both parts.
#[derive(Default)]
pub(super) struct Once {
    seen: BTreeSet<String>,
}

impl Once {
    pub(super) fn check(&mut self, sheet: &Sheet, row: &TableRow, id: &str) -> Result<()> {
        if self.seen.insert(id.to_owned()) {
            return Ok(());
        }
        Err(sheet.fault(row, format!("the image {id} was already listed; keep one of its rows")))
    }
}
