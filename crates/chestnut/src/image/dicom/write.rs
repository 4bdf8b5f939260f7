//! Writes the phantom's radiographs as DICOM: CR Image Storage, in the syntaxes that need no lossy codec.
//!
//! All names, ids and UIDs are made up by the caller or derived from made-up keys; dates stay empty unless
//! the caller makes some up. Same input, same bytes. Nothing here may be used to rewrite a real patient's
//! file: most attributes of a real examination are not carried.

use std::path::Path;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sha2::{Digest, Sha256};

use super::super::{Format, ImageError, check_size};
use super::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, rle};

/// How stored values map to brightness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Photometric {
    /// The least value is white.
    Monochrome1,
    /// The least value is black.
    Monochrome2,
}

/// Stored values, row-major.
#[derive(Clone)]
pub enum Samples {
    /// 8 bits allocated.
    U8(Vec<u8>),
    /// 16 bits allocated.
    U16(Vec<u16>),
}

/// How a file is written: transfer syntaxes that archives hold and that keep every value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteSyntax {
    /// 1.2.840.10008.1.2
    ImplicitLittle,
    /// 1.2.840.10008.1.2.1
    #[default]
    ExplicitLittle,
    /// 1.2.840.10008.1.2.2, retired, still found in old archives.
    ExplicitBig,
    /// 1.2.840.10008.1.2.1.99: the data set deflated.
    Deflated,
    /// 1.2.840.10008.1.2.5: the pixels as PackBits.
    Rle,
}

impl WriteSyntax {
    /// All of them, for cohorts of mixed files and for tests.
    pub const ALL: [Self; 5] =
        [Self::ImplicitLittle, Self::ExplicitLittle, Self::ExplicitBig, Self::Deflated, Self::Rle];

    /// The transfer syntax UID.
    #[must_use]
    pub fn uid(self) -> &'static str {
        match self {
            Self::ImplicitLittle => IMPLICIT_LITTLE,
            Self::ExplicitLittle => EXPLICIT_LITTLE,
            Self::ExplicitBig => EXPLICIT_BIG,
            Self::Deflated => DEFLATED,
            Self::Rle => uids::RLE_LOSSLESS,
        }
    }
}

/// A synthetic radiograph to be written.
#[derive(Clone)]
pub struct DicomImage {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values exactly as they are to be stored: for MONOCHROME1 already inverted.
    pub samples: Samples,
    /// Bits in use, at most those allocated.
    pub bits_stored: u32,
    /// How the values are to be shown.
    pub photometric: Photometric,
    /// ViewPosition: "PA", "AP", "LL" ...
    pub view_position: String,
    /// A made-up PatientID.
    pub patient_id: String,
    /// A made-up PatientName (`Family^Given`).
    pub patient_name: String,
    /// Age in years, 0 to 999.
    pub age_years: Option<u32>,
    /// 'M', 'F' or 'O'.
    pub sex: Option<char>,
    /// Key from which StudyInstanceUID is derived: equal keys, equal studies.
    pub study: String,
    /// Key from which SOPInstanceUID is derived; unique within the cohort.
    pub image: String,
    /// SeriesDescription, such as "Thorax PA".
    pub series_description: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Distance of pixel centres in mm at the detector.
    pub pixel_mm: Option<f64>,
    /// How the file is written.
    pub syntax: WriteSyntax,
    /// Further attributes of the standard's dictionary as group, element and text, values separated by `\`: accession
    /// number, image type, SOP class ... They replace what is written otherwise.
    pub extra: Vec<(u16, u16, String)>,
}

/// A UID below 2.25 (PS3.5, annex B.2) that is a pure function of `kind` and `key`.
#[must_use]
pub fn uid_from(kind: &str, key: &str) -> String {
    let digest = Sha256::digest(format!("chestnut uid\0{kind}\0{key}").as_bytes());
    let number = digest.iter().take(16).fold(0_u128, |n, &byte| (n << 8) | u128::from(byte));
    format!("2.25.{number}")
}

/// Writes `image` to `path`, whole or not at all.
///
/// # Errors
/// As [`encode_dicom`], and [`ImageError::Io`].
pub fn write_dicom(path: &Path, image: &DicomImage) -> Result<(), ImageError> {
    let bytes = encode_dicom(image)?;
    crate::fs::write_atomic(path, &bytes)?;
    Ok(())
}

