//! Does a label survive without the chest? Parts of the prepared image are hidden and the AUC is measured again.
//!
//! Markers, collimator borders and the make of the machine can tell who is ill without any anatomy (DeGrave et al.
//! 2021; Zech et al. 2018). If only border and corners are visible, an honest model can only guess. Hidden pixels take
//! the mean of the visible ones: a mean over the whole image would tell how dark the hidden part was. The image is the
//! recipe's square before standardisation, values 0 to 1.
//!
//! A warning is not a proof: borders also show how a patient was positioned, and whether arms or abdomen are in view.

use serde::{Deserialize, Serialize};

use super::{ExplainError, Mask};
use std::fmt;

/// Share of a side that the border takes at each end.
pub const BORDER_SHARE: f64 = 0.1;
/// Share of each side that a corner takes.
pub const CORNER_SHARE: f64 = 0.15;
/// AUC of a guess.
pub const CHANCE_AUC: f64 = 0.5;
/// Centre x and y, half width and half height of two rough lungs, as shares of the sides: for images without lung
/// masks.
const ROUGH_LUNGS: [[f64; 4]; 2] = [[0.31, 0.45, 0.15, 0.31], [0.69, 0.45, 0.15, 0.31]];

/// A part of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageArea {
    /// The outer [`BORDER_SHARE`] along all sides.
    Border,
    /// Four squares of [`CORNER_SHARE`].
    Corners,
    /// Both: what is left of a radiograph without its chest.
    BorderAndCorners,
    /// The lungs by a mask of any size, or two rough ellipses.
    Lungs(Option<Mask>),
}

/// What a model gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Everything but this part.
    Hide(ImageArea),
    /// This part only.
    KeepOnly(ImageArea),
}

impl ImageArea {
    /// `[row][column]` of a square: whether the pixel belongs to it. A pixel does if its centre does.
    ///
    /// # Errors
    /// [`ExplainError::Size`] for a side that is not possible.
    pub fn inside(&self, side: usize) -> Result<Vec<bool>, ExplainError> {
        let pixels = ExplainError::check_size("a masked image", side, side)?;
        if let Self::Lungs(Some(mask)) = self {
            return Ok(mask.resized_nearest(side, side)?.inside);
        }
        let is_inside = |x: usize, y: usize| match self {
            Self::Border => in_border(x, y, side, side),
            Self::Corners => in_corner(x, y, side, side),
            Self::BorderAndCorners => in_border(x, y, side, side) || in_corner(x, y, side, side),
            Self::Lungs(_) => in_rough_lungs(x, y, side),
        };
        Ok((0..pixels).map(|i| is_inside(i % side, i / side)).collect())
    }

    /// What it is, in words.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Border => "the outer tenth along each side",
            Self::Corners => "the four corners",
            Self::BorderAndCorners => "border and corners",
            Self::Lungs(Some(_)) => "the lungs",
            Self::Lungs(None) => "the lungs (two rough ellipses)",
        }
    }
}

impl Masking {
    /// The tests of a report: without the outer parts, without the lungs, and with the outer parts alone.
    #[must_use]
    pub fn suite(lungs: Option<&Mask>) -> Vec<Self> {
        vec![
            Self::Hide(ImageArea::Border),
            Self::Hide(ImageArea::Corners),
            Self::Hide(ImageArea::Lungs(lungs.cloned())),
            Self::KeepOnly(ImageArea::Border),
            Self::KeepOnly(ImageArea::Corners),
            Self::KeepOnly(ImageArea::BorderAndCorners),
        ]
    }

    /// Replaces what is hidden of a prepared square `[row][column]` by the mean of what stays visible.
    ///
    /// # Errors
    /// [`ExplainError`] if `grey` does not have `side` x `side` values, or nothing stays visible.
    pub fn apply(&self, grey: &mut [f32], side: usize) -> Result<(), ExplainError> {
        let (area, hides) = match self {
            Self::Hide(area) => (area, true),
            Self::KeepOnly(area) => (area, false),
        };
        let inside = area.inside(side)?;
        ExplainError::check_length("the prepared image", grey.len(), inside.len())?;
        let (mut sum, mut visible) = (0.0, 0usize);
        for (&value, &is_inside) in grey.iter().zip(&inside) {
            if is_inside != hides {
                sum += f64::from(value);
                visible += 1;
            }
        }
        if visible == 0 {
            return Err(ExplainError::setting("visible part of the masked image", 0, "at least 1 pixel"));
        }
        let mean = (sum / visible as f64) as f32;
        grey.iter_mut().zip(&inside).filter(|(_, is_inside)| **is_inside == hides).for_each(|(value, _)| *value = mean);
        Ok(())
    }

