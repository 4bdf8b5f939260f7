//! Tests of the DICOM reader: our own written files, damaged ones, every step from stored value to grey value.

use super::facts::years;
use super::test_file::TestFile;
use super::*;
use crate::image::Voi;
use serde::Deserialize;

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
        syntax: WriteSyntax::default(),
        extra: Vec::new(),
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
fn every_syntax_reads_back_the_same() {
    let mut written = image(Photometric::Monochrome2);
    written.extra = vec![
        (0x0008, 0x0050, "A-17".to_owned()),
        (0x0008, 0x0008, "DERIVED\\SECONDARY".to_owned()),
        (0x0018, 0x1030, "Thorax".to_owned()),
    ];
    let mut eight = image(Photometric::Monochrome1);
    (eight.width, eight.height, eight.bits_stored) = (33, 35, 8);
    eight.samples = Samples::U8((0..33 * 35).map(|i| (i % 253) as u8).collect());
    for (mut image, first) in [(written, [0, 1, 2]), (eight, [0, 1, 2])] {
        for syntax in WriteSyntax::ALL {
            image.syntax = syntax;
            let bytes = encode_dicom(&image).expect("encodes");
            let stored = stored_values(&bytes).unwrap_or_else(|e| panic!("{syntax:?}: {e}"));
            assert_eq!((stored.width, stored.height), (image.width, image.height), "{syntax:?}");
            assert_eq!(stored.values[..3], first, "{syntax:?}");
            let expected: Vec<i32> = match &image.samples {
                Samples::U8(samples) => samples.iter().map(|&v| i32::from(v)).collect(),
                Samples::U16(samples) => samples.iter().map(|&v| i32::from(v)).collect(),
            };
            assert!(stored.values == expected, "{syntax:?}");
            let facts = facts(&bytes).expect("facts");
            assert_eq!(facts.transfer_syntax_uid, syntax.uid());
            // Opened once, the file gives the same header and the same picture.
            let opened = crate::image::open(&bytes).expect("a header");
            assert!(opened.facts() == Some(&facts), "{syntax:?}");
            let decoded = opened.decode(&PixelSettings::default()).expect("pixels");
            assert!(decoded.dicom.as_ref() == Some(&facts), "{syntax:?}");
            assert!(decoded.radiograph == decode(&bytes).expect("decodes").0, "{syntax:?}");
            if image.bits_stored == 12 {
                assert_eq!(facts.accession.as_deref(), Some("A-17"), "{syntax:?}");
                assert_eq!(facts.image_type, ["DERIVED", "SECONDARY"]);
                assert_eq!(facts.protocol_name.as_deref(), Some("Thorax"));
                assert!(!format!("{facts:?}").contains("A-17"), "debug output must not identify");
            }
            assert!(dicom_object::from_reader(&bytes[..]).is_ok(), "{syntax:?} is valid for others");
        }
    }
}

#[test]
fn headers_are_read_without_their_pixels() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("1.dcm");
    let mut written = image(Photometric::Monochrome2);
    // Noise, which does not deflate to nothing.
    (written.width, written.height) = (400, 400);
    written.samples = Samples::U16((0..160_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as u16).collect());
    for text in [String::new(), "x".repeat(100_000)] {
        // TextValue: longer than what is read first.
        written.extra = vec![(0x0040, 0xA160, text)];
        for syntax in WriteSyntax::ALL {
            written.syntax = syntax;
            let whole = encode_dicom(&written).expect("encodes");
            std::fs::write(&path, &whole).expect("written");
            let expected = facts(&whole).expect("facts");
            assert!(header(&path).expect("a whole file") == expected, "{syntax:?}");
            std::fs::write(&path, &whole[..whole.len() - 100_000]).expect("written");
            assert!(header(&path).expect("cut in its pixels") == expected, "{syntax:?}");
            assert!(facts(&whole[..whole.len() - 100_000]).is_err());
            // Within a value of the header, where it can be found.
            if let Some(at) = whole.windows(5).position(|w| w == b"CHEST") {
                std::fs::write(&path, &whole[..at + 2]).expect("written");
                assert_eq!(header(&path).expect_err("cut in its header").code(), "truncated", "{syntax:?}");
            }
        }
    }
    assert_eq!(header(folder.path()).expect_err("a folder").code(), "unreadable");
    std::fs::write(&path, b"image,label\n").expect("written");
    assert_eq!(header(&path).expect_err("a table").code(), "unknown_format");
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

/// The cells that `scripts/oracle_dicom.py` makes by the same formula.
fn cells(bits: u16) -> Vec<u16> {
    (0..1024_u32).map(|i| ((i * 37 + i / 32 * 101) % (1 << bits)) as u16).collect()
}

/// First value, entries, bits.
type Entries = (i32, Vec<u16>, u16);

