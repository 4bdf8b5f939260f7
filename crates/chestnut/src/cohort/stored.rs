//! Reading back what the study wrote: `cohort.csv`, `rejects.csv`, `split.csv`.
//!
//! People edit these files. What cannot be read back is refused with file, row, column and value;
//! nothing is guessed. The tables themselves are parsed in `table`, under its limits.

use std::str::FromStr;

use super::CohortError;
use super::table::TableRow;

/// The cells of one row of a stored table, with errors that name the place.
pub(crate) struct Cells<'a> {
    pub(crate) file: &'static str,
    pub(crate) row: &'a TableRow,
    pub(crate) header: &'a [String],
}

impl<'a> Cells<'a> {
    pub(crate) fn text(&self, column: usize) -> Result<&'a str, CohortError> {
        if let Some(fault) = &self.row.fault {
            return Err(CohortError::Stored { file: self.file, row: self.row.row, problem: fault.clone() });
        }
        self.row.cells.get(column).ok_or_else(|| self.wrong(column))
    }

    pub(crate) fn parse<T: FromStr>(&self, column: usize) -> Result<T, CohortError> {
        self.text(column)?.parse().map_err(|_| self.wrong(column))
    }

    pub(crate) fn optional<T: FromStr>(&self, column: usize) -> Result<Option<T>, CohortError> {
        if self.text(column)?.is_empty() { Ok(None) } else { self.parse(column).map(Some) }
    }

    pub(crate) fn wrong(&self, column: usize) -> CohortError {
        let name = self.header.get(column).map_or("?", String::as_str);
        let value = self.row.cells.get(column).unwrap_or("");
        let problem = format!("column {name}: the value {} does not belong there", quote(value));
        CohortError::Stored { file: self.file, row: self.row.row, problem }
    }
}

/// A value from outside, made short and printable for a message.
pub(crate) fn quote(value: &str) -> String {
    const LONGEST: usize = 60;
    if value.chars().nth(LONGEST).is_none() {
        return format!("{value:?}");
    }
    let short: String = value.chars().take(LONGEST).collect();
    format!("{short:?}...")
}
