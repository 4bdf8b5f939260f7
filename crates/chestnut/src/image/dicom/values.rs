//! From stored integers to the grey values of a radiograph: padding, MONOCHROME1, modality, window, pixel shape.
//!
//! Order (PS3.3, C.7.6.3 and C.11): stored values -> Modality LUT or rescale -> window or VOI LUT, if asked for ->
//! MONOCHROME1 inverted, once, here and nowhere else -> padded pixels to the least value -> square pixels. Without a
//! table and without a window the inversion comes first, on the integers, which gives the same picture up to an offset
//! and rounds nothing. PresentationLUTShape is not looked at: the standard ties INVERSE to MONOCHROME1, and following
//! both would invert twice.

use super::elements::Elements;
use super::facts::{number, numbers, text};
use super::stored::{self, Layout};
use super::voi::{Table, Transform};
use super::{bad_header, tag};
use crate::image::picture::{Line, Picture, extreme};
use crate::image::recipe::resize;
use crate::image::{Flag, ImageError, PixelSettings, Radiograph, Trace, Voi, check_size};

/// Pixels count as square while their sides differ by less than this share: spacings are rounded.
const SQUARE: f64 = 0.01;
/// Most a pixel may be longer than wide, or wider than long.
const MAX_ASPECT: f64 = 10.0;

/// From stored values to physical ones.
enum Modality {
    /// RescaleSlope and RescaleIntercept.
    Rescale(f64, f64),
    /// The Modality LUT Sequence, which excludes the two.
    Table(Table),
}

/// A frame on its way to grey values.
///
/// Until pixels are made square, every step changes a pixel by its stored value alone. So the steps are taken once for
/// each cell that can occur, and the picture is drawn from that table: at the end, and after each step if somebody
/// listens.
struct Frame<'f, 't> {
    width: usize,
    height: usize,
    /// Row by row, as decoded.
    cells: Vec<u16>,
    /// The value of each cell from 0 to the greatest of `cells`.
    tones: Vec<f32>,
    /// Bits that the values have.
    bits: u32,
    trace: Option<&'f mut Trace<'t>>,
}

impl Frame<'_, '_> {
    fn tone(&self, cell: u16) -> f32 {
        self.tones[usize::from(cell)]
    }

    /// The picture as it stands.
    fn draw(&self) -> Radiograph {
        let pixels = self.cells.iter().map(|&cell| self.tone(cell)).collect();
        Radiograph { width: self.width, height: self.height, pixels, bits: self.bits }
    }

    /// The picture as it stands, not drawn if that can wait.
    fn picture(&mut self) -> Picture {
        match Line::through(&self.tones) {
            Some(line) => {
                // There is a tone for each cell up to the greatest.
                let (cells, greatest) = (std::mem::take(&mut self.cells), (self.tones.len() - 1) as u16);
                Picture::OnLine { width: self.width, cells, greatest, line, bits: self.bits }
            }
            None => Picture::Drawn(self.draw()),
        }
    }

    /// Tells of a step that was taken.
    fn note(&mut self, name: &'static str, what: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let picture = self.draw();
            tell(&mut self.trace, name, what, &picture);
        }
    }

    /// Replaces each value, computed in double precision.
    fn each(&mut self, value: impl Fn(f64) -> f64) {
        self.tones.iter_mut().for_each(|v| *v = value(f64::from(*v)) as f32);
    }

    fn invert(&mut self, sum: f32) {
        self.tones.iter_mut().for_each(|v| *v = sum - *v);
        self.note("MONOCHROME1", || format!("inverted: {sum} - value"));
    }

    /// Whether every value that occurs is a number.
    fn is_finite(&self) -> bool {
        // Of a table with an infinite value, that value may not occur.
        self.tones.iter().all(|v| v.is_finite()) || self.cells.iter().all(|&cell| self.tone(cell).is_finite())
    }

    /// Sets padded pixels to the least value of the others; gives their number. A film of padding alone stays as it is.
    fn fill(&mut self, is_padded: impl Fn(u16) -> bool) -> usize {
        let padded: Vec<bool> = (0..self.tones.len()).map(|cell| is_padded(cell as u16)).collect();
        let (mut count, mut least) = (0, f32::INFINITY);
        for &cell in &self.cells {
            if padded[usize::from(cell)] {
                count += 1;
            } else {
                least = least.min(self.tone(cell));
            }
        }
        if !least.is_finite() {
            return 0;
        }
        for (tone, _) in self.tones.iter_mut().zip(&padded).filter(|&(_, &padded)| padded) {
            *tone = least;
        }
        count
    }
}