    /// What is visible, in words for tables.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Hide(area) => format!("without {}", area.describe()),
            Self::KeepOnly(area) => format!("only {}", area.describe()),
        }
    }
}

/// Whether a pixel's centre lies in the outer [`BORDER_SHARE`] of a picture.
pub(crate) fn in_border(x: usize, y: usize, width: usize, height: usize) -> bool {
    from_side(x, width) < BORDER_SHARE || from_side(y, height) < BORDER_SHARE
}

/// Whether a pixel's centre lies in one of the corners, [`CORNER_SHARE`] of each side.
pub(crate) fn in_corner(x: usize, y: usize, width: usize, height: usize) -> bool {
    from_side(x, width) < CORNER_SHARE && from_side(y, height) < CORNER_SHARE
}

/// Distance of a pixel's centre from the nearer end of a side, as a share of the side.
fn from_side(at: usize, length: usize) -> f64 {
    (at.min(length - 1 - at) as f64 + 0.5) / length as f64
}

fn in_rough_lungs(x: usize, y: usize, side: usize) -> bool {
    let [x, y] = [x, y].map(|at| (at as f64 + 0.5) / side as f64);
    ROUGH_LUNGS.iter().any(|[cx, cy, rx, ry]| ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) <= 1.0)
}

/// AUC of one label with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedAuc {
    /// Area under the ROC curve, 0 to 1.
    pub auc: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
}

/// What people should be told after a masking: what happened, to which labels, and what it means. Labels of one model and
/// masking share a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// What the masking showed.
    pub finding: String,
    /// A label with its AUCs, or several.
    pub labels: String,
    /// What may be behind it, and the rule that it fell under.
    pub meaning: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.finding, self.labels, self.meaning)
    }
}

