//! PNG and JPEG: 8 and 16 bit; grey, grey with alpha, RGB, RGBA and palette.
//!
//! The `image` crate decodes; this file reads the header first (sizes against the limits of
//! [`super`], before anything is allocated) and walks the file to its end mark, because a JPEG
//! decoder fills what is missing of a truncated file with grey and reports success.
//! Alpha, ICC profiles and Exif orientation are ignored: published radiographs do not use them.

use std::io::Cursor;

use ::image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::{Format, ImageError, MAX_PIXELS, MAX_SIDE, Radiograph, check_size};

/// Channels that differ by less than this share of full scale count as equal: JPEG stores grey as
/// YCbCr and gives back channels that are a few counts apart.
const COLOUR_TOLERANCE: f32 = 16.0 / 255.0;
/// An image is coloured if more than this share of its pixels is: a thumbnail-sized logo is not enough.
const COLOUR_SHARE: f64 = 0.001;
/// What a decoder may allocate: 16-bit RGBA of the largest image, twice.
const MAX_DECODER_BYTES: u64 = 2 * 8 * MAX_PIXELS;

/// Decodes a PNG; the flag says that its colour channels differ.
pub(super) fn decode_png(bytes: &[u8]) -> Result<(Radiograph, bool), ImageError> {
    check_png(bytes)?;
    let bits = if bytes[24] == 16 { 16 } else { 8 };
    to_grey(decode(bytes, ImageFormat::Png, Format::Png)?, Format::Png, bits)
}

/// Decodes a JPEG; the flag says that its colour channels differ.
pub(super) fn decode_jpeg(bytes: &[u8]) -> Result<(Radiograph, bool), ImageError> {
    check_jpeg(bytes)?;
    to_grey(decode(bytes, ImageFormat::Jpeg, Format::Jpeg)?, Format::Jpeg, 8)
}

fn decode(bytes: &[u8], codec: ImageFormat, format: Format) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), codec);
    reader.limits(limits);
    reader.decode().map_err(|e| undecodable(format, &e.to_string()))
}

/// Checks the size in the IHDR chunk, then that every chunk up to IEND is whole.
fn check_png(bytes: &[u8]) -> Result<(), ImageError> {
    const HEADER: usize = 8 + 8 + 13 + 4;
    if bytes.len() < HEADER {
        return Err(truncated(Format::Png, "the header is cut"));
    }
    if &bytes[12..16] != b"IHDR" {
        return Err(undecodable(Format::Png, "it does not begin with an IHDR chunk"));
    }
    let number = |at: usize| u64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    check_size(number(16), number(20))?;
    let mut at = 8_usize;
    loop {
        if at + 12 > bytes.len() {
            return Err(truncated(Format::Png, &format!("no IEND chunk before its end at byte {}", bytes.len())));
        }
        let length = number(at) as usize;
        if length > bytes.len() - at - 12 {
            return Err(truncated(
                Format::Png,
                &format!("the chunk at byte {at} needs {length} bytes, {} are left", bytes.len() - at - 12),
            ));
        }
        if &bytes[at + 4..at + 8] == b"IEND" {
            return Ok(());
        }
        at += 12 + length;
    }
}

