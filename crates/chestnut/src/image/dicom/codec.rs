//! Compressed frames: from the bytes of a stream to one cell of bits per pixel.
//!
//! | transfer syntax 1.2.840.10008.1.2 | decoder |
//! |---|---|
//! | .5 RLE | our own ([`super::rle`]) |
//! | .4.50, .4.51 JPEG, 8 bits | `jpeg-decoder` |
//! | .4.51 JPEG, 12 bits | `libjpeg-turbo-rs` |
//! | .4.57, .4.70 JPEG lossless | `jpeg-decoder`; with restarts or a point transform `libjpeg-turbo-rs` |
//! | .4.80, .4.81 JPEG-LS | `pure_jpegls` |
//! | .4.90, .4.91 JPEG 2000 | `hayro-jpeg2000`, strict |
//! | .4.110, .4.111, .4.112 JPEG XL | `jxl-oxide` |
//!
//! Which JPEG process a stream uses is read from the stream, because exports mislabel them. (`jpeg-decoder` mistakes
//! restarts and point transforms in the lossless process, by its source.) Everything else is refused by name: HTJ2K,
//! video, JPIP, progressive and hierarchical JPEG syntaxes. A stream whose own size differs from Rows and Columns is
//! refused before it is decoded, and every decoder runs where a panic of it is an error of the file.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::stored::Layout;
use super::streams::{self, JpegHeader, StreamInfo};
use super::{bad_header, rle, undecodable, unsupported};
use crate::image::ImageError;

/// What JPEG XL may allocate for each pixel: three planes of coefficients, samples and filtered samples, twice over.
const JXL_BYTES_PER_PIXEL: usize = 96;
/// What JPEG XL may allocate besides.
const JXL_BYTES: usize = 64 * 1024 * 1024;

/// The codecs of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    JpegXl,
}

/// The codec of a transfer syntax, and whether it may have changed values.
fn codec(syntax: &str) -> Option<(Codec, bool)> {
    Some(match syntax.strip_prefix("1.2.840.10008.1.2.")? {
        "5" => (Codec::Rle, false),
        "4.50" | "4.51" => (Codec::Jpeg, true),
        "4.57" | "4.70" => (Codec::Jpeg, false),
        "4.80" => (Codec::JpegLs, false),
        "4.81" => (Codec::JpegLs, true),
        "4.90" => (Codec::Jpeg2000, false),
        "4.91" => (Codec::Jpeg2000, true),
        "4.110" => (Codec::JpegXl, false),
        "4.111" | "4.112" => (Codec::JpegXl, true),
        _ => return None,
    })
}

/// Whether `syntax` stores compressed frames that are decoded here.
pub(super) fn is_known(syntax: &str) -> bool {
    codec(syntax).is_some()
}

/// Decoded cells, row by row, and the bits per sample if the stream has fewer of them than the header says.
pub(super) type Cells = (Vec<u16>, Option<u32>);

/// Decodes one frame. Cells are as they would lie in an uncompressed file: BitsStored bits below HighBit.
///
/// # Errors
/// [`ImageError`] if the syntax is not decoded, the stream is damaged, or it disagrees with the header.
pub(super) fn decode(stream: &[u8], syntax: &str, layout: &Layout) -> Result<Cells, ImageError> {
    let Some((codec, lossy)) = codec(syntax) else { return Err(unsupported(syntax)) };
    let whole = catch_unwind(AssertUnwindSafe(|| match codec {
        Codec::Rle => run_length(stream, layout),
        Codec::Jpeg => jpeg(stream, layout),
        Codec::JpegLs => jpeg_ls(stream, layout),
        Codec::Jpeg2000 => jpeg_2000(stream, syntax, layout),
        Codec::JpegXl => jpeg_xl(stream, layout),
    }))
    .unwrap_or_else(|_| Err(undecodable("the decoder failed on its compressed pixel data")));
    let (mut cells, bits) = whole?;
    let pixels = layout.width * layout.height;
    if cells.len() != pixels {
        return Err(undecodable(&format!("{} of {pixels} pixels in its compressed pixel data", cells.len())));
    }
    // Rounding of a lossy codec may pass the largest value; cut off, not wrapped around to black.
    if lossy && !layout.signed && layout.high_bit + 1 == layout.stored {
        let most = ((1_u32 << layout.stored) - 1) as u16;
        cells.iter_mut().for_each(|v| *v = (*v).min(most));
    }
    Ok((cells, bits))
}

