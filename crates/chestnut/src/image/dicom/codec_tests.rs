//! Tests of compressed pixel data: streams of other software, codecs against each other, damage, the real collection.

use super::test_file::TestFile;
use super::*;
use crate::fs::to_hex;
use chestnut_stats::random::Stream;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const JPEG_EXTENDED: &str = "1.2.840.10008.1.2.4.51";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.57";

/// A stream of `scripts/oracle_dicom.py`: 32 x 32 pixels as other software compresses them.
#[derive(Deserialize)]
struct Compressed {
    name: String,
    syntax: String,
    bits: u16,
    signed: bool,
    exact: bool,
    hex: String,
    /// Every 16th value.
    expected: Vec<i32>,
}

#[derive(Deserialize)]
struct Oracle {
    streams: Vec<Compressed>,
}

impl Compressed {
    fn bytes(&self) -> Vec<u8> {
        let digit = |b: u8| (b as char).to_digit(16).expect("a hexadecimal digit") as u8;
        self.hex.as_bytes().chunks_exact(2).map(|pair| 16 * digit(pair[0]) + digit(pair[1])).collect()
    }

    fn file(&self, stream: &[u8]) -> TestFile {
        let mut file = TestFile::grey(&[0; 1024], 32, self.bits, "MONOCHROME2");
        file.short(tag::PIXEL_REPRESENTATION, u16::from(self.signed)).compressed(&self.syntax, stream, 3);
        file
    }
}

fn streams() -> Vec<Compressed> {
    let text = include_str!("../../../tests/oracle_dicom.json");
    serde_json::from_str::<Oracle>(text).expect("the oracle").streams
}

#[test]
fn streams_of_other_software_decode_as_there() {
    for stream in streams() {
        let name = &stream.name;
        let result = stored_values(&stream.file(&stream.bytes()).bytes());
        if name == "HTJ2K" {
            let error = result.expect_err("a syntax that is not decoded");
            assert_eq!(error.code(), "unsupported_syntax");
            assert!(error.to_string().contains(&stream.syntax) && error.to_string().contains("High-Throughput"));
            continue;
        }
        let stored = result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((stored.width, stored.height, stored.signed), (32, 32, stream.signed), "{name}");
        // Decoders of lossy streams differ in rounding; JPEG XL computes in floating point throughout.
        let tolerance = match (stream.exact, name.as_str()) {
            (true, _) => 0,
            (false, "JPEG XL, lossy") => 16,
            (false, _) => 2,
        };
        for (i, (ours, theirs)) in stored.values.iter().step_by(16).zip(&stream.expected).enumerate() {
            assert!((ours - theirs).abs() <= tolerance, "{name}: value {i} is {ours}, not {theirs}");
        }
    }
}

#[test]
fn a_part_15_stream_in_a_jpeg_2000_file_is_refused_by_name() {
    let mut stream = streams().into_iter().find(|s| s.name == "HTJ2K").expect("the stream");
    stream.syntax = "1.2.840.10008.1.2.4.90".to_owned();
    let error = stored_values(&stream.file(&stream.bytes()).bytes()).expect_err("not decoded");
    assert!(error.code() == "unsupported_syntax" && error.to_string().contains("High-Throughput"), "{error}");
}

#[test]
fn sizes_that_differ_from_the_stream_are_refused_before_decoding() {
    for stream in streams().into_iter().filter(|s| s.name != "HTJ2K") {
        let whole = stream.file(&stream.bytes());
        for (attribute, value, code) in [
            (tag::ROWS, 33, "bad_header"),
            (tag::ROWS, 100, "bad_header"),
            (tag::COLUMNS, 40, "bad_header"),
            (tag::ROWS, 60_000, "too_large"),
            (tag::ROWS, 1, "too_small"),
        ] {
            let error = stored_values(&whole.clone().short(attribute, value).bytes()).expect_err("another size");
            assert_eq!(error.code(), code, "{}, {value}: {error}", stream.name);
        }
        if stream.bits > 8 {
            let mut eight = whole.clone();
            eight.short(tag::BITS_ALLOCATED, 8).short(tag::BITS_STORED, 8).short(tag::HIGH_BIT, 7);
            let error = stored_values(&eight.bytes()).expect_err("12 bits in 8");
            assert_eq!(error.code(), "bad_header", "{}: {error}", stream.name);
        }
    }
}

