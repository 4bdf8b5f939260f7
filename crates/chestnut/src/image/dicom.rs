//! DICOM radiographs: header facts and pixels, decoded the right way round.
//!
//! | file | what |
//! |---|---|
//! | `elements.rs` | where each attribute and the pixel data lie in the file |
//! | `facts.rs` | attributes as text and numbers; [`DicomFacts`] |
//! | `stored.rs`, `codec.rs`, `streams.rs`, `rle.rs` | stored integers, uncompressed and compressed |
//! | `values.rs`, `voi.rs` | padding, MONOCHROME1, modality, window, pixel shape |
//! | `write.rs` | our own writer, for phantoms |
//!
//! What cannot be decoded is refused by the name of its transfer syntax. Facts may identify a patient: they are for
//! joining, never for output.

mod codec;
mod elements;
mod facts;
mod rle;
mod stored;
mod streams;
mod values;
mod voi;
mod write;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use dicom_encoding::{Codec, DataRWAdapter, TransferSyntaxIndex};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use self::elements::{Elements, Encoding};
use self::facts::{numbers, text};
use self::stored::Layout;
use super::picture::Picture;
use super::{Flag, Format, ImageError, PixelSettings, Radiograph, Trace};

pub use facts::DicomFacts;
pub use stored::StoredValues;
pub use write::{DicomImage, Photometric, Samples, WriteSyntax, encode_dicom, uid_from, write_dicom};

/// Largest data set after inflating, in bytes: the largest image at 16 bits and its header.
pub const MAX_INFLATED_BYTES: u64 = 2 * super::MAX_PIXELS + 16 * 1024 * 1024;
/// Longest header that [`header`] reads, in bytes.
pub const MAX_HEADER_BYTES: u64 = 64 * 1024 * 1024;
/// What [`header`] reads first, in bytes: as much as the headers of most radiographs have. Of a deflated file all that
/// is read is inflated.
const HEADER_PREFIX: u64 = 8 * 1024;
/// How many times its stream a deflated data set is expected to be at most: the room that is made before inflating.
const EXPECTED_INFLATION: usize = 4;

const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";

/// Attributes that are read in more than one place, or by more than their text.
mod tag {
    pub(super) const SOP_CLASS: u32 = 0x0008_0016;
    pub(super) const MODALITY: u32 = 0x0008_0060;
    pub(super) const INTENT: u32 = 0x0008_0068;
    pub(super) const IMAGER_SPACING: u32 = 0x0018_1164;
    pub(super) const SAMPLES: u32 = 0x0028_0002;
    pub(super) const PHOTOMETRIC: u32 = 0x0028_0004;
    pub(super) const FRAMES: u32 = 0x0028_0008;
    pub(super) const ROWS: u32 = 0x0028_0010;
    pub(super) const COLUMNS: u32 = 0x0028_0011;
    pub(super) const PIXEL_SPACING: u32 = 0x0028_0030;
    pub(super) const ASPECT_RATIO: u32 = 0x0028_0034;
    pub(super) const BITS_ALLOCATED: u32 = 0x0028_0100;
    pub(super) const BITS_STORED: u32 = 0x0028_0101;
    pub(super) const HIGH_BIT: u32 = 0x0028_0102;
    pub(super) const PIXEL_REPRESENTATION: u32 = 0x0028_0103;
    pub(super) const PADDING_VALUE: u32 = 0x0028_0120;
    pub(super) const PADDING_LIMIT: u32 = 0x0028_0121;
    pub(super) const BURNED_IN: u32 = 0x0028_0301;
    pub(super) const WINDOW_CENTER: u32 = 0x0028_1050;
    pub(super) const WINDOW_WIDTH: u32 = 0x0028_1051;
    pub(super) const RESCALE_INTERCEPT: u32 = 0x0028_1052;
    pub(super) const RESCALE_SLOPE: u32 = 0x0028_1053;
    pub(super) const VOI_FUNCTION: u32 = 0x0028_1056;
    pub(super) const LOSSY: u32 = 0x0028_2110;
    pub(super) const LOSSY_RATIO: u32 = 0x0028_2112;
    pub(super) const MODALITY_LUT: u32 = 0x0028_3000;
    pub(super) const LUT_DESCRIPTOR: u32 = 0x0028_3002;
    pub(super) const LUT_DATA: u32 = 0x0028_3006;
    pub(super) const VOI_LUT: u32 = 0x0028_3010;
}

/// Whether `bytes` are a DICOM file: preamble and "DICM", "DICM" alone, a bare meta group, or a bare data
/// set as old files have it.
#[must_use]
pub fn looks_like_dicom(bytes: &[u8]) -> bool {
    meta_start(bytes).is_some() || elements::bare_data_set(bytes).is_some()
}

