//! DICOM radiographs: header facts and pixels, decoded the right way round.
//!
//! Uncompressed data sets (implicit and explicit little endian, explicit big endian, deflated) and RLE
//! are decoded; every other transfer syntax is refused by name. The order of the pixel steps is: take
//! BitsStored bits below HighBit, extend the sign, invert MONOCHROME1 over the stored range (once, here
//! and nowhere else), rescale slope and intercept. No window and no VOI table is applied: the recipe's
//! own clip and scaling follow. Facts may identify a patient: they are for joining, never for output.

mod elements;
mod rle;
mod write;

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_encoding::{Codec, DataRWAdapter, TransferSyntaxIndex};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use self::elements::{Elements, Encoding, PixelData};
use super::{Format, ImageError, Radiograph, check_size};

pub use write::{DicomImage, Photometric, Samples, encode_dicom, uid_from, write_dicom};

/// Largest data set after inflating, in bytes: the largest image at 16 bits and its header.
pub const MAX_INFLATED_BYTES: u64 = 2 * super::MAX_PIXELS + 16 * 1024 * 1024;
/// Longest text kept of one attribute, in characters.
const MAX_TEXT: usize = 256;

const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
const RLE: &str = "1.2.840.10008.1.2.5";

/// What the header of a DICOM image says, as far as a study needs it. Empty attributes are `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct DicomFacts {
    /// (0008,0060): CR, DX, OT ...
    pub modality: Option<String>,
    /// (0018,0015) BodyPartExamined.
    pub body_part: Option<String>,
    /// (0018,5101) ViewPosition: PA, AP, LL ...
    pub view_position: Option<String>,
    /// (0028,0004) PhotometricInterpretation.
    pub photometric: Option<String>,
    /// (0002,0010); for a file without meta group the syntax it was read as.
    pub transfer_syntax_uid: String,
    /// (0028,0010).
    pub rows: Option<u32>,
    /// (0028,0011).
    pub columns: Option<u32>,
    /// (0028,0101).
    pub bits_stored: Option<u32>,
    /// (0010,0020), raw: identifies a patient. Pseudonymise it before it goes anywhere.
    pub patient_id: Option<String>,
    /// (0008,0050) AccessionNumber, raw: identifies a study. Not for output.
    pub accession: Option<String>,
    /// (0020,000D), raw: identifies a study. Not for output.
    pub study_uid: Option<String>,
    /// (0008,0018), raw: identifies an image. Not for output.
    pub sop_uid: Option<String>,
    /// (0008,103E); free text, may hold a name. Not for output.
    pub series_description: Option<String>,
    /// (0010,1010) in whole years.
    pub age_years: Option<u32>,
    /// (0010,0040): M, F or O.
    pub sex: Option<char>,
    /// (0008,0070).
    pub manufacturer: Option<String>,
}

impl fmt::Debug for DicomFacts {
    /// Without anything that identifies a patient.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DicomFacts")
            .field("modality", &self.modality)
            .field("body_part", &self.body_part)
            .field("view_position", &self.view_position)
            .field("photometric", &self.photometric)
            .field("transfer_syntax_uid", &self.transfer_syntax_uid)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .field("bits_stored", &self.bits_stored)
            .finish_non_exhaustive()
    }
}

/// The integers that a file stores, before inversion and rescale.
#[derive(Clone, PartialEq)]
pub struct StoredValues {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// BitsStored.
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
    let file = DicomFile::open(bytes)?;
    Ok(file.facts(&file.elements()?))
}

/// The stored values of a DICOM file, before inversion and rescale.
///
/// # Errors
/// [`ImageError`] if the file is not one grey frame that can be decoded.
pub fn stored_values(bytes: &[u8]) -> Result<StoredValues, ImageError> {
    let file = DicomFile::open(bytes)?;
    file.stored_values(&file.elements()?)
}

/// The radiograph and the facts of a DICOM file.
///
/// # Errors
/// [`ImageError`] if the file is not one grey frame that can be decoded.
pub fn decode(bytes: &[u8]) -> Result<(Radiograph, DicomFacts), ImageError> {
    let file = DicomFile::open(bytes)?;
    let elements = file.elements()?;
    let facts = file.facts(&elements);
    let stored = file.stored_values(&elements)?;
    let slope = number(&elements, 0x0028_1053, "RescaleSlope")?.unwrap_or(1.0);
    let intercept = number(&elements, 0x0028_1052, "RescaleIntercept")?.unwrap_or(0.0);
    if slope == 0.0 {
        return Err(bad_header("RescaleSlope is 0"));
    }
    if elements.values.contains_key(&0x0028_3000) {
        return Err(ImageError::Undecodable {
            format: Format::Dicom,
            detail: "it carries a Modality LUT Sequence, and such tables are not applied".to_owned(),
        });
    }
    // MONOCHROME1 shows the least value white: v -> least + greatest - v over what BitsStored can hold.
    let mirror = (facts.photometric.as_deref() == Some("MONOCHROME1")).then_some(if stored.signed {
        -1
    } else {
        (1 << stored.bits) - 1
    });
    let pixels: Vec<f32> = stored
        .values
        .into_iter()
        .map(|v| (slope * f64::from(mirror.map_or(v, |sum| sum - v)) + intercept) as f32)
        .collect();
    if pixels.iter().any(|v| !v.is_finite()) {
        return Err(bad_header("RescaleSlope and RescaleIntercept lead beyond all numbers"));
    }
    Ok((Radiograph { width: stored.width, height: stored.height, pixels, bits: stored.bits }, facts))
}

