//! Pictures: a radiograph in its own size with the heat map over it, outlines, boxes and a caption (paper Figures 6 to
//! 8).
//!
//! The radiograph fills the upper left corner pixel for pixel; a colour bar stands at its right, legend and caption
//! below. Where there is no heat the film stays as it is: opacity grows with the value, so that a weak map cannot hide
//! a finding. The caption must say what is explained, since a picture leaves its folder sooner or later. One overlay
//! takes about 8 bytes per pixel and 16 while it is drawn; draw them one at a time.

mod canvas;
mod cases;
mod sheet;

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

pub use cases::{Cases, select_cases};
pub use sheet::{MAX_TILE_SIDE, SheetTile, sheet};

pub use super::colour::ColourMap;

use super::colour::label_colour;
use super::contour::outlines;
use super::{ExplainError, HeatMap, Mask, Region};
use crate::image::recipe::quantile;
use crate::image::{Format, ImageError, Radiograph};
use canvas::{CHARACTER, LINE, lines, rectangle, text};

/// Quantiles of the radiograph that are shown black and white.
const WINDOW: (f64, f64) = (0.005, 0.9995);
/// Opacity of the greatest heat, unless asked otherwise.
pub const DEFAULT_OPACITY: f64 = 0.6;
/// Marks of one picture.
pub const MAX_MARKS: usize = 1000;
/// Lines of text below a picture.
const MAX_LINES: usize = 40;
/// Shorter sides of the image, in pixels, per step of the letters' size.
const PIXELS_PER_SCALE: usize = 320;
/// Around the picture.
const PAPER: [u8; 3] = [24, 24, 24];
/// Of letters.
const INK: [u8; 3] = [225, 225, 225];
/// Parts of the strip with the colour bar, in pixels before scaling: space, bar, space and labels of 9 characters.
const BAR_GAP: usize = 6;
const BAR_WIDTH: usize = 12;
const BAR_STRIP: usize = 2 * BAR_GAP + BAR_WIDTH + 9 * CHARACTER;

/// Everything on one picture.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// The film.
    pub radiograph: &'a Radiograph,
    /// The map over it, of any size.
    pub heat: Option<Heat<'a>>,
    /// Outlines and boxes, drawn in this order. Marks of one name share a colour and a line of the legend.
    pub marks: Vec<Mark<'a>>,
    /// Lines below: label, probability, model, and what is explained.
    pub caption: Vec<String>,
}

/// A heat map and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Heat<'a> {
    /// The map.
    pub map: &'a HeatMap,
    /// Colours. With [`ColourMap::Signed`] the colour is that of the value itself and opacity grows with its size; else
    /// both grow from the least to the greatest value of the map.
    pub colours: ColourMap,
    /// Opacity of the strongest value, 0 to 1; see [`DEFAULT_OPACITY`].
    pub opacity: f64,
}

/// Something outlined on the film.
#[derive(Clone, Debug)]
pub struct Mark<'a> {
    /// For the legend: a label, or `expert: ...`.
    pub name: String,
    /// What is drawn.
    pub shape: Shape<'a>,
}

/// The form of a [`Mark`].
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// The outlines of a mask of any size, stretched over the film.
    Outline(&'a Mask),
    /// A box in pixels of the film.
    Box(Region),
}

/// The line that a caption begins with: label, probability, model, and which score of it is explained.
#[must_use]
pub fn caption_line(label: &str, probability: Option<f64>, model: &str, explained: &str) -> String {
    let probability = probability.map_or_else(String::new, |p| format!(" {p:.2}"));
    format!("{label}{probability}; model: {model}; explained: {explained}")
}

/// Sizes in pixels.
struct Layout {
    scale: usize,
    width: usize,
    height: usize,
    names: Vec<String>,
    caption: Vec<String>,
}

