//! A grey image, its range and the means of its parts.
//!
//! Every film of a hospital goes through these passes, so they are written for vector instructions: extremes are kept
//! in lanes, and rows are added in blocks, in numbers no wider than that needs.

use std::array::from_fn;
use std::fmt;
use std::ops::AddAssign;

/// Extremes kept side by side.
const LANES: usize = 16;
/// Rows that are added before a weight is applied.
const BLOCK_ROWS: usize = 64;

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
        let lines = column_means(&self.pixels, self.width, rows);
        lines.chunks_exact(self.width).flat_map(|line| line_means(line, columns)).collect()
    }
}

/// What a pixel is stored as.
pub(super) trait Pixel: Copy + Into<f64> {
    /// Holds the sum of [`BLOCK_ROWS`] of them.
    type Sum: Copy + Default + AddAssign + Into<f64>;

    /// The sum of four.
    fn four(a: Self, b: Self, c: Self, d: Self) -> Self::Sum;
}

impl Pixel for f32 {
    type Sum = f64;

    fn four(a: Self, b: Self, c: Self, d: Self) -> f64 {
        (f64::from(a) + f64::from(b)) + (f64::from(c) + f64::from(d))
    }
}

impl Pixel for u16 {
    type Sum = u32;

    fn four(a: Self, b: Self, c: Self, d: Self) -> u32 {
        (u32::from(a) + u32::from(b)) + (u32::from(c) + u32::from(d))
    }
}

/// The mean of each column of pixels within each of `rows` cells along the height: `rows` lines of `width` values.
///
/// # Panics
/// If there are no cells or no pixels.
pub(super) fn column_means<P: Pixel>(pixels: &[P], width: usize, rows: usize) -> Vec<f64> {
    assert!(rows > 0 && width > 0 && pixels.len() >= width, "no cells or no pixels");
    let height = pixels.len() / width;
    let mut lines = vec![0.0; rows * width];
    let mut block = vec![P::Sum::default(); width];
    for (row, sums) in lines.chunks_exact_mut(width).enumerate() {
        let cell = Cell::of(row, rows, height);
        let line = |y: usize| &pixels[y * width..(y + 1) * width];
        for (y, weight) in cell.ends() {
            add(sums, line(y), weight);
        }
        let (first, last) = cell.inner();
        for start in (first..last).step_by(BLOCK_ROWS) {
            let end = last.min(start + BLOCK_ROWS);
            let fours = (end - start) / 4 * 4;
            block.fill(P::Sum::default());
            for y in (start..start + fours).step_by(4) {
                let [a, b, c, d] = from_fn(|i| line(y + i));
                for ((((sum, &a), &b), &c), &d) in block.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *sum += P::four(a, b, c, d);
                }
            }
            sums.iter_mut().zip(&block).for_each(|(sum, &block)| *sum += cell.of_inner * block.into());
            (start + fours..end).for_each(|y| add(sums, line(y), cell.of_inner));
        }
    }
    lines
}

