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

/// Decodes and develops the frame in `elements`; `trace` is told of every step.
///
/// # Errors
/// [`ImageError`] if the pixels cannot be decoded or an attribute of these steps cannot be right.
pub(super) fn develop(
    elements: &Elements<'_>,
    syntax: &str,
    settings: &PixelSettings,
    trace: &mut Trace<'_>,
) -> Result<(Radiograph, Vec<Flag>), ImageError> {
    let layout = Layout::of(elements)?;
    let modality = modality(elements, &layout)?;
    let aspect = aspect(elements)?;
    let padding = if settings.padding { padding(elements, &layout) } else { None };
    let inverted = text(elements, tag::PHOTOMETRIC).as_deref() == Some("MONOCHROME1");
    let mut flags = Vec::new();

    let (cells, fewer) = stored::cells(elements, syntax, &layout)?;
    let mut image = Radiograph {
        width: layout.width,
        height: layout.height,
        pixels: cells.iter().map(|&cell| layout.value(u32::from(cell)) as f32).collect(),
        bits: fewer.unwrap_or(layout.stored),
    };
    let sign = if layout.signed { ", signed" } else { "" };
    trace("stored", format!("{} of {} bits{sign}, syntax {syntax}", layout.stored, layout.allocated), &image);
    let is_padded = |cell: u16| {
        padding.is_some_and(|(low, high)| {
            (low..=high).contains(&layout.raw(cell)) || (low..=high).contains(&layout.value(u32::from(cell)))
        })
    };
    let padded: Vec<bool> = if padding.is_some() { cells.iter().map(|&c| is_padded(c)).collect() } else { Vec::new() };
    drop(cells);

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
        let sum = if layout.signed { -1 } else { (1_i32 << image.bits) - 1 };
        invert(&mut image, sum as f32, trace);
    }
    match modality {
        Modality::Rescale(slope, intercept) => {
            if (slope, intercept) != (1.0, 0.0) {
                each(&mut image, |v| slope * v + intercept);
                trace("rescale", format!("{slope} x value + {intercept}"), &image);
            }
        }
        Modality::Table(table) => {
            each(&mut image, |v| table.at(v));
            image.bits = table.bits;
            trace("modality table", table.describe(), &image);
        }
    }
    if let Some(voi) = &voi {
        let bits = voi.bits().unwrap_or(image.bits);
        voi.apply(&mut image.pixels, bits);
        image.bits = bits;
        trace("window", voi.describe(), &image);
    }
    if inverted && late {
        let sum = ((1_u32 << image.bits) - 1) as f32;
        invert(&mut image, sum, trace);
    }
    if image.pixels.iter().any(|v| !v.is_finite()) {
        return Err(bad_header("RescaleSlope and RescaleIntercept lead beyond all numbers"));
    }
    let count = fill(&mut image, &padded);
    if count > 0 {
        flags.push(Flag::PixelsPadded(count));
        trace("padding", format!("{count} padded pixels became the least value"), &image);
    }
    if let Some(ratio) = aspect {
        image = squared(&image, ratio)?;
        flags.push(Flag::AspectResampled);
        trace("square pixels", format!("pixels were {ratio:.3} times as high as wide"), &image);
    }
    Ok((image, flags))
}

/// Replaces each value, computed in double precision.
fn each(image: &mut Radiograph, value: impl Fn(f64) -> f64) {
    image.pixels.iter_mut().for_each(|v| *v = value(f64::from(*v)) as f32);
}

fn invert(image: &mut Radiograph, sum: f32, trace: &mut Trace<'_>) {
    image.pixels.iter_mut().for_each(|v| *v = sum - *v);
    trace("MONOCHROME1", format!("inverted: {sum} - value"), image);
}

/// Sets padded pixels to the least value of the others; gives their number. A film of padding alone stays as it is.
fn fill(image: &mut Radiograph, padded: &[bool]) -> usize {
    let rest = image.pixels.iter().zip(padded).filter(|&(_, &padded)| !padded).map(|(&v, _)| v);
    let least = rest.fold(f32::INFINITY, f32::min);
    if !least.is_finite() {
        return 0;
    }
    let mut count = 0;
    for (value, _) in image.pixels.iter_mut().zip(padded).filter(|&(_, &padded)| padded) {
        *value = least;
        count += 1;
    }
    count
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
