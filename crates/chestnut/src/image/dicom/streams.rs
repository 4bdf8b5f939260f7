//! What a compressed stream says of itself before anybody decodes it: size, components, precision.
//!
//! Decoders allocate what a stream's own header claims, which need not be what the DICOM header claims: one edited
//! byte made libraries panic or hand out half an empty image. So these few bytes are read here first (JPEG and JPEG-LS:
//! ITU-T T.81 annex B, T.87 annex C; JPEG 2000: T.800 annex A) and compared with the header. Nothing is decoded.

use std::borrow::Cow;

/// What a stream says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamInfo {
    /// Columns.
    pub(super) width: u64,
    /// Rows.
    pub(super) height: u64,
    /// Components (grey: 1).
    pub(super) components: u32,
    /// Bits per sample.
    pub(super) precision: u32,
    /// Samples are two's complement (JPEG 2000 only).
    pub(super) signed: bool,
}

/// A JPEG or JPEG-LS stream's headers up to its first scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    /// Size and samples.
    pub(super) info: StreamInfo,
    /// Second byte of the frame marker: C0 baseline, C1 extended, C2 progressive, C3 lossless, F7 JPEG-LS.
    pub(super) frame: u8,
    /// A restart interval is defined.
    pub(super) restarts: bool,
    /// Al of the scan: the point transform of the lossless process.
    pub(super) point_transform: u8,
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some((u32::from(*bytes.get(at)?) << 8) | u32::from(*bytes.get(at + 1)?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u64> {
    Some((u64::from(be16(bytes, at)?) << 16) | u64::from(be16(bytes, at + 2)?))
}

/// Reads the markers of a JPEG or JPEG-LS stream up to its first scan.
///
/// # Errors
/// What is missing or wrong, in words.
pub(super) fn jpeg(stream: &[u8]) -> Result<JpegHeader, String> {
    const CUT: &str = "its JPEG stream ends within its headers";
    if !stream.starts_with(&[0xFF, 0xD8]) {
        return Err("its JPEG stream does not begin as one".to_owned());
    }
    let mut found: Option<(StreamInfo, u8)> = None;
    let mut restarts = false;
    let mut at = 2;
    loop {
        if stream.get(at).ok_or(CUT)? != &0xFF {
            return Err(format!("no marker where one must be, at byte {at} of its JPEG stream"));
        }
        // Any number of 0xFF may fill the space before a marker.
        while stream.get(at).ok_or(CUT)? == &0xFF {
            at += 1;
        }
        let marker = stream[at];
        at += 1;
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        if marker == 0xD9 {
            return Err("its JPEG stream ends before its first scan".to_owned());
        }
        let length = be16(stream, at).ok_or(CUT)? as usize;
        let segment = stream.get(at..at + length).ok_or(CUT)?;
        let short = || format!("a JPEG segment that is too short ({length} bytes)");
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                if found.is_some() {
                    return Err("its JPEG stream has more than one frame".to_owned());
                }
                let info = StreamInfo {
                    width: u64::from(be16(segment, 5).ok_or_else(short)?),
                    height: u64::from(be16(segment, 3).ok_or_else(short)?),
                    components: u32::from(*segment.get(7).ok_or_else(short)?),
                    precision: u32::from(segment[2]),
                    signed: false,
                };
                found = Some((info, marker));
            }
            0xDD => restarts = be16(segment, 2).ok_or_else(short)? != 0,
            0xDA => {
                let (info, frame) = found.ok_or("its JPEG stream has a scan before any frame")?;
                // Length, number of components, two bytes for each, Ss, Se, Ah and Al.
                let components = usize::from(*segment.get(2).ok_or_else(short)?);
                let last = *segment.get(5 + 2 * components).ok_or_else(short)?;
                return Ok(JpegHeader { info, frame, restarts, point_transform: last & 0x0F });
            }
            _ if length < 2 => return Err(short()),
            _ => {}
        }
        at += length;
    }
}

/// The JPEG 2000 codestream in `stream` (behind the boxes of a JP2 file, should some writer have kept them) and
/// what its SIZ segment says. `None` for the coding of part 15 (HTJ2K), which our decoder does not know.
///
/// # Errors
/// What is missing or wrong, in words.
pub(super) fn jpeg2000(stream: &[u8]) -> Result<Option<(&[u8], StreamInfo)>, String> {
    /// SOC and SIZ, with which every codestream begins.
    const START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
    /// Where boxes may end at the latest.
    const BOXES: usize = 64 * 1024;
    let start = stream[..stream.len().min(BOXES)].windows(4).position(|w| w == START);
    let code = &stream[start.ok_or("no JPEG 2000 codestream in its pixel data")?..];
    let siz = || -> Option<Result<Option<StreamInfo>, String>> {
        // Rsiz, bit 14: capabilities of part 15.
        if be16(code, 6)? & 0x4000 != 0 {
            return Some(Ok(None));
        }
        let (right, bottom) = (be32(code, 8)?, be32(code, 12)?);
        let (left, top) = (be32(code, 16)?, be32(code, 20)?);
        let (depth, across, down) = (*code.get(42)?, *code.get(43)?, *code.get(44)?);
        if left >= right || top >= bottom || (across, down) != (1, 1) {
            return Some(Err("its JPEG 2000 stream is empty or subsampled".to_owned()));
        }
        Some(Ok(Some(StreamInfo {
            width: right - left,
            height: bottom - top,
            components: be16(code, 40)?,
            precision: u32::from(depth & 0x7F) + 1,
            signed: depth & 0x80 != 0,
        })))
    };
    let info = siz().ok_or("its JPEG 2000 stream ends within its headers")??;
    Ok(info.map(|info| (code, info)))
}

