//! Where a model looks over many images: mean maps per label and for the most probable label (paper section 3.4).
//!
//! The paper takes two batches of 200 random images and shows the mean map of each; two batches that look alike tell
//! that the number sufficed. A model that looks at markers and borders shows it here more clearly than in any one
//! image, so the share of heat in the outer border, in the corners and outside the lungs stands beside each map. All
//! maps are brought to one square grid: radiographs differ in size and are not registered to each other.

use std::collections::BTreeSet;

use chestnut_stats::random::Stream;
use serde::{Deserialize, Serialize};

use super::shortcut::{BORDER_SHARE, CORNER_SHARE, in_border, in_corner};
use super::{ExplainError, HeatMap, Mask};
use crate::image::Radiograph;

/// Side of the common grid.
pub const DEFAULT_GRID: usize = 64;
/// Largest grid.
pub const MAX_GRID: usize = 2048;
/// Images of each of the paper's two batches.
pub const PAPER_BATCH: usize = 200;

/// A running mean of maps of any size on one square grid.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanMap {
    side: usize,
    sums: Vec<f64>,
    images: usize,
    flat: usize,
}

impl MeanMap {
    /// Without any map yet.
    ///
    /// # Errors
    /// [`ExplainError::Setting`] for a side of 0 or above [`MAX_GRID`].
    pub fn new(side: usize) -> Result<Self, ExplainError> {
        if !(1..=MAX_GRID).contains(&side) {
            return Err(ExplainError::setting("grid of the population map", side, format!("1 to {MAX_GRID}")));
        }
        Ok(Self { side, sums: vec![0.0; side * side], images: 0, flat: 0 })
    }

    /// Adds a map, brought to the grid and then scaled from 0 to 1 so that each image weighs the same. A flat map
    /// points nowhere: it is counted in [`MeanMap::flat`] and not added.
    ///
    /// # Errors
    /// None for maps that [`HeatMap::new`] made.
    pub fn add(&mut self, map: &HeatMap) -> Result<(), ExplainError> {
        if map.is_flat() {
            self.flat += 1;
            return Ok(());
        }
        let small = to_grid(map, self.side)?.min_max();
        self.sums.iter_mut().zip(&small.values).for_each(|(sum, &v)| *sum += f64::from(v));
        self.images += 1;
        Ok(())
    }

    /// Adds what another one holds. In a fixed order of merges the result does not depend on threads.
    ///
    /// # Errors
    /// [`ExplainError::Length`] for another grid.
    pub fn merge(&mut self, other: &Self) -> Result<(), ExplainError> {
        ExplainError::check_length("side of the population map", other.side, self.side)?;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, v)| *sum += v);
        self.images += other.images;
        self.flat += other.flat;
        Ok(())
    }

    /// Maps in the mean.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Maps that were left out because they are flat.
    #[must_use]
    pub fn flat(&self) -> usize {
        self.flat
    }

    /// The mean, on the grid; `None` without any map.
    #[must_use]
    pub fn mean(&self) -> Option<HeatMap> {
        let n = self.images as f64;
        let values: Vec<f64> = self.sums.iter().map(|sum| sum / n).collect();
        (self.images > 0).then(|| HeatMap::from_f64(self.side, self.side, &values).ok()).flatten()
    }
}

/// A map on a square grid: means over cells if it is finer than the grid, so that no pixel is left out; else bilinear.
fn to_grid(map: &HeatMap, side: usize) -> Result<HeatMap, ExplainError> {
    if map.width.min(map.height) < side {
        return map.resized(side, side);
    }
    let picture = Radiograph { width: map.width, height: map.height, pixels: map.values.clone(), bits: 32 };
    HeatMap::new(side, side, picture.cell_means(side, side))
}

/// Mean maps of one batch of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Population {
    /// Names of the labels.
    pub labels: Vec<String>,
    /// The map of each label, over all images.
    pub by_label: Vec<MeanMap>,
    /// The map of each label, over the images where it is the most probable one.
    pub by_top_label: Vec<MeanMap>,
    /// The map of the most probable label of each image: the paper's population map.
    pub top: MeanMap,
}

