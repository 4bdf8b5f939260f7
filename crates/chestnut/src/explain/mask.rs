//! From heat to pixels: which part of an image a map points at, its connected components, and boxes round them.
//!
//! The paper keeps the pixels above the 0.8 quantile, so its masks always cover a fifth of the image (protocol section
//! 7); other rules are here because a fifth is a lot for a nodule and little for a large effusion. Whatever the rule,
//! pixels at the map's least value are never inside: after a ReLU large parts of a map can be equal and mean "no
//! evidence", and a quantile among them would put the whole image into the mask. A flat map therefore gives an empty
//! mask.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CamKind, ExplainError, HeatMap};

/// The paper's quantile (section 2.5).
pub const PAPER_QUANTILE: f64 = 0.8;
/// The predecessor's share of the greatest value (protocol section 7).
pub const LEGACY_PEAK: f64 = 0.5;
/// Least share of a mask's area for a part to get a box of its own: specks of a few pixels are no finding.
pub const LEAST_PART: f64 = 0.05;
/// Bins of Otsu's histogram.
const OTSU_BINS: usize = 256;

/// Some pixels of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Columns, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// `[row][column]`: whether the pixel belongs to it.
    pub inside: Vec<bool>,
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
}

/// Pixels that hang together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Places in [`Mask::inside`], ascending.
    pub pixels: Vec<usize>,
    /// Smallest rectangle that holds them.
    pub region: Region,
}

/// How a heat map becomes a mask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskRule {
    /// Pixels at or above this quantile of the map, 0 to 1; the paper's is 0.8.
    Quantile(f64),
    /// Otsu's threshold: the two sides differ most.
    Otsu,
    /// The fewest pixels that hold this share of the positive heat, above 0 and up to 1.
    Share(f64),
    /// Pixels at or above this share of the greatest value, above 0 and up to 1; the predecessor's is 0.5.
    Peak(f64),
}

impl Default for MaskRule {
    /// The paper's.
    fn default() -> Self {
        Self::Quantile(PAPER_QUANTILE)
    }
}

impl MaskRule {
    /// The rule that belongs to a kind of map: the predecessor's for its own, else the paper's.
    #[must_use]
    pub fn of(kind: CamKind) -> Self {
        match kind {
            CamKind::Legacy => Self::Peak(LEGACY_PEAK),
            CamKind::GradCam | CamKind::HiRes => Self::default(),
        }
    }

    /// Makes the mask.
    ///
    /// # Errors
    /// [`ExplainError::Setting`] for a number out of range.
    pub fn mask(self, map: &HeatMap) -> Result<Mask, ExplainError> {
        match self {
            Self::Quantile(q) => quantile_mask(map, q),
            Self::Otsu => Ok(otsu_mask(map)),
            Self::Share(share) => share_mask(map, share),
            Self::Peak(share) => peak_mask(map, share),
        }
    }

    /// One line for captions and reports.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Quantile(q) => format!("pixels at or above the {q} quantile of the map"),
            Self::Otsu => "pixels above Otsu's threshold".to_owned(),
            Self::Share(share) => format!("fewest pixels with {share} of the positive heat"),
            Self::Peak(share) => format!("pixels with at least {share} of the greatest heat"),
        }
    }

    /// A few words for the legend of a picture.
    #[must_use]
    pub fn legend(self) -> String {
        // Rounded, since 1 - 0.8 is a little more than a fifth.
        let percent = |share: f64| (1000.0 * share).round() / 10.0;
        match self {
            Self::Quantile(q) if q == PAPER_QUANTILE => "hottest fifth".to_owned(),
            Self::Quantile(q) => format!("hottest {} %", percent(1.0 - q)),
            Self::Otsu => "above Otsu's threshold".to_owned(),
            Self::Share(share) => format!("{} % of the heat", percent(share)),
            Self::Peak(share) => format!("at least {} % of the peak", percent(share)),
        }
    }

    fn check(self) -> Result<(), ExplainError> {
        match self {
            Self::Quantile(q) if (0.0..=1.0).contains(&q) => Ok(()),
            Self::Quantile(q) => Err(ExplainError::setting("the quantile of the mask", q, "0 to 1")),
            Self::Otsu => Ok(()),
            Self::Share(share) | Self::Peak(share) => check_share(share),
        }
    }
}

