//! Every step from a file's stored values to the numbers a network reads, as a table and as a picture.
//!
//! For people who ask why two hospitals' films look different to a network, or whether a window, a padding value or
//! MONOCHROME1 was handled: the steps are those that were taken, reported by the code that took them, so that this
//! account cannot drift from what happens. Nothing of the patient is in it but the picture itself.

use std::fmt;

use super::contact_sheet::{Tile, contact_sheet, encode_png};
use super::recipe::{Recipe, Standardisation};
use super::{Flag, Format, ImageError, Radiograph, decode_traced};

/// Side of each small picture in pixels.
const SIDE: usize = 184;
/// Pictures to a row; below each row of pictures lies a row of their histograms.
const COLUMNS: usize = 5;
/// Bars of a histogram.
const BARS: usize = 92;

/// One step and how the picture stood after it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedStep {
    /// Its name: stored, rescale, window, MONOCHROME1, padding, clip, scale, resize ...
    pub name: String,
    /// What was done, with its numbers.
    pub what: String,
    /// Columns after the step.
    pub width: usize,
    /// Rows after the step.
    pub height: usize,
    /// Least value after the step.
    pub least: f32,
    /// Greatest value after the step.
    pub greatest: f32,
    /// Mean after the step.
    pub mean: f64,
}

impl fmt::Display for ExplainedStep {
    /// One line of a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = format!("{} x {}", self.width, self.height);
        let (least, greatest) = (short(f64::from(self.least)), short(f64::from(self.greatest)));
        write!(f, "{:<14} {size:>11} {least:>10} {greatest:>10} {:>10}  {}", self.name, short(self.mean), self.what)
    }
}

/// What became of one file.
#[derive(Clone)]
pub struct Explanation {
    /// What the file is.
    pub format: Format,
    /// The steps in order.
    pub steps: Vec<ExplainedStep>,
    /// What should be known of the file besides.
    pub flags: Vec<Flag>,
    /// The bytes of a grey PNG: each step as a small picture, below it its histogram (root scale). Each picture is shown
    /// between its own 0.5 and 99.5 % quantiles, so compare the numbers and not the brightness.
    pub png: Vec<u8>,
}

impl fmt::Debug for Explanation {
    /// Without the picture.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explanation").field("format", &self.format).field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Explanation {
    /// The head of the table that the steps' `Display` fills.
    #[must_use]
    pub fn heading() -> String {
        let columns = ["size", "least", "greatest", "mean"].map(|name| format!("{name:>10}")).join(" ");
        format!("{:<14}  {columns}  what was done", "step")
    }
}

/// Follows the content of one image file through all pixel steps: those of its format with the recipe's
/// [`super::PixelSettings`], the recipe's own, and the standardisation of the paper (a network may have another).
///
/// # Errors
/// [`ImageError`] if the file cannot be decoded.
///
/// # Panics
/// If [`Recipe::check`] would refuse the recipe.
pub fn explain(bytes: &[u8], recipe: &Recipe) -> Result<Explanation, ImageError> {
    let mut account = Account::default();
    let mut trace = |name: &'static str, what: String, image: &Radiograph| account.add(name, what, image);
    let decoded = decode_traced(bytes, &recipe.pixels, Some(&mut trace))?;
    let mut image = decoded.radiograph;
    let prepared = recipe.prepare(&image);
    if recipe.clip_quantile < 1.0 {
        let above = image.pixels.iter().filter(|&&v| v > prepared.high).count();
        image.pixels.iter_mut().for_each(|v| *v = v.min(prepared.high));
        let what = format!("{above} values above {} (quantile {}) became it", prepared.high, recipe.clip_quantile);
        account.add("clip", what, &image);
    }
    let scaling = recipe.scaling(prepared.low, prepared.high, image.bits);
    image.pixels.iter_mut().for_each(|v| *v = scaling(*v));
    account.add("scale", recipe.describe_scale().to_owned(), &image);
    let (width, height, bits) = (prepared.size, prepared.size, image.bits);
    let mut square = Radiograph { width, height, pixels: prepared.grey, bits };
    account.add("resize", format!("bilinear from {} x {}, not antialiased", image.width, image.height), &square);
    let standardisation = Standardisation::default();
    let channels = standardisation.channels();
    let mut values = vec![0.0; square.pixels.len() * channels];
    standardisation.apply(&square.pixels, &mut values);
    square.pixels = values.into_iter().step_by(channels).collect();
    account.add("standardise", format!("{}; the first channel is shown", standardisation.describe()), &square);
    let png = encode_png(&contact_sheet(&account.tiles(), COLUMNS, SIDE))?;
    Ok(Explanation { format: decoded.format, steps: account.steps, flags: decoded.flags, png })
}

/// What is kept of each step: numbers and two small pictures.
#[derive(Default)]
struct Account {
    steps: Vec<ExplainedStep>,
    pictures: Vec<Tile>,
    histograms: Vec<Tile>,
}

impl Account {
    fn add(&mut self, name: &str, what: String, image: &Radiograph) {
        let (least, greatest) = image.range();
        let mean = image.pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / image.pixels.len().max(1) as f64;
        let (low, high) = (short(f64::from(least)), short(f64::from(greatest)));
        let caption = format!("{name}\n{low} to {high}\nmean {}", short(mean));
        self.pictures.push(Tile::new(image, &caption, SIDE));
        self.histograms.push(Tile::new(&histogram(image, least, greatest), "", SIDE));
        let (width, height) = (image.width, image.height);
        self.steps.push(ExplainedStep { name: name.to_owned(), what, width, height, least, greatest, mean });
    }