/// Tells of a step, if anybody listens.
fn tell(trace: &mut Option<&mut Trace<'_>>, name: &'static str, what: impl FnOnce() -> String, picture: &Radiograph) {
    if let Some(trace) = trace {
        trace(name, what(), picture);
    }
}

/// Decodes and develops the frame in `elements`; `trace` is told of every step.
///
/// # Errors
/// [`ImageError`] if the pixels cannot be decoded or an attribute of these steps cannot be right.
pub(super) fn develop(
    elements: &Elements<'_>,
    syntax: &str,
    settings: &PixelSettings,
    trace: Option<&mut Trace<'_>>,
) -> Result<(Picture, Vec<Flag>), ImageError> {
    let layout = Layout::of(elements)?;
    let modality = modality(elements, &layout)?;
    let aspect = aspect(elements)?;
    let padding = if settings.padding { padding(elements, &layout) } else { None };
    let inverted = text(elements, tag::PHOTOMETRIC).as_deref() == Some("MONOCHROME1");
    let mut flags = Vec::new();

    let (cells, fewer) = stored::cells(elements, syntax, &layout)?;
    let greatest = extreme(&cells, u16::max);
    let mut frame = Frame {
        width: layout.width,
        height: layout.height,
        cells,
        tones: (0..=greatest).map(|cell| layout.value(u32::from(cell)) as f32).collect(),
        bits: fewer.unwrap_or(layout.stored),
        trace,
    };
    frame.note("stored", || {
        let sign = if layout.signed { ", signed" } else { "" };
        format!("{} of {} bits{sign}, syntax {syntax}", layout.stored, layout.allocated)
    });

    // The table's first value may be signed where modality values are: known only from the range they can have.
    let can_be_negative = layout.signed || matches!(modality, Modality::Rescale(slope, b) if slope < 0.0 || b < 0.0);
    let voi = match settings.voi {
        Voi::None => None,
        Voi::Window => Transform::window(elements),
        Voi::LutOrWindow => Transform::table(elements, can_be_negative)?.or_else(|| Transform::window(elements)),
    };
    if settings.voi != Voi::None && voi.is_none() {
        flags.push(Flag::VoiMissing);
    }
    let late = voi.is_some() || matches!(modality, Modality::Table(_));
    if inverted && !late {
        // Least + greatest - v over what BitsStored can hold.
        let sum = if layout.signed { -1 } else { (1_i32 << frame.bits) - 1 };
        frame.invert(sum as f32);
    }
    match modality {
        Modality::Rescale(slope, intercept) => {
            if (slope, intercept) != (1.0, 0.0) {
                frame.each(|v| slope * v + intercept);
                frame.note("rescale", || format!("{slope} x value + {intercept}"));
            }
        }
        Modality::Table(table) => {
            frame.each(|v| table.at(v));
            frame.bits = table.bits;
            frame.note("modality table", || table.describe());
        }
    }
    if let Some(voi) = &voi {
        let bits = voi.bits().unwrap_or(frame.bits);
        voi.apply(&mut frame.tones, bits);
        frame.bits = bits;
        frame.note("window", || voi.describe());
    }
    if inverted && late {
        let sum = ((1_u32 << frame.bits) - 1) as f32;
        frame.invert(sum);
    }
    if !frame.is_finite() {
        return Err(bad_header("RescaleSlope and RescaleIntercept lead beyond all numbers"));
    }
    if let Some((low, high)) = padding {
        let is_marked = |value: i32| (low..=high).contains(&value);
        let count = frame.fill(|cell| is_marked(layout.raw(cell)) || is_marked(layout.value(u32::from(cell))));
        if count > 0 {
            flags.push(Flag::PixelsPadded(count));
            frame.note("padding", || format!("{count} padded pixels became the least value"));
        }
    }
    let Some(ratio) = aspect else { return Ok((frame.picture(), flags)) };
    let image = squared(&frame.draw(), ratio)?;
    flags.push(Flag::AspectResampled);
    tell(&mut frame.trace, "square pixels", || format!("pixels were {ratio:.3} times as high as wide"), &image);
    Ok((Picture::Drawn(image), flags))
}

fn modality(elements: &Elements<'_>, layout: &Layout) -> Result<Modality, ImageError> {
    if let Some(item) = elements.first_item(tag::MODALITY_LUT)? {
        return Table::of(&item, layout.signed).map(Modality::Table);
    }
    let slope = number(elements, tag::RESCALE_SLOPE, "RescaleSlope")?.unwrap_or(1.0);
    let intercept = number(elements, tag::RESCALE_INTERCEPT, "RescaleIntercept")?.unwrap_or(0.0);
    if slope == 0.0 {
        return Err(bad_header("RescaleSlope is 0"));
    }
    Ok(Modality::Rescale(slope, intercept))
}

