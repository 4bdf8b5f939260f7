//! Tests of the DICOM reader: our own written files, damaged ones, and the real collection.

use super::*;
use crate::fs::to_hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const SIDE: usize = 36;

fn image(photometric: Photometric) -> DicomImage {
    DicomImage {
        width: SIDE,
        height: SIDE,
        samples: Samples::U16((0..SIDE * SIDE).map(|i| (i % 4096) as u16).collect()),
        bits_stored: 12,
        photometric,
        view_position: "PA".to_owned(),
        patient_id: "P-0001".to_owned(),
        patient_name: "Phantom^Zero".to_owned(),
        age_years: Some(45),
        sex: Some('F'),
        study: "study 1".to_owned(),
        image: "image 1".to_owned(),
        series_description: "chest PA".to_owned(),
        manufacturer: "chestnut".to_owned(),
        pixel_mm: Some(0.5),
    }
}

#[test]
fn a_written_file_reads_back() {
    let written = image(Photometric::Monochrome2);
    let bytes = encode_dicom(&written).expect("encodes");
    let (radiograph, facts) = decode(&bytes).expect("decodes");
    assert_eq!((radiograph.width, radiograph.height, radiograph.bits), (SIDE, SIDE, 12));
    assert_eq!(radiograph.pixels[100], 100.0);
    assert_eq!(facts.modality.as_deref(), Some("CR"));
    assert_eq!(facts.body_part.as_deref(), Some("CHEST"));
    assert_eq!(facts.view_position.as_deref(), Some("PA"));
    assert_eq!(facts.patient_id.as_deref(), Some("P-0001"));
    assert_eq!(facts.study_uid, Some(uid_from("study", "study 1")));
    assert_eq!((facts.age_years, facts.sex), (Some(45), Some('F')));
    assert!(!format!("{facts:?}").contains("P-0001"), "debug output must not identify");
    // The general-purpose parser must read the same header from it.
    let object = dicom_object::from_reader(&bytes[..]).expect("valid DICOM");
    let id = object.element(dicom_object::Tag(0x0010, 0x0020)).expect("an id").to_str().expect("text");
    assert_eq!(id.trim(), "P-0001");
}

#[test]
fn monochrome1_is_inverted_exactly_once() {
    let bytes = encode_dicom(&image(Photometric::Monochrome1)).expect("encodes");
    assert_eq!(stored_values(&bytes).expect("stored").values[100], 100);
    assert_eq!(decode(&bytes).expect("decodes").0.pixels[100], 4095.0 - 100.0);
}

#[test]
fn eight_bit_files_of_odd_size_are_padded() {
    let mut small = image(Photometric::Monochrome2);
    (small.width, small.height, small.bits_stored) = (33, 33, 8);
    small.samples = Samples::U8((0..33 * 33).map(|i| (i % 256) as u8).collect());
    let (radiograph, _) = decode(&encode_dicom(&small).expect("encodes")).expect("decodes");
    assert_eq!(radiograph.pixels.len(), 33 * 33);
    assert_eq!(radiograph.pixels[255], 255.0);
}

#[test]
fn samples_lie_between_high_bit_and_low_bit() {
    let unsigned = Layout { width: 1, height: 1, allocated: 16, stored: 12, high_bit: 11, signed: false };
    assert_eq!(unsigned.value(0xF123), 0x123);
    let raised = Layout { high_bit: 15, ..unsigned };
    assert_eq!(raised.value(0x123F), 0x123);
    let signed = Layout { signed: true, high_bit: 11, ..raised };
    assert_eq!((signed.value(0x0FFF), signed.value(0x07FF), signed.value(0x0800)), (-1, 2047, -2048));
    let full = Layout { stored: 16, high_bit: 15, ..signed };
    assert_eq!((full.value(0xFFFF), full.value(0x7FFF)), (-1, 32_767));
}

#[test]
fn ages_in_all_units() {
    assert_eq!(years("045Y"), Some(45));
    assert_eq!(years("018M"), Some(1));
    assert_eq!(years("003W"), Some(0));
    assert_eq!(years("58"), Some(58));
    assert_eq!(years("old"), None);
    assert_eq!(years("999Y"), None);
}

/// Sets the 16-bit value of the first element with this tag in an explicit little endian file.
fn patch(bytes: &mut [u8], tag: [u8; 4], value: u16) {
    let mut key = tag.to_vec();
    key.extend(b"US\x02\0");
    let at = bytes.windows(8).position(|w| w == key).expect("the element is there");
    bytes[at + 8..at + 10].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn headers_that_disagree_with_the_pixels_are_refused() {
    let good = encode_dicom(&image(Photometric::Monochrome2)).expect("encodes");
    for (tag, value, code) in [
        ([0x28, 0, 0x10, 0], 60_000, "too_large"),
        ([0x28, 0, 0x10, 0], 35, "bad_header"),
        ([0x28, 0, 0x10, 0], 1, "too_small"),
        ([0x28, 0, 0x11, 0], 37, "bad_header"),
        ([0x28, 0, 0x00, 0x01], 8, "bad_header"),
        ([0x28, 0, 0x00, 0x01], 32, "bad_header"),
        ([0x28, 0, 0x01, 0x01], 17, "bad_header"),
        ([0x28, 0, 0x02, 0x01], 16, "bad_header"),
        ([0x28, 0, 0x02, 0x00], 3, "not_one_grey_frame"),
    ] {
        let mut bytes = good.clone();
        patch(&mut bytes, tag, value);
        let error = decode(&bytes).expect_err("a header that lies");
        assert_eq!(error.code(), code, "{tag:?} {value}: {error}");
    }
}

#[test]
fn truncation_and_damage_are_errors_or_images_never_panics() {
    let good = encode_dicom(&image(Photometric::Monochrome2)).expect("encodes");
    for length in (1..good.len()).step_by(11) {
        let _ = looks_like_dicom(&good[..length]);
        assert!(decode(&good[..length]).is_err(), "cut to {length} of {}", good.len());
    }
    for at in 0..good.len().min(2000) {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            if let Ok((radiograph, _)) = decode(&bytes) {
                assert_eq!(radiograph.pixels.len(), radiograph.width * radiograph.height);
            }
        }
    }
}

