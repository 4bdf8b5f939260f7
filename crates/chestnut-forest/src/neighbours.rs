//! k nearest neighbours on embeddings: a head without training, and the list of similar cases.
//!
//! The probability of a label is the share of positives among the k nearest training rows in which it is known (all of
//! them if fewer are). Cosine or L1 distance; the authors' code also tried k = 10 with L1 (protocol 6). Brute force:
//! every training row is compared, which for cohorts of this size is faster than any index. Equal distances go to the
//! earlier row, so results do not depend on threads.

use crate::table::{Features, Labels, TableError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How far two embeddings are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// 1 - cos of the angle, 0 to 2; a row of zeros is at 1 from everything.
    #[default]
    Cosine,
    /// Sum of absolute differences.
    L1,
}

/// Why there are no neighbours to be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NeighboursError {
    /// The tables.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Another number of features than the training rows have.
    #[error("the training rows have {expected} features and the new row {found}; is it another network's embedding?")]
    Width {
        /// Features given.
        found: usize,
        /// Features of the training rows.
        expected: usize,
    },
    /// k out of range.
    #[error("k = {k} neighbours among {rows} training rows is not possible; it must be 1 to {rows}")]
    Count {
        /// As given.
        k: usize,
        /// Training rows.
        rows: usize,
    },
}

/// Training rows to compare new rows with.
#[derive(Clone, Debug)]
pub struct Neighbours {
    features: Features,
    labels: Labels,
    k: usize,
    distance: Distance,
    /// `[row]`: Euclidean lengths.
    lengths: Vec<f64>,
}

impl Neighbours {
    /// Keeps the training rows; `k` neighbours decide.
    ///
    /// # Errors
    /// [`NeighboursError`] for tables that do not match, a label without any known value, or an impossible `k`.
    pub fn new(features: Features, labels: Labels, k: usize, distance: Distance) -> Result<Self, NeighboursError> {
        let rows = features.rows();
        if labels.rows() != rows {
            return Err(TableError::Length { what: "the label table", found: labels.rows(), expected: rows }.into());
        }
        if k == 0 || k > rows {
            return Err(NeighboursError::Count { k, rows });
        }
        if let Some(output) = (0..labels.outputs()).find(|&o| (0..rows).all(|r| labels.get(r, o).is_none())) {
            return Err(TableError::NoKnownValue { output }.into());
        }
        let lengths = (0..rows).map(|r| length(features.row(r))).collect();
        Ok(Self { features, labels, k, distance, lengths })
    }

    /// Probability of each label, `[row][output]`.
    ///
    /// # Errors
    /// [`NeighboursError::Width`].
    pub fn predict(&self, features: &Features) -> Result<Vec<f64>, NeighboursError> {
        self.check_width(features.width())?;
        let outputs = self.labels.outputs();
        let mut out = vec![0.0; features.rows() * outputs];
        out.par_chunks_mut(outputs).enumerate().for_each(|(r, out)| {
            let nearest = self.ordered(features.row(r));
            for (k, o) in out.iter_mut().enumerate() {
                let votes = nearest.iter().filter_map(|&(_, row)| self.labels.get(row as usize, k)).take(self.k);
                let (positive, known) = votes.fold((0_u32, 0_u32), |(p, n), label| (p + u32::from(label), n + 1));
                // `new` made sure that each label is known somewhere.
                *o = f64::from(positive) / f64::from(known);
            }
        });
        Ok(out)
    }

    /// The `count` training rows nearest to `row` (all of them if there are fewer) with their distances, nearest first.
    ///
    /// # Errors
    /// [`NeighboursError::Width`], or [`TableError::NotFinite`] for a NaN or an infinity.
    pub fn neighbours(&self, row: &[f32], count: usize) -> Result<Vec<(usize, f64)>, NeighboursError> {
        self.check_width(row.len())?;
        if let Some(feature) = row.iter().position(|v| !v.is_finite()) {
            return Err(TableError::NotFinite { row: 0, feature, value: row[feature].to_string() }.into());
        }
        Ok(self.ordered(row).into_iter().take(count).map(|(distance, r)| (r as usize, distance)).collect())
    }