impl Population {
    /// Without any image yet; `grid` as [`MeanMap::new`].
    ///
    /// # Errors
    /// As [`MeanMap::new`].
    pub fn new(labels: &[String], grid: usize) -> Result<Self, ExplainError> {
        let top = MeanMap::new(grid)?;
        let each = vec![top.clone(); labels.len()];
        Ok(Self { labels: labels.to_vec(), by_label: each.clone(), by_top_label: each, top })
    }

    /// Adds an image's map of label number `label`. Labels of one image may come one by one or not at all.
    ///
    /// # Errors
    /// [`ExplainError::Output`] for a label that there is not.
    pub fn add(&mut self, label: usize, is_top: bool, map: &HeatMap) -> Result<(), ExplainError> {
        let count = self.labels.len();
        let missing = || ExplainError::Output { what: "the population map", found: label, count };
        self.by_label.get_mut(label).ok_or_else(missing)?.add(map)?;
        if is_top {
            self.by_top_label.get_mut(label).ok_or_else(missing)?.add(map)?;
            self.top.add(map)?;
        }
        Ok(())
    }

    /// Adds another batch.
    ///
    /// # Errors
    /// [`ExplainError::Length`] for other labels or another grid.
    pub fn merge(&mut self, other: &Self) -> Result<(), ExplainError> {
        ExplainError::check_length("labels of the population map", other.labels.len(), self.labels.len())?;
        for (mine, theirs) in self.by_label.iter_mut().zip(&other.by_label) {
            mine.merge(theirs)?;
        }
        for (mine, theirs) in self.by_top_label.iter_mut().zip(&other.by_top_label) {
            mine.merge(theirs)?;
        }
        self.top.merge(&other.top)
    }
}

/// The label with the highest probability, the first of equal ones; `None` without a number among them.
#[must_use]
pub fn top_label(probabilities: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, p) in probabilities.iter().enumerate().filter(|(_, p)| !p.is_nan()) {
        if best.is_none_or(|b| *p > probabilities[b]) {
            best = Some(i);
        }
    }
    best
}

/// Two batches of random images of `patients` (one entry per image), in ascending order: drawn without replacement, and
/// no patient is in both. With fewer than twice `size` images, or few patients, the batches are smaller.
#[must_use]
pub fn two_batches<P: Ord>(patients: &[P], size: usize, seed: u64) -> [Vec<usize>; 2] {
    let size = size.min(patients.len() / 2);
    let mut order: Vec<usize> = (0..patients.len()).collect();
    Stream::keyed(seed, "population batches").shuffle(&mut order);
    let mut first: Vec<usize> = order.iter().copied().take(size).collect();
    let taken: BTreeSet<&P> = first.iter().map(|&i| &patients[i]).collect();
    let is_free = |i: &usize| !taken.contains(&patients[*i]);
    let mut second: Vec<usize> = order.iter().copied().skip(size).filter(is_free).take(size).collect();
    first.sort_unstable();
    second.sort_unstable();
    [first, second]
}

/// Shares of a map's heat, each 0 to 1, beside the share of the image that an even map would give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatShares {
    /// In the outer [`BORDER_SHARE`] along each side.
    pub border: f64,
    /// Share of the image that this border takes.
    pub border_area: f64,
    /// In four squares of [`CORNER_SHARE`] of the sides.
    pub corners: f64,
    /// Share of the image that they take.
    pub corners_area: f64,
    /// Outside the lungs, if they were given.
    pub outside_lungs: Option<f64>,
    /// Share of the image that lies outside the lungs.
    pub outside_lungs_area: Option<f64>,
}

