//! Heat maps that look inside nothing: hide parts of the image and see what the prediction does.
//!
//! They cost many predictions and need no gradient, so they serve any chain, trees and ensembles included, and check
//! the maps that do look inside. Images are the recipe's grey squares, before standardisation; hidden parts take the
//! image's mean grey, which is less of an edge than black. `predict` gets a batch of squares and gives the label's
//! score of each.
//!
//! Occlusion: Zeiler and Fergus 2014. RISE: Petsiuk, Das and Saenko 2018. The paper uses neither.

use super::{ExplainError, HeatMap};
use chestnut_stats::random::Stream;

/// Images per call of `predict`, at most.
pub const BATCH: usize = 32;
/// Most predictions of one map.
pub const MAX_PREDICTIONS: usize = 100_000;

/// From a batch of squares to one score each.
pub type Predict<'a, E> = dyn FnMut(&[Vec<f32>]) -> Result<Vec<f64>, E> + 'a;
/// Told after each batch how many predictions are done, of how many.
pub type OnProgress<'a> = dyn FnMut(usize, usize) + 'a;

/// A grey square and its side.
#[derive(Clone, Copy, Debug)]
pub struct Square<'a> {
    size: usize,
    grey: &'a [f32],
}

impl<'a> Square<'a> {
    /// Wraps `size * size` grey values, row by row ([`crate::image::recipe::Prepared`]).
    ///
    /// # Errors
    /// [`ExplainError`] if it is empty, of another length or not finite.
    pub fn new(size: usize, grey: &'a [f32]) -> Result<Self, ExplainError> {
        let pixels = ExplainError::check_size("an image", size, size)?;
        ExplainError::check_length("the image", grey.len(), pixels)?;
        match grey.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(ExplainError::NotFinite { what: "the image", at }),
            None => Ok(Self { size, grey }),
        }
    }

    fn mean(&self) -> f32 {
        (self.grey.iter().map(|&v| f64::from(v)).sum::<f64>() / self.grey.len() as f64) as f32
    }
}

/// A square patch that slides over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occlusion {
    /// Side of the patch in pixels.
    pub patch: usize,
    /// Step in pixels, at most the patch, so that every pixel is hidden at least once.
    pub stride: usize,
}

impl Default for Occlusion {
    /// 32 pixels, the footprint of one position of a 7 x 7 map at 224; half overlapping.
    fn default() -> Self {
        Self { patch: 32, stride: 16 }
    }
}

impl Occlusion {
    /// First pixels of the patches along a side of `size` pixels.
    fn starts(self, size: usize) -> Vec<usize> {
        let Some(last) = size.checked_sub(self.patch) else { return Vec::new() };
        let mut starts: Vec<usize> = (0..=last).step_by(self.stride.max(1)).collect();
        if starts.last() != Some(&last) {
            starts.push(last);
        }
        starts
    }

    /// Predictions of a map of an image of `size` x `size`, that of the whole image aside.
    #[must_use]
    pub fn predictions(self, size: usize) -> usize {
        self.starts(size).len().pow(2)
    }
}