impl fmt::Display for MaskRule {
    /// As on the command line and in tables: `quantile:0.8`, `otsu`, `share:0.1`, `peak:0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(q) => write!(f, "quantile:{q}"),
            Self::Otsu => f.write_str("otsu"),
            Self::Share(share) => write!(f, "share:{share}"),
            Self::Peak(share) => write!(f, "peak:{share}"),
        }
    }
}

impl FromStr for MaskRule {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        const RULES: &str = "quantile:Q, otsu, share:S or peak:P, with a number of 0 to 1 such as quantile:0.8";
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, number.parse::<f64>().ok()),
            None => (text, None),
        };
        let rule = match (name, number) {
            ("quantile", Some(q)) => Self::Quantile(q),
            ("otsu", None) if text == name => Self::Otsu,
            ("share", Some(share)) => Self::Share(share),
            ("peak", Some(share)) => Self::Peak(share),
            _ => return Err(ExplainError::setting("the rule of the mask", text, RULES)),
        };
        rule.check()?;
        Ok(rule)
    }
}

/// Pixels whose value is at or above the `q` quantile (linear interpolation, NumPy's default) and above the least
/// value.
///
/// Without ties the mask covers 1 - q of the image to within one pixel. Pixels that tie with the quantile are all
/// inside, so plateaus make it larger; a quantile that ties with the least value makes it smaller.
///
/// # Errors
/// [`ExplainError::Setting`] for a quantile outside 0..1.
pub fn quantile_mask(map: &HeatMap, q: f64) -> Result<Mask, ExplainError> {
    MaskRule::Quantile(q).check()?;
    Ok(at_least(map, map.quantile(q)))
}

/// Otsu 1979: the threshold between two groups of pixels whose means differ most, over 256 bins from the least to the
/// greatest value; of equally good ones the lowest.
#[must_use]
pub fn otsu_mask(map: &HeatMap) -> Mask {
    let (low, high) = map.range();
    let (low, span) = (f64::from(low), f64::from(high) - f64::from(low));
    if span <= 0.0 {
        return nothing(map);
    }
    let bin = |v: f32| (((f64::from(v) - low) / span * OTSU_BINS as f64) as usize).min(OTSU_BINS - 1);
    let mut counts = [0_usize; OTSU_BINS];
    map.values.iter().for_each(|&v| counts[bin(v)] += 1);
    let all = map.values.len() as f64;
    let all_sum: f64 = counts.iter().enumerate().map(|(b, &n)| b as f64 * n as f64).sum();
    let (mut below, mut below_sum) = (0.0, 0.0);
    let (mut best, mut threshold) = (-1.0, 0);
    for (b, &n) in counts.iter().enumerate().take(OTSU_BINS - 1) {
        below += n as f64;
        below_sum += b as f64 * n as f64;
        // The first bin holds the least value and the last the greatest, so neither side is empty.
        let difference = below_sum / below - (all_sum - below_sum) / (all - below);
        let between = below * (all - below) * difference * difference;
        if between > best {
            (best, threshold) = (between, b);
        }
    }
    let inside = map.values.iter().map(|&v| bin(v) > threshold).collect();
    Mask { width: map.width, height: map.height, inside }
}