/// Where the heat lies. Values below 0 count as none. `lungs` is brought to the map's size.
///
/// `None` if no value is above 0.
///
/// # Errors
/// [`ExplainError`] for lungs of an impossible size.
pub fn heat_shares(map: &HeatMap, lungs: Option<&Mask>) -> Result<Option<HeatShares>, ExplainError> {
    let lungs = lungs.map(|mask| mask.resized_nearest(map.width, map.height)).transpose()?;
    let total: f64 = map.values.iter().map(|&v| f64::from(v.max(0.0))).sum();
    if total <= 0.0 {
        return Ok(None);
    }
    let share = |is_inside: &dyn Fn(usize, usize) -> bool| {
        let (mut heat, mut pixels) = (0.0, 0usize);
        for (i, &value) in map.values.iter().enumerate() {
            if is_inside(i % map.width, i / map.width) {
                heat += f64::from(value.max(0.0));
                pixels += 1;
            }
        }
        (heat / total, pixels as f64 / map.values.len() as f64)
    };
    let (border, border_area) = share(&|x, y| in_border(x, y, map.width, map.height));
    let (corners, corners_area) = share(&|x, y| in_corner(x, y, map.width, map.height));
    let (outside_lungs, outside_lungs_area) = lungs.map(|mask| share(&|x, y| !mask.get(x, y))).unzip();
    Ok(Some(HeatShares { border, border_area, corners, corners_area, outside_lungs, outside_lungs_area }))
}

