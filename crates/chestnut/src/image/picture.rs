//! A grey image as it leaves its file: drawn, or still as the whole numbers that were stored.
//!
//! Most films store whole numbers on a straight line of grey values. What an ingest asks of a film (its range, its
//! borders, the means of its parts) it can ask of those numbers, which take half of the room, and no value is drawn.

use std::array::from_fn;

use super::fingerprint::{Grids, THUMBNAIL};
use super::pixels::{Flag, border_flags};
use super::radiograph::{Radiograph, column_means};

/// Cells compared side by side.
const LANES: usize = 32;

/// A grey image, row-major from the top left, bright = dense.
pub(crate) enum Picture {
    /// Value by value.
    Drawn(Radiograph),
    /// As stored, and what the stored values stand for.
    OnLine {
        /// Pixels per row.
        width: usize,
        /// `width` for each row, at least one.
        cells: Vec<u16>,
        /// The greatest of them.
        greatest: u16,
        /// The value of a cell.
        line: Line,
        /// Bits that the values have.
        bits: u32,
    },
}

/// The grey value of each stored one, where they lie on a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// The value of cell 0.
    first: f32,
    /// From each cell to the next.
    step: f32,
}

impl Line {
    /// The line on which the values of the cells from 0 on lie, if they do to the bit.
    pub(super) fn through(tones: &[f32]) -> Option<Self> {
        let &[first, second, ..] = tones else { return None };
        let line = Self { first, step: second - first };
        let is_on = |(cell, tone): (u16, &f32)| line.at(cell).to_bits() == tone.to_bits();
        (0..=u16::MAX).zip(tones).all(is_on).then_some(line)
    }

    fn at(self, cell: u16) -> f32 {
        self.first + self.step * f32::from(cell)
    }
}

impl Picture {
    /// Pixels per row, and rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Self::Drawn(image) => (image.width, image.height),
            Self::OnLine { width, cells, .. } => (*width, cells.len() / width),
        }
    }

    /// Bits that the values have.
    pub(crate) fn bits(&self) -> u32 {
        match self {
            Self::Drawn(image) => image.bits,
            Self::OnLine { bits, .. } => *bits,
        }
    }

    /// The smallest and the largest value.
    pub(crate) fn range(&self) -> (f32, f32) {
        match self {
            Self::Drawn(image) => image.range(),
            Self::OnLine { cells, greatest, line, .. } => {
                let [a, b] = [extreme(cells, u16::min), *greatest].map(|cell| line.at(cell));
                (a.min(b), a.max(b))
            }
        }
    }

    /// Flags for constant borders; `range` is that of the picture.
    pub(super) fn border_flags(&self, range: (f32, f32)) -> Vec<Flag> {
        match self {
            Self::Drawn(image) => border_flags(&image.pixels, image.width, |v| v, range),
            Self::OnLine { width, cells, line, .. } => border_flags(cells, *width, |cell| line.at(cell), range),
        }
    }

    /// The means by which a film is recognised.
    ///
    /// # Panics
    /// If the picture is empty.
    pub(crate) fn grids(&self) -> Grids {
        match self {
            Self::Drawn(image) => Grids::of(image),
            Self::OnLine { width, cells, line, .. } => {
                let mut lines = column_means(cells, *width, THUMBNAIL);
                // The mean of values on a line is the value of the mean.
                lines.iter_mut().for_each(|v| *v = f64::from(line.first) + f64::from(line.step) * *v);
                Grids::from_lines(&lines, *width)
            }
        }
    }

    /// Every value.
    pub(crate) fn draw(self) -> Radiograph {
        let (width, height) = self.size();
        match self {
            Self::Drawn(image) => image,
            Self::OnLine { cells, line, bits, .. } => {
                let pixels = cells.iter().map(|&cell| line.at(cell)).collect();
                Radiograph { width, height, pixels, bits }
            }
        }
    }
}