/// What people should be told about a label after a masking, or nothing. The rules:
///
/// - Only border or corners are visible: a warning if the lower end of the AUC's interval is above 0.5.
/// - Border or corners are hidden: a warning if the upper end of the interval is below the AUC of the whole image.
/// - The lungs are hidden: a remark if the lower end is above 0.5, since for some findings that is as it should be.
/// - Only the lungs are visible: nothing.
///
/// Of many labels and maskings some pass such a rule by chance, about one in forty.
#[must_use]
pub fn verdict(label: &str, whole: &MaskedAuc, masked: &MaskedAuc, masking: &Masking) -> Option<Warning> {
    let [low, high] = masked.interval;
    let survives = low > CHANCE_AUC;
    let (finding, meaning, rule) = match masking {
        Masking::KeepOnly(area) if survives && !matches!(area, ImageArea::Lungs(_)) => (
            format!("with {} alone the model still tells positives from negatives", area.describe()),
            "No anatomy of the finding is in view, so it may use markers, borders or positioning.",
            format!("lower end of the interval above {CHANCE_AUC}"),
        ),
        Masking::Hide(ImageArea::Lungs(_)) if survives => (
            "with the lungs hidden the model still tells positives from negatives".to_owned(),
            "That is as it should be for heart, bones and devices, and a reason to look closer for findings of the lungs.",
            format!("lower end of the interval above {CHANCE_AUC}"),
        ),
        Masking::Hide(area) if high < whole.auc && !matches!(area, ImageArea::Lungs(_)) => (
            format!("without {} the AUC falls", area.describe()),
            "The model leans on what is to be seen there.",
            "upper end of the interval below the AUC of the whole image".to_owned(),
        ),
        _ => return None,
    };
    let labels = format!("{label} {:.2} ({low:.2} to {high:.2}; whole image {:.2})", masked.auc, whole.auc);
    Some(Warning { finding, labels, meaning: format!("{meaning} Rule: {rule}.") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(area: &ImageArea, side: usize) -> f64 {
        let inside = area.inside(side).expect("a side");
        inside.iter().filter(|i| **i).count() as f64 / inside.len() as f64
    }

    #[test]
    fn areas_have_their_sizes_and_are_symmetric() {
        assert!((share(&ImageArea::Border, 200) - 0.36).abs() < 1e-12);
        assert!((share(&ImageArea::Corners, 200) - 0.09).abs() < 1e-12);
        // The corners stick out of the border by 5 % x 5 % each.
        assert!((share(&ImageArea::BorderAndCorners, 200) - 0.37).abs() < 1e-12);
        let lungs = std::f64::consts::PI * 2.0 * 0.15 * 0.31;
        assert!((share(&ImageArea::Lungs(None), 400) - lungs).abs() < 1e-3);
        for area in [ImageArea::Border, ImageArea::Corners, ImageArea::Lungs(None)] {
            let inside = area.inside(37).expect("a side");
            assert!((0..37 * 37).all(|i| inside[i] == inside[i / 37 * 37 + 36 - i % 37]), "{area:?}");
        }
        assert!(ImageArea::Border.inside(0).is_err());
    }

    #[test]
    fn what_is_hidden_leaves_no_trace() {
        let side = 20;
        let centre = |bright: f32| -> Vec<f32> {
            (0..side * side).map(|i| if in_border(i % side, i / side, side, side) { 0.25 } else { bright }).collect()
        };
        let (mut dark, mut bright) = (centre(0.0), centre(1.0));
        Masking::KeepOnly(ImageArea::Border).apply(&mut dark, side).expect("a square");
        Masking::KeepOnly(ImageArea::Border).apply(&mut bright, side).expect("a square");
        assert_eq!(dark, bright);
        assert!(dark.iter().all(|&v| v == 0.25));
        let mut bright = centre(1.0);
        Masking::Hide(ImageArea::Border).apply(&mut bright, side).expect("a square");
        assert!(bright.iter().all(|&v| v == 1.0));

        let mask = Mask::new(2, 1, vec![true, false]).expect("whole");
        let mut ramp: Vec<f32> = (0..16).map(|i| (i % 4) as f32).collect();
        Masking::Hide(ImageArea::Lungs(Some(mask))).apply(&mut ramp, 4).expect("a square");
        assert_eq!(ramp[..4], [2.5, 2.5, 2.0, 3.0]);
        let everything = Mask::new(1, 1, vec![true]).expect("whole");
        assert!(Masking::Hide(ImageArea::Lungs(Some(everything))).apply(&mut ramp, 4).is_err());
        assert!(Masking::Hide(ImageArea::Border).apply(&mut ramp, 5).is_err());
    }

    #[test]
    fn verdicts_follow_their_rules() {
        let seen = |auc: f64| MaskedAuc { auc, interval: [auc - 0.05, auc + 0.05] };
        let outer = Masking::KeepOnly(ImageArea::BorderAndCorners);
        let text = verdict("PNX", &seen(0.9), &seen(0.6), &outer).expect("a warning").to_string();
        assert!(text.contains("PNX 0.60 (0.55 to 0.65; whole image 0.90)") && text.contains("Rule"), "{text}");
        assert_eq!(verdict("PNX", &seen(0.9), &seen(0.54), &outer), None);
        let hidden = Masking::Hide(ImageArea::Corners);
        assert!(verdict("PNX", &seen(0.9), &seen(0.8), &hidden).is_some_and(|w| w.finding.ends_with("the AUC falls")));
        assert_eq!(verdict("PNX", &seen(0.9), &seen(0.86), &hidden), None);
        assert!(verdict("PNX", &seen(0.9), &seen(0.8), &Masking::Hide(ImageArea::Lungs(None))).is_some());
        assert_eq!(verdict("PNX", &seen(0.9), &seen(0.8), &Masking::KeepOnly(ImageArea::Lungs(None))), None);
        assert_eq!(Masking::suite(None).len(), 6);
    }
}