fn run_length(stream: &[u8], layout: &Layout) -> Result<Cells, ImageError> {
    let sample_bytes = layout.allocated as usize / 8;
    let cells = rle::decode(stream, layout.width * layout.height, sample_bytes).map_err(|e| undecodable(&e))?;
    Ok((cells, None))
}

fn jpeg(stream: &[u8], layout: &Layout) -> Result<Cells, ImageError> {
    let JpegHeader { info, frame, restarts, point_transform } = streams::jpeg(stream).map_err(|e| undecodable(&e))?;
    check(&info, layout)?;
    let lossless = frame == 0xC3;
    if layout.signed && !lossless {
        return Err(undecodable("signed values in lossy JPEG, whose sign is not defined"));
    }
    let cells: Vec<u16> = match (frame, info.precision) {
        (0xC0..=0xC2, 8) => {
            let bytes = jpeg_decoder_bytes(stream, layout)?;
            bytes.into_iter().map(u16::from).collect()
        }
        (0xC0 | 0xC1, 12) => {
            let image = libjpeg_turbo_rs::precision::decompress_12bit(stream).map_err(stream_error)?;
            image.data.into_iter().map(|v| v.clamp(0, 4095) as u16).collect()
        }
        (0xC3, 2..=16) if restarts || point_transform > 0 => {
            libjpeg_turbo_rs::precision::decompress_lossless_arbitrary(stream).map_err(stream_error)?.data
        }
        (0xC3, 8) => jpeg_decoder_bytes(stream, layout)?.into_iter().map(u16::from).collect(),
        (0xC3, 2..=16) => {
            let bytes = jpeg_decoder_bytes(stream, layout)?;
            bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
        }
        (frame, precision) => {
            return Err(undecodable(&format!("a JPEG stream of frame type {frame:02X} with {precision} bits")));
        }
    };
    // An 8-bit stream in a 12-bit header: its values are 8-bit values.
    let fewer = (!lossless && info.precision < layout.stored).then_some(info.precision);
    Ok((extend(cells, info.precision, layout), fewer))
}

/// Samples of one or two bytes; two are in the machine's own order.
fn jpeg_decoder_bytes(stream: &[u8], layout: &Layout) -> Result<Vec<u8>, ImageError> {
    let mut decoder = jpeg_decoder::Decoder::new(stream);
    decoder.set_max_decoding_buffer_size(2 * layout.width * layout.height);
    decoder.decode().map_err(stream_error)
}

fn jpeg_ls(stream: &[u8], layout: &Layout) -> Result<Cells, ImageError> {
    let JpegHeader { info, frame, .. } = streams::jpeg(stream).map_err(|e| undecodable(&e))?;
    check(&info, layout)?;
    if frame != 0xF7 {
        return Err(undecodable("pixel data that is JPEG and not JPEG-LS, as its transfer syntax says"));
    }
    let (cells, _, _) = jpegls::decode(stream, layout.width as u32, layout.height as u32).map_err(stream_error)?;
    Ok((extend(cells, info.precision, layout), None))
}