/// The stored values that mark padding: PixelPaddingValue, up to PixelPaddingRangeLimit if there is one.
fn padding(elements: &Elements<'_>, layout: &Layout) -> Option<(i32, i32)> {
    let value = |tag| {
        let bytes = elements.values.get(&tag)?;
        Some(layout.raw(elements.encoding.u16([*bytes.first()?, *bytes.get(1)?])))
    };
    let first = value(tag::PADDING_VALUE)?;
    let last = value(tag::PADDING_LIMIT).unwrap_or(first);
    Some((first.min(last), first.max(last)))
}

/// Height over width of a pixel, if it is not square: PixelAspectRatio, else the spacing of the pixels.
fn aspect(elements: &Elements<'_>) -> Result<Option<f64>, ImageError> {
    for (tag, name) in [
        (tag::ASPECT_RATIO, "PixelAspectRatio"),
        (tag::PIXEL_SPACING, "PixelSpacing"),
        (tag::IMAGER_SPACING, "ImagerPixelSpacing"),
    ] {
        // Vertical first. Zeros and half-filled attributes, which files do have, say nothing.
        let &[vertical, horizontal] = numbers(elements, tag).as_slice() else { continue };
        if vertical <= 0.0 || horizontal <= 0.0 {
            continue;
        }
        let ratio = vertical / horizontal;
        if !(1.0 / MAX_ASPECT..=MAX_ASPECT).contains(&ratio) {
            return Err(bad_header(&format!("{name} is {vertical} to {horizontal}")));
        }
        return Ok(((ratio - 1.0).abs() > SQUARE).then_some(ratio));
    }
    Ok(None)
}

/// The image with rows (high pixels) or columns (wide ones) added, bilinear, so that pixels are square.
fn squared(image: &Radiograph, ratio: f64) -> Result<Radiograph, ImageError> {
    let longer = |length: usize, factor: f64| (length as f64 * factor).round() as usize;
    let (width, height) = if ratio > 1.0 {
        (image.width, longer(image.height, ratio))
    } else {
        (longer(image.width, 1.0 / ratio), image.height)
    };
    check_size(width as u64, height as u64)?;
    Ok(Radiograph { width, height, pixels: resize(image, width, height, |v| v), bits: image.bits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    /// A frame of random cells of 12 bits whose values are `value(cell)`.
    fn frame(value: fn(u16) -> f32) -> Frame<'static, 'static> {
        let mut draws = Stream::keyed(1, "cells");
        let mut cells: Vec<u16> = (0..600).map(|_| draws.below(4096) as u16).collect();
        cells[7] = 4095;
        Frame { width: 30, height: 20, cells, tones: (0..=4095).map(value).collect(), bits: 12, trace: None }
    }

    #[test]
    fn a_picture_has_the_bits_of_its_table() {
        type Case = (fn(u16) -> f32, Option<bool>);
        let values: [Case; 4] = [
            (f32::from, Some(true)),
            (|cell| 4095.0 - f32::from(cell), Some(true)),
            // Values that were rounded: whether they still are on a line is not known beforehand.
            (|cell| (0.1 * f64::from(cell) + 3.7) as f32, None),
            (|cell| f32::from(cell).sqrt(), Some(false)),
        ];
        for (i, (value, is_line)) in values.into_iter().enumerate() {
            let mut frame = frame(value);
            let drawn = frame.draw();
            assert_eq!((drawn.width, drawn.height, drawn.bits), (30, 20, 12));
            let same = drawn.pixels.iter().zip(&frame.cells).all(|(p, &cell)| p.to_bits() == value(cell).to_bits());
            assert!(same && drawn.pixels.len() == 600, "values {i}");
            let picture = frame.picture();
            assert!(is_line.is_none_or(|is_line| is_line == matches!(picture, Picture::OnLine { .. })), "values {i}");
            assert_eq!(picture.range(), drawn.range(), "values {i}");
            assert!(picture.draw() == drawn, "values {i}");
        }
    }

    #[test]
    fn values_that_do_not_occur_matter_to_nobody() {
        let mut endless = frame(|cell| if cell == 4094 { f32::INFINITY } else { f32::from(cell) });
        endless.cells.retain(|&cell| cell != 4094);
        assert!(endless.is_finite());
        // The least value of all is no pixel's, and the padding takes the least of the pixels'.
        let mut padded = frame(f32::from);
        padded.cells = vec![0, 9, 9, 40, 4095];
        assert_eq!(padded.fill(|cell| cell < 9), 1);
        assert_eq!(padded.draw().pixels, [9.0, 9.0, 9.0, 40.0, 4095.0]);
        padded.cells[1] = 4094;
        padded.tones[4094] = f32::NEG_INFINITY;
        assert!(!padded.is_finite());
    }
}
