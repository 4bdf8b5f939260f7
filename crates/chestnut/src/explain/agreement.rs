//! How far a heat map agrees with what an expert outlined (paper sections 2.5 and 3.4).
//!
//! The paper's number is the share of the expert's region that the mask covers: a recall, which says nothing of what
//! the mask covers besides. A mask of the whole image reaches 1, and a random mask reaches its own share of the image,
//! which for the paper's 0.8 quantile is 0.2. So it stands here beside measures that punish size (intersection over
//! union), that need no threshold (pixel AUC) or only the peak (pointing game), and beside the sizes themselves;
//! [`super::chance`] gives what maps reach that never saw the image. Intervals resample patients, never images.

mod summary;

use serde::{Deserialize, Serialize};

pub use summary::{AgreementRow, LabelAgreement, MeasureSummary, POOLED, rows_csv, summarise, summary_csv};

use super::{ExplainError, HeatMap, Mask, MaskRule};

/// Pixels by which the peak may miss the region in the tolerant pointing game (Zhang et al. 2016).
pub const POINTING_TOLERANCE: usize = 15;
/// Largest tolerance that may be asked for.
pub const MAX_TOLERANCE: usize = 1000;
/// What must stand wherever the paper's measure is shown.
pub const RECALL_NOTE: &str = "Coverage is the share of the expert's region inside the mask. It does not fall when the \
     mask grows: a random mask reaches its own share of the image, and the whole image reaches 1.";

/// What makes a mask of a map, and how far the peak may miss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgreementRule {
    /// Which pixels the map points at.
    pub mask: MaskRule,
    /// Pixels of the image on which maps and regions are compared, up to [`MAX_TOLERANCE`].
    pub tolerance: usize,
}

impl Default for AgreementRule {
    /// The paper's mask and [`POINTING_TOLERANCE`].
    fn default() -> Self {
        Self { mask: MaskRule::default(), tolerance: POINTING_TOLERANCE }
    }
}

/// One map against one region. All values lie in 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of the region inside the mask: the paper's agreement.
    pub coverage: f64,
    /// The same for the smallest rectangle round the mask, the other reading of the paper.
    pub box_coverage: f64,
    /// Pixels in both over pixels in either.
    pub iou: f64,
    /// Whether the map's greatest value lies in the region: 1 or 0, or the share of the greatest values that do where
    /// several are equal. `None` for a flat map, which points nowhere.
    pub hit: Option<f64>,
    /// The same with the rule's tolerance.
    pub tolerant_hit: Option<f64>,
    /// Probability that a pixel of the region has a higher value than one outside, ties counting one half. `None` if
    /// the region is the whole image.
    pub pixel_auc: Option<f64>,
    /// Share of the image inside the mask: what coverage would be by chance.
    pub mask_share: f64,
    /// Share of the image inside the rectangle round the mask.
    pub box_share: f64,
    /// Share of the image inside the region: what the pointing game would be by chance.
    pub expert_share: f64,
}

/// Compares a map with a region of the same size.
///
/// # Errors
/// [`ExplainError`] if the sizes differ, the region is empty, or the rule is out of range.
pub fn evaluate(map: &HeatMap, expert: &Mask, rule: &AgreementRule) -> Result<Agreement, ExplainError> {
    ExplainError::check_length("columns of the expert's mask", expert.width, map.width)?;
    ExplainError::check_length("rows of the expert's mask", expert.height, map.height)?;
    ExplainError::check_length("the expert's mask", expert.inside.len(), map.values.len())?;
    if rule.tolerance > MAX_TOLERANCE {
        return Err(ExplainError::setting(
            "pointing tolerance",
            rule.tolerance,
            format!("0 to {MAX_TOLERANCE} pixels"),
        ));
    }
    let area = expert.area();
    if area == 0 {
        return Err(ExplainError::setting("area of the expert's mask", 0, "at least 1 pixel"));
    }
    let mask = rule.mask.mask(map)?;
    let both = mask.inside.iter().zip(&expert.inside).filter(|(m, e)| **m && **e).count();
    let either = mask.area() + area - both;
    let pixels = map.values.len() as f64;
    let (mut box_both, mut box_area) = (0, 0);
    if let Some(region) = mask.bounding_box() {
        box_area = region.area();
        let rows =
            (region.y..region.y + region.height).map(|y| &expert.inside[y * map.width + region.x..][..region.width]);
        box_both = rows.flatten().filter(|inside| **inside).count();
    }
    let (hit, tolerant_hit) = pointing_game(map, expert, rule.tolerance).unzip();
    Ok(Agreement {
        coverage: both as f64 / area as f64,
        box_coverage: box_both as f64 / area as f64,
        iou: both as f64 / either as f64,
        hit,
        tolerant_hit,
        pixel_auc: pixel_auc(map, expert),
        mask_share: mask.area() as f64 / pixels,
        box_share: box_area as f64 / pixels,
        expert_share: area as f64 / pixels,
    })
}