impl Overlay<'_> {
    /// Draws the picture.
    ///
    /// # Errors
    /// [`ExplainError`] for sizes or settings that are not possible.
    pub fn draw(&self) -> Result<RgbImage, ExplainError> {
        let film = self.radiograph;
        let pixels = ExplainError::check_size("an overlay", film.width, film.height)?;
        ExplainError::check_length("the radiograph", film.pixels.len(), pixels)?;
        if self.marks.len() > MAX_MARKS {
            return Err(ExplainError::setting("marks of an overlay", self.marks.len(), format!("0 to {MAX_MARKS}")));
        }
        let layout = self.layout();
        let mut image = RgbImage::from_pixel(layout.width as u32, layout.height as u32, Rgb(PAPER));
        self.draw_film(&mut image);
        if let Some(heat) = &self.heat {
            heat.draw_over(&mut image, film.width, film.height)?;
            heat.draw_bar(&mut image, film, layout.scale);
        }
        self.draw_marks(&mut image, &layout);
        let line_height = LINE * layout.scale;
        let mut top = film.height + 2 * layout.scale;
        for (i, name) in layout.names.iter().enumerate() {
            let side = CHARACTER * layout.scale;
            let square = [0, top, side, top + side].map(|at| at as i64);
            rectangle(&mut image, square, [layout.width, layout.height], label_colour(i));
            text(&mut image, name, [2 * side, top], layout.scale, INK);
            top += line_height;
        }
        for line in &layout.caption {
            text(&mut image, line, [0, top], layout.scale, INK);
            top += line_height;
        }
        Ok(image)
    }

    /// Draws the picture and encodes it.
    ///
    /// # Errors
    /// As [`Overlay::draw`]; a picture that cannot be encoded is [`ExplainError::Size`].
    pub fn png(&self) -> Result<Vec<u8>, ExplainError> {
        let image = self.draw()?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        encode_png(&image).map_err(|_| ExplainError::Size { what: "a PNG", width, height })
    }

    fn layout(&self) -> Layout {
        let film = self.radiograph;
        let scale = (film.width.min(film.height) / PIXELS_PER_SCALE).max(1);
        let width = film.width + if self.heat.is_some() { BAR_STRIP * scale } else { 0 };
        let columns = width / (CHARACTER * scale);
        let caption: Vec<String> = self.caption.iter().flat_map(|line| lines(line, columns)).take(MAX_LINES).collect();
        let mut names: Vec<String> = Vec::new();
        for mark in &self.marks {
            if !names.contains(&mark.name) && names.len() < MAX_LINES {
                names.push(mark.name.clone());
            }
        }
        let count = names.len() + caption.len();
        let below = if count == 0 { 0 } else { (count * LINE + 2) * scale };
        Layout { scale, width, height: film.height + below, names, caption }
    }

    fn draw_film(&self, image: &mut RgbImage) {
        let film = self.radiograph;
        let (low, high) = (quantile(&film.pixels, WINDOW.0), quantile(&film.pixels, WINDOW.1));
        for (y, row) in film.pixels.chunks_exact(film.width).enumerate() {
            for (x, &value) in row.iter().enumerate() {
                let share = if high > low { (value - low) / (high - low) } else { 0.0 };
                let grey = (255.0 * share).round().clamp(0.0, 255.0) as u8;
                image.put_pixel(x as u32, y as u32, Rgb([grey; 3]));
            }
        }
    }

    fn draw_marks(&self, image: &mut RgbImage, layout: &Layout) {
        let film = [self.radiograph.width, self.radiograph.height];
        let thick = layout.scale.max(1) as i64;
        for mark in &self.marks {
            // Names beyond those of the legend share the colour after its last.
            let number = layout.names.iter().position(|name| *name == mark.name).unwrap_or(layout.names.len());
            let colour = label_colour(number);
            match mark.shape {
                Shape::Box(region) => {
                    let [left, top] = [region.x, region.y].map(|at| at as i64);
                    let (right, bottom) = (left + region.width as i64, top + region.height as i64);
                    for side in [
                        [left, top, right, top + thick],
                        [left, bottom - thick, right, bottom],
                        [left, top, left + thick, bottom],
                        [right - thick, top, right, bottom],
                    ] {
                        rectangle(image, side, film, colour);
                    }
                }
                Shape::Outline(mask) => {
                    // A line along the film's border is moved inwards by its thickness.
                    let along = |at: usize, from: usize, to: usize| {
                        ((at * to / from) as i64 - thick / 2).clamp(0, (to as i64 - thick).max(0))
                    };
                    let onto = |at: [usize; 2]| [along(at[0], mask.width, film[0]), along(at[1], mask.height, film[1])];
                    for outline in outlines(mask) {
                        let corners = &outline.corners;
                        for (a, b) in corners.iter().zip(corners.iter().cycle().skip(1)) {
                            let (a, b) = (onto(*a), onto(*b));
                            let line = [a[0].min(b[0]), a[1].min(b[1]), a[0].max(b[0]) + thick, a[1].max(b[1]) + thick];
                            rectangle(image, line, film, colour);
                        }
                    }
                }
            }
        }
    }
}