/// The codestream of a JPEG XL stream: as it is, or gathered from the boxes of a container. The other boxes (metadata,
/// also compressed) are never opened.
///
/// # Errors
/// What is missing or wrong, in words.
pub(super) fn jpeg_xl(stream: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    const SIGNATURE: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";
    if stream.starts_with(&[0xFF, 0x0A]) {
        return Ok(stream.into());
    }
    let mut rest = stream.strip_prefix(SIGNATURE).ok_or("no JPEG XL codestream in its pixel data")?;
    let mut code = Vec::new();
    // A pad byte may follow the last box.
    while rest.len() >= 8 {
        let (header, length) = match be32(rest, 0).unwrap_or(0) {
            0 => (8, rest.len() as u64),
            1 => (16, (be32(rest, 8).unwrap_or(0) << 32) | be32(rest, 12).unwrap_or(0)),
            length => (8, length),
        };
        let kind = &rest[4..8];
        let body = usize::try_from(length)
            .ok()
            .and_then(|end| rest.get(header..end))
            .ok_or_else(|| format!("a box of {length} bytes in its JPEG XL container, {} are left", rest.len()))?;
        match kind {
            b"jxlc" => code.extend_from_slice(body),
            // A part of the codestream, behind its number.
            b"jxlp" => code.extend_from_slice(body.get(4..).ok_or("a part without a number in its JPEG XL container")?),
            _ => {}
        }
        rest = &rest[header + body.len()..];
    }
    if code.is_empty() { Err("no codestream in its JPEG XL container".to_owned()) } else { Ok(code.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SOI, DRI, a lossless frame of 300 x 200 with 12 bits, the scan with point transform 1.
    fn lossless() -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDD, 0, 4, 0, 0, 0xFF, 0xFF, 0xC3, 0, 11, 12, 0, 200, 1, 44, 1];
        bytes.extend([1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0x01]);
        bytes
    }

    #[test]
    fn jpeg_headers_are_read_and_every_cut_is_an_error() {
        let bytes = lossless();
        let info = StreamInfo { width: 300, height: 200, components: 1, precision: 12, signed: false };
        let expected = JpegHeader { info, frame: 0xC3, restarts: false, point_transform: 1 };
        assert_eq!(jpeg(&bytes), Ok(expected));
        let mut restarting = bytes.clone();
        restarting[7] = 9;
        assert_eq!(jpeg(&restarting), Ok(JpegHeader { restarts: true, ..expected }));
        for length in 0..bytes.len() {
            assert!(jpeg(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn jpeg_2000_headers_are_read_behind_boxes_too() {
        let mut bytes = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for number in [310_u32, 220, 10, 20, 310, 220, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend([0, 1, 0x8B, 1, 1]);
        let info = StreamInfo { width: 300, height: 200, components: 1, precision: 12, signed: true };
        assert_eq!(jpeg2000(&bytes), Ok(Some((&bytes[..], info))));
        let mut boxed = b"\0\0\0\x0CjP  \r\n\x87\n".to_vec();
        boxed.extend(&bytes);
        assert_eq!(jpeg2000(&boxed), Ok(Some((&bytes[..], info))));
        for length in 0..bytes.len() {
            assert!(jpeg2000(&bytes[..length]).is_err(), "cut to {length}");
        }
        bytes[6] = 0x40;
        assert_eq!(jpeg2000(&bytes), Ok(None));
    }

    #[test]
    fn jpeg_xl_boxes_are_gathered() {
        let mut bytes = b"\0\0\0\x0CJXL \r\n\x87\n".to_vec();
        bytes.extend(b"\0\0\0\x0Ebrob......");
        bytes.extend(b"\0\0\0\x0Ejxlp\0\0\0\0\xFF\x0A");
        bytes.extend(b"\0\0\0\0jxlpnumbrest");
        assert_eq!(&*jpeg_xl(&bytes).expect("well formed"), b"\xFF\x0Arest");
        for length in 0..bytes.len() - 8 {
            let _ = jpeg_xl(&bytes[..length]);
        }
        assert!(jpeg_xl(b"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x05jxlc").is_err(), "a box shorter than its header");
        assert!(jpeg_xl(b"JPEG").is_err());
    }
}