#[test]
fn damaged_streams_are_errors_or_images_never_panics() {
    for stream in streams().into_iter().filter(|s| s.name != "HTJ2K") {
        let bytes = stream.bytes();
        for length in (2..bytes.len()).step_by(5) {
            let result = stored_values(&stream.file(&bytes[..length]).bytes());
            assert!(result.is_err() || 4 * length > 3 * bytes.len(), "{} cut to {length}", stream.name);
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x5A;
            if let Ok(stored) = stored_values(&stream.file(&damaged).bytes()) {
                assert_eq!(stored.values.len(), 1024, "{} at {at}", stream.name);
            }
        }
    }
}

/// A picture without jumps: a slow walk from pixel to pixel.
fn walk(purpose: &str, bits: u32) -> Vec<u16> {
    let mut draws = Stream::keyed(3, purpose);
    let (most, step) = ((1_i32 << bits) - 1, 1_i32 << (bits - 5));
    let mut value = most / 2;
    (0..48 * 40)
        .map(|_| {
            value = (value + draws.below(2 * step as usize + 1) as i32 - step).clamp(0, most);
            value as u16
        })
        .collect()
}

/// Two independent decoders share the lossless process between them; both must give back what a third part wrote.
#[test]
fn lossless_jpeg_gives_back_every_value() {
    for bits in [8_u32, 12, 16] {
        let picture = walk("lossless", bits);
        for predictor in 1..=7 {
            for point_transform in [0_u8, 2] {
                let what = format!("{bits} bits, predictor {predictor}, point transform {point_transform}");
                let stream = libjpeg_turbo_rs::precision::compress_lossless_arbitrary(
                    &picture,
                    48,
                    40,
                    1,
                    bits as u8,
                    predictor,
                    point_transform,
                )
                .expect("encodes");
                let mut file = TestFile::grey(&picture, 48, bits as u16, "MONOCHROME2");
                let stored = stored_values(&file.compressed(JPEG_LOSSLESS, &stream, 1).bytes());
                let stored = stored.unwrap_or_else(|e| panic!("{what}: {e}"));
                let expected = picture.iter().map(|v| i32::from(v >> point_transform << point_transform));
                assert!(stored.values.iter().copied().eq(expected), "{what}");
            }
        }
    }
}

#[test]
fn extended_jpeg_has_8_or_12_bits() {
    let picture = walk("extended", 12);
    let samples: Vec<i16> = picture.iter().map(|&v| v as i16).collect();
    let stream =
        libjpeg_turbo_rs::precision::compress_12bit(&samples, 48, 40, 1, 100, libjpeg_turbo_rs::Subsampling::S444)
            .expect("encodes");
    let mut file = TestFile::grey(&picture, 48, 12, "MONOCHROME2");
    let stored = stored_values(&file.compressed(JPEG_EXTENDED, &stream, 2).bytes()).expect("12 bits");
    assert_eq!(stored.bits, 12);
    let worst = stored.values.iter().zip(&picture).map(|(a, &b)| (a - i32::from(b)).abs()).max();
    assert!(worst <= Some(24), "{worst:?}");
    // 10 bits stored of 12: a ripple above the largest value is cut off and not wrapped around.
    let mut edge = vec![1023_i16; 48 * 40];
    edge.iter_mut().step_by(7).for_each(|v| *v = 0);
    let stream = libjpeg_turbo_rs::precision::compress_12bit(&edge, 48, 40, 1, 60, libjpeg_turbo_rs::Subsampling::S444)
        .expect("encodes");
    let mut file = TestFile::grey(&picture, 48, 10, "MONOCHROME2");
    let stored = stored_values(&file.compressed(JPEG_EXTENDED, &stream, 1).bytes()).expect("10 of 12 bits");
    assert_eq!(stored.values.iter().max(), Some(&1023));
    // An 8-bit stream in a 12-bit header says that it has 8 bits.
    let eight = streams().into_iter().find(|s| s.name == "JPEG baseline").expect("the stream");
    let mut file = TestFile::grey(&[0; 1024], 32, 12, "MONOCHROME1");
    file.compressed(JPEG_EXTENDED, &eight.bytes(), 1);
    assert_eq!(stored_values(&file.bytes()).expect("8 bits").bits, 8);
    let (radiograph, _) = decode(&file.bytes()).expect("8 bits");
    assert!(radiograph.range().1 <= 255.0, "inverted over 8 bits");
}

