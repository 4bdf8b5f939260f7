//! Rectangles of the picture that are blanked before anything else sees it.
//!
//! Names, dates and institution marks burnt into the pixels identify patients and let networks recognise a hospital.
//! They stand where a device writes them, so a file of rules names the devices and their rectangles. Blanked pixels get
//! the least value of the rest of the film. The files themselves are not changed: every stage that reads pixels must
//! apply the rules, which is why they belong to the study. Nothing here looks for text.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::label_set::fold;
use crate::image::{DicomFacts, Radiograph};

/// Largest file of rules, bytes.
pub const MAX_BLANK_BYTES: usize = 1 << 20;
/// Most rectangles of one file.
pub const MAX_REGIONS: usize = 1000;

/// Rectangles to blank, of `--blank FILE.toml`.
///
/// ```toml
/// [[region]]
/// manufacturer = "Example"     # optional: a part of Manufacturer (0008,0070)
/// rows = 2500                  # optional: the stored size
/// columns = 2048
/// pixels = [0, 0, 600, 80]     # left, top, width, height
///
/// [[region]]
/// share = [0.0, 0.95, 1.0, 0.05]    # the same in shares of the picture
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlankRules {
    /// In any order; all that fit a picture are applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub region: Vec<BlankRegion>,
}

/// A rectangle and the pictures that it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlankRegion {
    /// Only pictures whose Manufacturer holds this, without case and accents. PNG and JPEG files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Only pictures with so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    /// Only pictures with so many columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<u32>,
    /// Left, top, width, height in stored pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[u32; 4]>,
    /// Left, top, width, height as shares of the picture, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<[f64; 4]>,
}