/// The least or the greatest cell, as `of_two` has it; 0 of none.
pub(super) fn extreme(cells: &[u16], of_two: impl Fn(u16, u16) -> u16) -> u16 {
    // Side by side: one after the other, each comparison would wait for the one before.
    let (chunks, rest) = cells.as_chunks::<LANES>();
    let start = [cells.first().copied().unwrap_or(0); LANES];
    let lanes = chunks.iter().fold(start, |lanes, chunk| from_fn(|i| of_two(lanes[i], chunk[i])));
    lanes.iter().chain(rest).copied().reduce(of_two).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    #[test]
    fn lines_are_told_to_the_bit() {
        let tones = |value: fn(u16) -> f32| (0..=4095).map(value).collect::<Vec<f32>>();
        let lines: [fn(u16) -> f32; 3] =
            [f32::from, |cell| 4095.0 - f32::from(cell), |cell| 0.5 * f32::from(cell) - 1024.0];
        for value in lines {
            let line = Line::through(&tones(value)).expect("a line");
            assert!((0..=4095).all(|cell| line.at(cell).to_bits() == value(cell).to_bits()));
        }
        let others: [fn(u16) -> f32; 3] = [
            |cell| f32::from(cell).sqrt(),
            // Signed cells, and one that is padding.
            |cell| if cell < 2048 { f32::from(cell) } else { f32::from(cell) - 4096.0 },
            |cell| if cell == 4095 { -5.0 } else { f32::from(cell) },
        ];
        for value in others {
            assert_eq!(Line::through(&tones(value)), None);
        }
        assert_eq!(Line::through(&[7.0]), None);
    }

    /// What is asked of stored values is what is asked of the drawn picture.
    #[test]
    fn stored_and_drawn_pictures_answer_alike() {
        let mut draws = Stream::keyed(1, "picture");
        let mut flagged = 0;
        for round in 0..40 {
            let (width, height) = (32 + draws.below(90), 32 + draws.below(90));
            // A border of zeros on every kind of line, and none.
            let border = if round / 4 % 2 == 0 { 6 } else { 0 };
            let cell = |i: usize, draws: &mut Stream| {
                let is_border = i / width < border || i % width < border;
                if is_border { 0 } else { 300 + draws.below(3700) as u16 }
            };
            let cells: Vec<u16> = (0..width * height).map(|i| cell(i, &mut draws)).collect();
            let line = Line { first: draws.below(3000) as f32 - 1500.0, step: [1.0, -1.0, 0.25, -3.5][round % 4] };
            let pixels = cells.iter().map(|&cell| line.at(cell)).collect();
            let drawn = Picture::Drawn(Radiograph { width, height, pixels, bits: 12 });
            let greatest = extreme(&cells, u16::max);
            let stored = Picture::OnLine { width, cells, greatest, line, bits: 12 };
            assert_eq!((stored.size(), stored.bits()), ((width, height), 12));
            let range = stored.range();
            assert_eq!(range, drawn.range());
            assert_eq!(stored.border_flags(range), drawn.border_flags(range));
            flagged += stored.border_flags(range).len();
            assert!(stored.grids().distance(&drawn.grids()) < 1e-6 * (range.1 - range.0), "{line:?}");
            assert!(stored.draw() == drawn.draw());
        }
        assert_eq!(flagged, 20, "every border is seen");
    }

    #[test]
    fn extreme_cells_are_found_in_every_lane_and_in_the_rest() {
        let mut draws = Stream::keyed(1, "extremes");
        for _ in 0..200 {
            let cells: Vec<u16> = (0..1 + draws.below(5 * LANES)).map(|_| draws.below(1 << 16) as u16).collect();
            assert_eq!(Some(extreme(&cells, u16::min)), cells.iter().copied().min());
            assert_eq!(Some(extreme(&cells, u16::max)), cells.iter().copied().max());
        }
        assert_eq!(extreme(&[], u16::max), 0);
    }
}
