//! The rows of a table in the order of each feature, sorted once for all trees.

use super::SAME;
use crate::params::Learner;
use crate::table::Features;
use rayon::prelude::*;

/// A row's number or place: 16 bits where they are enough, because trees wait for memory more than for anything else.
pub(super) trait Index: Copy + Send + Sync {
    fn from_usize(i: usize) -> Self;
    fn get(self) -> usize;
}

impl Index for u16 {
    fn from_usize(i: usize) -> Self {
        i as Self
    }

    #[inline]
    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Index for u32 {
    fn from_usize(i: usize) -> Self {
        i as Self
    }

    #[inline]
    fn get(self) -> usize {
        self as usize
    }
}

/// A table by feature: what its rows hold, and where each stands in the order.
pub(super) struct Columns<I> {
    /// `[feature][row]`.
    pub(super) values: Vec<f32>,
    /// `[feature][row]`: place of the row in the order by value, equal values by row number.
    pub(super) places: Vec<I>,
    /// `[feature]`: how many places hold the smallest value: many where a rectifier left zeros, else mostly one.
    pub(super) smallest: Vec<u32>,
    /// `[feature][place]`: equal values share a rank. Empty where only the smallest value occurs twice: places do then.
    pub(super) ranks: Vec<Vec<I>>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<I: Index> Columns<I> {
    /// Turns a table's rows to columns; sorts each, unless only its values will be asked for.
    pub(super) fn new(features: &Features, sorted: bool) -> Self {
        let (rows, width) = (features.rows(), features.width());
        let mut values = vec![0.0; rows * width];
        // Sixteen columns at a time: one cache line of each row, read once.
        const BLOCK: usize = 16;
        values.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(block, columns)| {
            for r in 0..rows {
                let cells = &features.row(r)[BLOCK * block..];
                columns.iter_mut().skip(r).step_by(rows).zip(cells).for_each(|(to, from)| *to = *from);
            }
        });
        if !sorted {
            return Self { values, places: Vec::new(), smallest: Vec::new(), ranks: Vec::new(), rows, width };
        }
        let mut places = vec![I::from_usize(0); rows * width];
        let columns: Vec<(u32, Vec<I>)> =
            values.par_chunks(rows).zip(places.par_chunks_mut(rows)).map(|(values, to)| sort(values, to)).collect();
        let (smallest, ranks) = columns.into_iter().unzip();
        Self { values, places, smallest, ranks, rows, width }
    }
}

/// Fills in the places of a column's rows; returns its entries of [`Columns::smallest`] and [`Columns::ranks`].
fn sort<I: Index>(values: &[f32], places: &mut [I]) -> (u32, Vec<I>) {
    // Value and row in one integer: sorting it is several times faster than sorting rows by their values.
    let mut keys: Vec<u64> = values.iter().enumerate().map(|(r, &v)| u64::from(sortable(v)) << 32 | r as u64).collect();
    keys.sort_unstable();
    let smallest = keys.partition_point(|key| key >> 32 == keys[0] >> 32);
    let row_of = |key: u64| (key & 0xFFFF_FFFF) as usize;
    let (mut rank, mut last) = (0, row_of(keys[0]));
    let mut ranks = Vec::with_capacity(keys.len());
    for (i, &key) in keys.iter().enumerate() {
        let row = row_of(key);
        rank += usize::from(values[row] - values[last] > SAME);
        last = row;
        ranks.push(I::from_usize(rank));
        places[row] = I::from_usize(i);
    }
    // Every place beyond the smallest value began a new rank.
    let distinct = rank == keys.len() - smallest;
    (smallest as u32, if distinct { Vec::new() } else { ranks })
}

/// A table sorted once for all trees. Its memory is stated at the head of the crate.
pub(crate) struct Sorted(pub(super) Kind);

pub(super) enum Kind {
    Narrow(Columns<u16>),
    Wide(Columns<u32>),
}

impl Sorted {
    /// Sorts every feature; extra trees draw their thresholds and need no order.
    pub(crate) fn new(features: &Features, learner: Learner) -> Self {
        let sorted = learner != Learner::ExtraTrees;
        Self(if features.rows() <= 1 << 16 {
            Kind::Narrow(Columns::new(features, sorted))
        } else {
            Kind::Wide(Columns::new(features, sorted))
        })
    }
}

/// A finite float as an integer of the same order.
fn sortable(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