/// Why rectangles cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BlankError {
    /// Not TOML, or not the fields of the rules.
    #[error("the blank regions are not valid: {0}")]
    Toml(String),
    /// The text is longer than [`MAX_BLANK_BYTES`].
    #[error("the blank regions have {0} bytes; at most {MAX_BLANK_BYTES} are read")]
    TooLarge(usize),
    /// None or more than [`MAX_REGIONS`].
    #[error("there are {0} blank regions; give 1 to {MAX_REGIONS} as [[region]]")]
    Count(usize),
    /// A region that cannot be drawn.
    #[error("blank region {number}: {problem}")]
    Region {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A rectangle in pixels, ends excluded.
struct Rectangle {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl BlankRules {
    /// Reads rules from TOML.
    ///
    /// # Errors
    /// [`BlankError`] naming the region at fault.
    pub fn from_toml(text: &str) -> Result<Self, BlankError> {
        if text.len() > MAX_BLANK_BYTES {
            return Err(BlankError::TooLarge(text.len()));
        }
        let rules: Self = toml::from_str(text).map_err(|e| BlankError::Toml(e.to_string()))?;
        if rules.region.is_empty() {
            return Err(BlankError::Count(0));
        }
        rules.check()?;
        Ok(rules)
    }

    /// Checks what the fields cannot express; no region at all is allowed.
    ///
    /// # Errors
    /// [`BlankError`] naming the region at fault.
    pub fn check(&self) -> Result<(), BlankError> {
        if self.region.len() > MAX_REGIONS {
            return Err(BlankError::Count(self.region.len()));
        }
        for (index, region) in self.region.iter().enumerate() {
            let problem = match (region.pixels, region.share) {
                (Some(_), Some(_)) | (None, None) => Some("give either pixels or share"),
                (Some([_, _, width, height]), None) if width == 0 || height == 0 => Some("it has no area"),
                (None, Some(share)) if share.iter().any(|v| !(0.0..=1.0).contains(v)) => {
                    Some("shares lie between 0 and 1")
                }
                (None, Some([_, _, width, height])) if width == 0.0 || height == 0.0 => Some("it has no area"),
                _ => None,
            };
            if let Some(problem) = problem {
                return Err(BlankError::Region { number: index + 1, problem });
            }
        }
        Ok(())
    }

    /// Whether nothing is ever blanked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.region.is_empty()
    }

    /// Sets the pixels of all rectangles that fit this picture to the least value of the others, and says how many.
    ///
    /// `facts` is the DICOM header, if there is one. Rectangles are cut at the border of the picture.
    pub fn apply(&self, image: &mut Radiograph, facts: Option<&DicomFacts>) -> usize {
        let (width, height) = (image.width, image.height);
        let rectangles: Vec<Rectangle> =
            self.region.iter().filter_map(|region| region.rectangle(width, height, facts)).collect();
        if rectangles.is_empty() {
            return 0;
        }
        // For each row the columns to blank, as ranges that may overlap.
        let in_row = |y: usize| rectangles.iter().filter(move |r| (r.top..r.bottom).contains(&y));
        let mut least = f32::INFINITY;
        for (y, row) in image.pixels.chunks_exact(width).enumerate() {
            for (x, &value) in row.iter().enumerate() {
                if value < least && !in_row(y).any(|r| (r.left..r.right).contains(&x)) {
                    least = value;
                }
            }
        }
        if least == f32::INFINITY {
            least = image.range().0;
        }
        let mut blanked = 0;
        for (y, row) in image.pixels.chunks_exact_mut(width).enumerate() {
            let mut marked = vec![false; if in_row(y).next().is_some() { width } else { 0 }];
            for rectangle in in_row(y) {
                marked[rectangle.left..rectangle.right].fill(true);
            }
            for (value, _) in row.iter_mut().zip(&marked).filter(|(_, marked)| **marked) {
                *value = least;
                blanked += 1;
            }
        }
        blanked
    }
}

impl BlankRegion {
    /// The rectangle in a picture of this size; `None` if it does not belong to it.
    fn rectangle(&self, width: usize, height: usize, facts: Option<&DicomFacts>) -> Option<Rectangle> {
        if let Some(wanted) = &self.manufacturer {
            let manufacturer = facts.and_then(|f| f.manufacturer.as_deref())?;
            if !fold(manufacturer).contains(&fold(wanted)) {
                return None;
            }
        }
        // Pixels that are not square were resampled: sizes in the rules are those of the file.
        let stored = |value: Option<u32>, size: usize| value.map_or(size as f64, f64::from);
        let (columns, rows) =
            (stored(facts.and_then(|f| f.columns), width), stored(facts.and_then(|f| f.rows), height));
        if self.rows.is_some_and(|n| f64::from(n) != rows) || self.columns.is_some_and(|n| f64::from(n) != columns) {
            return None;
        }
        let [left, top, wide, high] = match (self.pixels, self.share) {
            (Some(pixels), _) => {
                let [left, top, wide, high] = pixels.map(f64::from);
                [left / columns, top / rows, wide / columns, high / rows]
            }
            (None, share) => share?,
        };
        // Outwards to whole pixels; the slack keeps rounding errors from adding a row.
        let span = |start: f64, length: f64, size: usize| {
            let low = (start * size as f64 + 1e-6).floor().max(0.0) as usize;
            let high = ((start + length) * size as f64 - 1e-6).ceil().max(0.0) as usize;
            (low.min(size), high.min(size))
        };
        let ((left, right), (top, bottom)) = (span(left, wide, width), span(top, high, height));
        (left < right && top < bottom).then_some(Rectangle { left, right, top, bottom })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film() -> Radiograph {
        Radiograph { width: 4, height: 3, pixels: (0..12).map(|v| (20 - v) as f32).collect(), bits: 8 }
    }

    #[test]
    fn rectangles_get_the_least_value_of_the_rest() {
        let rules =
            BlankRules::from_toml("[[region]]\npixels = [2, 1, 9, 9]\n[[region]]\nshare = [0.0, 0.0, 0.3, 0.3]")
                .expect("valid");
        let mut image = film();
        // Two columns of two rows, and two columns of the first row: 9 to 20 less the blanked ones leaves 11 as least.
        assert_eq!(rules.apply(&mut image, None), 6);
        let expected = [11, 11, 18, 17, 16, 15, 11, 11, 12, 11, 11, 11].map(|v| v as f32);
        assert_eq!(image.pixels, expected);
        let text = toml::to_string(&rules).expect("serialises");
        assert_eq!(BlankRules::from_toml(&text), Ok(rules));
    }

    #[test]
    fn conditions_must_all_hold() {
        for (condition, blanked) in
            [("rows = 3\ncolumns = 4", 1), ("rows = 4", 0), ("columns = 3", 0), ("manufacturer = \"Example\"", 0)]
        {
            let rules = BlankRules::from_toml(&format!("[[region]]\npixels = [0, 0, 1, 1]\n{condition}"));
            assert_eq!(rules.expect("valid").apply(&mut film(), None), blanked, "{condition}");
        }
        let whole = BlankRules::from_toml("[[region]]\nshare = [0, 0, 1, 1]").expect("valid");
        let mut image = film();
        assert_eq!(whole.apply(&mut image, None), 12);
        assert_eq!(image.range(), (9.0, 9.0));
        assert_eq!(BlankRules::default().apply(&mut film(), None), 0);
    }

    #[test]
    fn regions_that_cannot_be_drawn_are_named() {
        for bad in [
            "",
            "[[region]]\nrows = 3",
            "[[region]]\npixels = [0, 0, 1, 1]\nshare = [0, 0, 1, 1]",
            "[[region]]\npixels = [0, 0, 0, 1]",
            "[[region]]\nshare = [0.0, 0.0, 1.5, 1.0]",
            "[[region]]\nshare = [0.0, nan, 0.5, 1.0]",
            "[[region]]\npixels = [0, 0, 1]",
            "[[region]]\npixels = [0, 0, 1, -1]",
            "[[region]]\nmaker = \"x\"\npixels = [0, 0, 1, 1]",
        ] {
            assert!(BlankRules::from_toml(bad).is_err(), "{bad}");
        }
    }
}