/// Mean fall of the score over the patches that hide a pixel: positive where the image speaks for the label.
///
/// Patches start at multiples of the stride; the last of each row and column lies flush with the border.
///
/// # Errors
/// What `predict` says, or [`ExplainError`] for impossible settings and scores that are not numbers.
pub fn occlusion<E: From<ExplainError>>(
    image: Square,
    settings: Occlusion,
    predict: &mut Predict<E>,
    progress: &mut OnProgress,
) -> Result<HeatMap, E> {
    let Occlusion { patch, stride } = settings;
    let size = image.size;
    if !(1..=size).contains(&patch) {
        return Err(ExplainError::setting("the occlusion patch", patch, format!("1 to {size} pixels")).into());
    }
    if !(1..=patch).contains(&stride) {
        return Err(ExplainError::setting("the occlusion stride", stride, format!("1 to {patch} pixels")).into());
    }
    let starts = settings.starts(size);
    let corners: Vec<(usize, usize)> = starts.iter().flat_map(|&y| starts.iter().map(move |&x| (x, y))).collect();
    check_predictions(corners.len())?;
    let mean = image.mean();
    let whole = scores(&[image.grey.to_vec()], predict)?[0];
    let (mut falls, mut counts) = (vec![0.0; image.grey.len()], vec![0_u32; image.grey.len()]);
    let mut done = 0;
    for batch in corners.chunks(BATCH) {
        let hidden: Vec<Vec<f32>> = batch
            .iter()
            .map(|&(x, y)| {
                let mut grey = image.grey.to_vec();
                (y..y + patch).for_each(|row| grey[row * size + x..][..patch].fill(mean));
                grey
            })
            .collect();
        for (&(x, y), score) in batch.iter().zip(scores(&hidden, predict)?) {
            for row in y..y + patch {
                let span = row * size + x..row * size + x + patch;
                falls[span.clone()].iter_mut().for_each(|f| *f += whole - score);
                counts[span].iter_mut().for_each(|c| *c += 1);
            }
        }
        done += batch.len();
        progress(done, corners.len());
    }
    falls.iter_mut().zip(&counts).for_each(|(f, &c)| *f /= f64::from(c.max(1)));
    Ok(HeatMap::from_f64(size, size, &falls)?)
}

/// Random masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rise {
    /// Number of masks: noise falls with its square root.
    pub masks: usize,
    /// Cells per side of a mask before it is made smooth, 1 to the image's side.
    pub grid: usize,
    /// Probability that a cell is shown, between 0 and 1.
    pub shown: f64,
    /// Seed of the masks.
    pub seed: u64,
}

impl Default for Rise {
    /// 4,000 masks of 7 x 7 cells, half of them shown: the RISE authors' settings for 224 pixels.
    fn default() -> Self {
        Self { masks: 4000, grid: 7, shown: 0.5, seed: 0 }
    }
}

/// Mean score of the masked images, weighted for each pixel by how much of it was shown: in units of the score.
///
/// The published estimate divides by the expected weight of a pixel; here it is the weight that was drawn, which is the
/// same in the limit and less noisy. Only differences within the map mean something.
///
/// # Errors
/// As [`occlusion`].
pub fn rise<E: From<ExplainError>>(
    image: Square,
    settings: Rise,
    predict: &mut Predict<E>,
    progress: &mut OnProgress,
) -> Result<HeatMap, E> {
    let size = image.size;
    if !(1..=size).contains(&settings.grid) {
        return Err(ExplainError::setting("the RISE grid", settings.grid, format!("1 to {size} cells")).into());
    }
    if !(settings.shown > 0.0 && settings.shown < 1.0) {
        return Err(ExplainError::setting("the RISE probability", settings.shown, "between 0 and 1").into());
    }
    check_predictions(settings.masks)?;
    let mean = image.mean();
    let stream = Stream::keyed(settings.seed, "rise");
    let (mut sums, mut weights) = (vec![0.0; image.grey.len()], vec![0.0; image.grey.len()]);
    let mut all_scores = 0.0;
    let order: Vec<usize> = (0..settings.masks).collect();
    for batch in order.chunks(BATCH) {
        let masks: Vec<Vec<f32>> =
            batch.iter().map(|&i| rise_mask(&mut stream.child(i as u64), size, &settings)).collect();
        let masked =
            |mask: &Vec<f32>| image.grey.iter().zip(mask).map(|(&v, &m)| mean + (v - mean) * m).collect::<Vec<f32>>();
        let images: Vec<Vec<f32>> = masks.iter().map(masked).collect();
        for (mask, score) in masks.iter().zip(scores(&images, predict)?) {
            all_scores += score;
            for ((sum, weight), &m) in sums.iter_mut().zip(&mut weights).zip(mask) {
                *sum += score * f64::from(m);
                *weight += f64::from(m);
            }
        }
        progress(batch[batch.len() - 1] + 1, settings.masks);
    }
    // A pixel that no mask showed says nothing: it gets the mean score.
    let nothing = all_scores / settings.masks as f64;
    sums.iter_mut().zip(&weights).for_each(|(s, &w)| *s = if w > 0.0 { *s / w } else { nothing });
    Ok(HeatMap::from_f64(size, size, &sums)?)
}