/// The bytes of `image` as a DICOM file.
///
/// # Errors
/// [`ImageError::NotEncodable`] if sizes, bits and samples disagree, or an extra attribute is unknown or no text; a
/// size outside the limits.
pub fn encode_dicom(image: &DicomImage) -> Result<Vec<u8>, ImageError> {
    let failed = |detail: String| ImageError::NotEncodable { format: Format::Dicom, detail };
    check_size(image.width as u64, image.height as u64)?;
    let (count, allocated) = match &image.samples {
        Samples::U8(samples) => (samples.len(), 8_u32),
        Samples::U16(samples) => (samples.len(), 16),
    };
    if count != image.width * image.height || image.bits_stored == 0 || image.bits_stored > allocated {
        return Err(failed(format!(
            "{count} samples of {} in {allocated} bits for {} x {} pixels",
            image.bits_stored, image.width, image.height
        )));
    }
    let largest = match &image.samples {
        Samples::U8(samples) => samples.iter().copied().max().map(u32::from),
        Samples::U16(samples) => samples.iter().copied().max().map(u32::from),
    };
    if largest.is_some_and(|v| v >> image.bits_stored != 0) {
        return Err(failed(format!("a sample needs more than {} bits", image.bits_stored)));
    }

    let monochrome1 = image.photometric == Photometric::Monochrome1;
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag: Tag, vr: VR, value: PrimitiveValue| {
        object.put(DataElement::new(tag, vr, value));
    };
    let text = |s: &str| PrimitiveValue::from(s);
    let number = |n: u32| PrimitiveValue::from(n as u16);

    put(tags::SPECIFIC_CHARACTER_SET, VR::CS, text("ISO_IR 192"));
    put(tags::IMAGE_TYPE, VR::CS, text("ORIGINAL\\PRIMARY"));
    put(tags::SOP_CLASS_UID, VR::UI, text(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE));
    put(tags::SOP_INSTANCE_UID, VR::UI, text(&uid_from("image", &image.image)));
    // Type 2: present, and empty where a phantom has nothing to say.
    put(tags::STUDY_DATE, VR::DA, PrimitiveValue::Empty);
    put(tags::STUDY_TIME, VR::TM, PrimitiveValue::Empty);
    put(tags::ACCESSION_NUMBER, VR::SH, PrimitiveValue::Empty);
    put(tags::MODALITY, VR::CS, text("CR"));
    put(tags::MANUFACTURER, VR::LO, text(&image.manufacturer));
    put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, PrimitiveValue::Empty);
    put(tags::SERIES_DESCRIPTION, VR::LO, text(&image.series_description));
    put(tags::PATIENT_NAME, VR::PN, text(&image.patient_name));
    put(tags::PATIENT_ID, VR::LO, text(&image.patient_id));
    put(tags::PATIENT_BIRTH_DATE, VR::DA, PrimitiveValue::Empty);
    let sex = image.sex.map_or(PrimitiveValue::Empty, |c| PrimitiveValue::from(c.to_string()));
    put(tags::PATIENT_SEX, VR::CS, sex);
    if let Some(age) = image.age_years.filter(|&a| a <= 999) {
        put(tags::PATIENT_AGE, VR::AS, text(&format!("{age:03}Y")));
    }
    put(tags::BODY_PART_EXAMINED, VR::CS, text("CHEST"));
    put(tags::VIEW_POSITION, VR::CS, text(&image.view_position));
    if let Some(mm) = image.pixel_mm {
        put(tags::IMAGER_PIXEL_SPACING, VR::DS, text(&format!("{mm:.6}\\{mm:.6}")));
    }
    put(tags::STUDY_INSTANCE_UID, VR::UI, text(&uid_from("study", &image.study)));
    put(tags::SERIES_INSTANCE_UID, VR::UI, text(&uid_from("series", &image.study)));
    put(tags::STUDY_ID, VR::SH, PrimitiveValue::Empty);
    put(tags::SERIES_NUMBER, VR::IS, text("1"));
    put(tags::INSTANCE_NUMBER, VR::IS, text("1"));
    put(tags::PATIENT_ORIENTATION, VR::CS, text("L\\F"));
    put(tags::SAMPLES_PER_PIXEL, VR::US, number(1));
    let photometric = if monochrome1 { "MONOCHROME1" } else { "MONOCHROME2" };
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, text(photometric));
    put(tags::ROWS, VR::US, number(image.height as u32));
    put(tags::COLUMNS, VR::US, number(image.width as u32));
    put(tags::BITS_ALLOCATED, VR::US, number(allocated));
    put(tags::BITS_STORED, VR::US, number(image.bits_stored));
    put(tags::HIGH_BIT, VR::US, number(image.bits_stored - 1));
    put(tags::PIXEL_REPRESENTATION, VR::US, number(0));
    put(tags::BURNED_IN_ANNOTATION, VR::CS, text("NO"));
    put(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, text("00"));
    for (group, element, value) in &image.extra {
        let tag = Tag(*group, *element);
        let vr = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed()).filter(|vr| TEXT.contains(vr));
        let vr = vr.ok_or_else(|| failed(format!("attribute ({group:04X},{element:04X}) is unknown or no text")))?;
        put(tag, vr, text(value));
    }
    if image.syntax == WriteSyntax::Rle {
        let stream = match &image.samples {
            Samples::U8(samples) => rle::encode(samples, image.width, 1),
            Samples::U16(samples) => {
                let bytes: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
                rle::encode(&bytes, image.width, 2)
            }
        };
        // One frame in one fragment; its offset is 0.
        let frames: PixelFragmentSequence<Vec<u8>> = PixelFragmentSequence::new(vec![0_u32], vec![stream]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, frames));
    } else {
        match &image.samples {
            Samples::U8(samples) => {
                let mut samples = samples.clone();
                // Values have even length.
                if samples.len() % 2 == 1 {
                    samples.push(0);
                }
                put(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(samples.into()));
            }
            Samples::U16(samples) => put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(samples.clone().into())),
        }
    }

    let file = object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(image.syntax.uid()))
        .map_err(|e| failed(e.to_string()))?;
    let mut bytes = Vec::with_capacity(count * allocated as usize / 8 + 4096);
    file.write_all(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() % 2 == 1 {
        // A deflated stream may end at an odd byte, a file may not (PS3.5, annex A.5).
        bytes.push(0);
    }
    Ok(bytes)
}