/// The header facts of a DICOM file. The pixel data must be whole but is not decoded, so that this also
/// answers for compressed files.
///
/// # Errors
/// [`ImageError`] if the file is not DICOM, is cut, or its data set cannot be walked.
pub fn facts(bytes: &[u8]) -> Result<DicomFacts, ImageError> {
    Opened::of(bytes).map(|opened| opened.facts)
}

/// The header facts of the DICOM file at `path`, of which no more is read than the header: for joining thousands of
/// files with a table. Pixel data is neither read nor needed; an object without any has facts too.
///
/// # Errors
/// [`ImageError`] if the file cannot be read, is not DICOM, or its header is cut, damaged or longer than
/// [`MAX_HEADER_BYTES`].
pub fn header(path: &Path) -> Result<DicomFacts, ImageError> {
    // Asked before opening: opening a named pipe would wait for ever.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(ImageError::NotAFile);
    }
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(HEADER_PREFIX as usize);
    let mut wanted = HEADER_PREFIX;
    loop {
        file.by_ref().take(wanted - bytes.len() as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let is_whole = (bytes.len() as u64) < wanted;
        match header_in(&bytes) {
            Ok((facts, reached_pixels)) if reached_pixels || is_whole => return Ok(facts),
            Err(error) if is_whole || !matches!(error, ImageError::Truncated { .. }) => return Err(error),
            // Cut where this function cut it: read on.
            _ => {}
        }
        if wanted >= MAX_HEADER_BYTES {
            return Err(bad_header(&format!("no pixel data within its first {MAX_HEADER_BYTES} bytes")));
        }
        wanted = (8 * wanted).min(MAX_HEADER_BYTES);
    }
}

/// The facts in the beginning of a file, and whether the header is whole.
fn header_in(bytes: &[u8]) -> Result<(DicomFacts, bool), ImageError> {
    let file = DicomFile::open(bytes, true)?;
    let elements = file.elements(false)?;
    if elements.values.is_empty() {
        let detail = "it has a file header and no attribute".to_owned();
        return Err(ImageError::Truncated { format: Format::Dicom, detail });
    }
    Ok((DicomFacts::of(&elements, &file.syntax), elements.reached_pixels))
}

/// The stored values of a DICOM file, before inversion and rescale.
///
/// # Errors
/// [`ImageError`] if the file is not one grey frame that can be decoded.
pub fn stored_values(bytes: &[u8]) -> Result<StoredValues, ImageError> {
    let file = DicomFile::open(bytes, false)?;
    let elements = file.elements(true)?;
    let layout = Layout::of(&elements)?;
    let (cells, fewer) = stored::cells(&elements, &file.syntax, &layout)?;
    let values = cells.into_iter().map(|cell| layout.value(u32::from(cell))).collect();
    let bits = fewer.unwrap_or(layout.stored);
    Ok(StoredValues { width: layout.width, height: layout.height, bits, signed: layout.signed, values })
}

/// The radiograph and the facts of a DICOM file, with the default [`PixelSettings`].
///
/// # Errors
/// [`ImageError`] if the file is not one grey frame that can be decoded.
pub fn decode(bytes: &[u8]) -> Result<(Radiograph, DicomFacts), ImageError> {
    let developed = Opened::of(bytes)?.develop(&PixelSettings::default(), None)?;
    Ok((developed.picture.draw(), developed.facts))
}

/// A DICOM file after decoding.
pub(super) struct Developed {
    /// The grey image.
    pub(super) picture: Picture,
    /// What the header says.
    pub(super) facts: DicomFacts,
    /// What was done and noticed.
    pub(super) flags: Vec<Flag>,
}

/// A whole DICOM file of which the header was read and no pixel.
pub(super) struct Opened<'a> {
    file: DicomFile<'a>,
    facts: DicomFacts,
}

impl<'a> Opened<'a> {
    /// Reads the header. The pixel data must be whole.
    ///
    /// # Errors
    /// As [`facts()`].
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let file = DicomFile::open(bytes, false)?;
        let facts = DicomFacts::of(&file.elements(true)?, &file.syntax);
        Ok(Self { file, facts })
    }

    /// What the header says.
    pub(super) fn facts(&self) -> &DicomFacts {
        &self.facts
    }

    /// Decodes the pixels; `trace` is told of every step.
    ///
    /// # Errors
    /// [`ImageError`] if the file is not one grey frame that can be decoded.
    pub(super) fn develop(
        self,
        settings: &PixelSettings,
        trace: Option<&mut Trace<'_>>,
    ) -> Result<Developed, ImageError> {
        let Self { file, facts } = self;
        let elements = file.elements(true)?;
        let (picture, mut flags) = values::develop(&elements, &file.syntax, settings, trace)?;
        let says = |tag, word: &str| text(&elements, tag).is_some_and(|text| text.eq_ignore_ascii_case(word));
        if says(tag::INTENT, "FOR PROCESSING") {
            flags.push(Flag::ForProcessing);
        }
        if says(tag::BURNED_IN, "YES") {
            flags.push(Flag::BurnedInAnnotation);
        }
        // Lossy JPEG is lossy even where the header forgot to say so.
        if says(tag::LOSSY, "01") || file.syntax.ends_with(".1.2.4.50") || file.syntax.ends_with(".1.2.4.51") {
            let ratio = numbers(&elements, tag::LOSSY_RATIO).first().map(|&r| r as f32);
            flags.push(Flag::Lossy(ratio.filter(|&r| r > 1.0)));
        }
        Ok(Developed { picture, facts, flags })
    }
}

