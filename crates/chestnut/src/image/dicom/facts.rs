//! The attributes of a header as text and numbers, and those of them that a study needs.
//!
//! Text is decoded by the file's character set, trimmed, stripped of control characters and bounded. Facts may
//! identify a patient: they are for joining tables and choosing images, never for output, and `Debug` hides them.

use std::fmt;

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

use super::elements::Elements;
use super::{bad_header, tag};
use crate::image::ImageError;

/// Longest text kept of one attribute, in characters.
const MAX_TEXT: usize = 256;
/// Most values kept of one attribute with several.
const MAX_VALUES: usize = 16;

/// What the header of a DICOM object says, as far as a study needs it, raw. Empty attributes are `None`.
#[derive(Clone, Default, PartialEq, Eq)]
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
    /// (0008,0016): what kind of object this is.
    pub sop_class_uid: Option<String>,
    /// (0008,0008) ImageType, value by value: ORIGINAL or DERIVED, PRIMARY or SECONDARY, and what follows.
    pub image_type: Vec<String>,
    /// (0008,0064) ConversionType of a secondary capture: DF digitised film, WSD workstation ...
    pub conversion_type: Option<String>,
    /// (0008,0068) PresentationIntentType: FOR PRESENTATION or FOR PROCESSING.
    pub presentation_intent: Option<String>,
    /// (0028,0301) BurnedInAnnotation: YES or NO.
    pub burned_in_annotation: Option<String>,
    /// (0020,0020) PatientOrientation: where rows and columns point, such as `L\F`.
    pub patient_orientation: Option<String>,
    /// (0020,0062) ImageLaterality, else (0020,0060) Laterality: L, R, B or U.
    pub laterality: Option<String>,
    /// (0028,0010).
    pub rows: Option<u32>,
    /// (0028,0011).
    pub columns: Option<u32>,
    /// (0028,0101).
    pub bits_stored: Option<u32>,
    /// (0028,0002): 1 for grey.
    pub samples_per_pixel: Option<u32>,
    /// (0028,0008).
    pub number_of_frames: Option<u32>,
    /// (0010,0020), raw: identifies a patient. Pseudonymise it before it goes anywhere.
    pub patient_id: Option<String>,
    /// (0008,0050) AccessionNumber, raw: identifies an examination. Not for output.
    pub accession: Option<String>,
    /// (0020,000D), raw: identifies a study. Not for output.
    pub study_uid: Option<String>,
    /// (0020,000E), raw: identifies a series. Not for output.
    pub series_uid: Option<String>,
    /// (0008,0018), raw: identifies an image. Not for output.
    pub sop_uid: Option<String>,
    /// (0008,1030); free text, may hold a name. Not for output.
    pub study_description: Option<String>,
    /// (0008,103E); free text, may hold a name. Not for output.
    pub series_description: Option<String>,
    /// (0018,1030) ProtocolName; free text, may hold a name. Not for output.
    pub protocol_name: Option<String>,
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
            .field("sop_class_uid", &self.sop_class_uid)
            .field("image_type", &self.image_type)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .field("bits_stored", &self.bits_stored)
            .finish_non_exhaustive()
    }
}

impl DicomFacts {
    /// The facts in `elements`, which were read in transfer syntax `syntax`.
    pub(super) fn of(elements: &Elements<'_>, syntax: &str) -> Self {
        let get = |tag| text(elements, tag);
        Self {
            modality: get(tag::MODALITY),
            body_part: get(0x0018_0015),
            view_position: get(0x0018_5101),
            photometric: get(tag::PHOTOMETRIC),
            transfer_syntax_uid: syntax.to_owned(),
            sop_class_uid: get(tag::SOP_CLASS),
            image_type: values(elements, 0x0008_0008),
            conversion_type: get(0x0008_0064),
            presentation_intent: get(0x0008_0068),
            burned_in_annotation: get(0x0028_0301),
            patient_orientation: get(0x0020_0020),
            laterality: get(0x0020_0062).or_else(|| get(0x0020_0060)),
            rows: short(elements, tag::ROWS),
            columns: short(elements, tag::COLUMNS),
            bits_stored: short(elements, tag::BITS_STORED),
            samples_per_pixel: short(elements, tag::SAMPLES),
            number_of_frames: get(tag::FRAMES).and_then(|n| n.parse().ok()),
            patient_id: get(0x0010_0020),
            accession: get(0x0008_0050),
            study_uid: get(0x0020_000D),
            series_uid: get(0x0020_000E),
            sop_uid: get(0x0008_0018),
            study_description: get(0x0008_1030),
            series_description: get(0x0008_103E),
            protocol_name: get(0x0018_1030),
            age_years: get(0x0010_1010).as_deref().and_then(years),
            sex: get(0x0010_0040)
                .and_then(|s| s.chars().next())
                .map(|c| c.to_ascii_uppercase())
                .filter(|c| matches!(c, 'M' | 'F' | 'O')),
            manufacturer: get(0x0008_0070),
        }
    }
}

