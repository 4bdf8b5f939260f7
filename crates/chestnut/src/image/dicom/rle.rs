//! DICOM RLE Lossless (PS3.5, annex G): PackBits, one segment per byte of a sample, most significant first.
//!
//! Written here because the library's decoder panics on nearly every damaged stream. Every read and
//! write is bounds-checked; nothing larger than the image is allocated, a byte per sample and segment. A run or a literal is
//! written at once.

const HEADER_BYTES: usize = 64;
/// Most bytes after the last of a segment.
const MAX_PADDING: usize = 64;
/// Runs and literals up to this length are written as a block of it, bytes.
const BLOCK: usize = 16;

/// Decodes one frame of `pixels` samples with `sample_bytes` bytes each (1 or 2), one cell per sample.
///
/// # Errors
/// What is wrong with the stream.
pub(super) fn decode(stream: &[u8], pixels: usize, sample_bytes: usize) -> Result<Vec<u16>, String> {
    let header = stream.get(..HEADER_BYTES).ok_or("the RLE header is cut")?;
    let number =
        |i: usize| u32::from_le_bytes([header[4 * i], header[4 * i + 1], header[4 * i + 2], header[4 * i + 3]]);
    if number(0) as usize != sample_bytes || sample_bytes > 2 {
        return Err(format!("{} RLE segments for samples of {sample_bytes} bytes", number(0)));
    }
    let mut planes = [Vec::new(), Vec::new()];
    for (segment, plane) in planes.iter_mut().enumerate().take(sample_bytes) {
        let start = number(segment + 1) as usize;
        let end = if segment + 1 < sample_bytes { number(segment + 2) as usize } else { stream.len() };
        if start < HEADER_BYTES || start > end {
            return Err(format!("RLE segment {segment} at bytes {start} to {end}"));
        }
        let packed = stream.get(start..end).ok_or_else(|| format!("RLE segment {segment} ends after the stream"))?;
        plane.resize(pixels, 0);
        unpack(packed, plane).map_err(|e| format!("RLE segment {segment} {e}"))?;
    }
    let [first, second] = &planes;
    Ok(match sample_bytes {
        1 => first.iter().map(|&byte| u16::from(byte)).collect(),
        _ => first.iter().zip(second).map(|(&high, &low)| u16::from_be_bytes([high, low])).collect(),
    })
}

/// Unpacks exactly one byte for each of `plane`. Padding may follow them.
fn unpack(packed: &[u8], plane: &mut [u8]) -> Result<(), &'static str> {
    const SHORT: &str = "ends before the image is complete";
    const LONG: &str = "holds more than the image";
    let (mut at, mut left) = (0_usize, plane);
    while !left.is_empty() {
        let control = usize::from(*packed.get(at).ok_or(SHORT)?);
        at += 1;
        match control {
            0..=127 => {
                let length = control + 1;
                let source = &packed[at..];
                if source.len() < length {
                    return Err(SHORT);
                }
                // Most are short. A whole block is copied in one instruction; what lies behind is written again.
                match (source.first_chunk::<BLOCK>(), left.first_chunk_mut::<BLOCK>()) {
                    (Some(source), Some(block)) if length <= BLOCK => *block = *source,
                    _ => left.get_mut(..length).ok_or(LONG)?.copy_from_slice(&source[..length]),
                }
                at += length;
                left = &mut left[length..];
            }
            128 => {}
            _ => {
                let length = 257 - control;
                let byte = *packed.get(at).ok_or(SHORT)?;
                match left.first_chunk_mut::<BLOCK>() {
                    Some(block) if length <= BLOCK => *block = [byte; BLOCK],
                    _ => left.get_mut(..length).ok_or(LONG)?.fill(byte),
                }
                at += 1;
                left = &mut left[length..];
            }
        }
    }
    // Writers pad by a byte or a few; more is another image's worth, so Rows and Columns do not belong to it.
    if packed.len() - at.min(packed.len()) > MAX_PADDING {
        return Err(LONG);
    }
    Ok(())
}

