//! A cohort at a glance: many radiographs as small captioned pictures on one sheet.
//!
//! Each tile keeps its aspect ratio on black and is shown between its own 0.5 and 99.5 % quantiles, so
//! that 8-bit and 12-bit films look alike. A [`Tile`] keeps only the small picture: the radiographs of a
//! large cohort never need to be in memory together. Captions are the caller's: pseudonyms, no names.
//! This is for people's eyes; no network sees these pixels.

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, GrayImage, ImageEncoder, Luma};
use font8x8::legacy::BASIC_LEGACY;

use super::recipe::quantile;
use super::{Format, ImageError, Radiograph};

/// Display window: quantiles shown black and white.
const WINDOW: (f64, f64) = (0.005, 0.995);
/// Side of a character cell of the font, in pixels.
const CHARACTER: usize = 8;
/// Height of one caption line with its leading.
const LINE: usize = CHARACTER + 2;
/// Space between tiles and around the sheet.
const GAP: usize = 4;
/// Grey of the sheet between tiles: tells the film's own black from the background.
const BACKGROUND: u8 = 40;
/// Grey of the captions.
const INK: u8 = 220;

/// One picture of a contact sheet with its caption; lines of the caption are separated by `\n`.
#[derive(Clone)]
pub struct Tile {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    caption: String,
}

impl Tile {
    /// A picture of `radiograph` whose longer side has `side` pixels.
    ///
    /// # Panics
    /// If the radiograph or `side` is empty.
    #[must_use]
    pub fn new(radiograph: &Radiograph, caption: &str, side: usize) -> Self {
        let longer = radiograph.width.max(radiograph.height);
        let scaled = |length: usize| ((length * side + longer / 2) / longer).max(1);
        let (width, height) = (scaled(radiograph.width), scaled(radiograph.height));
        let means = radiograph.cell_means(width, height);
        let low = quantile(&means, WINDOW.0);
        let high = quantile(&means, WINDOW.1);
        let shown = |v: f32| {
            if high > low { ((v - low) / (high - low) * 255.0).round().clamp(0.0, 255.0) as u8 } else { 0 }
        };
        let pixels = means.into_iter().map(shown).collect();
        Self { width, height, pixels, caption: caption.to_owned() }
    }
}

/// Lays out `tiles` row by row in cells of `tile_side` pixels, captions below, clipped to the cell.
/// Tiles larger than a cell are cut. No tile gives an empty sheet of one cell.
#[must_use]
pub fn contact_sheet(tiles: &[Tile], columns: usize, tile_side: usize) -> GrayImage {
    let tile_side = tile_side.max(1);
    let columns = columns.clamp(1, tiles.len().max(1));
    let rows = tiles.len().div_ceil(columns).max(1);
    let lines = tiles.iter().map(|t| t.caption.lines().count()).max().unwrap_or(0);
    let (cell_width, cell_height) = (tile_side + GAP, tile_side + lines * LINE + GAP);
    let width = (columns * cell_width + GAP) as u32;
    let height = (rows * cell_height + GAP) as u32;
    let mut sheet = GrayImage::from_pixel(width, height, Luma([BACKGROUND]));
    for (i, tile) in tiles.iter().enumerate() {
        let left = GAP + i % columns * cell_width;
        let top = GAP + i / columns * cell_height;
        draw_picture(&mut sheet, tile, left, top, tile_side);
        for (line, text) in tile.caption.lines().enumerate() {
            draw_text(&mut sheet, text, left, top + tile_side + 1 + line * LINE, tile_side);
        }
    }
    sheet
}

fn draw_picture(sheet: &mut GrayImage, tile: &Tile, left: usize, top: usize, side: usize) {
    let (width, height) = (tile.width.min(side), tile.height.min(side));
    let (x0, y0) = ((side - width) / 2, (side - height) / 2);
    for y in 0..side {
        for x in 0..side {
            let inside = (x0..x0 + width).contains(&x) && (y0..y0 + height).contains(&y);
            let grey = if inside { tile.pixels[(y - y0) * tile.width + (x - x0)] } else { 0 };
            sheet.put_pixel((left + x) as u32, (top + y) as u32, Luma([grey]));
        }
    }
}

