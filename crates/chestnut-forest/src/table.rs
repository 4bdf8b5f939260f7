//! Features and labels as the learners read them.

use thiserror::Error;

/// Most labels that one forest can learn together.
pub const MAX_OUTPUTS: usize = 32;
/// Most rows: row numbers and places are kept in 32 bits, sums of squares over rows in 53.
pub const MAX_ROWS: usize = 1 << 24;
/// Most values of a feature table: 8 GiB, and up to 24 more when sorted for trees.
pub const MAX_VALUES: usize = 1 << 31;

/// A table that no tree can be grown on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TableError {
    /// No rows, no features or no labels.
    #[error("the table has {rows} rows, {features} features and {outputs} labels; each must be at least 1")]
    Empty {
        /// Rows.
        rows: usize,
        /// Features.
        features: usize,
        /// Labels.
        outputs: usize,
    },
    /// Lengths do not agree.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
    /// Above a named limit.
    #[error("{what}: {found} is more than the {limit} that this version handles")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A NaN or an infinity.
    #[error(
        "row {row}, feature {feature} is {value}; features must be finite: was this image embedded with damaged weights?"
    )]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// Feature, from 0.
        feature: usize,
        /// The value as text.
        value: String,
    },
    /// Nothing to learn from.
    #[error("label {output} has no known value in any row; leave it out")]
    NoKnownValue {
        /// Label, from 0.
        output: usize,
    },
}

/// Features `[row][feature]`, f32, all finite.
#[derive(Clone, Debug)]
pub struct Features {
    values: Vec<f32>,
    rows: usize,
    width: usize,
}

impl Features {
    /// Checks and wraps a row-major table of `width` columns.
    ///
    /// # Errors
    /// [`TableError`] if it is empty, ragged, too large or holds a value that is not finite.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, TableError> {
        if width == 0 || values.is_empty() {
            let rows = values.len().checked_div(width).unwrap_or(0);
            return Err(TableError::Empty { rows, features: width, outputs: 1 });
        }
        if values.len() > MAX_VALUES {
            return Err(TableError::TooLarge { what: "feature values", found: values.len(), limit: MAX_VALUES });
        }
        let rows = values.len() / width;
        if rows * width != values.len() {
            return Err(TableError::Length {
                what: "the feature table",
                found: values.len(),
                expected: (rows + 1) * width,
            });
        }
        if rows > MAX_ROWS {
            return Err(TableError::TooLarge { what: "rows", found: rows, limit: MAX_ROWS });
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(TableError::NotFinite { row: i / width, feature: i % width, value: values[i].to_string() });
        }
        Ok(Self { values, rows, width })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    /// The rows named by `rows`, in that order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * self.width);
        rows.iter().for_each(|&r| values.extend_from_slice(self.row(r)));
        Self { values, rows: rows.len(), width: self.width }
    }

    /// Columns of `self` and then of `other`, row by row: several networks' embeddings as one.
    ///
    /// # Errors
    /// [`TableError::Length`] if the row counts differ.
    pub fn beside(&self, other: &Self) -> Result<Self, TableError> {
        if self.rows != other.rows {
            return Err(TableError::Length { what: "the second table's rows", found: other.rows, expected: self.rows });
        }
        let width = self.width + other.width;
        let mut values = Vec::with_capacity(self.rows * width);
        for i in 0..self.rows {
            values.extend_from_slice(self.row(i));
            values.extend_from_slice(other.row(i));
        }
        Ok(Self { values, rows: self.rows, width })
    }
}

/// Labels `[row][output]`: positive, negative or unknown, as bit sets per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    positive: Vec<u32>,
    known: Vec<u32>,
    outputs: usize,
}

impl Labels {
    /// Wraps a row-major table; `None` is unknown.
    ///
    /// # Errors
    /// [`TableError`] if it is empty, ragged, or has more than [`MAX_OUTPUTS`] labels.
    pub fn new(values: &[Option<bool>], outputs: usize) -> Result<Self, TableError> {
        if outputs == 0 || values.is_empty() {
            return Err(TableError::Empty { rows: 0, features: 1, outputs });
        }
        if outputs > MAX_OUTPUTS {
            return Err(TableError::TooLarge { what: "labels", found: outputs, limit: MAX_OUTPUTS });
        }
        if !values.len().is_multiple_of(outputs) {
            let expected = (values.len() / outputs + 1) * outputs;
            return Err(TableError::Length { what: "the label table", found: values.len(), expected });
        }
        let bits = |row: &[Option<bool>], want: fn(&Option<bool>) -> bool| {
            row.iter().enumerate().fold(0_u32, |b, (k, v)| b | (u32::from(want(v)) << k))
        };
        Ok(Self {
            positive: values.chunks(outputs).map(|r| bits(r, |v| *v == Some(true))).collect(),
            known: values.chunks(outputs).map(|r| bits(r, Option::is_some)).collect(),
            outputs,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.positive.len()
    }

    /// Number of labels.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// One value.
    #[must_use]
    pub fn get(&self, row: usize, output: usize) -> Option<bool> {
        (self.known[row] >> output & 1 == 1).then_some(self.positive[row] >> output & 1 == 1)
    }

    /// Bits of the positive labels of a row.
    pub(crate) fn positive(&self, row: usize) -> u32 {
        self.positive[row]
    }

    /// Bits of the known labels of a row.
    pub(crate) fn known(&self, row: usize) -> u32 {
        self.known[row]
    }

    /// True if every value is known.
    pub(crate) fn complete(&self) -> bool {
        let all = u32::MAX >> (32 - self.outputs);
        self.known.iter().all(|&k| k == all)
    }

    /// The rows named by `rows`, in that order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            positive: rows.iter().map(|&r| self.positive[r]).collect(),
            known: rows.iter().map(|&r| self.known[r]).collect(),
            outputs: self.outputs,
        }
    }

    /// One label alone, for learners with one output.
    #[must_use]
    pub fn single(&self, output: usize) -> Self {
        let bit = |bits: &Vec<u32>| bits.iter().map(|b| b >> output & 1).collect();
        Self { positive: bit(&self.positive), known: bit(&self.known), outputs: 1 }
    }
}