/// Encodes little-endian samples of `sample_bytes` bytes (1 or 2), `width` to a row: one frame, of even length.
pub(super) fn encode(samples: &[u8], width: usize, sample_bytes: usize) -> Vec<u8> {
    let mut numbers = [0_u32; HEADER_BYTES / 4];
    numbers[0] = sample_bytes as u32;
    let mut bytes = vec![0; HEADER_BYTES];
    for segment in 0..sample_bytes {
        numbers[segment + 1] = bytes.len() as u32;
        let plane: Vec<u8> = samples.iter().skip(sample_bytes - 1 - segment).step_by(sample_bytes).copied().collect();
        // Annex G.3.1: each row is encoded by itself.
        plane.chunks(width.max(1)).for_each(|row| pack(row, &mut bytes));
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
    }
    for (cell, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        cell.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Appends one row as PackBits: runs of three or more equal bytes, the rest as literals.
fn pack(row: &[u8], out: &mut Vec<u8>) {
    const LONGEST: usize = 128;
    let run_at = |at: usize| row[at..].iter().take(LONGEST).take_while(|&&b| b == row[at]).count();
    let mut at = 0;
    while at < row.len() {
        let run = run_at(at);
        if run >= 3 {
            out.extend([(257 - run) as u8, row[at]]);
            at += run;
            continue;
        }
        let start = at;
        while at < row.len() && at - start < LONGEST && run_at(at) < 3 {
            at += 1;
        }
        out.push((at - start - 1) as u8);
        out.extend_from_slice(&row[start..at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    fn stream(segments: &[&[u8]]) -> Vec<u8> {
        let mut numbers = [0_u32; 16];
        numbers[0] = segments.len() as u32;
        let mut start = HEADER_BYTES;
        for (i, segment) in segments.iter().enumerate() {
            numbers[i + 1] = start as u32;
            start += segment.len();
        }
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        segments.iter().for_each(|s| bytes.extend_from_slice(s));
        bytes
    }

    /// Two segments of `pixels` bytes each, as annex G.3 describes the decoder; `None` for damage.
    fn plain(stream: &[u8], pixels: usize) -> Option<Vec<u16>> {
        let start = |i: usize| u32::from_le_bytes(stream[4 * i..4 * i + 4].try_into().expect("four bytes")) as usize;
        let segment = |packed: &[u8]| {
            let (mut at, mut out) = (0, Vec::new());
            while out.len() < pixels {
                let control = usize::from(*packed.get(at)?);
                at += 1;
                if control < 128 {
                    out.extend_from_slice(packed.get(at..at + control + 1)?);
                    at += control + 1;
                } else if control > 128 {
                    out.extend(std::iter::repeat_n(*packed.get(at)?, 257 - control));
                    at += 1;
                }
            }
            (out.len() == pixels && packed.len() - at <= MAX_PADDING).then_some(out)
        };
        let (high, low) = (segment(&stream[start(1)..start(2)])?, segment(&stream[start(2)..])?);
        Some(high.iter().zip(low).map(|(&high, low)| u16::from_be_bytes([high, low])).collect())
    }

    #[test]
    fn runs_literals_and_noops() {
        // High bytes: four times 1. Low bytes: 7, no operation, three times 9. One byte of padding.
        let bytes = stream(&[&[253, 1], &[0, 7, 128, 254, 9, 0]]);
        assert_eq!(decode(&bytes, 4, 2), Ok(vec![0x0107, 0x0109, 0x0109, 0x0109]));
    }

    #[test]
    fn what_is_packed_unpacks() {
        let mut draws = Stream::keyed(1, "rle");
        for _ in 0..200 {
            let (width, rows) = (1 + draws.below(300), 1 + draws.below(4));
            let sample_bytes = 1 + draws.below(2);
            let mut samples = Vec::new();
            while samples.len() < width * rows * sample_bytes {
                let (byte, run) = (draws.below(256) as u8, 1 + draws.below(200).min(draws.below(200)));
                samples.extend(std::iter::repeat_n(byte, run));
            }
            samples.truncate(width * rows * sample_bytes);
            let packed = encode(&samples, width, sample_bytes);
            assert_eq!(packed.len() % 2, 0);
            let cells: Vec<u16> = match sample_bytes {
                1 => samples.iter().map(|&b| u16::from(b)).collect(),
                _ => samples.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect(),
            };
            assert_eq!(decode(&packed, width * rows, sample_bytes), Ok(cells));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let good = stream(&[&[253, 1], &[0, 7, 128, 254, 9]]);
        assert!(decode(&good, 4, 1).is_err(), "segments");
        assert!(decode(&good, 5, 2).is_err(), "too short");
        assert!(decode(&good, 3, 2).is_err(), "too long");
        for length in 0..good.len() {
            assert!(decode(&good[..length], 4, 2).is_err(), "cut to {length}");
        }
        // Long enough for whole blocks.
        let row: Vec<u8> = (0..400).map(|i| if i % 30 < 12 { 7 } else { i as u8 }).collect();
        let packed = encode(&row, 200, 2);
        assert!(decode(&packed, 200, 2).is_ok());
        for at in HEADER_BYTES..packed.len() {
            for flip in [0x01, 0x08, 0x80, 0xFF] {
                let mut bytes = packed.clone();
                bytes[at] ^= flip;
                // Byte by byte, as the standard says it.
                assert_eq!(decode(&bytes, 200, 2).ok(), plain(&bytes, 200), "byte {at}, {flip}");
            }
        }
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                if let Ok(out) = decode(&bytes, 4, 2) {
                    assert_eq!(out.len(), 4);
                }
            }
        }
    }
}
