//! What may be done to pixels on the way in, and what was noticed on the way: settings, flags, borders, polarity.
//!
//! Nothing here changes a picture behind anybody's back. A border is reported and never cropped, and a film that
//! looks inverted is scored and never turned: both need a person, or the cohort as a whole, to decide.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fingerprint::{Grids, THUMBNAIL as GRID};
use super::quantile::{quantile, quantiles};

/// A border is worth a flag from this share of the picture on.
const BORDER_SHARE: f32 = 0.02;
/// A border may differ from its end of the grey scale by this share of it: JPEG leaves ripples beside an edge.
const BORDER_TOLERANCE: f32 = 0.01;
/// About how many pixels are looked at to know the grey scale of a picture, for a tolerance that is a hundredth of it.
const SAMPLE: usize = 4096;

/// Which of a DICOM header's display transforms is applied (PS3.3, C.11.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Voi {
    /// None: the recipe's clip and scaling take its place.
    #[default]
    None,
    /// The first window (WindowCenter, WindowWidth, VOILUTFunction).
    Window,
    /// The first table of the VOI LUT Sequence, else the first window: what a viewer shows.
    LutOrWindow,
}

/// What is done to DICOM values beyond decoding them. PNG and JPEG have neither windows nor padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PixelSettings {
    /// Display transform.
    pub voi: Voi,
    /// Whether padded pixels (PixelPaddingValue, PixelPaddingRangeLimit) become the least value of the rest.
    pub padding: bool,
}

impl Default for PixelSettings {
    fn default() -> Self {
        Self { voi: Voi::None, padding: true }
    }
}

impl PixelSettings {
    /// Whether nothing was changed: such settings are neither written to a study nor part of a recipe's hash.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// One line for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let voi = match self.voi {
            Voi::None => "no DICOM window",
            Voi::Window => "the DICOM header's first window",
            Voi::LutOrWindow => "the DICOM header's VOI table, else its first window",
        };
        let padding = if self.padding { "padded pixels become the least value" } else { "padded pixels kept" };
        format!("{voi}; {padding}")
    }

    /// What a recipe's hash covers; never to be reworded.
    pub(super) fn canonical(&self) -> String {
        let voi = match self.voi {
            Voi::None => "none",
            Voi::Window => "window",
            Voi::LutOrWindow => "lut-or-window",
        };
        format!("voi={voi}\npadding={}\n", self.padding)
    }
}

/// What was done to a picture beyond plain decoding, or what a person should know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Flag {
    /// So many pixels were padding and became the least value of the rest.
    PixelsPadded(usize),
    /// The pixels were not square; rows or columns were added between the stored ones.
    AspectResampled,
    /// A constant border at the dark end takes this share of the picture, 0 to 1.
    BlackBorder(f32),
    /// A constant border at the bright end takes this share of the picture, 0 to 1.
    WhiteBorder(f32),
    /// PresentationIntentType is FOR PROCESSING: the detector's values, not what readers are shown.
    ForProcessing,
    /// BurnedInAnnotation is YES: text lies in the pixels and may name the patient.
    BurnedInAnnotation,
    /// Values were lost by compression at some time; the ratio, if the header gives it.
    Lossy(Option<f32>),
    /// A window or table was asked for, and the header has none that can be used.
    VoiMissing,
}

impl Flag {
    /// A short fixed word for counting flags in tables.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PixelsPadded(_) => "pixels_padded",
            Self::AspectResampled => "aspect_resampled",
            Self::BlackBorder(_) => "black_border",
            Self::WhiteBorder(_) => "white_border",
            Self::ForProcessing => "for_processing",
            Self::BurnedInAnnotation => "burned_in_annotation",
            Self::Lossy(_) => "lossy",
            Self::VoiMissing => "voi_missing",
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PixelsPadded(count) => write!(f, "{count} padded pixels were set to the least value of the film"),
            Self::AspectResampled => f.write_str("its pixels were not square and were resampled to square ones"),
            Self::BlackBorder(share) => {
                write!(f, "a black border takes {:.0} % of the picture; it was not cropped", share * 100.0)
            }
            Self::WhiteBorder(share) => {
                write!(f, "a white border takes {:.0} % of the picture; it was not cropped", share * 100.0)
            }
            Self::ForProcessing => f.write_str("the detector's raw values (FOR PROCESSING), not the film readers saw"),
            Self::BurnedInAnnotation => f.write_str("by its header, text is burnt into the pixels"),
            Self::Lossy(Some(ratio)) => write!(f, "lossy compression, {ratio:.1} to 1"),
            Self::Lossy(None) => f.write_str("lossy compression"),
            Self::VoiMissing => {
                f.write_str("no usable window or table in the header; the values were used as they are")
            }
        }
    }
}