/// A DICOM file split into its transfer syntax and its data set, inflated if need be.
struct DicomFile<'a> {
    syntax: String,
    encoding: Encoding,
    body: Cow<'a, [u8]>,
}

impl<'a> DicomFile<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ImageError> {
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
            Codec::Dataset(Some(adapter)) if syntax == DEFLATED => Cow::Owned(inflate(adapter.as_ref(), body)?),
            Codec::Dataset(_) => return Err(unsupported(&syntax)),
            _ => Cow::Borrowed(body),
        };
        Ok(Self { syntax, encoding, body })
    }

    fn elements(&self) -> Result<Elements<'_>, ImageError> {
        elements::read_data_set(&self.body, self.encoding)
    }

    fn facts(&self, elements: &Elements<'_>) -> DicomFacts {
        let get = |tag| text(elements, tag);
        DicomFacts {
            modality: get(0x0008_0060),
            body_part: get(0x0018_0015),
            view_position: get(0x0018_5101),
            photometric: get(0x0028_0004),
            transfer_syntax_uid: self.syntax.clone(),
            rows: short(elements, 0x0028_0010),
            columns: short(elements, 0x0028_0011),
            bits_stored: short(elements, 0x0028_0101),
            patient_id: get(0x0010_0020),
            accession: get(0x0008_0050),
            study_uid: get(0x0020_000D),
            sop_uid: get(0x0008_0018),
            series_description: get(0x0008_103E),
            age_years: get(0x0010_1010).as_deref().and_then(years),
            sex: get(0x0010_0040)
                .and_then(|s| s.chars().next())
                .map(|c| c.to_ascii_uppercase())
                .filter(|c| matches!(c, 'M' | 'F' | 'O')),
            manufacturer: get(0x0008_0070),
        }
    }

    fn stored_values(&self, elements: &Elements<'_>) -> Result<StoredValues, ImageError> {
        let layout = Layout::of(elements)?;
        let pixels = layout.width * layout.height;
        let sample_bytes = layout.allocated as usize / 8;
        let raw: Cow<'_, [u8]> = match (elements.pixels.as_ref(), self.syntax.as_str()) {
            (None, _) => return Err(no_pixels(elements)),
            (Some(PixelData::Fragments(fragments)), RLE) => Cow::Owned(
                rle::decode(&fragments.concat(), pixels, sample_bytes)
                    .map_err(|detail| ImageError::Undecodable { format: Format::Dicom, detail })?,
            ),
            (Some(PixelData::Native { bytes, words }), IMPLICIT_LITTLE | EXPLICIT_LITTLE | DEFLATED | EXPLICIT_BIG) => {
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
                if elements.encoding.big_endian && sample_bytes == 1 && *words {
                    // 8-bit samples in 16-bit words: each word is swapped.
                    let swapped = bytes.chunks(2).flat_map(|w| w.iter().rev().copied());
                    Cow::Owned(swapped.collect())
                } else {
                    Cow::Borrowed(*bytes)
                }
            }
            (Some(_), IMPLICIT_LITTLE | EXPLICIT_LITTLE | DEFLATED | EXPLICIT_BIG | RLE) => {
                return Err(bad_header("the pixel data is not stored as its transfer syntax says"));
            }
            (Some(_), other) => return Err(unsupported(other)),
        };
        // The own decoder of RLE gives little endian; uncompressed data is as the file is written.
        let unpack = |bits: u16| layout.value(u32::from(bits));
        let values: Vec<i32> = if sample_bytes == 1 {
            raw[..pixels].iter().map(|&b| unpack(u16::from(b))).collect()
        } else {
            raw[..2 * pixels].chunks_exact(2).map(|b| unpack(elements.encoding.u16([b[0], b[1]]))).collect()
        };
        Ok(StoredValues {
            width: layout.width,
            height: layout.height,
            bits: layout.stored,
            signed: layout.signed,
            values,
        })
    }
}

/// How samples lie in the pixel data, checked.
struct Layout {
    width: usize,
    height: usize,
    allocated: u32,
    stored: u32,
    high_bit: u32,
    signed: bool,
}

