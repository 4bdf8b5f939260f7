//! Many overlays at a glance: small captioned pictures on one sheet.
//!
//! A [`SheetTile`] keeps only the small picture, so that the overlays of a study never need to be in memory together.

use ::image::{Rgb, RgbImage, imageops};

use super::canvas::{CHARACTER, LINE, lines, text};
use super::{INK, PAPER};
use crate::explain::ExplainError;

/// Space between tiles and around the sheet.
const GAP: usize = 6;
/// Longest side of a tile.
pub const MAX_TILE_SIDE: usize = 2048;
/// Lines of a caption that are shown.
const MAX_LINES: usize = 8;

/// One small picture with its caption; lines of the caption are separated by `\n`.
#[derive(Clone, Debug)]
pub struct SheetTile {
    picture: RgbImage,
    caption: String,
}

impl SheetTile {
    /// `picture` with its longer side brought to `side` pixels.
    ///
    /// # Errors
    /// [`ExplainError`] for a side of 0 or above [`MAX_TILE_SIDE`], or an empty picture.
    pub fn new(picture: &RgbImage, caption: &str, side: usize) -> Result<Self, ExplainError> {
        if !(1..=MAX_TILE_SIDE).contains(&side) {
            return Err(ExplainError::setting("side of a tile", side, format!("1 to {MAX_TILE_SIDE} pixels")));
        }
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        ExplainError::check_size("a tile", width, height)?;
        let longer = width.max(height);
        let scaled = |length: usize| ((length * side + longer / 2) / longer).max(1) as u32;
        let picture = imageops::thumbnail(picture, scaled(width), scaled(height));
        Ok(Self { picture, caption: caption.to_owned() })
    }
}

/// Lays out tiles row by row in cells of `side` pixels, captions below. Larger tiles are cut.
///
/// # Errors
/// [`ExplainError`] for a side of 0 or above [`MAX_TILE_SIDE`], or a sheet with too many pixels.
pub fn sheet(tiles: &[SheetTile], columns: usize, side: usize) -> Result<RgbImage, ExplainError> {
    if !(1..=MAX_TILE_SIDE).contains(&side) {
        return Err(ExplainError::setting("side of a tile", side, format!("1 to {MAX_TILE_SIDE} pixels")));
    }
    let columns = columns.clamp(1, tiles.len().max(1));
    let rows = tiles.len().div_ceil(columns).max(1);
    let captions: Vec<Vec<String>> = tiles
        .iter()
        .map(|t| t.caption.lines().flat_map(|line| lines(line, side / CHARACTER)).take(MAX_LINES).collect())
        .collect();
    let most = captions.iter().map(Vec::len).max().unwrap_or(0);
    let (cell_width, cell_height) = (side + GAP, side + most * LINE + GAP);
    let (width, height) = (columns * cell_width + GAP, rows * cell_height + GAP);
    ExplainError::check_size("a contact sheet", width, height)?;
    let mut image = RgbImage::from_pixel(width as u32, height as u32, Rgb(PAPER));
    for (i, (tile, caption)) in tiles.iter().zip(&captions).enumerate() {
        let (left, top) = (GAP + i % columns * cell_width, GAP + i / columns * cell_height);
        let (across, down) = ((tile.picture.width() as usize).min(side), (tile.picture.height() as usize).min(side));
        let (x0, y0) = (left + (side - across) / 2, top + (side - down) / 2);
        for y in 0..down {
            for x in 0..across {
                image.put_pixel((x0 + x) as u32, (y0 + y) as u32, *tile.picture.get_pixel(x as u32, y as u32));
            }
        }
        for (number, line) in caption.iter().enumerate() {
            text(&mut image, line, [left, top + side + 2 + number * LINE], 1, INK);
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_scaled_centred_and_captioned() {
        let picture = RgbImage::from_pixel(200, 100, Rgb([200, 0, 0]));
        let tile = SheetTile::new(&picture, "Lung 0.91 and a long word\nrow 3", 64).expect("a tile");
        assert_eq!(tile.picture.dimensions(), (64, 32));
        let tiles = vec![tile; 3];
        let image = sheet(&tiles, 2, 64).expect("a sheet");
        // "Lung", "0.91 and", "a long", "word", "row 3" in 8 columns.
        let cell = (64 + GAP, 64 + 5 * LINE + GAP);
        assert_eq!(image.dimensions(), ((2 * cell.0 + GAP) as u32, (2 * cell.1 + GAP) as u32));
        assert_eq!(image.get_pixel((GAP + 32) as u32, (GAP + 32) as u32).0, [200, 0, 0]);
        assert_eq!(image.get_pixel((GAP + 32) as u32, (GAP + 2) as u32).0, PAPER);
        assert_eq!(image.get_pixel((cell.0 + GAP + 32) as u32, (cell.1 + GAP + 32) as u32).0, PAPER, "no fourth tile");
        let below = (0..64).any(|x| (66..74).any(|y| image.get_pixel((GAP + x) as u32, (GAP + y) as u32).0 == INK));
        assert!(below, "the caption is drawn");
        assert!(SheetTile::new(&picture, "", 0).is_err() && sheet(&[], 1, MAX_TILE_SIDE + 1).is_err());
        assert_eq!(sheet(&[], 3, 10).expect("empty").dimensions(), (22, 22));
    }
}