/// Draws as many characters as fit into `width` pixels; what the font lacks becomes a question mark.
fn draw_text(sheet: &mut GrayImage, text: &str, left: usize, top: usize, width: usize) {
    for (i, character) in text.chars().take(width / CHARACTER).enumerate() {
        let code = if character.is_ascii_graphic() || character == ' ' { character as usize } else { '?' as usize };
        for (y, row) in BASIC_LEGACY[code].iter().enumerate() {
            // The lowest bit is the leftmost pixel.
            for x in (0..CHARACTER).filter(|x| (row >> x) & 1 == 1) {
                sheet.put_pixel((left + i * CHARACTER + x) as u32, (top + y) as u32, Luma([INK]));
            }
        }
    }
}

/// The bytes of an 8-bit grey PNG.
///
/// # Errors
/// [`ImageError::NotEncodable`] if the size is empty.
pub fn encode_png(image: &GrayImage) -> Result<Vec<u8>, ImageError> {
    encode_png8(image.width() as usize, image.height() as usize, image.as_raw())
}

/// The bytes of an 8-bit grey PNG of row-major `pixels`.
///
/// # Errors
/// [`ImageError::NotEncodable`] if sizes disagree or are empty.
pub fn encode_png8(width: usize, height: usize, pixels: &[u8]) -> Result<Vec<u8>, ImageError> {
    encode(width, height, pixels.len(), pixels, ExtendedColorType::L8)
}

/// The bytes of a 16-bit grey PNG of row-major `pixels`.
///
/// # Errors
/// [`ImageError::NotEncodable`] if sizes disagree or are empty.
pub fn encode_png16(width: usize, height: usize, pixels: &[u16]) -> Result<Vec<u8>, ImageError> {
    let samples: Vec<u8> = pixels.iter().flat_map(|v| v.to_ne_bytes()).collect();
    encode(width, height, pixels.len(), &samples, ExtendedColorType::L16)
}

fn encode(
    width: usize,
    height: usize,
    count: usize,
    samples: &[u8],
    colour: ExtendedColorType,
) -> Result<Vec<u8>, ImageError> {
    let failed = |detail: String| ImageError::NotEncodable { format: Format::Png, detail };
    let side = |n: usize| u32::try_from(n).map_err(|_| failed(format!("a side of {n} pixels")));
    let (wide, high) = (side(width)?, side(height)?);
    if count == 0 || count != width * height {
        return Err(failed(format!("{count} values for {width} x {height} pixels")));
    }
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(samples, wide, high, colour).map_err(|e| failed(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Radiograph {
        let pixels = (0..width * height).map(|i| (i % width) as f32 * 16.0).collect();
        Radiograph { width, height, pixels, bits: 12 }
    }

    #[test]
    fn tiles_keep_aspect_and_use_the_whole_grey_scale() {
        let tile = Tile::new(&ramp(200, 100), "a", 64);
        assert_eq!((tile.width, tile.height), (64, 32));
        assert_eq!((tile.pixels[0], tile.pixels[63]), (0, 255));
    }

    #[test]
    fn sheets_have_one_cell_per_tile_and_clip_captions() {
        let tile = Tile::new(&ramp(100, 100), "a caption that is far too long\nPA", 32);
        let tiles = vec![tile; 5];
        let sheet = contact_sheet(&tiles, 3, 32);
        let cell = (32 + GAP, 32 + 2 * LINE + GAP);
        assert_eq!(sheet.dimensions(), ((3 * cell.0 + GAP) as u32, (2 * cell.1 + GAP) as u32));
        let ink = |x0: usize, x1: usize| (x0..x1).any(|x| (36..48).any(|y| sheet.get_pixel(x as u32, y).0[0] == INK));
        assert!(ink(GAP, GAP + 32), "the caption is drawn");
        assert!(!ink(GAP + 32, cell.0 + GAP), "and stays below its picture");
        assert_eq!(contact_sheet(&[], 3, 32).dimensions(), (40, 40));
    }

    #[test]
    fn pngs_read_back() {
        let pixels: Vec<u16> = (0..40 * 32).map(|i| i * 51).collect();
        let bytes = encode_png16(40, 32, &pixels).expect("encodes");
        let decoded = super::super::decode(&bytes).expect("decodes").radiograph;
        assert_eq!((decoded.width, decoded.height, decoded.bits), (40, 32, 16));
        assert!(decoded.pixels.iter().zip(&pixels).all(|(&a, &b)| a == f32::from(b)));
        assert!(encode_png8(2, 2, &[0; 3]).is_err());
        assert!(encode_png8(0, 0, &[]).is_err());
    }
}