impl Layout {
    fn of(elements: &Elements<'_>) -> Result<Self, ImageError> {
        if elements.pixels.is_none() {
            return Err(no_pixels(elements));
        }
        let photometric = text(elements, 0x0028_0004).unwrap_or_else(|| "not stated".to_owned());
        let samples = short(elements, 0x0028_0002).unwrap_or(1);
        if samples != 1 || !matches!(photometric.as_str(), "MONOCHROME1" | "MONOCHROME2") {
            return Err(ImageError::NotOneGreyFrame {
                detail: format!("photometric interpretation {photometric}, {samples} samples per pixel"),
            });
        }
        let frames = number(elements, 0x0028_0008, "NumberOfFrames")?.unwrap_or(1.0);
        if frames > 1.0 {
            return Err(ImageError::NotOneGreyFrame { detail: format!("{frames} frames") });
        }
        let required = |tag, name: &str| short(elements, tag).ok_or_else(|| bad_header(&format!("{name} is missing")));
        let height = required(0x0028_0010, "Rows")?;
        let width = required(0x0028_0011, "Columns")?;
        check_size(u64::from(width), u64::from(height))?;
        let allocated = required(0x0028_0100, "BitsAllocated")?;
        let stored = short(elements, 0x0028_0101).unwrap_or(allocated);
        let high_bit = short(elements, 0x0028_0102).unwrap_or(stored.saturating_sub(1));
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
        let signed = short(elements, 0x0028_0103).unwrap_or(0) == 1;
        Ok(Self { width: width as usize, height: height as usize, allocated, stored, high_bit, signed })
    }

    /// The value in one allocated cell; other bits of the cell (old overlays) are masked off.
    fn value(&self, cell: u32) -> i32 {
        let up = 31 - self.high_bit;
        let down = 32 - self.stored;
        // To the top, so that the sign bit is the sign, and back down.
        if self.signed { ((cell << up) as i32) >> down } else { ((cell << up) >> down) as i32 }
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

fn inflate(adapter: &dyn DataRWAdapter, body: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut inflated = Vec::new();
    adapter.adapt_reader(Box::new(body)).take(MAX_INFLATED_BYTES + 1).read_to_end(&mut inflated).map_err(|e| {
        ImageError::Undecodable { format: Format::Dicom, detail: format!("its deflated data set: {e}") }
    })?;
    if inflated.len() as u64 > MAX_INFLATED_BYTES {
        let detail = format!("its deflated data set grows beyond {MAX_INFLATED_BYTES} bytes");
        return Err(ImageError::Undecodable { format: Format::Dicom, detail });
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

fn no_pixels(elements: &Elements<'_>) -> ImageError {
    ImageError::NoPixelData { modality: text(elements, 0x0008_0060).unwrap_or_else(|| "not stated".to_owned()) }
}

/// The text of an attribute in the file's character set, trimmed; `None` if absent or empty.
fn text(elements: &Elements<'_>, tag: u32) -> Option<String> {
    let bytes = elements.values.get(&tag)?;
    // (0008,0005) may list several; the first that is known decodes all but some names.
    let charset = elements
        .values
        .get(&0x0008_0005)
        .and_then(|codes| {
            String::from_utf8_lossy(codes).split('\\').find_map(|c| SpecificCharacterSet::from_code(c.trim()))
        })
        .unwrap_or_default();
    let decoded = charset.decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned());
    let trimmed = decoded.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let clean: String = trimmed.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!clean.is_empty()).then_some(clean)
}

/// The first value of an unsigned 16-bit attribute.
fn short(elements: &Elements<'_>, tag: u32) -> Option<u32> {
    let bytes = elements.values.get(&tag)?;
    Some(u32::from(elements.encoding.u16([*bytes.first()?, *bytes.get(1)?])))
}

/// The first value of a number written as text (DS, IS).
fn number(elements: &Elements<'_>, tag: u32, name: &str) -> Result<Option<f64>, ImageError> {
    let Some(text) = text(elements, tag) else { return Ok(None) };
    let first = text.split('\\').next().unwrap_or_default().trim();
    match first.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(bad_header(&format!("{name} is not a number"))),
    }
}

/// Whole years of an age string: 045Y, 018M, 003W, 010D, or a bare number of years.
fn years(age: &str) -> Option<u32> {
    let age = age.trim();
    let (digits, unit) = match age.char_indices().next_back()? {
        (_, c) if c.is_ascii_digit() => (age, 'Y'),
        (at, c) => (&age[..at], c.to_ascii_uppercase()),
    };
    let count: u32 = digits.parse().ok()?;
    let years = match unit {
        'Y' => count,
        'M' => count / 12,
        'W' => count / 52,
        'D' => count / 365,
        _ => return None,
    };
    (years <= 150).then_some(years)
}

#[cfg(test)]
mod tests;
