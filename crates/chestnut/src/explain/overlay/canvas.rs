//! Rectangles and letters on an RGB picture.

use ::image::{Rgb, RgbImage};
use font8x8::legacy::BASIC_LEGACY;

use crate::evaluate::table::wrap;

/// Side of a character cell of the font, in pixels before scaling.
pub(super) const CHARACTER: usize = 8;
/// Height of one line of text with its leading.
pub(super) const LINE: usize = CHARACTER + 2;

/// Fills columns `left..right` and rows `top..bottom`, as far as they lie in the first `clip` columns and rows.
pub(super) fn rectangle(image: &mut RgbImage, [left, top, right, bottom]: [i64; 4], clip: [usize; 2], colour: [u8; 3]) {
    let (columns, rows) = (clip[0].min(image.width() as usize), clip[1].min(image.height() as usize));
    let within = |at: i64, most: usize| at.clamp(0, most as i64) as u32;
    for y in within(top, rows)..within(bottom, rows) {
        for x in within(left, columns)..within(right, columns) {
            image.put_pixel(x, y, Rgb(colour));
        }
    }
}

/// Draws one line of text with its upper left corner at `at`; letters are `scale` times the font's size. What lies
/// beyond the picture is cut, and what the font lacks becomes a question mark.
pub(super) fn text(image: &mut RgbImage, line: &str, at: [usize; 2], scale: usize, colour: [u8; 3]) {
    let all = [image.width() as usize, image.height() as usize];
    for (i, character) in line.chars().enumerate() {
        let left = at[0] + i * CHARACTER * scale;
        if left >= all[0] {
            break;
        }
        let code = if character.is_ascii_graphic() || character == ' ' { character as usize } else { '?' as usize };
        for (y, row) in BASIC_LEGACY[code].iter().enumerate() {
            // The lowest bit is the leftmost pixel.
            for x in (0..CHARACTER).filter(|x| (row >> x) & 1 == 1) {
                let (x, y) = ((left + x * scale) as i64, (at[1] + y * scale) as i64);
                rectangle(image, [x, y, x + scale as i64, y + scale as i64], all, colour);
            }
        }
    }
}

/// Breaks text into lines of at most `columns` characters, between words where that is possible.
pub(super) fn lines(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for line in wrap(text, columns) {
        let characters: Vec<char> = line.chars().collect();
        lines.extend(characters.chunks(columns).map(|part| part.iter().collect::<String>()));
    }
    lines
}
