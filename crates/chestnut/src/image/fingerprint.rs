//! Near-identity: finds one film stored twice, re-encoded, resized or converted, before it leaks from
//! the training part into the test part.
//!
//! A [`Fingerprint`] is a 64-bit difference hash, which is compared with every other in a blink, and a
//! 16 x 16 thumbnail without mean and contrast, which decides. It does not look for two films of one
//! patient (that is the patient id's task), for crops beyond a few pixels, or for inverted copies.

use rayon::prelude::*;

use super::Radiograph;
use super::radiograph::{column_means, line_means};

/// Columns and rows of the difference hash: eight differences in each of eight rows.
const HASH_GRID: (usize, usize) = (9, 8);
/// Side of the thumbnail: twice as many rows as the difference hash has.
pub(super) const THUMBNAIL: usize = 2 * HASH_GRID.1;
/// A difference counts from this share of the grid's range on: within flat black borders the sign of a
/// difference is noise. Measured: with it, copies resized to 224 differ in at most 2 bits; without, in 10.
const FLAT: f32 = 0.002;
/// Largest Hamming distance of near-identical films. Copies of 548 films with JPEG quality 30 to 75, sides
/// of 128 to 512, gamma 1.2 or shifted by a pixel differ in at most 4 bits; 1 to 9 % of all pairs pass.
pub const MAX_HAMMING: u32 = 6;
/// Least correlation of the thumbnails of near-identical films. Copies as above have 0.9967 or more. Of 16.5
/// million pairs of different films (three collections, several films per patient) none exceeds 0.9872.
pub const MIN_CORRELATION: f32 = 0.993;
/// Thumbnail values compared before asking whether the pair can still be near.
const CHUNK: usize = 32;

/// The cell means by which a film is recognised and its polarity judged ([`super::looks_inverted`]), from one pass over
/// its pixels.
#[derive(Clone, PartialEq)]
pub struct Grids {
    /// 16 x 16 means.
    pub(super) square: Vec<f32>,
    /// 9 columns and 8 rows of means.
    wide: Vec<f32>,
}

impl Grids {
    /// The grids of an image.
    ///
    /// # Panics
    /// If the image is empty.
    #[must_use]
    pub fn of(image: &Radiograph) -> Self {
        Self::from_lines(&column_means(&image.pixels, image.width, THUMBNAIL), image.width)
    }

    /// The grids by the [`column_means`] within [`THUMBNAIL`] cells along the height.
    pub(super) fn from_lines(lines: &[f64], width: usize) -> Self {
        let square = lines.chunks_exact(width).flat_map(|line| line_means(line, THUMBNAIL)).collect();
        // A row of the wide grid is as high as two of the square one.
        let mut wide = Vec::with_capacity(HASH_GRID.0 * HASH_GRID.1);
        for pair in lines.chunks_exact(2 * width) {
            let (upper, lower) = pair.split_at(width);
            let line: Vec<f64> = upper.iter().zip(lower).map(|(upper, lower)| (upper + lower) / 2.0).collect();
            wide.extend(line_means(&line, HASH_GRID.0));
        }
        Self { square, wide }
    }

    /// The largest difference of two means.
    #[cfg(test)]
    pub(super) fn distance(&self, other: &Self) -> f32 {
        let pairs = self.square.iter().chain(&self.wide).zip(other.square.iter().chain(&other.wide));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}

/// What is kept of an image to recognise it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// Difference hash: bit 8 r + c is set where the mean grey rises from cell c to c + 1 of row r.
    pub hash: u64,
    /// 256 values of mean 0 and Euclidean norm 1; all 0 if the thumbnail has no contrast.
    pub thumbnail: Vec<f32>,
}