    fn check_width(&self, found: usize) -> Result<(), NeighboursError> {
        let expected = self.features.width();
        if found == expected { Ok(()) } else { Err(NeighboursError::Width { found, expected }) }
    }

    /// All training rows, nearest first.
    fn ordered(&self, row: &[f32]) -> Vec<(f64, u32)> {
        let own = length(row);
        let mut all: Vec<(f64, u32)> = (0..self.features.rows())
            .map(|r| {
                let other = self.features.row(r);
                let distance = match self.distance {
                    Distance::L1 => sum(row, other, |a, b| (a - b).abs()),
                    Distance::Cosine if own == 0.0 || self.lengths[r] == 0.0 => 1.0,
                    Distance::Cosine => (1.0 - sum(row, other, |a, b| a * b) / (own * self.lengths[r])).clamp(0.0, 2.0),
                };
                (distance, r as u32)
            })
            .collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all
    }
}

fn length(row: &[f32]) -> f64 {
    sum(row, row, |a, b| a * b).sqrt()
}

/// Sum over the features in f64 and eight strands, which the compiler can keep in vector registers.
#[inline]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    let tail: f64 = rest.map(|(&x, &y)| term(f64::from(x), f64::from(y))).sum();
    let mut strands = [0.0; 8];
    for (x, y) in chunks_a.zip(chunks_b) {
        strands.iter_mut().zip(x.iter().zip(y)).for_each(|(s, (&x, &y))| *s += term(f64::from(x), f64::from(y)));
    }
    strands.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Features {
        Features::new(vec![0.0, 1.0, 1.0, 0.0, 2.0, 0.0, -1.0, 0.0, 0.0, 0.0], 2).expect("finite")
    }

    #[test]
    fn distances_and_ties() {
        let labels = Labels::new(&[Some(true), Some(false), None, Some(true), Some(false)], 1).expect("whole");
        let cosine = Neighbours::new(line(), labels.clone(), 2, Distance::Cosine).expect("fits");
        let found = cosine.neighbours(&[3.0, 0.0], 9).expect("finite");
        // Rows 1 and 2 point the same way, 0 is at a right angle, 4 has no direction, 3 is opposite.
        assert_eq!(found, [(1, 0.0), (2, 0.0), (0, 1.0), (4, 1.0), (3, 2.0)]);
        let new = Features::new(vec![3.0, 0.0], 2).expect("finite");
        // Row 2 has no known label: rows 1 and 0 vote.
        assert_eq!(cosine.predict(&new).expect("predicts"), [0.5]);
        let l1 = Neighbours::new(line(), labels, 1, Distance::L1).expect("fits");
        assert_eq!(l1.neighbours(&[3.0, 0.0], 2).expect("finite"), [(2, 1.0), (1, 2.0)]);
        assert_eq!(l1.predict(&new).expect("predicts"), [0.0]);
    }

    #[test]
    fn long_rows_are_summed_whole() {
        let rows: Vec<f32> = (0..42).map(|i| i as f32).collect();
        let labels = Labels::new(&[Some(true), Some(false)], 1).expect("whole");
        let near = Neighbours::new(Features::new(rows, 21).expect("finite"), labels, 1, Distance::L1).expect("fits");
        assert_eq!(near.neighbours(&[0.0; 21], 1).expect("finite"), [(0, 210.0)]);
    }

    #[test]
    fn odd_input_is_refused() {
        let labels = Labels::new(&[Some(true); 5], 1).expect("whole");
        let new = |labels: &Labels, k| Neighbours::new(line(), labels.clone(), k, Distance::L1);
        assert_eq!(new(&labels, 0).expect_err("k = 0"), NeighboursError::Count { k: 0, rows: 5 });
        assert!(new(&labels, 6).is_err());
        assert!(new(&labels.select(&[0]), 1).is_err());
        let blank = Labels::new(&[None; 5], 1).expect("whole");
        assert_eq!(new(&blank, 1).expect_err("blank"), NeighboursError::Table(TableError::NoKnownValue { output: 0 }));
        let near = new(&labels, 5).expect("fits");
        assert!(near.neighbours(&[1.0], 1).is_err());
        assert!(near.neighbours(&[f32::NAN, 1.0], 1).is_err());
    }
}