#[test]
fn other_syntaxes_are_refused_by_name() {
    for (uid, name) in [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.203", "High-Throughput"),
        ("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed"),
    ] {
        let mut file = TestFile::grey(&[0; 1024], 32, 12, "MONOCHROME2");
        let error = stored_values(&file.compressed(uid, &[0; 64], 1).bytes()).expect_err("not decoded");
        assert_eq!(error.code(), "unsupported_syntax", "{uid}: {error}");
        assert!(error.to_string().contains(uid) && error.to_string().contains(name), "{error}");
        assert!(facts(&file.bytes()).is_ok(), "its header reads");
    }
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

/// Stored values of every real file equal pydicom's: least, greatest, mean, and the hash of the int32 unless the
/// codec is lossy. Broken files are refused, and so is every file with another number of rows.
#[test]
fn real_files_decode_to_the_known_values() {
    let Some(data) = super::super::real_data() else { return };
    let table = std::fs::read_to_string(data.join("dicom/labels.csv")).expect("dicom/labels.csv");
    let mut decoded = 0;
    for row in rows(&table) {
        let name = &row["image"];
        let path = data.join("dicom/files").join(name);
        let bytes = std::fs::read(&path).expect("a listed file");
        assert!(looks_like_dicom(&bytes), "{name}");
        let result = stored_values(&bytes);
        if row["stored_sha256_16_i32le"].is_empty() {
            let error = result.expect_err("a broken file");
            assert!(matches!(error.code(), "truncated" | "no_pixel_data"), "{name}: {error}");
            continue;
        }
        let stored = result.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(stored.height.to_string(), row["rows"], "{name}");
        assert_eq!(stored.width.to_string(), row["columns"], "{name}");
        assert_eq!(stored.bits.to_string(), row["bits_stored"], "{name}");
        let number = |column: &str| row[column].parse::<f64>().expect("a number");
        let lossy = [".4.50", ".4.51", ".4.81", ".4.91"].iter().any(|end| row["transfer_syntax_uid"].ends_with(end));
        let (tolerance, off_mean) = if lossy { (1.0, 0.1) } else { (0.0, 1e-3) };
        let least = f64::from(*stored.values.iter().min().expect("pixels"));
        let greatest = f64::from(*stored.values.iter().max().expect("pixels"));
        assert!((least - number("stored_min")).abs() <= tolerance, "{name}: least {least}");
        assert!((greatest - number("stored_max")).abs() <= tolerance, "{name}: greatest {greatest}");
        let mean = stored.values.iter().map(|&v| f64::from(v)).sum::<f64>() / stored.values.len() as f64;
        assert!((mean - number("stored_mean")).abs() < off_mean, "{name}: mean {mean}");
        if !lossy {
            let little: Vec<u8> = stored.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(to_hex(&Sha256::digest(&little))[..16], row["stored_sha256_16_i32le"], "{name}");
        }
        let facts = facts(&bytes).expect("facts");
        assert!(header(&path).expect("the header alone") == facts, "{name}");
        assert_eq!(facts.modality.unwrap_or_default(), row["modality"], "{name}");
        assert_eq!(facts.photometric.unwrap_or_default(), row["photometric"], "{name}");
        assert_eq!(facts.view_position.unwrap_or_default(), row["view"], "{name}");
        for rows in [100_u16, 60_000] {
            let mut edited = bytes.clone();
            if set_rows(&mut edited, rows) {
                let error = stored_values(&edited).expect_err("another number of rows");
                assert!(matches!(error.code(), "bad_header" | "too_large" | "undecodable"), "{name}: {error}");
            }
        }
        assert!(stored_values(&bytes[..bytes.len() / 2]).is_err(), "{name} cut in half");
        decoded += 1;
    }
    assert!(decoded >= 12, "only {decoded} files decoded");
}

/// Sets Rows of an explicit little endian file; false for other files.
fn set_rows(bytes: &mut [u8], rows: u16) -> bool {
    let found = bytes.windows(8).position(|w| w == b"\x28\0\x10\0US\x02\0");
    if let Some(at) = found {
        bytes[at + 8..at + 10].copy_from_slice(&rows.to_le_bytes());
    }
    found.is_some()
}

#[test]
fn all_forms_of_one_film_look_alike() {
    let Some(data) = super::super::real_data() else { return };
    let read = |name: &str| {
        let bytes = std::fs::read(data.join("dicom/files").join(name)).expect("a listed file");
        decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")).0
    };
    let one = read("d_mono1_12bit_explicit_le.dcm");
    for name in [
        "d_mono2_12bit_implicit_le.dcm",
        "d_mono2_12bit_deflated.dcm",
        "d_mono2_12bit_rle.dcm",
        "d_mono2_12bit_jpegls_lossless.dcm",
        "d_mono2_12bit_jpeg_lossless_sv1.dcm",
    ] {
        assert!(one.pixels == read(name).pixels, "MONOCHROME1 inverted over 12 bits is the MONOCHROME2 file {name}");
    }
}