impl Heat<'_> {
    /// The values at both ends of the colours.
    fn ends(&self) -> (f64, f64) {
        let (low, high) = self.map.range();
        let (low, high) = (f64::from(low), f64::from(high));
        if self.colours == ColourMap::Signed {
            let most = low.abs().max(high.abs());
            (-most, most)
        } else {
            (low, high)
        }
    }

    fn draw_over(&self, image: &mut RgbImage, width: usize, height: usize) -> Result<(), ExplainError> {
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(ExplainError::setting("opacity of a heat map", self.opacity, "0 to 1"));
        }
        let (low, high) = self.ends();
        if high <= low || self.map.is_flat() {
            return Ok(());
        }
        let map = self.map.resized(width, height)?;
        for (y, row) in map.values.chunks_exact(width).enumerate() {
            for (x, &value) in row.iter().enumerate() {
                let t = ((f64::from(value) - low) / (high - low)).clamp(0.0, 1.0);
                let strength = if self.colours == ColourMap::Signed { (2.0 * t - 1.0).abs() } else { t };
                let part = self.opacity * strength;
                let pixel = image.get_pixel_mut(x as u32, y as u32);
                let colour = self.colours.colour(t);
                for (channel, above) in pixel.0.iter_mut().zip(colour) {
                    let mixed = (1.0 - part) * f64::from(*channel) + part * f64::from(above);
                    *channel = mixed.round() as u8;
                }
            }
        }
        Ok(())
    }

    /// A bar from the greatest value above to the least below, with as many ticks as there is room for.
    fn draw_bar(&self, image: &mut RgbImage, film: &Radiograph, scale: usize) {
        let all = [image.width() as usize, film.height];
        let (low, high) = self.ends();
        let left = film.width + BAR_GAP * scale;
        let right = left + BAR_WIDTH * scale;
        let letter = CHARACTER * scale;
        let (top, bottom) = (letter / 2, film.height.saturating_sub(letter / 2).max(letter / 2 + 1));
        for y in top..bottom {
            let t = 1.0 - (y - top) as f64 / (bottom - top - 1).max(1) as f64;
            let line = [left, y, right, y + 1].map(|at| at as i64);
            rectangle(image, line, all, self.colours.colour(t));
        }
        let ticks = if bottom - top >= 8 * letter { 5 } else { 2 };
        for i in 0..ticks {
            let t = i as f64 / (ticks - 1) as f64;
            let y = bottom - 1 - (t * (bottom - top - 1) as f64).round() as usize;
            let mark = [right, y, right + 3 * scale, y + scale].map(|at| at as i64);
            rectangle(image, mark, all, INK);
            let label = tick(low + t * (high - low));
            text(image, &label, [right + BAR_GAP * scale, y.saturating_sub(letter / 2)], scale, INK);
        }
    }
}

/// A number in at most 8 characters.
fn tick(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if (0.01..1000.0).contains(&value.abs()) {
        format!("{value:.2}")
    } else {
        format!("{value:.1e}")
    }
}

/// The bytes of an 8-bit RGB PNG.
///
/// # Errors
/// [`ImageError::NotEncodable`] if the picture is empty.
pub fn encode_png(image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let failed = |detail: String| ImageError::NotEncodable { format: Format::Png, detail };
    let (width, height) = image.dimensions();
    if width == 0 || height == 0 {
        return Err(failed("a picture without pixels".to_owned()));
    }
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    encoder.write_image(image.as_raw(), width, height, ExtendedColorType::Rgb8).map_err(|e| failed(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
