//! Where in the cached square the network looks: the whole of it, its centre, or where it best matches a template.
//!
//! Template matching as the paper names it for CheXpert (section 2.2, after Pham et al., arXiv 1911.06475): of all
//! positions of a 224 window in the 256 square, the one with the highest normalised cross-correlation with a template.
//! Template and similarity are not published (protocol 2); ours is the mean training image. Ties go to the first position.
//! `embed` shows a network the whole image (`docs/pretrain.md` says what follows).

use super::cache::Cache;
use super::error::{PretrainError, Result};
use crate::fs::{to_hex, write_atomic};
use crate::image::{self, recipe::Recipe};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Sums kept side by side, so that they can be formed at once.
const LANES: usize = 16;
/// Images added up between two joins.
const CHUNK: usize = 256;

/// How the window is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The cached square is the input.
    Whole,
    /// The middle.
    Centre,
    /// Where it matches the template best.
    Template,
}

/// Row and column of the window's first pixel.
pub type Offset = [u16; 2];

/// A template of `size * size` grey values.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    size: usize,
    /// Less their mean, over their norm.
    values: Vec<f32>,
}

impl Template {
    /// From grey values of any scale.
    ///
    /// # Errors
    /// If they are all equal: everything matches that.
    pub fn new(size: usize, grey: &[f64]) -> Result<Self> {
        let mean = grey.iter().sum::<f64>() / grey.len().max(1) as f64;
        let norm = grey.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>().sqrt();
        if grey.len() != size * size || norm.is_nan() || norm <= 0.0 {
            return Err(PretrainError::Request(
                "the template has no contrast; give another with --template, or use --crop centre".into(),
            ));
        }
        Ok(Self { size, values: grey.iter().map(|v| ((v - mean) / norm) as f32).collect() })
    }

    /// From an image file, brought to the template's size by the recipe.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(file: &Path, size: usize) -> Result<Self> {
        let recipe = Recipe { size, ..Recipe::default() };
        let decoded = image::read(file).map_err(|e| PretrainError::file(file, e.to_string()))?;
        let grey: Vec<f64> = recipe.prepare(&decoded.radiograph).grey.into_iter().map(f64::from).collect();
        Self::new(size, &grey)
    }

    /// The middle of the mean of these rows of the cache.
    ///
    /// # Errors
    /// If the cache cannot be read or the mean has no contrast.
    pub fn mean(cache: &Cache, rows: &[usize], size: usize) -> Result<Self> {
        let side = cache.side();
        if size > side {
            return Err(too_large(size, side));
        }
        let mut sums = vec![0_u64; side * side];
        for chunk in rows.chunks(CHUNK) {
            let images: Vec<Vec<u8>> = chunk
                .par_iter()
                .map(|&row| {
                    let mut pixels = vec![0; side * side];
                    cache.read(row, &mut pixels).map(|()| pixels)
                })
                .collect::<Result<_>>()?;
            for image in &images {
                sums.iter_mut().zip(image).for_each(|(sum, &v)| *sum += u64::from(v));
            }
        }
        let start = (side - size) / 2;
        let middle = |line: &[u64]| line[start..start + size].iter().map(|&s| s as f64).collect::<Vec<_>>();
        let grey: Vec<f64> = sums.chunks_exact(side).skip(start).take(size).flat_map(middle).collect();
        Self::new(size, &grey)
    }

    /// The position of the best match in a square of `side`.
    #[must_use]
    pub fn place(&self, image: &[u8], side: usize) -> Offset {
        let size = self.size;
        let steps = side - size + 1;
        let values: Vec<f32> = image.iter().map(|&v| f32::from(v)).collect();
        let (sums, squares) = (integral(image, side, |v| v), integral(image, side, |v| v * v));
        let count = (size * size) as f64;
        let mut best = ([0, 0], f64::NEG_INFINITY);
        for top in 0..steps {
            for left in 0..steps {
                let (sum, square) = (window(&sums, side, top, left, size), window(&squares, side, top, left, size));
                let spread = square as f64 - sum as f64 * sum as f64 / count;
                // The template sums to 0, so the window's mean falls out of the product.
                let product: f64 = (0..size)
                    .map(|row| dot(&self.values[row * size..][..size], &values[(top + row) * side + left..][..size]))
                    .sum();
                let score = if spread > 0.0 { product / spread.sqrt() } else { 0.0 };
                if score > best.1 {
                    best = ([top as u16, left as u16], score);
                }
            }
        }
        best.0
    }
}