/// How much a film looks like its own negative, -1 to 1.
///
/// Outside the body there is air, which lets most of the beam through: on a film with bright bone the two upper
/// corners, beside the neck, are dark and the middle (spine, heart) is bright. The score is the corners' mean less
/// the middle's, over the contrast of the picture: below 0 for a film the right way round, the same number above 0
/// for its negative, 0 without contrast. Of 687 public chest radiographs of three collections, 0.5 % are above 0
/// (narrow crops, arms raised), none above 0.3; the median is -0.63.
///
/// One score is a hint. A false MONOCHROME1 or MONOCHROME2 is the fault of a device or an export, so compare groups:
/// if the median of all films of one manufacturer and photometric interpretation is above 0, those are inverted.
#[must_use]
pub fn looks_inverted(grids: &Grids) -> f32 {
    let cells = &grids.square;
    let (low, high) = (quantile(cells, 0.02), quantile(cells, 0.98));
    if high <= low {
        return 0.0;
    }
    let mean = |rows: std::ops::Range<usize>, columns: &[usize]| {
        let picked = rows.flat_map(|row| columns.iter().map(move |column| row * GRID + column));
        let (sum, count) = picked.fold((0.0, 0), |(sum, count), cell| {
            (sum + ((cells[cell] - low) / (high - low)).clamp(0.0, 1.0), count + 1)
        });
        sum / count as f32
    };
    mean(0..2, &[0, 1, GRID - 2, GRID - 1]) - mean(GRID / 4..3 * GRID / 4, &[GRID / 2 - 1, GRID / 2])
}

/// Flags for constant borders at either end of the grey scale of a picture: its pixels, `width` to a row, the grey value
/// of each, and the least and the greatest of them.
pub(super) fn border_flags<P: Copy>(
    pixels: &[P],
    width: usize,
    value: impl Fn(P) -> f32 + Clone,
    (least, greatest): (f32, f32),
) -> Vec<Flag> {
    // A single bright letter must not stretch the tolerance over half of the film.
    let sample = pixels.iter().step_by(stride(pixels.len(), width)).map(|&pixel| value(pixel));
    let [dark, bright] = quantiles(sample, (least, greatest), [0.01, 0.99]);
    let tolerance = BORDER_TOLERANCE * (bright - dark).max(0.0);
    let black = border_share(pixels, width, |pixel| value(pixel) <= least + tolerance);
    let white = border_share(pixels, width, |pixel| value(pixel) >= greatest - tolerance);
    let mut flags = Vec::new();
    if black >= BORDER_SHARE {
        flags.push(Flag::BlackBorder(black));
    }
    if white >= BORDER_SHARE {
        flags.push(Flag::WhiteBorder(white));
    }
    flags
}

/// Pixels from one of the sample to the next. It has no divisor in common with the width, or the sample would be of a few
/// columns, at worst of the border alone.
fn stride(pixels: usize, width: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = (pixels / SAMPLE).max(1);
    while gcd(step, width) > 1 {
        step += 1;
    }
    step
}

/// The share of the picture in whole rows and columns at its edges in which every pixel passes.
fn border_share<P: Copy>(pixels: &[P], width: usize, passes: impl Fn(P) -> bool) -> f32 {
    let height = pixels.len() / width;
    let row = |y: &usize| pixels[y * width..(y + 1) * width].iter().all(|&pixel| passes(pixel));
    let top = (0..height).take_while(row).count();
    if top == height {
        return 1.0;
    }
    let bottom = (0..height).rev().take_while(row).count();
    // As many columns as pass at either end of every row between: rows lie together in memory, columns do not.
    let (mut left, mut right) = (width, width);
    for line in pixels[top * width..(height - bottom) * width].chunks_exact(width) {
        left = line[..left].iter().position(|&pixel| !passes(pixel)).unwrap_or(left);
        right = line[width - right..].iter().rev().position(|&pixel| !passes(pixel)).unwrap_or(right);
    }
    let inside = (height - top - bottom) as f32 * (width - left - right) as f32;
    1.0 - inside / (width as f32 * height as f32)
}

#[cfg(test)]
mod tests {
    use super::super::Radiograph;
    use super::*;
    use chestnut_stats::random::Stream;