/// Value representations that are plain text.
const TEXT: [VR; 16] = [
    VR::AE,
    VR::AS,
    VR::CS,
    VR::DA,
    VR::DS,
    VR::DT,
    VR::IS,
    VR::LO,
    VR::LT,
    VR::PN,
    VR::SH,
    VR::ST,
    VR::TM,
    VR::UC,
    VR::UI,
    VR::UT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_valid_and_keyed() {
        let uid = uid_from("study", "1");
        assert!(uid.len() <= 64 && uid.starts_with("2.25."), "{uid}");
        assert!(uid[5..].bytes().all(|b| b.is_ascii_digit()) && !uid[5..].starts_with('0'), "{uid}");
        assert_ne!(uid, uid_from("study", "2"));
        assert_ne!(uid, uid_from("series", "1"));
    }

    #[test]
    fn samples_that_do_not_fit_are_refused() {
        let mut image = DicomImage {
            width: 32,
            height: 32,
            samples: Samples::U16(vec![0; 1024]),
            bits_stored: 10,
            photometric: Photometric::Monochrome2,
            view_position: "AP".to_owned(),
            patient_id: "P".to_owned(),
            patient_name: "Phantom".to_owned(),
            age_years: None,
            sex: None,
            study: "s".to_owned(),
            image: "i".to_owned(),
            series_description: String::new(),
            manufacturer: String::new(),
            pixel_mm: None,
            syntax: WriteSyntax::default(),
            extra: vec![(0x0008, 0x0050, "A-1".to_owned())],
        };
        let first = encode_dicom(&image).expect("fits");
        assert_eq!(first, encode_dicom(&image).expect("again"), "same input, same bytes");
        image.extra.push((0x0028, 0x0010, "32".to_owned()));
        assert!(encode_dicom(&image).is_err(), "Rows is no text");
        image.extra.truncate(1);
        image.samples = Samples::U16(vec![1024; 1024]);
        assert!(encode_dicom(&image).is_err(), "1024 needs 11 bits");
        image.samples = Samples::U8(vec![0; 1024]);
        assert!(encode_dicom(&image).is_err(), "10 bits in 8");
        image.samples = Samples::U16(vec![0; 1000]);
        assert!(encode_dicom(&image).is_err(), "too few");
    }
}