/// One smooth mask, 0 (hidden) to 1 (shown): a grid with one cell more than asked for, shifted by less than a cell.
fn rise_mask(draw: &mut Stream, size: usize, settings: &Rise) -> Vec<f32> {
    let (cell, side) = (size.div_ceil(settings.grid), settings.grid + 1);
    let cells: Vec<f32> = (0..side * side).map(|_| f32::from(draw.uniform() < settings.shown)).collect();
    let (dx, dy) = (draw.below(cell), draw.below(cell));
    // Between the centres of two cells, as bilinear enlargement has it.
    let between = |pixel: usize| {
        let at = (pixel as f32 + 0.5) / cell as f32 - 0.5;
        let lower = at.floor().max(0.0) as usize;
        (lower.min(side - 1), (at.ceil().max(0.0) as usize).min(side - 1), at - at.floor())
    };
    let columns: Vec<(usize, usize, f32)> = (0..size).map(|x| between(x + dx)).collect();
    let mut mask = Vec::with_capacity(size * size);
    for (upper, lower, down) in (0..size).map(|y| between(y + dy)) {
        let blend = |row: usize, &(left, right, part): &(usize, usize, f32)| {
            let (a, b) = (cells[row * side + left], cells[row * side + right]);
            a + (b - a) * part
        };
        mask.extend(columns.iter().map(|column| {
            let (a, b) = (blend(upper, column), blend(lower, column));
            a + (b - a) * down
        }));
    }
    mask
}

/// Scores of a batch, one per image and all of them numbers.
fn scores<E: From<ExplainError>>(images: &[Vec<f32>], predict: &mut Predict<E>) -> Result<Vec<f64>, E> {
    let scores = predict(images)?;
    ExplainError::check_length("the scores of hidden images", scores.len(), images.len())?;
    match scores.iter().position(|s| !s.is_finite()) {
        Some(at) => Err(ExplainError::NotFinite { what: "the scores of hidden images", at }.into()),
        None => Ok(scores),
    }
}

