//! A grey image, its range and the means of its parts.
//!
//! Every film of a hospital goes through these passes, so they are written for vector instructions: extremes are kept
//! in lanes, and rows are added four at a time. Neither changes a bit: an extreme is an extreme in any order, and each
//! column is still added from the top down.

use std::array::from_fn;
use std::fmt;

/// Extremes kept side by side.
const LANES: usize = 16;

/// One grey image, row-major from the top left, bright = dense (the MONOCHROME2 look).
#[derive(Clone, PartialEq)]
pub struct Radiograph {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` finite values in stored units (DICOM: after rescale), not yet windowed.
    pub pixels: Vec<f32>,
    /// Bits that the file kept per value (8, 10, 12, 16 ...).
    pub bits: u32,
}

impl fmt::Debug for Radiograph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Radiograph {{ {} x {}, {} bits }}", self.width, self.height, self.bits)
    }
}

impl Radiograph {
    /// The smallest and the largest value; (0, 0) for an image without pixels.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        range(&self.pixels).unwrap_or((0.0, 0.0))
    }

    /// The mean of each cell of a `columns` x `rows` grid laid over the image, row-major; a pixel on a
    /// border counts with the share that lies inside. Aspect ratio is not kept.
    ///
    /// # Panics
    /// If the grid or the image is empty.
    #[must_use]
    pub fn cell_means(&self, columns: usize, rows: usize) -> Vec<f32> {
        let lines = self.column_means(rows);
        lines.chunks_exact(self.width).flat_map(|line| line_means(line, columns)).collect()
    }

    /// The mean of each column of pixels within each of `rows` cells along the height: `rows` lines of `width` values.
    ///
    /// # Panics
    /// If there are no cells or no pixels.
    pub(super) fn column_means(&self, rows: usize) -> Vec<f64> {
        assert!(rows > 0 && self.width > 0 && self.height > 0, "no cells or no pixels");
        let mut lines = vec![0.0_f64; rows * self.width];
        for (row, sums) in lines.chunks_exact_mut(self.width).enumerate() {
            let weighted: Vec<(&[f32], f64)> = cell(row, rows, self.height)
                .map(|(y, weight)| (&self.pixels[y * self.width..(y + 1) * self.width], weight))
                .collect();
            let (fours, rest) = weighted.as_chunks::<4>();
            for &[(a, of_a), (b, of_b), (c, of_c), (d, of_d)] in fours {
                for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    // From left to right, so that the sum has the bits of one row after the other.
                    *sum = *sum + of_a * f64::from(a) + of_b * f64::from(b) + of_c * f64::from(c) + of_d * f64::from(d);
                }
            }
            for &(line, weight) in rest {
                for (sum, &value) in sums.iter_mut().zip(line) {
                    *sum += weight * f64::from(value);
                }
            }
        }
        lines
    }
}

/// The smallest and the largest of finite values; `None` of none.
pub(super) fn range(values: &[f32]) -> Option<(f32, f32)> {
    let &first = values.first()?;
    let (chunks, rest) = values.as_chunks::<LANES>();
    // Compared and not `min`: of finite values it is the same, in one instruction. One after the other: told to do both at
    // once, the compiler does neither in vectors (five times as slow, measured).
    let low =
        chunks.iter().fold([first; LANES], |low, chunk| from_fn(|i| if chunk[i] < low[i] { chunk[i] } else { low[i] }));
    let high = chunks
        .iter()
        .fold([first; LANES], |high, chunk| from_fn(|i| if chunk[i] > high[i] { chunk[i] } else { high[i] }));
    let least = low.iter().chain(rest).copied().fold(first, f32::min);
    let greatest = high.iter().chain(rest).copied().fold(first, f32::max);
    Some((least, greatest))
}

/// The means of `columns` cells along one line of [`Radiograph::column_means`].
///
/// # Panics
/// If there are no cells.
pub(super) fn line_means(line: &[f64], columns: usize) -> impl Iterator<Item = f32> {
    assert!(columns > 0, "no cells");
    (0..columns)
        .map(move |column| cell(column, columns, line.len()).map(|(x, weight)| weight * line[x]).sum::<f64>() as f32)
}

/// The pixels under cell `index` of `cells` along a side of `length` pixels, with weights of sum 1.
fn cell(index: usize, cells: usize, length: usize) -> impl Iterator<Item = (usize, f64)> {
    let size = length as f64 / cells as f64;
    let low = index as f64 * size;
    let high = low + size;
    let first = (low as usize).min(length - 1);
    let last = (high.ceil() as usize).clamp(first + 1, length);
    (first..last).map(move |i| {
        let inside = high.min((i + 1) as f64) - low.max(i as f64);
        (i, inside.max(0.0) / size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    /// Values that are not whole, of both signs.
    fn noise(width: usize, height: usize, draws: &mut Stream) -> Radiograph {
        let pixels = (0..width * height).map(|_| (4000.0 * draws.uniform() - 1000.0) as f32).collect();
        Radiograph { width, height, pixels, bits: 12 }
    }

    #[test]
    fn cell_means_weigh_shared_pixels() {
        let image = Radiograph { width: 3, height: 2, pixels: vec![0.0, 3.0, 6.0, 0.0, 3.0, 6.0], bits: 8 };
        // Two cells of 1.5 pixels: (0 + 3 / 2) / 1.5 and (3 / 2 + 6) / 1.5.
        assert_eq!(image.cell_means(2, 1), vec![1.0, 5.0]);
        assert_eq!(image.cell_means(3, 2), image.pixels);
        assert_eq!(image.range(), (0.0, 6.0));
    }

    #[test]
    fn four_rows_at_a_time_give_the_bits_of_row_after_row() {
        let mut draws = Stream::keyed(1, "cell means");
        for _ in 0..20 {
            let image = noise(1 + draws.below(60), 1 + draws.below(90), &mut draws);
            let (columns, rows) = (1 + draws.below(20), 1 + draws.below(20));
            let mut plain = Vec::new();
            for row in 0..rows {
                let mut sums = vec![0.0_f64; image.width];
                for (y, weight) in cell(row, rows, image.height) {
                    for (x, sum) in sums.iter_mut().enumerate() {
                        *sum += weight * f64::from(image.pixels[y * image.width + x]);
                    }
                }
                for column in 0..columns {
                    let sum: f64 = cell(column, columns, image.width).map(|(x, weight)| weight * sums[x]).sum();
                    plain.push((sum as f32).to_bits());
                }
            }
            let means: Vec<u32> = image.cell_means(columns, rows).into_iter().map(f32::to_bits).collect();
            assert_eq!(means, plain, "{image:?}, {columns} x {rows} cells");
        }
    }

    #[test]
    fn extremes_are_found_in_every_lane_and_in_the_rest() {
        let mut draws = Stream::keyed(1, "range");
        for _ in 0..200 {
            let image = noise(1 + draws.below(5 * LANES), 1, &mut draws);
            let low = image.pixels.iter().copied().fold(f32::INFINITY, f32::min);
            let high = image.pixels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(image.range(), (low, high));
        }
        let none = Radiograph { width: 0, height: 0, pixels: Vec::new(), bits: 8 };
        assert_eq!(none.range(), (0.0, 0.0));
    }
}