fn jpeg_2000(stream: &[u8], syntax: &str, layout: &Layout) -> Result<Cells, ImageError> {
    let found = streams::jpeg2000(stream).map_err(|e| undecodable(&e))?;
    let (code, info) = found.ok_or_else(|| ImageError::UnsupportedSyntax {
        uid: syntax.to_owned(),
        name: "JPEG 2000 by name, High-Throughput JPEG 2000 in its stream".to_owned(),
    })?;
    check(&info, layout)?;
    if info.signed && !layout.signed {
        return Err(bad_header("PixelRepresentation is 0 and its JPEG 2000 stream is signed"));
    }
    let settings = hayro_jpeg2000::DecodeSettings { strict: true, ..Default::default() };
    let image = hayro_jpeg2000::Image::new(code, &settings).map_err(stream_error)?;
    let mut context = hayro_jpeg2000::DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(stream_error)?;
    let [component] = decoded.components() else {
        return Err(undecodable("more than one component in its JPEG 2000 stream"));
    };
    // The decoder adds half of the range to signed samples as well.
    let shift = if info.signed { 1_i32 << (info.precision - 1) } else { 0 };
    let most = ((1_u32 << info.precision) - 1) as f32;
    let cells = component.samples().iter().map(|v| (v.round().clamp(0.0, most) as i32 - shift) as u16).collect();
    if info.signed {
        return Ok((cells, None));
    }
    Ok((extend(cells, info.precision, layout), None))
}

fn jpeg_xl(stream: &[u8], layout: &Layout) -> Result<Cells, ImageError> {
    let code = streams::jpeg_xl(stream).map_err(|e| undecodable(&e))?;
    let limit = JXL_BYTES_PER_PIXEL * layout.width * layout.height + JXL_BYTES;
    // Reads the headers and collects the compressed groups; nothing is decoded before `render_frame`.
    let image = jxl_oxide::JxlImage::builder()
        .alloc_tracker(jxl_oxide::AllocTracker::with_limit(limit))
        .read(&code[..])
        .map_err(stream_error)?;
    let header = image.image_header();
    let meta = &header.metadata;
    let jxl_oxide::image::BitDepth::IntegerSample { bits_per_sample: precision } = meta.bit_depth else {
        return Err(undecodable("floating-point samples in its JPEG XL stream"));
    };
    let colours = if meta.grayscale() { 1 } else { 3 };
    let components = colours + meta.ec_info.len() as u32;
    let (width, height) = (u64::from(header.size.width), u64::from(header.size.height));
    check(&StreamInfo { width, height, components, precision, signed: false }, layout)?;
    if meta.orientation != 1 || meta.animation.is_some() {
        return Err(undecodable("a turned or moving picture in its JPEG XL stream"));
    }
    if !image.is_loading_done() || image.num_loaded_keyframes() != 1 {
        return Err(undecodable("its JPEG XL stream ends before the image is complete"));
    }
    let frame = image.render_frame(0).map_err(stream_error)?.image_all_channels();
    if (frame.width(), frame.height(), frame.channels()) != (layout.width, layout.height, 1) {
        return Err(undecodable("another size in its JPEG XL frame than in its stream"));
    }
    // Samples are value / most, which single precision gives back exactly up to 16 bits.
    let most = f64::from((1_u32 << precision) - 1);
    let cells = frame.buf().iter().map(|&v| (f64::from(v) * most).round().clamp(0.0, most) as u16).collect();
    Ok((extend(cells, precision, layout), None))
}

/// Compares what the stream says with the header.
fn check(info: &StreamInfo, layout: &Layout) -> Result<(), ImageError> {
    if info.components != 1 {
        return Err(ImageError::NotOneGreyFrame {
            detail: format!("{} components in its compressed pixel data", info.components),
        });
    }
    if (info.width, info.height) != (layout.width as u64, layout.height as u64) {
        return Err(bad_header(&format!(
            "Rows x Columns is {} x {}, its compressed pixel data {} x {}",
            layout.height, layout.width, info.height, info.width
        )));
    }
    if info.precision == 0 || info.precision > layout.allocated {
        return Err(bad_header(&format!(
            "BitsAllocated is {}, its compressed pixel data has {} bits",
            layout.allocated, info.precision
        )));
    }
    Ok(())
}

/// Streams of signed values hold their lowest `precision` bits, sign included: extends the sign over the cell.
fn extend(mut cells: Vec<u16>, precision: u32, layout: &Layout) -> Vec<u16> {
    if layout.signed && precision < 16 {
        let unused = 16 - precision;
        cells.iter_mut().for_each(|v| *v = (((*v << unused) as i16) >> unused) as u16);
    }
    cells
}

fn stream_error(error: impl Display) -> ImageError {
    undecodable(&format!("its compressed pixel data: {error}"))
}