#[derive(Deserialize)]
struct Case {
    name: String,
    bits: u16,
    signed: bool,
    photometric: String,
    rescale: Option<(f64, f64)>,
    modality: Option<Entries>,
    window: Option<(f64, f64, String)>,
    table: Option<Entries>,
    voi: Voi,
    expected: Vec<f32>,
}

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
}

fn developed(file: &TestFile, settings: &PixelSettings) -> (Radiograph, Vec<Flag>) {
    let bytes = file.bytes();
    let developed = Opened::of(&bytes).and_then(|opened| opened.develop(settings, None));
    let Developed { picture, flags, .. } = developed.unwrap_or_else(|e| panic!("{e}"));
    (picture.draw(), flags)
}

#[test]
fn tables_windows_and_signs_equal_pydicom() {
    let oracle: Oracle = serde_json::from_str(include_str!("../../../tests/oracle_dicom.json")).expect("the oracle");
    for case in oracle.cases {
        let mut file = TestFile::grey(&cells(case.bits), 32, case.bits, &case.photometric);
        file.short(tag::PIXEL_REPRESENTATION, u16::from(case.signed));
        if let Some((slope, intercept)) = case.rescale {
            file.text(tag::RESCALE_SLOPE, b"DS", &slope.to_string());
            file.text(tag::RESCALE_INTERCEPT, b"DS", &intercept.to_string());
        }
        if let Some((first, entries, bits)) = &case.modality {
            file.table(tag::MODALITY_LUT, *first, entries, *bits);
        }
        if let Some((centre, width, function)) = &case.window {
            // A second window, as reading stations write them, is an alternative and not used.
            file.text(tag::WINDOW_CENTER, b"DS", &format!("{centre}\\7"));
            file.text(tag::WINDOW_WIDTH, b"DS", &format!("{width}\\9"));
            file.text(tag::VOI_FUNCTION, b"CS", function);
        }
        if let Some((first, entries, bits)) = &case.table {
            file.table(tag::VOI_LUT, *first, entries, *bits);
        }
        let settings = PixelSettings { voi: case.voi, padding: true };
        let (radiograph, flags) = developed(&file, &settings);
        assert!(flags.is_empty(), "{}: {flags:?}", case.name);
        let most = ((1_u32 << radiograph.bits) - 1) as f32;
        for (i, (&ours, expected)) in radiograph.pixels.iter().step_by(16).zip(&case.expected).enumerate() {
            assert!((ours - expected).abs() <= 1e-5 * most, "{}: value {i} is {ours}, not {expected}", case.name);
        }
    }
}

#[test]
fn a_window_that_is_absent_or_impossible_is_said() {
    let window = PixelSettings { voi: Voi::Window, padding: true };
    let mut file = TestFile::grey(&cells(12), 32, 12, "MONOCHROME2");
    let plain = developed(&file, &PixelSettings::default()).0;
    for width in ["", "0", "-5", "wide"] {
        file.text(tag::WINDOW_CENTER, b"DS", "2000").text(tag::WINDOW_WIDTH, b"DS", width);
        let (radiograph, flags) = developed(&file, &window);
        assert!(radiograph == plain && flags == [Flag::VoiMissing], "{width}: {flags:?}");
    }
}

#[test]
fn padded_pixels_neither_darken_nor_whiten() {
    // Film from 100 to 1123, padding of 0 and, behind it, up to 50.
    let mut padded: Vec<u16> = (0..1024).map(|i| i + 100).collect();
    padded[..8].copy_from_slice(&[0, 0, 0, 50, 20, 0, 0, 0]);
    for (photometric, least) in [("MONOCHROME2", 108.0), ("MONOCHROME1", 4095.0 - 1123.0)] {
        let mut file = TestFile::grey(&padded, 32, 12, photometric);
        file.short(tag::PADDING_VALUE, 0);
        let (radiograph, flags) = developed(&file, &PixelSettings::default());
        assert_eq!(flags, [Flag::PixelsPadded(6)]);
        // 20 and 50 are not padding without a range limit.
        file.short(tag::PADDING_LIMIT, 50);
        let (limited, limited_flags) = developed(&file, &PixelSettings::default());
        assert_eq!(limited_flags, [Flag::PixelsPadded(8)]);
        assert_eq!(limited.range().0, least, "{photometric}");
        assert!(limited.pixels[..8].iter().all(|&v| v == least), "{photometric}");
        assert_eq!(limited.pixels[8..], radiograph.pixels[8..]);
        let (kept, kept_flags) = developed(&file, &PixelSettings { voi: Voi::None, padding: false });
        assert!(kept_flags.is_empty());
        assert_eq!(kept.range(), if least == 108.0 { (0.0, 1123.0) } else { (4095.0 - 1123.0, 4095.0) });
    }
    // A negative value in signed data, and a value that marks every pixel and so means nothing.
    let cells: Vec<u16> = (0..1024).map(|i| if i < 5 { -2000_i16 as u16 } else { i as u16 }).collect();
    let mut file = TestFile::grey(&cells, 32, 12, "MONOCHROME2");
    file.short(tag::PIXEL_REPRESENTATION, 1).put(tag::PADDING_VALUE, b"SS", (-2000_i16).to_le_bytes().to_vec());
    let (radiograph, flags) = developed(&file, &PixelSettings::default());
    assert_eq!((flags, radiograph.pixels[0]), (vec![Flag::PixelsPadded(5)], 5.0));
    file.put(tag::PADDING_LIMIT, b"SS", 2047_i16.to_le_bytes().to_vec());
    assert!(developed(&file, &PixelSettings::default()).1.is_empty());
}