impl Fingerprint {
    /// The fingerprint of an image, independent of its size, aspect ratio, brightness and contrast.
    #[must_use]
    pub fn of(grids: &Grids) -> Self {
        let Grids { square: means, wide: grid } = grids;
        let columns = HASH_GRID.0;
        let low = grid.iter().copied().fold(f32::INFINITY, f32::min);
        let high = grid.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The second part is what rounding alone may do to a constant image.
        let least = (FLAT * (high - low)).max(1e-5 * low.abs().max(high.abs()));
        let mut hash = 0_u64;
        for (row, cells) in grid.chunks_exact(columns).enumerate() {
            for (column, pair) in cells.windows(2).enumerate() {
                if pair[1] - pair[0] > least {
                    hash |= 1 << (row * (columns - 1) + column);
                }
            }
        }

        let mean = means.iter().map(|&v| f64::from(v)).sum::<f64>() / means.len() as f64;
        let centred: Vec<f64> = means.iter().map(|&v| f64::from(v) - mean).collect();
        let norm = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
        // Rounding alone must not pass for contrast.
        let scale = if norm > 1e-6 * (1.0 + mean.abs()) { 1.0 / norm } else { 0.0 };
        Self { hash, thumbnail: centred.iter().map(|v| (v * scale) as f32).collect() }
    }

    /// Bits in which the hashes differ, 0 to 64.
    #[must_use]
    pub fn hamming(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// Pearson correlation of the thumbnails, -1 to 1; 0 if one has no contrast.
    #[must_use]
    pub fn correlation(&self, other: &Self) -> f32 {
        self.thumbnail.iter().zip(&other.thumbnail).map(|(a, b)| a * b).sum()
    }

    /// Whether the squared distance of the thumbnails, 2 - 2 correlation, may stay within the limit.
    /// Nearly every pair of different films is told apart by its first chunk.
    fn may_correlate(&self, other: &Self) -> bool {
        // A little more than the limit: the exact test follows.
        let limit = 2.0 * (1.0 - MIN_CORRELATION) * 1.01;
        let mut distance = 0.0;
        for (a, b) in self.thumbnail.chunks(CHUNK).zip(other.thumbnail.chunks(CHUNK)) {
            distance += a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            if distance > limit {
                return false;
            }
        }
        true
    }
}

/// Whether two images are the same film: [`MAX_HAMMING`] and [`MIN_CORRELATION`] both hold.
#[must_use]
pub fn is_near_identical(a: &Fingerprint, b: &Fingerprint) -> bool {
    a.hamming(b) <= MAX_HAMMING && a.may_correlate(b) && a.correlation(b) >= MIN_CORRELATION
}

/// For each image the earlier ones that are near-identical to it: the first `most` of them.
///
/// Every pair's hashes are compared: 50 million comparisons of two machine words for 10,000 images. An
/// index over parts of the hash was tried and dropped: chest films are so alike that four bands of 16
/// bits put 18 to 36 % of all pairs into a common bucket.
#[must_use]
pub fn earlier_twins(prints: &[Fingerprint], most: usize) -> Vec<Vec<usize>> {
    // Side by side in memory: the hashes are all that is looked at of nearly every pair.
    let hashes: Vec<u64> = prints.iter().map(|print| print.hash).collect();
    let twins = |(i, print): (usize, &Fingerprint)| {
        let close = hashes[..i].iter().enumerate().filter(|&(_, hash)| (hash ^ print.hash).count_ones() <= MAX_HAMMING);
        close.map(|(j, _)| j).filter(|&j| is_near_identical(&prints[j], print)).take(most).collect()
    };
    prints.par_iter().enumerate().map(twins).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{decode, read, real_data};
    use super::*;
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::{ExtendedColorType, ImageEncoder};

    /// A smooth made-up film; `kind` moves its structures.
    fn film(side: usize, kind: usize) -> Radiograph {
        let pixel = |x: usize, y: usize| {
            let (u, v) = ((x as f32 + 0.5) / side as f32, (y as f32 + 0.5) / side as f32);
            let k = kind as f32;
            120.0 + 60.0 * (6.0 * u + k).sin() + 50.0 * (5.0 * v + 0.7 * k).cos() * (3.0 * u * k + 1.0).sin()
        };
        let pixels = (0..side).flat_map(|y| (0..side).map(move |x| pixel(x, y))).collect();
        Radiograph { width: side, height: side, pixels, bits: 8 }
    }

    fn print(image: &Radiograph) -> Fingerprint {
        Fingerprint::of(&Grids::of(image))
    }

    fn jpeg(image: &Radiograph, quality: u8) -> Radiograph {
        let samples: Vec<u8> = image.pixels.iter().map(|&v| v.round().clamp(0.0, 255.0) as u8).collect();
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(&samples, image.width as u32, image.height as u32, ExtendedColorType::L8)
            .expect("encoding into memory");
        decode(&bytes).expect("decodes").radiograph
    }

    #[test]
    fn copies_are_recognised_and_other_films_are_not() {
        let original = print(&film(300, 1));
        let mut brighter = film(300, 1);
        brighter.pixels.iter_mut().for_each(|v| *v = *v * 9.0 + 400.0);
        for copy in [film(224, 1), jpeg(&film(300, 1), 40), brighter] {
            assert!(is_near_identical(&original, &print(&copy)));
        }
        for kind in 2..8 {
            assert!(!is_near_identical(&original, &print(&film(300, kind))), "kind {kind}");
        }
    }

    #[test]
    fn thumbnails_are_normalised_and_flat_ones_match_nothing() {
        let one = print(&film(100, 3));
        assert!((one.correlation(&one) - 1.0).abs() < 1e-5);
        assert!(one.thumbnail.iter().sum::<f32>().abs() < 1e-4);
        let flat = print(&Radiograph { width: 40, height: 40, pixels: vec![5.0; 1600], bits: 8 });
        assert_eq!(flat.hash, 0);
        assert!(!is_near_identical(&flat, &flat.clone()));
    }

    #[test]
    fn both_grids_are_cell_means() {
        for (width, height) in [(37, 61), (64, 48), (300, 250)] {
            let mut image = film(300, 2);
            (image.width, image.height) = (width, height);
            image.pixels.truncate(width * height);
            let Grids { square, wide } = Grids::of(&image);
            assert_eq!(square, image.cell_means(THUMBNAIL, THUMBNAIL));
            // Halves are added up, which rounds elsewhere: by a bit at most.
            let expected = image.cell_means(HASH_GRID.0, HASH_GRID.1);
            assert_eq!(wide.len(), expected.len());
            assert!(wide.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs()), "{width} x {height}");
        }
    }