/// The text of an attribute in the file's character set, trimmed; `None` if absent or empty.
pub(super) fn text(elements: &Elements<'_>, tag: u32) -> Option<String> {
    let bytes = elements.values.get(&tag)?;
    // (0008,0005) may list several; the first that is known decodes all but some names.
    let charset = elements
        .values
        .get(&0x0008_0005)
        .and_then(|codes| {
            String::from_utf8_lossy(codes).split('\\').find_map(|c| SpecificCharacterSet::from_code(c.trim()))
        })
        .unwrap_or_default();
    // Of a hostile megabyte only the beginning is decoded; a character has at most eight bytes with its escapes.
    let bytes = &bytes[..bytes.len().min(8 * MAX_TEXT)];
    let decoded = charset.decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned());
    let trimmed = decoded.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let clean: String = trimmed.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!clean.is_empty()).then_some(clean)
}

/// The values of a text attribute, each trimmed; none if it is absent.
fn values(elements: &Elements<'_>, tag: u32) -> Vec<String> {
    let text = text(elements, tag).unwrap_or_default();
    let values = text.split('\\').take(MAX_VALUES).map(|v| v.trim().to_owned());
    if text.is_empty() { Vec::new() } else { values.collect() }
}

/// The first value of an unsigned 16-bit attribute.
pub(super) fn short(elements: &Elements<'_>, tag: u32) -> Option<u32> {
    let bytes = elements.values.get(&tag)?;
    Some(u32::from(elements.encoding.u16([*bytes.first()?, *bytes.get(1)?])))
}

/// All numbers of an attribute written as text (DS, IS); none if it is absent or one of them is no number.
pub(super) fn numbers(elements: &Elements<'_>, tag: u32) -> Vec<f64> {
    let parsed: Option<Vec<f64>> =
        values(elements, tag).iter().map(|v| v.parse::<f64>().ok().filter(|v| v.is_finite())).collect();
    parsed.unwrap_or_default()
}

/// The first value of a number written as text (DS, IS).
pub(super) fn number(elements: &Elements<'_>, tag: u32, name: &str) -> Result<Option<f64>, ImageError> {
    let Some(text) = text(elements, tag) else { return Ok(None) };
    let first = text.split('\\').next().unwrap_or_default().trim();
    match first.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(bad_header(&format!("{name} is not a number"))),
    }
}

/// Whole years of an age string: 045Y, 018M, 003W, 010D, or a bare number of years.
pub(super) fn years(age: &str) -> Option<u32> {
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

/// What kind of object this is in words, or the UID of its class, or "not stated".
pub(super) fn sop_class(elements: &Elements<'_>) -> String {
    // PS3.4, annex B.5: classes that lie beside radiographs in an archive and hold no pixels.
    const KNOWN: [(&str, &str); 8] = [
        ("1.2.840.10008.5.1.4.1.1.11.", "a presentation state"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "a key object selection"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "an X-ray dose report"),
        ("1.2.840.10008.5.1.4.1.1.88.", "a structured report"),
        ("1.2.840.10008.5.1.4.1.1.104.", "an encapsulated document"),
        ("1.2.840.10008.5.1.4.1.1.9.", "a waveform"),
        ("1.2.840.10008.5.1.4.1.1.66", "raw data or a registration"),
        ("1.2.840.10008.1.3.10", "a DICOMDIR index"),
    ];
    let Some(uid) = text(elements, tag::SOP_CLASS) else { return "not stated".to_owned() };
    let uid: String = uid.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(64).collect();
    match KNOWN.iter().find(|(start, _)| uid.starts_with(start)) {
        Some((_, name)) => format!("{uid}, {name}"),
        None => uid,
    }
}