/// Pearson's correlation of two maps of one size, -1 to 1; `None` if one is flat or the sizes differ.
#[must_use]
pub fn correlation(a: &HeatMap, b: &HeatMap) -> Option<f64> {
    if (a.width, a.height) != (b.width, b.height) || a.is_flat() || b.is_flat() {
        return None;
    }
    let n = a.values.len() as f64;
    let (mean_a, mean_b) = (a.sum() / n, b.sum() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.values.iter().zip(&b.values) {
        let (x, y) = (f64::from(x) - mean_a, f64::from(y) - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    Some((ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

/// One line on how a map's heat is spread, for captions and reports.
#[must_use]
pub fn describe_shares(shares: &HeatShares) -> String {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut text = format!(
        "{} of the heat in the outer {} (an even map: {}), {} in the corners of {} ({})",
        percent(shares.border),
        percent(BORDER_SHARE),
        percent(shares.border_area),
        percent(shares.corners),
        percent(CORNER_SHARE),
        percent(shares.corners_area)
    );
    if let (Some(heat), Some(area)) = (shares.outside_lungs, shares.outside_lungs_area) {
        text.push_str(&format!(", {} outside the lungs ({})", percent(heat), percent(area)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: &mut Stream, width: usize, height: usize) -> HeatMap {
        HeatMap::new(width, height, (0..width * height).map(|_| draw.uniform() as f32).collect()).expect("whole")
    }

    #[test]
    fn an_even_map_has_its_areas_as_shares() {
        let lungs = Mask::new(10, 10, (0..100).map(|i| (2..8).contains(&(i % 10))).collect()).expect("whole");
        for (width, height) in [(64, 64), (20, 50), (7, 7), (1, 1)] {
            let even = HeatMap::new(width, height, vec![0.5; width * height]).expect("whole");
            let s = heat_shares(&even, Some(&lungs)).expect("possible").expect("heat");
            assert!((s.border - s.border_area).abs() < 1e-9 && (s.corners - s.corners_area).abs() < 1e-9);
            assert!((s.outside_lungs.expect("given") - s.outside_lungs_area.expect("given")).abs() < 1e-9);
        }
        let even = HeatMap::new(20, 50, vec![0.5; 1000]).expect("whole");
        let s = heat_shares(&even, Some(&lungs)).expect("possible").expect("heat");
        assert!((s.border_area - 0.36).abs() < 1e-12, "1 - 0.8 x 0.8: {}", s.border_area);
        assert!((s.outside_lungs_area.expect("given") - 0.4).abs() < 1e-12);
        let corner = HeatMap::new(3, 1, vec![1.0, 0.0, -5.0]).expect("whole");
        assert_eq!(heat_shares(&corner, None).expect("possible").expect("heat").outside_lungs, None);
        let cold = HeatMap::new(2, 1, vec![0.0, -1.0]).expect("whole");
        assert_eq!(heat_shares(&cold, None), Ok(None));
    }

    #[test]
    fn means_are_means_of_scaled_maps_in_any_grouping() {
        let mut draw = Stream::keyed(1, "population");
        let maps: Vec<HeatMap> = [(8, 8), (40, 24), (8, 16), (3, 3)].map(|(w, h)| drawn(&mut draw, w, h)).to_vec();
        let (mut all, mut a, mut b) =
            (MeanMap::new(8).expect("a grid"), MeanMap::new(8).expect("a grid"), MeanMap::new(8).expect("a grid"));
        for (i, map) in maps.iter().enumerate() {
            all.add(map).expect("whole");
            let part = if i < 2 { &mut a } else { &mut b };
            part.add(map).expect("whole");
        }
        all.add(&HeatMap::new(5, 5, vec![2.0; 25]).expect("whole")).expect("whole");
        a.merge(&b).expect("one grid");
        assert_eq!((all.images(), all.flat(), a.images()), (4, 1, 4));
        let (mean, merged) = (all.mean().expect("maps"), a.mean().expect("maps"));
        assert!(mean.values.iter().zip(&merged.values).all(|(x, y)| (x - y).abs() < 1e-6));
        let by_hand: f32 = maps.iter().map(|m| to_grid(m, 8).expect("possible").min_max().get(3, 5)).sum();
        assert!((mean.get(3, 5) - by_hand / 4.0).abs() < 1e-6);
        assert_eq!(MeanMap::new(8).expect("a grid").mean(), None);
        assert!(MeanMap::new(0).is_err() && a.merge(&MeanMap::new(9).expect("a grid")).is_err());
    }

    #[test]
    fn a_population_counts_the_top_label_apart() {
        let mut draw = Stream::keyed(2, "population");
        let mut all = Population::new(&["Lung".to_owned(), "PNX".to_owned()], 8).expect("a grid");
        for probabilities in [[0.2, 0.7], [0.9, 0.1], [0.5, 0.5]] {
            let top = top_label(&probabilities);
            for label in 0..2 {
                all.add(label, top == Some(label), &drawn(&mut draw, 7, 7)).expect("a label");
            }
        }
        let counts = |maps: &[MeanMap]| maps.iter().map(MeanMap::images).collect::<Vec<_>>();
        assert_eq!((counts(&all.by_label), counts(&all.by_top_label), all.top.images()), (vec![3, 3], vec![2, 1], 3));
        assert!(all.add(2, false, &drawn(&mut draw, 7, 7)).is_err());
        assert_eq!((top_label(&[f64::NAN, 0.1]), top_label(&[]), top_label(&[f64::NAN])), (Some(1), None, None));
    }

    #[test]
    fn batches_share_no_patient() {
        for (patients, size) in [(900, 200), (100, 200), (7, 2), (1, 5), (0, 5)] {
            let of_image: Vec<usize> = (0..patients).map(|i| i / 2).collect();
            let [first, second] = two_batches(&of_image, size, 4);
            assert_eq!(first.len(), size.min(patients / 2));
            assert!(second.len() <= size && first.windows(2).all(|w| w[0] < w[1]));
            assert!(first.iter().all(|&i| second.iter().all(|&j| of_image[i] != of_image[j])));
            assert_eq!([first, second], two_batches(&of_image, size, 4));
        }
        let [_, second] = two_batches(&(0..900).collect::<Vec<_>>(), 200, 4);
        assert_eq!(second.len(), 200);
    }

    #[test]
    fn correlation_is_pearsons() {
        let a = HeatMap::new(4, 1, vec![1.0, 2.0, 3.0, 4.0]).expect("whole");
        let b = HeatMap::new(4, 1, vec![1.0, 3.0, 2.0, 4.0]).expect("whole");
        assert!((correlation(&a, &b).expect("not flat") - 0.8).abs() < 1e-12);
        assert!((correlation(&a, &a).expect("not flat") - 1.0).abs() < 1e-12);
        assert_eq!(correlation(&a, &HeatMap::new(4, 1, vec![1.0; 4]).expect("whole")), None);
        assert_eq!(correlation(&a, &HeatMap::new(2, 2, vec![1.0, 2.0, 0.0, 3.0]).expect("whole")), None);
    }
}