/// Checks the size in the frame header, then that the scans reach the end-of-image marker.
fn check_jpeg(bytes: &[u8]) -> Result<(), ImageError> {
    let cut = || truncated(Format::Jpeg, &format!("no end-of-image marker before its end at byte {}", bytes.len()));
    let mut at = 2_usize;
    let mut has_frame = false;
    loop {
        if bytes.get(at).ok_or_else(cut)? != &0xFF {
            return Err(undecodable(Format::Jpeg, &format!("no marker where one must be, at byte {at}")));
        }
        // Any number of 0xFF may fill the space before a marker.
        while bytes.get(at).ok_or_else(cut)? == &0xFF {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        match marker {
            0xD9 if has_frame => return Ok(()),
            0xD9 => return Err(undecodable(Format::Jpeg, "it ends before any frame header")),
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        if bytes.len() < at + 2 {
            return Err(cut());
        }
        let length = usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        if length < 2 {
            return Err(undecodable(Format::Jpeg, &format!("a segment of length {length} at byte {at}")));
        }
        let segment = bytes.get(at..at + length).ok_or_else(cut)?;
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            if length < 8 {
                return Err(undecodable(Format::Jpeg, "the frame header is too short"));
            }
            if segment[2] != 8 {
                return Err(undecodable(Format::Jpeg, &format!("{} bits per sample; only 8 are decoded", segment[2])));
            }
            let height = u16::from_be_bytes([segment[3], segment[4]]);
            let width = u16::from_be_bytes([segment[5], segment[6]]);
            check_size(u64::from(width), u64::from(height))?;
            has_frame = true;
        }
        at += length;
        if marker == 0xDA {
            at = end_of_scan(bytes, at).ok_or_else(cut)?;
        }
    }
}

/// The position of the first marker after the entropy-coded bytes that start at `at`.
fn end_of_scan(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)?;
        match *bytes.get(at + 1)? {
            // A stuffed 0xFF, or a restart marker inside the scan.
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

fn to_grey(image: DynamicImage, format: Format, bits: u32) -> Result<(Radiograph, bool), ImageError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (pixels, colour) = match &image {
        DynamicImage::ImageLuma8(i) => grey(i.as_raw(), 1, 255.0),
        DynamicImage::ImageLumaA8(i) => grey(i.as_raw(), 2, 255.0),
        DynamicImage::ImageRgb8(i) => grey(i.as_raw(), 3, 255.0),
        DynamicImage::ImageRgba8(i) => grey(i.as_raw(), 4, 255.0),
        DynamicImage::ImageLuma16(i) => grey(i.as_raw(), 1, 65_535.0),
        DynamicImage::ImageLumaA16(i) => grey(i.as_raw(), 2, 65_535.0),
        DynamicImage::ImageRgb16(i) => grey(i.as_raw(), 3, 65_535.0),
        DynamicImage::ImageRgba16(i) => grey(i.as_raw(), 4, 65_535.0),
        _ => return Err(undecodable(format, "a pixel type other than 8 or 16 bit integers")),
    };
    Ok((Radiograph { width, height, pixels, bits }, colour))
}

/// Grey values of interleaved samples, and whether the colours differ. `full` is white.
fn grey<T: Copy + Into<f32>>(samples: &[T], channels: usize, full: f32) -> (Vec<f32>, bool) {
    if channels < 3 {
        return (samples.iter().step_by(channels).map(|&v| v.into()).collect(), false);
    }
    let mut coloured = 0_usize;
    let pixels: Vec<f32> = samples
        .chunks_exact(channels)
        .map(|p| {
            let (red, green, blue): (f32, f32, f32) = (p[0].into(), p[1].into(), p[2].into());
            if red == green && green == blue {
                // Kept exactly: the weighted sum below may round.
                return red;
            }
            let spread = red.max(green).max(blue) - red.min(green).min(blue);
            coloured += usize::from(spread > COLOUR_TOLERANCE * full);
            0.299 * red + 0.587 * green + 0.114 * blue
        })
        .collect();
    let colour = coloured as f64 > COLOUR_SHARE * pixels.len() as f64;
    (pixels, colour)
}

fn truncated(format: Format, detail: &str) -> ImageError {
    ImageError::Truncated { format, detail: detail.to_owned() }
}

fn undecodable(format: Format, detail: &str) -> ImageError {
    ImageError::Undecodable { format, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::codecs::png::PngEncoder;
    use ::image::{ExtendedColorType, ImageEncoder};

    const SIDE: usize = 40;

    fn ramp(channels: usize) -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|i| std::iter::repeat_n((i % 251) as u8, channels)).collect()
    }

    fn png(samples: &[u8], colour: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(samples, SIDE as u32, SIDE as u32, colour)
            .expect("encoding into memory");
        bytes
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90)
            .write_image(&ramp(1), SIDE as u32, SIDE as u32, ExtendedColorType::L8)
            .expect("encoding into memory");
        bytes
    }

    #[test]
    fn grey_colour_and_alpha_give_the_same_radiograph() {
        let (expected, _) = decode_png(&png(&ramp(1), ExtendedColorType::L8)).expect("grey");
        assert_eq!(expected.pixels[3], 3.0);
        assert_eq!((expected.width, expected.height, expected.bits), (SIDE, SIDE, 8));
        for (channels, colour) in
            [(2, ExtendedColorType::La8), (3, ExtendedColorType::Rgb8), (4, ExtendedColorType::Rgba8)]
        {
            let (image, is_colour) = decode_png(&png(&ramp(channels), colour)).expect("a PNG");
            assert_eq!(image, expected);
            assert!(!is_colour);
        }
    }

    #[test]
    fn sixteen_bits_are_kept() {
        let samples: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| ((i * 40) as u16).to_ne_bytes()).collect();
        let (image, _) = decode_png(&png(&samples, ExtendedColorType::L16)).expect("16 bit");
        assert_eq!((image.bits, image.pixels[1599]), (16, 63_960.0));
    }

    #[test]
    fn colour_is_noticed() {
        let mut samples = ramp(3);
        for pixel in samples.chunks_exact_mut(3).take(10) {
            pixel.copy_from_slice(&[200, 0, 0]);
        }
        let (image, is_colour) = decode_png(&png(&samples, ExtendedColorType::Rgb8)).expect("RGB");
        assert!(is_colour);
        assert!((image.pixels[0] - 59.8).abs() < 1e-3);
    }

    #[test]
    fn a_huge_header_is_refused_before_decoding() {
        let mut bytes = png(&ramp(1), ExtendedColorType::L8);
        bytes[16..20].copy_from_slice(&40_000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&40_000_u32.to_be_bytes());
        let error = decode_png(&bytes).expect_err("40,000 x 40,000");
        assert_eq!(error.code(), "too_large");
        assert!(error.to_string().contains("40000 x 40000"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        for (whole, is_png) in [(png(&ramp(1), ExtendedColorType::L8), true), (jpeg(), false)] {
            let read = if is_png { decode_png } else { decode_jpeg };
            assert!(read(&whole).is_ok());
            for length in (8..whole.len()).step_by(7).chain([whole.len() - 1]) {
                assert!(read(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn damage_is_an_error_or_an_image_never_a_panic() {
        for whole in [png(&ramp(1), ExtendedColorType::L8), jpeg()] {
            for at in (0..whole.len()).step_by(3) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x5A;
                if let Ok(decoded) = crate::image::decode(&bytes) {
                    let image = decoded.radiograph;
                    assert_eq!(image.pixels.len(), image.width * image.height);
                }
            }
        }
    }

    #[test]
    fn twelve_bit_jpeg_is_named() {
        let mut bytes = jpeg();
        let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a baseline frame");
        bytes[frame + 4] = 12;
        assert!(decode_jpeg(&bytes).expect_err("12 bit").to_string().contains("12 bits"));
    }
}
