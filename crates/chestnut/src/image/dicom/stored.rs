//! The integers that a file stores: where samples lie, uncompressed and compressed, checked against each other.
//!
//! Every way of storing pixels ends in cells of 16 bits ([`cells`]); [`Layout::value`] takes a value out of a cell:
//! BitsStored bits below HighBit, sign extended. Bits above are masked off, because old files keep overlays there.

use std::borrow::Cow;
use std::fmt;

use super::elements::{Elements, PixelData};
use super::facts::{number, short, sop_class, text};
use super::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, bad_header, codec, tag, unsupported};
use crate::image::{ImageError, check_size};

/// The integers that a file stores, before inversion and rescale.
#[derive(Clone, PartialEq)]
pub struct StoredValues {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// BitsStored, or the bits of the compressed stream if those are fewer.
    pub bits: u32,
    /// PixelRepresentation 1: two's complement.
    pub signed: bool,
    /// `width * height` values, row-major.
    pub values: Vec<i32>,
}

impl fmt::Debug for StoredValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredValues {{ {} x {}, {} bits, signed: {} }}", self.width, self.height, self.bits, self.signed)
    }
}

/// How samples lie in the pixel data, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Columns.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// BitsAllocated, 8 or 16.
    pub(super) allocated: u32,
    /// BitsStored.
    pub(super) stored: u32,
    /// HighBit.
    pub(super) high_bit: u32,
    /// PixelRepresentation 1.
    pub(super) signed: bool,
}

impl Layout {
    /// What the header says.
    ///
    /// # Errors
    /// [`ImageError`] if there are no pixels, the image is not one grey frame within the limits, or the numbers of bits
    /// cannot be.
    pub(super) fn of(elements: &Elements<'_>) -> Result<Self, ImageError> {
        if elements.pixels.is_none() {
            return Err(no_pixels(elements));
        }
        let photometric = text(elements, tag::PHOTOMETRIC).unwrap_or_else(|| "not stated".to_owned());
        let samples = short(elements, tag::SAMPLES).unwrap_or(1);
        if samples != 1 || !matches!(photometric.as_str(), "MONOCHROME1" | "MONOCHROME2") {
            return Err(ImageError::NotOneGreyFrame {
                detail: format!("photometric interpretation {photometric}, {samples} samples per pixel"),
            });
        }
        let frames = number(elements, tag::FRAMES, "NumberOfFrames")?.unwrap_or(1.0);
        if frames > 1.0 {
            return Err(ImageError::NotOneGreyFrame { detail: format!("{frames} frames") });
        }
        let required = |tag, name: &str| short(elements, tag).ok_or_else(|| bad_header(&format!("{name} is missing")));
        let height = required(tag::ROWS, "Rows")?;
        let width = required(tag::COLUMNS, "Columns")?;
        check_size(u64::from(width), u64::from(height))?;
        let allocated = required(tag::BITS_ALLOCATED, "BitsAllocated")?;
        let stored = short(elements, tag::BITS_STORED).unwrap_or(allocated);
        let high_bit = short(elements, tag::HIGH_BIT).unwrap_or(stored.saturating_sub(1));
        if !matches!(allocated, 8 | 16)
            || stored == 0
            || stored > allocated
            || high_bit + 1 < stored
            || high_bit >= allocated
        {
            return Err(bad_header(&format!(
                "BitsAllocated {allocated}, BitsStored {stored}, HighBit {high_bit}; 8 or 16 bits can be read"
            )));
        }
        let signed = short(elements, tag::PIXEL_REPRESENTATION).unwrap_or(0) == 1;
        Ok(Self { width: width as usize, height: height as usize, allocated, stored, high_bit, signed })
    }

    /// The value in one allocated cell; other bits of the cell (old overlays) are masked off.
    pub(super) fn value(&self, cell: u32) -> i32 {
        let up = 31 - self.high_bit;
        let down = 32 - self.stored;
        // To the top, so that the sign bit is the sign, and back down.
        if self.signed { ((cell << up) as i32) >> down } else { ((cell << up) >> down) as i32 }
    }

    /// A whole cell as a number, bits above HighBit included: what a padding value may be written as.
    pub(super) fn raw(&self, cell: u16) -> i32 {
        match (self.signed, self.allocated) {
            (false, _) => i32::from(cell),
            (true, 8) => i32::from(cell as u8 as i8),
            (true, _) => i32::from(cell as i16),
        }
    }
}

/// The cells of the one frame, row-major, and its bits per sample if the stream has fewer than the header says.
///
/// # Errors
/// [`ImageError`] if the transfer syntax is not decoded, the data is damaged, or it disagrees with the header.
pub(super) fn cells(elements: &Elements<'_>, syntax: &str, layout: &Layout) -> Result<codec::Cells, ImageError> {
    let native = matches!(syntax, IMPLICIT_LITTLE | EXPLICIT_LITTLE | DEFLATED | EXPLICIT_BIG);
    match elements.pixels.as_ref() {
        None => Err(no_pixels(elements)),
        Some(PixelData::Fragments(fragments)) if codec::is_known(syntax) => {
            // One frame may lie in several fragments; a stream is never copied if it lies in one.
            let stream = match fragments.as_slice() {
                [one] => Cow::Borrowed(*one),
                several => Cow::Owned(several.concat()),
            };
            codec::decode(&stream, syntax, layout)
        }
        Some(PixelData::Native { bytes, words }) if native => {
            uncompressed(elements, bytes, *words, layout).map(|cells| (cells, None))
        }
        Some(_) if native || codec::is_known(syntax) => {
            Err(bad_header("the pixel data is not stored as its transfer syntax says"))
        }
        Some(_) => Err(unsupported(syntax)),
    }
}

fn uncompressed(elements: &Elements<'_>, bytes: &[u8], words: bool, layout: &Layout) -> Result<Vec<u16>, ImageError> {
    let pixels = layout.width * layout.height;
    let sample_bytes = layout.allocated as usize / 8;
    // Values have even length, so one byte of padding may follow.
    let expected = pixels * sample_bytes;
    if bytes.len() != expected && bytes.len() != expected + expected % 2 {
        return Err(bad_header(&format!(
            "{} x {} pixels of {} bits need {expected} bytes of pixel data, there are {}",
            layout.width,
            layout.height,
            layout.allocated,
            bytes.len()
        )));
    }
    let (pairs, _) = bytes[..expected].as_chunks::<2>();
    let mut cells: Vec<u16> = match (sample_bytes, elements.encoding.big_endian) {
        (2, false) => pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect(),
        (2, true) => pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect(),
        // 8-bit samples in 16-bit words: each word is swapped.
        (_, true) if words => bytes.chunks(2).flat_map(|word| word.iter().rev().map(|&b| u16::from(b))).collect(),
        _ => bytes.iter().map(|&b| u16::from(b)).collect(),
    };
    cells.truncate(pixels);
    Ok(cells)
}

fn no_pixels(elements: &Elements<'_>) -> ImageError {
    let modality = text(elements, tag::MODALITY).unwrap_or_else(|| "not stated".to_owned());
    ImageError::NoPixelData { sop_class: sop_class(elements), modality }
}