/// Adds a line times a weight.
fn add<P: Pixel>(sums: &mut [f64], line: &[P], weight: f64) {
    sums.iter_mut().zip(line).for_each(|(sum, &pixel)| *sum += weight * pixel.into());
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

/// The means of `columns` cells along one line of [`column_means`].
///
/// # Panics
/// If there are no cells.
pub(super) fn line_means(line: &[f64], columns: usize) -> impl Iterator<Item = f32> {
    assert!(columns > 0, "no cells");
    (0..columns).map(move |column| {
        let cell = Cell::of(column, columns, line.len());
        let (first, last) = cell.inner();
        let (fours, rest) = line[first..last].as_chunks::<4>();
        // Side by side: one after the other, each would wait for the one before.
        let sums = fours.iter().fold([0.0; 4], |sums: [f64; 4], four| from_fn(|i| sums[i] + four[i]));
        let inner = sums.iter().chain(rest).sum::<f64>();
        let ends: f64 = cell.ends().map(|(x, weight)| weight * line[x]).sum();
        (ends + cell.of_inner * inner) as f32
    })
}

/// One of several cells of equal length along a side: the pixels under it, with weights of sum 1.
struct Cell {
    /// Its first pixel.
    first: usize,
    /// Its last pixel, which may be the first.
    last: usize,
    of_first: f64,
    /// Weight of each pixel between the two.
    of_inner: f64,
    /// 0 if the last pixel is the first.
    of_last: f64,
}

impl Cell {
    /// Cell `index` of `cells` along a side of `length` pixels.
    fn of(index: usize, cells: usize, length: usize) -> Self {
        let size = length as f64 / cells as f64;
        let low = index as f64 * size;
        let high = low + size;
        let first = (low as usize).min(length - 1);
        let last = (high.ceil() as usize).clamp(first + 1, length) - 1;
        let weight = |i: usize| (high.min((i + 1) as f64) - low.max(i as f64)).max(0.0) / size;
        Self {
            first,
            last,
            of_first: weight(first),
            of_inner: 1.0 / size,
            of_last: if last > first { weight(last) } else { 0.0 },
        }
    }

    /// The first and the last pixel and their weights.
    fn ends(&self) -> impl Iterator<Item = (usize, f64)> {
        [(self.first, self.of_first), (self.last, self.of_last)].into_iter()
    }

    /// Where the pixels between the two begin and end.
    fn inner(&self) -> (usize, usize) {
        (self.first + 1, self.last.max(self.first + 1))
    }
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

    /// The definition: every pixel times the share of the cell that it covers.
    fn plain_means(image: &Radiograph, columns: usize, rows: usize) -> Vec<f64> {
        let cover = |index: usize, cells: usize, length: usize, i: usize| {
            let size = length as f64 / cells as f64;
            let (low, high) = (index as f64 * size, (index + 1) as f64 * size);
            (high.min((i + 1) as f64) - low.max(i as f64)).max(0.0) / size
        };
        let mut means = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                let of_line = |y: usize| -> f64 {
                    let line = &image.pixels[y * image.width..(y + 1) * image.width];
                    let of = |x: usize| cover(column, columns, image.width, x);
                    line.iter().enumerate().map(|(x, &value)| of(x) * f64::from(value)).sum()
                };
                means.push((0..image.height).map(|y| cover(row, rows, image.height, y) * of_line(y)).sum());
            }
        }
        means
    }

    #[test]
    fn blocks_of_rows_give_the_means_of_the_definition() {
        let mut draws = Stream::keyed(1, "cell means");
        for _ in 0..60 {
            let image = noise(1 + draws.below(60), 1 + draws.below(200), &mut draws);
            let (columns, rows) = (1 + draws.below(20), 1 + draws.below(20));
            let means = image.cell_means(columns, rows);
            let plain = plain_means(&image, columns, rows);
            assert_eq!(means.len(), plain.len());
            for (mean, plain) in means.iter().zip(plain) {
                assert!((f64::from(*mean) - plain).abs() < 1e-3, "{mean} {plain}, {image:?}, {columns} x {rows} cells");
            }
        }
    }

    #[test]
    fn whole_numbers_have_exact_means_in_either_type() {
        // Cells of several blocks of rows, and of the largest values.
        let mut draws = Stream::keyed(1, "exact");
        let (width, height) = (32, 1024);
        let cells: Vec<u16> = (0..width * height).map(|_| u16::MAX - draws.below(9) as u16).collect();
        let pixels: Vec<f32> = cells.iter().map(|&cell| f32::from(cell)).collect();
        let of_columns: Vec<f64> = (0..4 * width)
            .map(|at| {
                let (row, x) = (at / width, at % width);
                (256 * row..256 * (row + 1)).map(|y| f64::from(cells[y * width + x])).sum::<f64>() / 256.0
            })
            .collect();
        assert_eq!(column_means(&cells, width, 4), of_columns);
        assert_eq!(column_means(&pixels, width, 4), of_columns);
        // Values that leave no room for a sum in single precision.
        let vast = Radiograph { width, height, pixels: vec![3e38; width * height], bits: 16 };
        assert!(vast.cell_means(4, 4).into_iter().all(|mean| (mean - 3e38).abs() < 1e33));
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