    #[test]
    fn twins_point_to_the_first_ones() {
        let prints: Vec<_> =
            [(64, 1), (64, 2), (80, 1), (64, 3), (96, 2), (50, 1)].map(|(side, kind)| print(&film(side, kind))).into();
        let none = Vec::new;
        assert_eq!(earlier_twins(&prints, 9), [none(), none(), vec![0], none(), vec![1], vec![0, 2]]);
        assert_eq!(earlier_twins(&prints, 1)[5], [0]);
    }

    #[test]
    fn the_known_twin_among_real_films_is_found_and_nothing_else() {
        let Some(data) = real_data() else { return };
        let mut paths: Vec<_> = std::fs::read_dir(data.join("nih1000/images"))
            .expect("the folder of films")
            .map(|e| e.expect("an entry").path())
            .collect();
        paths.sort();
        let prints: Vec<_> = paths
            .par_iter()
            .map(|p| print(&read(p).unwrap_or_else(|e| panic!("{}: {e}", p.display())).radiograph))
            .collect();
        let name = |i: usize| paths[i].file_name().expect("a name").to_string_lossy().into_owned();
        let found: Vec<_> = earlier_twins(&prints, 9)
            .into_iter()
            .enumerate()
            .flat_map(|(later, twins)| twins.into_iter().map(|first| (name(first), name(later))).collect::<Vec<_>>())
            .collect();
        assert_eq!(found, vec![("00002658_001.jpg".to_owned(), "00002658_002.jpg".to_owned())]);
    }
}
