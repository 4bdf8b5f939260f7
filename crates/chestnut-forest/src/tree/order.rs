//! The rows of a table in the order of each feature, sorted once for all trees.

use super::SAME;
use crate::table::Features;

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

/// A row in the order of a feature; rows with equal values share a rank.
#[derive(Clone, Copy)]
pub(super) struct Ranked<I> {
    pub(super) rank: I,
    pub(super) row: I,
}

pub(super) struct Columns<I> {
    /// `[feature][row]`.
    pub(super) values: Vec<f32>,
    /// `[feature][row]`: place of the row in `order`.
    pub(super) places: Vec<I>,
    /// `[feature][place]`: rows by value.
    pub(super) order: Vec<Ranked<I>>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<I: Index> Columns<I> {
    fn new(features: &Features) -> Self {
        use rayon::prelude::*;
        let (rows, width) = (features.rows(), features.width());
        let mut values = vec![0.0; rows * width];
        let zero = I::from_usize(0);
        let mut places = vec![zero; rows * width];
        let mut order = vec![Ranked { rank: zero, row: zero }; rows * width];
        // Sixteen columns at a time: one cache line of each row, read once.
        const BLOCK: usize = 16;
        values.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(block, columns)| {
            for r in 0..rows {
                let cells = &features.row(r)[BLOCK * block..];
                columns.iter_mut().skip(r).step_by(rows).zip(cells).for_each(|(to, from)| *to = *from);
            }
        });
        values.par_chunks(rows).zip(places.par_chunks_mut(rows)).zip(order.par_chunks_mut(rows)).for_each(
            |((values, places), order)| {
                // Value and row in one integer: sorting it is several times faster than sorting rows by their values.
                let mut keys: Vec<u64> =
                    values.iter().enumerate().map(|(r, &v)| u64::from(sortable(v)) << 32 | r as u64).collect();
                keys.sort_unstable();
                let row_of = |key: u64| (key & 0xFFFF_FFFF) as usize;
                let (mut rank, mut last) = (0, row_of(keys[0]));
                for (i, (place, &key)) in order.iter_mut().zip(&keys).enumerate() {
                    let row = row_of(key);
                    rank += usize::from(values[row] - values[last] > SAME);
                    last = row;
                    *place = Ranked { rank: I::from_usize(rank), row: I::from_usize(row) };
                    places[row] = I::from_usize(i);
                }
            },
        );
        Self { values, places, order, rows, width }
    }
}

/// A table sorted once for all trees.
///
/// Memory: 10 bytes per value of the feature table, 16 with more than 65,536 rows, shared by all trees and threads.
pub(crate) struct Sorted(pub(super) Kind);

pub(super) enum Kind {
    Narrow(Columns<u16>),
    Wide(Columns<u32>),
}

impl Sorted {
    /// Sorts every feature.
    pub(crate) fn new(features: &Features) -> Self {
        let narrow = features.rows() <= 1 << 16;
        Self(if narrow { Kind::Narrow(Columns::new(features)) } else { Kind::Wide(Columns::new(features)) })
    }
}

/// A finite float as an integer of the same order.
fn sortable(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