/// The fewest pixels that together hold `share` of the map's positive values; of equal pixels the first ones in reading
/// order. Empty if nothing is positive or the map is flat.
///
/// # Errors
/// [`ExplainError::Setting`] for a share outside 0..1 or of 0.
pub fn share_mask(map: &HeatMap, share: f64) -> Result<Mask, ExplainError> {
    check_share(share)?;
    let mut mask = nothing(map);
    if map.is_flat() {
        return Ok(mask);
    }
    let mut positive: Vec<usize> = (0..map.values.len()).filter(|&i| map.values[i] > 0.0).collect();
    positive.sort_by(|&a, &b| map.values[b].total_cmp(&map.values[a]));
    let wanted = share * positive.iter().map(|&i| f64::from(map.values[i])).sum::<f64>();
    let (low, _) = map.range();
    let mut held = 0.0;
    for i in positive {
        if held >= wanted || map.values[i] <= low {
            break;
        }
        held += f64::from(map.values[i]);
        mask.inside[i] = true;
    }
    Ok(mask)
}

/// Pixels with at least `share` of the map's greatest value. Empty if nothing is positive.
///
/// # Errors
/// As [`share_mask`].
pub fn peak_mask(map: &HeatMap, share: f64) -> Result<Mask, ExplainError> {
    check_share(share)?;
    let (_, high) = map.range();
    if high <= 0.0 {
        return Ok(nothing(map));
    }
    Ok(at_least(map, (share * f64::from(high)) as f32))
}

/// The predecessor's: pixels with at least half of the greatest value of its standardised mean map.
#[must_use]
pub fn legacy_mask(map: &HeatMap) -> Mask {
    peak_mask(map, LEGACY_PEAK).unwrap_or_else(|_| nothing(map))
}

fn check_share(share: f64) -> Result<(), ExplainError> {
    if share > 0.0 && share <= 1.0 {
        return Ok(());
    }
    Err(ExplainError::setting("the share of the mask", share, "above 0 and up to 1"))
}

/// Pixels at or above the threshold and above the least value.
fn at_least(map: &HeatMap, threshold: f32) -> Mask {
    let (low, _) = map.range();
    let inside = map.values.iter().map(|&v| v >= threshold && v > low).collect();
    Mask { width: map.width, height: map.height, inside }
}

fn nothing(map: &HeatMap) -> Mask {
    Mask { width: map.width, height: map.height, inside: vec![false; map.values.len()] }
}

/// Which boxes stand for a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxRule {
    /// One round the whole mask, as the paper draws it.
    #[default]
    Whole,
    /// One round each connected part that has at least [`LEAST_PART`] of the mask's area.
    Parts,
}

impl BoxRule {
    /// The boxes, the largest part first; none for an empty mask.
    #[must_use]
    pub fn boxes(self, mask: &Mask) -> Vec<Region> {
        match self {
            Self::Whole => mask.bounding_box().into_iter().collect(),
            Self::Parts => mask.regions(LEAST_PART),
        }
    }
}

impl FromStr for BoxRule {
    type Err = ExplainError;

    fn from_str(text: &str) -> Result<Self, ExplainError> {
        match text {
            "whole" => Ok(Self::Whole),
            "parts" => Ok(Self::Parts),
            _ => Err(ExplainError::setting("the kind of box", text, "whole or parts")),
        }
    }
}

impl Mask {
    /// Checks and wraps pixels.
    ///
    /// # Errors
    /// [`ExplainError`] if a side is 0, there are too many pixels, or `inside` has another length.
    pub fn new(width: usize, height: usize, inside: Vec<bool>) -> Result<Self, ExplainError> {
        let pixels = ExplainError::check_size("a mask", width, height)?;
        ExplainError::check_length("a mask", inside.len(), pixels)?;
        Ok(Self { width, height, inside })
    }

    /// Number of pixels inside.
    #[must_use]
    pub fn area(&self) -> usize {
        self.inside.iter().filter(|&&i| i).count()
    }

    /// Whether column `x`, row `y` is inside; beyond the borders nothing is.
    #[must_use]
    pub fn get(&self, x: usize, y: usize) -> bool {
        x < self.width && y < self.height && self.inside[y * self.width + x]
    }