#[test]
fn pixels_become_square() {
    let cells: Vec<u16> = (0..1600).map(|i| (i % 40) * 10).collect();
    for (attribute, value, size) in [
        (tag::ASPECT_RATIO, "2\\1", (40, 80)),
        (tag::ASPECT_RATIO, "2\\3", (60, 40)),
        (tag::ASPECT_RATIO, "1\\1", (40, 40)),
        (tag::ASPECT_RATIO, "01", (40, 40)),
        (tag::IMAGER_SPACING, "0.2\\0.1", (40, 80)),
        (tag::IMAGER_SPACING, "0.143\\0.1431", (40, 40)),
        (tag::PIXEL_SPACING, "0.000\\0.000", (40, 40)),
    ] {
        let mut file = TestFile::grey(&cells, 40, 12, "MONOCHROME2");
        file.text(attribute, b"DS", value);
        let (radiograph, flags) = developed(&file, &PixelSettings::default());
        assert_eq!((radiograph.width, radiograph.height), size, "{value}");
        assert_eq!(flags.contains(&Flag::AspectResampled), size != (40, 40), "{value}");
        assert_eq!(radiograph.range(), (0.0, 390.0), "{value}");
    }
    let mut file = TestFile::grey(&cells, 40, 12, "MONOCHROME2");
    file.text(tag::ASPECT_RATIO, b"IS", "1\\1000");
    assert_eq!(decode(&file.bytes()).expect_err("needles").code(), "bad_header");
}

#[test]
fn what_a_person_should_know_is_flagged() {
    let mut file = TestFile::grey(&cells(12), 32, 12, "MONOCHROME2");
    file.text(tag::INTENT, b"CS", "FOR PROCESSING").text(tag::BURNED_IN, b"CS", "YES");
    file.text(tag::LOSSY, b"CS", "01").text(tag::LOSSY_RATIO, b"DS", "12.5");
    let flags = developed(&file, &PixelSettings::default()).1;
    assert_eq!(flags, [Flag::ForProcessing, Flag::BurnedInAnnotation, Flag::Lossy(Some(12.5))]);
    assert!(flags[2].to_string().contains("12.5 to 1"));
}

#[test]
fn objects_that_are_no_radiograph_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut TestFile)| {
        let mut file = TestFile::grey(&cells(12), 32, 12, "MONOCHROME2");
        change(&mut file);
        let error = decode(&file.bytes()).expect_err("no radiograph");
        (error.code(), error.to_string())
    };
    let (code, text) = refused(&|f: &mut TestFile| {
        f.text(tag::FRAMES, b"IS", "12");
    });
    assert!(code == "not_one_grey_frame" && text.contains("12 frames"), "{text}");
    let (code, text) = refused(&|f: &mut TestFile| {
        f.text(tag::PHOTOMETRIC, b"CS", "RGB").short(tag::SAMPLES, 3);
    });
    assert!(code == "not_one_grey_frame" && text.contains("RGB, 3 samples"), "{text}");
    for (class, name) in [
        ("1.2.840.10008.5.1.4.1.1.11.1", "presentation state"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "encapsulated document"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "structured report"),
    ] {
        let (code, text) = refused(&|f: &mut TestFile| {
            f.remove(elements::PIXEL_DATA).text(tag::SOP_CLASS, b"UI", class).text(tag::MODALITY, b"CS", "PR");
        });
        assert!(code == "no_pixel_data" && text.contains(class) && text.contains(name), "{text}");
    }
}

#[test]
fn tables_that_lie_are_refused() {
    // Ten entries, of which the descriptor claims 65,536 (written as 0) or 3,000.
    for claimed in [0_u16, 3000] {
        let mut file = TestFile::grey(&cells(8), 32, 8, "MONOCHROME2");
        file.table(tag::MODALITY_LUT, 0, &[5; 10], 12);
        let mut bytes = file.bytes();
        let at = bytes.windows(6).position(|w| w == [0x28, 0, 0x02, 0x30, b'U', b'S']).expect("the descriptor");
        bytes[at + 8..at + 10].copy_from_slice(&claimed.to_le_bytes());
        assert_eq!(decode(&bytes).expect_err("too few entries").code(), "bad_header");
    }
}