/// A DICOM file split into its transfer syntax and its data set, inflated if need be.
struct DicomFile<'a> {
    syntax: String,
    encoding: Encoding,
    body: Cow<'a, [u8]>,
}

impl<'a> DicomFile<'a> {
    /// `is_part` says that `bytes` may end early: a deflated data set is then inflated as far as it goes.
    fn open(bytes: &'a [u8], is_part: bool) -> Result<Self, ImageError> {
        let Some(start) = meta_start(bytes) else {
            let encoding = elements::bare_data_set(bytes)
                .ok_or(ImageError::UnknownFormat { looks_like: "something else than DICOM" })?;
            return Ok(Self { syntax: guessed(encoding), encoding, body: Cow::Borrowed(bytes) });
        };
        let (stated, data_start) = elements::read_meta(bytes, start)?;
        let body = &bytes[data_start..];
        let Some(syntax) = stated else {
            // Without a stated syntax, the first element shows whether it names its representation.
            let encoding = elements::bare_data_set(body).unwrap_or(Encoding::IMPLICIT_LITTLE);
            return Ok(Self { syntax: guessed(encoding), encoding, body: Cow::Borrowed(body) });
        };
        let encoding = match syntax.as_str() {
            IMPLICIT_LITTLE => Encoding::IMPLICIT_LITTLE,
            EXPLICIT_BIG => Encoding::EXPLICIT_BIG,
            // All compressed syntaxes of the standard are explicit little endian around their fragments.
            _ => Encoding::EXPLICIT_LITTLE,
        };
        let Some(known) = TransferSyntaxRegistry.get(&syntax) else {
            return Err(unsupported(&syntax));
        };
        let body = match known.codec() {
            Codec::Dataset(Some(adapter)) if syntax == DEFLATED => {
                Cow::Owned(inflate(adapter.as_ref(), body, is_part)?)
            }
            Codec::Dataset(_) => return Err(unsupported(&syntax)),
            _ => Cow::Borrowed(body),
        };
        Ok(Self { syntax, encoding, body })
    }

    fn elements(&self, with_pixels: bool) -> Result<Elements<'_>, ImageError> {
        elements::read_data_set(&self.body, self.encoding, with_pixels)
    }
}

/// Where the meta group begins, if there is one.
fn meta_start(bytes: &[u8]) -> Option<usize> {
    if bytes.get(128..132) == Some(b"DICM".as_slice()) {
        Some(132)
    } else if bytes.starts_with(b"DICM") {
        Some(4)
    } else if bytes.starts_with(b"\x02\0\0\0UL\x04\0") {
        Some(0)
    } else {
        None
    }
}

fn guessed(encoding: Encoding) -> String {
    let uid = if encoding.explicit { EXPLICIT_LITTLE } else { IMPLICIT_LITTLE };
    uid.to_owned()
}

fn inflate(adapter: &dyn DataRWAdapter, body: &[u8], is_part: bool) -> Result<Vec<u8>, ImageError> {
    let expected = EXPECTED_INFLATION.saturating_mul(body.len()).min(MAX_INFLATED_BYTES as usize);
    let mut inflated = Vec::with_capacity(expected);
    match adapter.adapt_reader(Box::new(body)).take(MAX_INFLATED_BYTES + 1).read_to_end(&mut inflated) {
        Ok(_) => {}
        // What was inflated before the cut stays; the walk over it tells whether it is enough.
        Err(_) if is_part && !inflated.is_empty() => {}
        Err(e) => return Err(undecodable(&format!("its deflated data set: {e}"))),
    }
    if inflated.len() as u64 > MAX_INFLATED_BYTES {
        return Err(undecodable(&format!("its deflated data set grows beyond {MAX_INFLATED_BYTES} bytes")));
    }
    Ok(inflated)
}

fn unsupported(uid: &str) -> ImageError {
    let name = TransferSyntaxRegistry.get(uid).map_or("unknown", |ts| ts.name());
    ImageError::UnsupportedSyntax { uid: uid.to_owned(), name: name.to_owned() }
}

fn bad_header(detail: &str) -> ImageError {
    ImageError::BadHeader { detail: detail.to_owned() }
}

fn undecodable(detail: &str) -> ImageError {
    ImageError::Undecodable { format: Format::Dicom, detail: detail.to_owned() }
}

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod test_file;
#[cfg(test)]
mod tests;