/// Where each row's window begins; rows that are not asked for get the middle.
///
/// # Errors
/// If the cache cannot be read, or the template is larger than its squares.
pub fn offsets(
    cache: &Cache,
    rows: &[usize],
    size: usize,
    template: Option<&Template>,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Offset>> {
    let side = cache.side();
    let Some(margin) = side.checked_sub(size) else {
        return Err(too_large(size, side));
    };
    let middle = (margin / 2) as u16;
    let mut all = vec![[middle; 2]; cache.there().len()];
    let Some(template) = template.filter(|_| margin > 0) else { return Ok(all) };
    if template.size != size {
        return Err(PretrainError::Request(format!("the template has {} pixels, the input {size}", template.size)));
    }
    let mut done = 0;
    for chunk in rows.chunks(CHUNK) {
        let found: Vec<Offset> = chunk
            .par_iter()
            .map(|&row| {
                let mut pixels = vec![0; side * side];
                cache.read(row, &mut pixels).map(|()| template.place(&pixels, side))
            })
            .collect::<Result<_>>()?;
        for (&row, offset) in chunk.iter().zip(found) {
            all[row] = offset;
        }
        done += chunk.len();
        progress(done, rows.len());
    }
    Ok(all)
}

fn too_large(size: usize, side: usize) -> PretrainError {
    PretrainError::Request(format!(
        "an input of {size} pixels cannot be cut from cached images of {side}; raise --cache-size"
    ))
}

/// As [`offsets`], kept in `folder` for the next start with the same images and template: with 33 x 33 positions an image
/// takes about as long as decoding it.
///
/// # Errors
/// As [`offsets`], or if the file cannot be written.
pub fn kept_offsets(
    folder: &Path,
    cache: &Cache,
    rows: &[usize],
    size: usize,
    template: Option<&Template>,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Offset>> {
    let Some(template) = template.filter(|_| cache.side() > size) else {
        return offsets(cache, rows, size, None, progress);
    };
    let mut hash = Sha256::new();
    hash.update(format!("windows of {size} pixels in {}\n", cache.key()));
    template.values.iter().for_each(|v| hash.update(v.to_le_bytes()));
    rows.iter().for_each(|&row| hash.update((row as u64).to_le_bytes()));
    let key = to_hex(&hash.finalize());
    let path = folder.join(format!("windows-{}.bin", &key[..16]));
    if let Some(found) = read_offsets(&path, &key, cache.there().len(), cache.side() - size)? {
        return Ok(found);
    }
    let all = offsets(cache, rows, size, Some(template), progress)?;
    let mut bytes = key.into_bytes();
    all.iter().flatten().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    write_atomic(&path, &bytes).map_err(PretrainError::Write)?;
    Ok(all)
}

/// The offsets of a file that is whole and of this key; any other is as good as none.
pub(crate) fn read_offsets(path: &Path, key: &str, images: usize, margin: usize) -> Result<Option<Vec<Offset>>> {
    let failed = PretrainError::io(path);
    let wanted = key.len() + images * size_of::<Offset>();
    if !std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == wanted as u64) {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let Some(values) = bytes.strip_prefix(key.as_bytes()) else { return Ok(None) };
    let number = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    let all: Vec<Offset> = values.chunks_exact(4).map(|b| [number(&b[..2]), number(&b[2..])]).collect();
    let fits = all.len() == images && all.iter().flatten().all(|&v| usize::from(v) <= margin);
    Ok(fits.then_some(all))
}

/// Sums over all rectangles that begin at the top left: `(side + 1)` squared values.
fn integral(image: &[u8], side: usize, value: impl Fn(u64) -> u64) -> Vec<u64> {
    let width = side + 1;
    let mut sums = vec![0; width * width];
    for y in 0..side {
        let mut line = 0;
        for x in 0..side {
            line += value(u64::from(image[y * side + x]));
            sums[(y + 1) * width + x + 1] = sums[y * width + x + 1] + line;
        }
    }
    sums
}

fn window(sums: &[u64], side: usize, top: usize, left: usize, size: usize) -> u64 {
    let at = |y: usize, x: usize| sums[y * (side + 1) + x];
    at(top + size, left + size) + at(top, left) - at(top, left + size) - at(top + size, left)
}

/// Sum of products, in an order that does not depend on the machine.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = whole_a.remainder().iter().zip(whole_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in whole_a.zip(whole_b) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(lane, (x, y))| *lane += x * y);
    }
    lanes.iter().map(|&v| f64::from(v)).sum::<f64>() + f64::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texture(x: usize, y: usize) -> u8 {
        ((x * x * 3 + y * y * 5 + x * y * 7) % 251) as u8
    }

    #[test]
    fn a_shifted_template_is_found_whatever_the_exposure() {
        let (side, size) = (30, 20);
        let grey: Vec<f64> = (0..size * size).map(|i| f64::from(texture(i % size, i / size))).collect();
        let template = Template::new(size, &grey).expect("contrast");
        for (top, left) in [(0, 0), (3, 7), (10, 10)] {
            let mut image = vec![17_u8; side * side];
            for y in 0..size {
                for x in 0..size {
                    // Half the contrast and brighter: correlation does not care.
                    image[(y + top) * side + x + left] = texture(x, y) / 2 + 100;
                }
            }
            assert_eq!(template.place(&image, side), [top as u16, left as u16]);
        }
        assert_eq!(template.place(&[9; 900], side), [0, 0], "nothing matches nothing");
        assert!(Template::new(2, &[1.0; 4]).is_err());
    }

    #[test]
    fn scores_are_pearsons_correlation() {
        // Against a direct sum at one position.
        let (side, size) = (8, 5);
        let image: Vec<u8> = (0..64).map(|i| texture(i % 8, i / 8)).collect();
        let (sums, squares) = (integral(&image, side, |v| v), integral(&image, side, |v| v * v));
        let inside: Vec<u64> = (0..25).map(|i| u64::from(image[(2 + i / size) * side + 1 + i % size])).collect();
        assert_eq!(window(&sums, side, 2, 1, size), inside.iter().sum::<u64>());
        assert_eq!(window(&squares, side, 2, 1, size), inside.iter().map(|v| v * v).sum::<u64>());
        let (a, b): (Vec<f32>, Vec<f32>) = (0..37).map(|i| (i as f32, (i % 5) as f32)).unzip();
        let direct: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(x * y)).sum();
        assert_eq!(dot(&a, &b), direct);
    }

    #[test]
    fn the_mean_of_the_rows_is_the_template_and_places_are_kept_by_row() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let set = super::super::cache::tests::films(folder.path(), 4);
        let recipe = Recipe { size: 40, ..Recipe::default() };
        let cache = Cache::open(folder.path(), &set, &recipe, &|_, _| {}).expect("made");
        let template = Template::mean(&cache, &[0, 2], 32).expect("contrast");
        let found = offsets(&cache, &[0, 2], 32, Some(&template), &|_, _| {}).expect("placed");
        assert_eq!((found[1], found[3]), ([4, 4], [4, 4]), "not asked for: the middle");
        assert_eq!(found[0][0], 4, "the step between dark and bright lies where the mean has it");
        assert!(offsets(&cache, &[0], 64, None, &|_, _| {}).is_err());
        // Kept for the next start, and made anew where the file is damaged.
        let place = |quiet: bool| {
            let progress = |_: usize, _: usize| assert!(!quiet, "nothing to place");
            kept_offsets(folder.path(), &cache, &[0, 2], 32, Some(&template), &progress).expect("placed")
        };
        assert_eq!((place(false), place(true)), (found.clone(), found.clone()));
        let mut files = std::fs::read_dir(folder.path()).expect("listed").flatten();
        let file = files.find(|f| f.file_name().to_string_lossy().starts_with("windows-")).expect("kept").path();
        let mut bytes = std::fs::read(&file).expect("read");
        bytes[64] = 9;
        std::fs::write(&file, &bytes).expect("written");
        assert_eq!(place(false), found, "an offset beyond the margin");
    }
}