    /// The mask at another size: each new pixel takes the old one under its centre.
    ///
    /// # Errors
    /// [`ExplainError::Size`] for a size that is not possible.
    pub fn resized_nearest(&self, width: usize, height: usize) -> Result<Self, ExplainError> {
        let pixels = ExplainError::check_size("a mask", width, height)?;
        // (i + 1/2) x source / target, rounded down, in whole numbers.
        let source = |i: usize, from: usize, to: usize| ((2 * i + 1) * from / (2 * to)).min(from - 1);
        let columns: Vec<usize> = (0..width).map(|x| source(x, self.width, width)).collect();
        let mut inside = Vec::with_capacity(pixels);
        for y in 0..height {
            let row = &self.inside[source(y, self.height, height) * self.width..][..self.width];
            inside.extend(columns.iter().map(|&x| row[x]));
        }
        Ok(Self { width, height, inside })
    }

    /// Smallest rectangle that holds the whole mask, as the paper draws it; `None` for an empty mask.
    #[must_use]
    pub fn bounding_box(&self) -> Option<Region> {
        Region::round(self.width, (0..self.inside.len()).filter(|&i| self.inside[i]))
    }

    /// One rectangle per connected component that has at least `least_share` (0 to 1) of the mask's area, largest
    /// component first; of equal ones the first in reading order.
    #[must_use]
    pub fn regions(&self, least_share: f64) -> Vec<Region> {
        let least = least_share * self.area() as f64;
        let mut components = self.components();
        components.retain(|c| c.pixels.len() as f64 >= least);
        components.sort_by_key(|c| std::cmp::Reverse(c.pixels.len()));
        components.into_iter().map(|c| c.region).collect()
    }

    /// Connected components, in reading order of their first pixels. A pixel hangs together with its 8 neighbours.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        const NONE: u32 = u32::MAX;
        let mut labels = vec![NONE; self.inside.len()];
        let mut count = 0;
        let mut open = Vec::new();
        for start in 0..self.inside.len() {
            if !self.inside[start] || labels[start] != NONE {
                continue;
            }
            labels[start] = count;
            open.push(start);
            while let Some(at) = open.pop() {
                let (x, y) = (at % self.width, at / self.width);
                for ny in y.saturating_sub(1)..(y + 2).min(self.height) {
                    for nx in x.saturating_sub(1)..(x + 2).min(self.width) {
                        let next = ny * self.width + nx;
                        if self.inside[next] && labels[next] == NONE {
                            labels[next] = count;
                            open.push(next);
                        }
                    }
                }
            }
            count += 1;
        }
        let mut pixels = vec![Vec::new(); count as usize];
        for (i, &label) in labels.iter().enumerate().filter(|&(_, &label)| label != NONE) {
            pixels[label as usize].push(i);
        }
        let with_region = |pixels: Vec<usize>| {
            let region = Region::round(self.width, pixels.iter().copied())?;
            Some(Component { pixels, region })
        };
        pixels.into_iter().filter_map(with_region).collect()
    }
}

impl Region {
    /// Smallest rectangle round pixels of a picture of `width` columns.
    fn round(width: usize, pixels: impl Iterator<Item = usize>) -> Option<Self> {
        let mut ends: Option<[usize; 4]> = None;
        for i in pixels {
            let (x, y) = (i % width, i / width);
            let [left, top, right, bottom] = ends.unwrap_or([x, y, x, y]);
            ends = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
        }
        let [left, top, right, bottom] = ends?;
        Some(Self { x: left, y: top, width: right - left + 1, height: bottom - top + 1 })
    }

    /// Pixels that it covers.
    #[must_use]
    pub fn area(&self) -> usize {
        self.width * self.height
    }

    /// Whether column `x`, row `y` lies in it.
    #[must_use]
    pub fn contains(&self, x: usize, y: usize) -> bool {
        (self.x..self.x + self.width).contains(&x) && (self.y..self.y + self.height).contains(&y)
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