    /// Pictures and histograms row below row, the last rows filled up.
    fn tiles(&self) -> Vec<Tile> {
        let blank = Tile::new(&Radiograph { width: 1, height: 1, pixels: vec![0.0], bits: 8 }, "", 1);
        let mut tiles = Vec::new();
        for (pictures, histograms) in self.pictures.chunks(COLUMNS).zip(self.histograms.chunks(COLUMNS)) {
            for row in [pictures, histograms] {
                tiles.extend_from_slice(row);
                tiles.extend(std::iter::repeat_n(blank.clone(), COLUMNS - row.len()));
            }
        }
        tiles
    }
}

/// Bars of the number of pixels from the least value (left) to the greatest, on a root scale.
fn histogram(image: &Radiograph, least: f32, greatest: f32) -> Radiograph {
    let mut counts = [0_u32; BARS];
    let step = (greatest - least) / BARS as f32;
    for &v in &image.pixels {
        let bar = if step > 0.0 { ((v - least) / step) as usize } else { 0 };
        counts[bar.min(BARS - 1)] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(0).max(1));
    let (width, height) = (2 * BARS, BARS);
    let bars: Vec<usize> =
        counts.iter().map(|&n| ((f64::from(n) / most).sqrt() * height as f64).round() as usize).collect();
    let pixels = (0..height)
        .flat_map(|y| bars.iter().flat_map(move |&bar| [if height - y <= bar { 255.0 } else { 0.0 }; 2]))
        .collect();
    Radiograph { width, height, pixels, bits: 8 }
}

/// A number in at most ten characters or so.
fn short(v: f64) -> String {
    if v == 0.0 || (v.fract() == 0.0 && v.abs() < 1e7) {
        format!("{v}")
    } else if v.abs() >= 1000.0 {
        format!("{v:.1}")
    } else if v.abs() >= 0.001 {
        format!("{v:.4}")
    } else {
        format!("{v:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::contact_sheet::encode_png8;
    use super::super::dicom::{DicomImage, Photometric, Samples, WriteSyntax, encode_dicom};
    use super::*;

    fn film(photometric: Photometric) -> Vec<u8> {
        let image = DicomImage {
            width: 60,
            height: 80,
            samples: Samples::U16((0..4800).map(|i| 1000 + i % 60 * 40).collect()),
            bits_stored: 12,
            photometric,
            view_position: "PA".to_owned(),
            patient_id: "P-0001".to_owned(),
            patient_name: "Phantom^Zero".to_owned(),
            age_years: None,
            sex: None,
            study: "s".to_owned(),
            image: "i".to_owned(),
            series_description: String::new(),
            manufacturer: String::new(),
            pixel_mm: None,
            syntax: WriteSyntax::default(),
            extra: vec![(0x0028, 0x1053, "2".to_owned()), (0x0028, 0x1052, "-100".to_owned())],
        };
        encode_dicom(&image).expect("encodes")
    }

    #[test]
    fn steps_are_told_in_order_with_their_numbers() {
        let recipe = Recipe::default();
        let explanation = explain(&film(Photometric::Monochrome1), &recipe).expect("a film");
        let names: Vec<&str> = explanation.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["stored", "MONOCHROME1", "rescale", "clip", "scale", "resize", "standardise"]);
        let range = |i: usize| (explanation.steps[i].least, explanation.steps[i].greatest);
        assert_eq!(range(0), (1000.0, 3360.0));
        assert_eq!(range(1), (735.0, 3095.0));
        assert_eq!(range(2), (1370.0, 6090.0));
        assert_eq!(range(4), (0.0, 1.0));
        assert_eq!((explanation.steps[5].width, explanation.steps[5].height), (224, 224));
        assert!(!format!("{explanation:?} {}", explanation.steps[0]).contains("P-0001"));
        // Seven steps in rows of five: two rows of pictures, two of histograms.
        let sheet = super::super::decode(&explanation.png).expect("a picture").radiograph;
        assert!(sheet.width > COLUMNS * SIDE && sheet.height > 4 * SIDE && sheet.height < 5 * SIDE);
    }

    #[test]
    fn what_is_explained_is_what_a_network_gets() {
        let recipe = Recipe { clip_quantile: 0.9, size: 64, ..Recipe::default() };
        let bytes = film(Photometric::Monochrome2);
        let explanation = explain(&bytes, &recipe).expect("a film");
        let decoded = super::super::decode_with(&bytes, &recipe.pixels).expect("a film");
        let grey = recipe.prepare(&decoded.radiograph).grey;
        let step = explanation.steps.iter().find(|s| s.name == "resize").expect("the step");
        assert_eq!(step.least, grey.iter().copied().fold(f32::INFINITY, f32::min));
        let mean = grey.iter().map(|&v| f64::from(v)).sum::<f64>() / grey.len() as f64;
        assert!((step.mean - mean).abs() < 1e-9);
    }

    #[test]
    fn pictures_have_one_stored_step_and_broken_ones_are_errors() {
        let pixels: Vec<u8> = (0..40 * 40).map(|i| (i % 256) as u8).collect();
        let png = encode_png8(40, 40, &pixels).expect("encodes");
        let explanation = explain(&png, &Recipe { clip_quantile: 1.0, ..Recipe::default() }).expect("a picture");
        assert_eq!((explanation.steps.len(), explanation.steps[0].name.as_str()), (4, "stored"));
        assert!(explain(&png[..40], &Recipe::default()).is_err());
        assert_eq!([short(0.0), short(3360.0), short(0.12345), short(-1234.56)], ["0", "3360", "0.1235", "-1234.6"]);
    }
}