/// Shares of the greatest values that lie in the region, and within `tolerance` pixels of it.
fn pointing_game(map: &HeatMap, expert: &Mask, tolerance: usize) -> Option<(f64, f64)> {
    if map.is_flat() {
        return None;
    }
    let (_, high) = map.range();
    let peaks: Vec<usize> = (0..map.values.len()).filter(|&i| map.values[i] == high).collect();
    let hits = peaks.iter().filter(|&&i| expert.inside[i]).count();
    // Pixels of the region left of each column, row by row: whether a stretch of a row meets it is then one
    // subtraction.
    let mut before = Vec::with_capacity((map.width + 1) * map.height);
    for row in expert.inside.chunks_exact(map.width) {
        let mut count = 0_u32;
        before.push(count);
        for &inside in row {
            count += u32::from(inside);
            before.push(count);
        }
    }
    let is_near = |i: &&usize| {
        let (x, y) = (*i % map.width, *i / map.width);
        (y.saturating_sub(tolerance)..=(y + tolerance).min(map.height - 1)).any(|row| {
            let reach = (tolerance * tolerance - row.abs_diff(y).pow(2)).isqrt();
            let (first, last) = (x.saturating_sub(reach), (x + reach).min(map.width - 1));
            let row = &before[row * (map.width + 1)..][..=map.width];
            row[last + 1] > row[first]
        })
    };
    let near = peaks.iter().filter(is_near).count();
    Some((hits as f64 / peaks.len() as f64, near as f64 / peaks.len() as f64))
}

/// Area under the ROC curve of a map's values against a region, over all pixels, ties counting one half (Bamber 1975).
/// As [`chestnut_stats::roc::auc`], with 4 instead of 24 bytes per pixel and sums in whole numbers.
///
/// `None` if the region is empty or the whole image, or the sizes differ.
#[must_use]
pub fn pixel_auc(map: &HeatMap, expert: &Mask) -> Option<f64> {
    if map.values.len() != expert.inside.len() {
        return None;
    }
    let sorted = |wanted: bool| {
        let chosen = map.values.iter().zip(&expert.inside).filter(|(_, inside)| **inside == wanted);
        // Adding 0 turns -0 into 0, so that equal values are equal in the total order too.
        let mut values: Vec<f32> = chosen.map(|(v, _)| v + 0.0).collect();
        values.sort_unstable_by(f32::total_cmp);
        values
    };
    let (inside, outside) = (sorted(true), sorted(false));
    if inside.is_empty() || outside.is_empty() {
        return None;
    }
    let (mut below, mut up_to, mut twice_wins) = (0_usize, 0_usize, 0_u128);
    for &value in &inside {
        while below < outside.len() && outside[below] < value {
            below += 1;
        }
        up_to = up_to.max(below);
        while up_to < outside.len() && outside[up_to] <= value {
            up_to += 1;
        }
        twice_wins += (below + up_to) as u128;
    }
    Some(twice_wins as f64 / (2.0 * inside.len() as f64 * outside.len() as f64))
}

#[cfg(test)]
mod tests;