    /// Dark air, a bright body with a bright middle, dark lungs.
    fn chest() -> Radiograph {
        let (width, height) = (64, 80);
        let pixel = |x: usize, y: usize| {
            let (u, v) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
            let air = u.abs() + (0.5 - v).max(0.0) * 0.3 > 0.6;
            let lung = u.abs() > 0.08 && u.abs() < 0.35 && v.abs() < 0.3;
            if air {
                10.0
            } else if lung {
                90.0
            } else {
                200.0
            }
        };
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y))).collect();
        Radiograph { width, height, pixels, bits: 8 }
    }

    #[test]
    fn a_negative_scores_as_the_film_with_the_other_sign() {
        let film = chest();
        let mut negative = film.clone();
        negative.pixels.iter_mut().for_each(|v| *v = 255.0 - *v);
        let score = looks_inverted(&Grids::of(&film));
        assert!(score < -0.3, "{score}");
        assert!((looks_inverted(&Grids::of(&negative)) + score).abs() < 1e-5);
        let flat = Radiograph { width: 40, height: 40, pixels: vec![7.0; 1600], bits: 8 };
        assert_eq!(looks_inverted(&Grids::of(&flat)), 0.0);
    }

    fn flags(film: &Radiograph) -> Vec<Flag> {
        border_flags(&film.pixels, film.width, |v| v, film.range())
    }

    #[test]
    fn borders_are_measured_and_a_bright_letter_changes_nothing() {
        let mut film = Radiograph { width: 100, height: 50, pixels: Vec::new(), bits: 12 };
        // Five black rows above and below, ten black columns on the left: 1 - 40 * 90 / 5000.
        film.pixels = (0..5000)
            .map(|i| {
                let (x, y) = (i % 100, i / 100);
                if (5..45).contains(&y) && x >= 10 { 50.0 + (i * 37 % 400) as f32 } else { (i % 2) as f32 }
            })
            .collect();
        let share = 1.0 - 40.0 * 90.0 / 5000.0;
        assert_eq!(flags(&film), [Flag::BlackBorder(share)]);
        film.pixels[2550] = 60_000.0;
        assert_eq!(flags(&film), [Flag::BlackBorder(share)]);
        film.pixels.iter_mut().for_each(|v| *v = 60_000.0 - *v);
        film.pixels[2550] = 59_000.0;
        assert_eq!(flags(&film), [Flag::WhiteBorder(share)]);
    }

    #[test]
    fn the_sample_is_of_all_columns() {
        for (width, height) in [(64, 4096), (2048, 2048), (1024, 1024), (428, 512), (2500, 2048), (1, 9), (32, 32)] {
            let step = stride(width * height, width);
            let columns: std::collections::BTreeSet<usize> =
                (0..width * height).step_by(step).map(|at| at % width).collect();
            assert_eq!(columns.len(), width, "{width} x {height}, every {step}th");
        }
        // A border of noise on the left, as high as a plate; a step of its width would see nothing else.
        let (width, height) = (64, 4096);
        let mut draws = Stream::keyed(1, "noisy border");
        let pixel = |i: usize, draws: &mut Stream| {
            if i % width < 4 { draws.below(20) as f32 } else { 300.0 + draws.below(3500) as f32 }
        };
        let pixels = (0..width * height).map(|i| pixel(i, &mut draws)).collect();
        assert_eq!(flags(&Radiograph { width, height, pixels, bits: 12 }), [Flag::BlackBorder(4.0 / 64.0)]);
    }

    #[test]
    fn borders_are_counted_as_rows_and_columns_from_each_edge() {
        let mut draws = Stream::keyed(1, "borders");
        for _ in 0..200 {
            let (width, height) = (1 + draws.below(12), 1 + draws.below(12));
            let mut pixels = vec![0.0; width * height];
            // A few bright pixels, often none.
            for _ in 0..draws.below(4) {
                pixels[draws.below(width * height)] = 1.0;
            }
            let is_dark = |x: usize, y: usize| pixels[y * width + x] == 0.0;
            let bright: Vec<(usize, usize)> =
                (0..width * height).map(|i| (i % width, i / width)).filter(|&(x, y)| !is_dark(x, y)).collect();
            let side = |of: fn(&(usize, usize)) -> usize| {
                let (first, last) = (bright.iter().map(of).min(), bright.iter().map(of).max());
                first.zip(last).map_or(0, |(first, last)| last + 1 - first)
            };
            let inside = side(|p| p.0) as f32 * side(|p| p.1) as f32;
            let share = 1.0 - inside / (width as f32 * height as f32);
            assert_eq!(border_share(&pixels, width, |v| v == 0.0), share, "{bright:?} of {width} x {height}");
        }
    }

    #[test]
    fn settings_are_written_as_words_and_strangers_are_refused() {
        let settings = PixelSettings { voi: Voi::LutOrWindow, padding: false };
        let text = toml::to_string(&settings).expect("serialises");
        assert!(text.contains("\"lut-or-window\""), "{text}");
        assert_eq!(toml::from_str::<PixelSettings>(&text).expect("parses"), settings);
        assert!(toml::from_str::<PixelSettings>("").expect("defaults").is_default());
        assert!(toml::from_str::<PixelSettings>("window = true").is_err());
    }

    /// Real films lie on the right side of 0, but for a few.
    #[test]
    fn real_films_look_the_right_way_round() {
        let Some(data) = super::super::real_data() else { return };
        let mut scores = Vec::new();
        let mut paths: Vec<_> = std::fs::read_dir(data.join("nih1000/images"))
            .expect("the folder of radiographs")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths.iter().take(40) {
            scores.push(looks_inverted(&Grids::of(&super::super::read(path).expect("a radiograph").radiograph)));
        }
        let wrong = scores.iter().filter(|&&s| s > 0.0).count();
        assert!(wrong <= 2, "{wrong} of {} look inverted", scores.len());
        assert!(quantile(&scores, 0.5) < -0.4);
    }
}