#[test]
fn unknown_syntaxes_are_named() {
    let mut bytes = encode_dicom(&image(Photometric::Monochrome2)).expect("encodes");
    let at = bytes.windows(20).position(|w| w == b"1.2.840.10008.1.2.1\0").expect("the syntax UID");
    // Of the same length, so that no other length in the meta group changes.
    bytes[at..at + 19].copy_from_slice(b"1.2.840.10008.9.9.9");
    let message = decode(&bytes).expect_err("not decoded").to_string();
    assert!(message.contains("1.2.840.10008.9.9.9") && message.contains("unknown"), "{message}");
    assert!(unsupported("1.2.840.10008.1.2.4.90").to_string().contains("JPEG 2000"));
}

/// One row of the collection's labels.csv, by column name.
fn rows(table: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let names = reader.headers().expect("a header row").clone();
    reader
        .records()
        .map(|record| {
            let record = record.expect("a row");
            names.iter().zip(&record).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        })
        .collect()
}

/// Stored values of every real file that is decoded equal pydicom's (min, max, mean, hash of the int32);
/// the others are refused with the reason that fits.
#[test]
fn real_files_decode_to_the_known_values() {
    let Some(data) = super::super::real_data() else { return };
    let table = std::fs::read_to_string(data.join("dicom/labels.csv")).expect("dicom/labels.csv");
    let mut decoded = 0;
    for row in rows(&table) {
        let name = &row["image"];
        let bytes = std::fs::read(data.join("dicom/files").join(name)).expect("a listed file");
        assert!(looks_like_dicom(&bytes), "{name}");
        let syntax = row["transfer_syntax_uid"].as_str();
        let result = stored_values(&bytes);
        if row["stored_sha256_16_i32le"].is_empty() {
            assert!(result.is_err(), "{name} is broken");
            continue;
        }
        if !matches!(syntax, "" | IMPLICIT_LITTLE | EXPLICIT_LITTLE | DEFLATED | EXPLICIT_BIG | RLE) {
            let error = result.expect_err("a syntax that is not decoded");
            assert_eq!(error.code(), "unsupported_syntax", "{name}: {error}");
            assert!(error.to_string().contains(syntax), "{name}: {error}");
            assert!(facts(&bytes).expect("the header reads").rows.is_some(), "{name}");
            continue;
        }
        let stored = result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(stored.height.to_string(), row["rows"], "{name}");
        assert_eq!(stored.width.to_string(), row["columns"], "{name}");
        assert_eq!(stored.bits.to_string(), row["bits_stored"], "{name}");
        let least = stored.values.iter().min().expect("pixels");
        let greatest = stored.values.iter().max().expect("pixels");
        assert_eq!(
            (least.to_string(), greatest.to_string()),
            (row["stored_min"].clone(), row["stored_max"].clone()),
            "{name}"
        );
        let mean = stored.values.iter().map(|&v| f64::from(v)).sum::<f64>() / stored.values.len() as f64;
        let expected: f64 = row["stored_mean"].parse().expect("a mean");
        assert!((mean - expected).abs() < 1e-3, "{name}: mean {mean}, expected {expected}");
        let little: Vec<u8> = stored.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(to_hex(&Sha256::digest(&little))[..16], row["stored_sha256_16_i32le"], "{name}");
        let facts = facts(&bytes).expect("facts");
        assert_eq!(facts.modality.unwrap_or_default(), row["modality"], "{name}");
        assert_eq!(facts.photometric.unwrap_or_default(), row["photometric"], "{name}");
        assert_eq!(facts.view_position.unwrap_or_default(), row["view"], "{name}");
        decoded += 1;
    }
    assert!(decoded >= 8, "only {decoded} files decoded");
}

#[test]
fn both_photometric_forms_of_one_film_look_alike() {
    let Some(data) = super::super::real_data() else { return };
    let read = |name: &str| {
        let bytes = std::fs::read(data.join("dicom/files").join(name)).expect("a listed file");
        decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")).0
    };
    let one = read("d_mono1_12bit_explicit_le.dcm");
    let two = read("d_mono2_12bit_implicit_le.dcm");
    assert!(one.pixels == two.pixels, "MONOCHROME1 inverted over 12 bits is the MONOCHROME2 file");
}