fn check_predictions(count: usize) -> Result<(), ExplainError> {
    if (1..=MAX_PREDICTIONS).contains(&count) {
        return Ok(());
    }
    Err(ExplainError::setting("the number of predictions", count, format!("1 to {MAX_PREDICTIONS}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 40;

    /// A bright spot on a dark image, and a model that sees the spot only.
    fn spot() -> Vec<f32> {
        (0..SIZE * SIZE).map(|i| f32::from(is_spot(i))).collect()
    }

    fn is_spot(i: usize) -> bool {
        (24..32).contains(&(i % SIZE)) && (8..16).contains(&(i / SIZE))
    }

    fn model(images: &[Vec<f32>]) -> Result<Vec<f64>, ExplainError> {
        assert!((1..=BATCH).contains(&images.len()) && images.iter().all(|i| i.len() == SIZE * SIZE));
        let sees = |grey: &Vec<f32>| {
            grey.iter().enumerate().filter(|&(i, _)| is_spot(i)).map(|(_, &v)| f64::from(v)).sum::<f64>()
        };
        Ok(images.iter().map(sees).collect())
    }

    #[test]
    fn both_find_the_spot() {
        let grey = spot();
        let image = Square::new(SIZE, &grey).expect("whole");
        let mut seen = Vec::new();
        let settings = Occlusion { patch: 8, stride: 5 };
        let falls = occlusion::<ExplainError>(image, settings, &mut model, &mut |done, all| seen.push((done, all)))
            .expect("runs");
        // Starts 0, 5, ..., 30 and, flush with the border, 32: 8 x 8 patches.
        assert_eq!(seen, [(32, 64), (64, 64)]);
        assert_eq!(falls.get(0, 39), 0.0, "far from the spot nothing falls");
        let rise_settings = Rise { masks: 400, grid: 5, ..Rise::default() };
        let shown = rise::<ExplainError>(image, rise_settings, &mut model, &mut |_, _| {}).expect("runs");
        for map in [&falls, &shown] {
            let inside: Vec<f32> = (0..SIZE * SIZE).filter(|&i| is_spot(i)).map(|i| map.values[i]).collect();
            let least = inside.into_iter().fold(f32::INFINITY, f32::min);
            let far = (0..SIZE * SIZE).filter(|i| i % SIZE < 12 || i / SIZE > 27).map(|i| map.values[i]);
            assert!(far.fold(f32::NEG_INFINITY, f32::max) < least, "the spot is the hottest place");
        }
        let again = rise::<ExplainError>(image, rise_settings, &mut model, &mut |_, _| {}).expect("runs");
        assert_eq!(shown, again, "the same seed, the same bits");
    }

    #[test]
    fn masks_are_smooth_and_half_shown() {
        let settings = Rise { masks: 1, grid: 7, shown: 0.3, seed: 5 };
        let mut sum = 0.0;
        for i in 0..300 {
            let mask = rise_mask(&mut Stream::keyed(5, "rise").child(i), 30, &settings);
            assert_eq!(mask.len(), 900);
            assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)));
            // A cell has ceil(30 / 7) = 5 pixels, so neighbours differ by a fifth at most.
            assert!(mask.chunks(30).all(|row| row.windows(2).all(|w| (w[0] - w[1]).abs() < 0.2001)));
            sum += mask.iter().map(|&m| f64::from(m)).sum::<f64>() / 900.0;
        }
        // Standard error of the mean of 300 masks with some 36 cells of deviation 0.46 each: below 0.005.
        assert!((sum / 300.0 - 0.3).abs() < 0.03, "{sum}");
    }

    #[test]
    fn bad_settings_and_bad_models_are_named() {
        let grey = spot();
        let image = Square::new(SIZE, &grey).expect("whole");
        let mut quiet = |_: usize, _: usize| {};
        for (patch, stride) in [(0, 1), (41, 1), (8, 0), (8, 9)] {
            let settings = Occlusion { patch, stride };
            let error = occlusion::<ExplainError>(image, settings, &mut model, &mut quiet).expect_err("must fail");
            assert!(matches!(error, ExplainError::Setting { .. }), "{error}");
        }
        let base = Rise { masks: 10, ..Rise::default() };
        for bad in [
            Rise { masks: 0, ..base },
            Rise { masks: MAX_PREDICTIONS + 1, ..base },
            Rise { grid: 0, ..base },
            Rise { grid: 41, ..base },
            Rise { shown: 1.0, ..base },
            Rise { shown: f64::NAN, ..base },
        ] {
            assert!(rise::<ExplainError>(image, bad, &mut model, &mut quiet).is_err(), "{bad:?}");
        }
        let mut short = |_: &[Vec<f32>]| Ok::<_, ExplainError>(vec![0.5; 3]);
        assert!(matches!(
            rise::<ExplainError>(image, base, &mut short, &mut quiet),
            Err(ExplainError::Length { found: 3, .. })
        ));
        let mut nan = |images: &[Vec<f32>]| Ok::<_, ExplainError>(vec![f64::NAN; images.len()]);
        assert!(matches!(rise::<ExplainError>(image, base, &mut nan, &mut quiet), Err(ExplainError::NotFinite { .. })));
        assert!(Square::new(3, &[0.0; 8]).is_err() && Square::new(0, &[]).is_err());
    }
}
