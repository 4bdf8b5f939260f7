//! The data elements of a DICOM file as slices of its bytes, every length checked against what is there.
//!
//! The general-purpose parser allocates what an element's length field claims (up to 4 GB from one
//! flipped bit) and recurses without a limit into sequences. Radiographs need some forty top-level
//! attributes and two tables, so this walk (PS3.5, sections 7 and 10) notes where each top-level value lies,
//! skips sequences with a depth limit (their items can be asked for), copies nothing and stops at the pixel
//! data. It interprets no value.

use std::collections::BTreeMap;

use super::super::{Format, ImageError};

/// Deepest nesting of sequences; the standard's own objects need fewer than ten.
const MAX_SEQUENCE_DEPTH: usize = 32;
/// Most fragments of one compressed image: one per 64 KB of the largest file is generous.
const MAX_FRAGMENTS: usize = 4096;
/// (7FE0,0010).
pub(super) const PIXEL_DATA: u32 = 0x7FE0_0010;
const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
const UNDEFINED: u32 = u32::MAX;
/// Bytes of an end mark: tag and length.
const MARK_BYTES: usize = 8;
/// Value representations with a 16-bit length field (PS3.5, table 7.1-2).
const SHORT_VRS: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
];

/// How element headers and numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Each element names its value representation.
    pub(super) explicit: bool,
    /// Most significant byte first (retired).
    pub(super) big_endian: bool,
}

impl Encoding {
    pub(super) const IMPLICIT_LITTLE: Self = Self { explicit: false, big_endian: false };
    pub(super) const EXPLICIT_LITTLE: Self = Self { explicit: true, big_endian: false };
    pub(super) const EXPLICIT_BIG: Self = Self { explicit: true, big_endian: true };

    pub(super) fn u16(self, b: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    fn u32(self, b: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }
}

/// The top-level elements of a data set, up to and with the pixel data.
pub(super) struct Elements<'a> {
    /// Value bytes by tag; of a sequence its items, without the end mark.
    pub(super) values: BTreeMap<u32, &'a [u8]>,
    /// The pixel data, if there is any and it was asked for.
    pub(super) pixels: Option<PixelData<'a>>,
    /// The walk came to the pixel data or beyond it: no attribute of the header is missing.
    pub(super) reached_pixels: bool,
    /// The encoding of the numbers.
    pub(super) encoding: Encoding,
}

/// Pixel data as it lies in the file.
pub(super) enum PixelData<'a> {
    /// Uncompressed; `words` says that the value representation is OW.
    Native { bytes: &'a [u8], words: bool },
    /// The fragments of a compressed image, without the offset table.
    Fragments(Vec<&'a [u8]>),
}

/// Whether `bytes` could begin a data set without preamble and meta group, and how it is written: a
/// first tag of group 0008 as old files have it, and a length that the file can hold.
pub(super) fn bare_data_set(bytes: &[u8]) -> Option<Encoding> {
    let start = bytes.get(..64)?;
    let element = u16::from_le_bytes([start[2], start[3]]);
    if start[..2] != [8, 0] || !(element <= 0x0020 || element == 0x0060) {
        return None;
    }
    let short = u32::from(u16::from_le_bytes([start[6], start[7]]));
    let long = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
    let (length, encoding) = if SHORT_VRS.iter().any(|vr| vr[..] == start[4..6]) {
        (short, Encoding::EXPLICIT_LITTLE)
    } else {
        (long, Encoding::IMPLICIT_LITTLE)
    };
    (length <= 1024 && length as usize <= bytes.len() - 8).then_some(encoding)
}

/// Reads the meta group (0002, always explicit little endian) at `at`; gives the transfer syntax UID, if
/// stated, and where the data set begins.
pub(super) fn read_meta(bytes: &[u8], at: usize) -> Result<(Option<String>, usize), ImageError> {
    let mut walk = Walk { bytes, at, encoding: Encoding::EXPLICIT_LITTLE };
    let mut syntax = None;
    while bytes[walk.at..].starts_with(&[2, 0]) {
        let header = walk.header()?;
        let value = walk.take(header.length)?;
        if header.tag == 0x0002_0010 {
            let text = String::from_utf8_lossy(value);
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            // It is quoted in messages, and a UID has at most 64 characters.
            syntax = Some(text.chars().filter(|c| c.is_ascii_graphic()).take(64).collect());
        }
    }
    Ok((syntax, walk.at))
}

impl<'a> Elements<'a> {
    /// The elements of the first item of a sequence; `None` if the sequence is absent or has no item.
    pub(super) fn first_item(&self, tag: u32) -> Result<Option<Elements<'a>>, ImageError> {
        let Some(&items) = self.values.get(&tag).filter(|items| !items.is_empty()) else { return Ok(None) };
        let mut walk = Walk { bytes: items, at: 0, encoding: self.encoding };
        let header = walk.header()?;
        let item = match (header.tag, header.length) {
            (ITEM, UNDEFINED) => {
                let start = walk.at;
                walk.skip_item(1)?;
                &items[start..walk.at - MARK_BYTES]
            }
            (ITEM, length) => walk.take(length)?,
            (tag, _) => return Err(undecodable(format!("element {tag:08X} where a sequence item must be"))),
        };
        read_data_set(item, self.encoding, true).map(Some)
    }
}

/// Notes the top-level elements of the data set in `bytes`; `with_pixels` the pixel data too, which must then be
/// whole. Without, `bytes` may end anywhere behind the header of the pixel data.
pub(super) fn read_data_set(bytes: &[u8], encoding: Encoding, with_pixels: bool) -> Result<Elements<'_>, ImageError> {
    let mut walk = Walk { bytes, at: 0, encoding };
    let mut values = BTreeMap::new();
    let mut pixels = None;
    let mut reached_pixels = false;
    while walk.at < bytes.len() {
        // Some writers pad the end with zeros.
        if bytes.len() - walk.at < 8 && bytes[walk.at..].iter().all(|&b| b == 0) {
            break;
        }
        let header = walk.header()?;
        reached_pixels = header.tag >= PIXEL_DATA;
        if header.tag == PIXEL_DATA && with_pixels {
            pixels = Some(if header.length == UNDEFINED {
                PixelData::Fragments(walk.fragments()?)
            } else {
                PixelData::Native { bytes: walk.take(header.length)?, words: header.vr != *b"OB" }
            });
        }
        if reached_pixels {
            break;
        }
        let start = walk.at;
        if header.length == UNDEFINED {
            walk.skip_sequence(&header, 1)?;
            values.insert(header.tag, &bytes[start..walk.at - MARK_BYTES]);
        } else {
            values.insert(header.tag, walk.take(header.length)?);
        }
    }
    Ok(Elements { values, pixels, reached_pixels, encoding })
}

struct Header {
    tag: u32,
    vr: [u8; 2],
    length: u32,
}

/// A position in the bytes of a data set.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: u32) -> Result<&'a [u8], ImageError> {
        let left = self.bytes.len() - self.at;
        if length as usize > left {
            return Err(ImageError::Truncated {
                format: Format::Dicom,
                detail: format!("an element at byte {} of the data set needs {length} bytes, {left} are left", self.at),
            });
        }
        let value = &self.bytes[self.at..self.at + length as usize];
        self.at += length as usize;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u32)?);
        Ok(array)
    }

    fn header(&mut self) -> Result<Header, ImageError> {
        let start = self.at;
        let group = self.encoding.u16(self.array()?);
        let element = self.encoding.u16(self.array()?);
        let tag = (u32::from(group) << 16) | u32::from(element);
        // Items and delimiters never name a value representation.
        if !self.encoding.explicit || group == 0xFFFE {
            let length = self.encoding.u32(self.array()?);
            return Ok(Header { tag, vr: [0; 2], length });
        }
        let vr: [u8; 2] = self.array()?;
        let length = if SHORT_VRS.contains(&&vr) {
            u32::from(self.encoding.u16(self.array()?))
        } else if vr.iter().all(u8::is_ascii_uppercase) {
            // Also value representations that do not exist yet (PS3.5, section 7.1.2).
            self.take(2)?;
            self.encoding.u32(self.array()?)
        } else {
            return Err(undecodable(format!("no value representation in the element at byte {start} of the data set")));
        };
        Ok(Header { tag, vr, length })
    }

    /// Skips a sequence of undefined length whose header has just been read.
    fn skip_sequence(&mut self, header: &Header, depth: usize) -> Result<(), ImageError> {
        if depth > MAX_SEQUENCE_DEPTH {
            return Err(undecodable(format!("sequences nested deeper than {MAX_SEQUENCE_DEPTH}")));
        }
        let outer = self.encoding;
        if header.vr == *b"UN" {
            // PS3.5, section 6.2.2: of unknown representation and undefined length means implicit inside.
            self.encoding = Encoding::IMPLICIT_LITTLE;
        }
        loop {
            let item = self.header()?;
            match (item.tag, item.length) {
                (SEQUENCE_END, _) => break,
                (ITEM, UNDEFINED) => self.skip_item(depth)?,
                (ITEM, length) => {
                    self.take(length)?;
                }
                (tag, _) => return Err(undecodable(format!("element {tag:08X} where a sequence item must be"))),
            }
        }
        self.encoding = outer;
        Ok(())
    }

    fn skip_item(&mut self, depth: usize) -> Result<(), ImageError> {
        loop {
            let header = self.header()?;
            if header.tag == ITEM_END {
                return Ok(());
            }
            if header.length == UNDEFINED {
                self.skip_sequence(&header, depth + 1)?;
            } else {
                self.take(header.length)?;
            }
        }
    }

    /// The fragments of encapsulated pixel data (PS3.5, annex A.4), without the offset table.
    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, ImageError> {
        let mut fragments = Vec::new();
        loop {
            let item = self.header()?;
            match item.tag {
                SEQUENCE_END => break,
                ITEM if fragments.len() <= MAX_FRAGMENTS => fragments.push(self.take(item.length)?),
                ITEM => return Err(undecodable(format!("more than {MAX_FRAGMENTS} pixel data fragments"))),
                tag => return Err(undecodable(format!("element {tag:08X} where a pixel data fragment must be"))),
            }
        }
        if fragments.is_empty() {
            return Err(undecodable("no pixel data fragment".to_owned()));
        }
        fragments.remove(0);
        Ok(fragments)
    }
}

fn undecodable(detail: String) -> ImageError {
    ImageError::Undecodable { format: Format::Dicom, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn implicit(tag: u32, length: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
        bytes.extend_from_slice(&(tag as u16).to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn sequences_are_skipped_and_their_pixel_data_is_not_the_images() {
        // An icon's pixel data lies in an item of (0088,0200); the image's own follows.
        let mut bytes = implicit(0x0088_0200, UNDEFINED);
        bytes.extend(implicit(ITEM, UNDEFINED));
        bytes.extend(implicit(PIXEL_DATA, 2));
        bytes.extend([9, 9]);
        bytes.extend(implicit(ITEM_END, 0));
        bytes.extend(implicit(SEQUENCE_END, 0));
        bytes.extend(implicit(PIXEL_DATA, 4));
        bytes.extend([1, 2, 3, 4]);
        let elements = read_data_set(&bytes, Encoding::IMPLICIT_LITTLE, true).expect("well formed");
        assert!(matches!(elements.pixels, Some(PixelData::Native { bytes: [1, 2, 3, 4], .. })));
        let icon = elements.first_item(0x0088_0200).expect("well formed").expect("an item");
        assert!(matches!(icon.pixels, Some(PixelData::Native { bytes: [9, 9], .. })));
        assert!(elements.first_item(0x0028_3000).expect("no such sequence").is_none());
        // Without pixels the file may be cut right behind the header of its pixel data.
        let cut = &bytes[..bytes.len() - 4];
        let header = read_data_set(cut, Encoding::IMPLICIT_LITTLE, false).expect("a whole header");
        assert!(header.reached_pixels && header.pixels.is_none() && header.values.len() == 1);
        assert!(read_data_set(cut, Encoding::IMPLICIT_LITTLE, true).is_err());
    }

    #[test]
    fn items_of_defined_length_are_found() {
        let mut table = implicit(0x0028_3006, 4);
        table.extend([1, 0, 2, 0]);
        let mut bytes = implicit(0x0028_3000, 8 + table.len() as u32);
        bytes.extend(implicit(ITEM, table.len() as u32));
        bytes.extend(&table);
        let elements = read_data_set(&bytes, Encoding::IMPLICIT_LITTLE, true).expect("well formed");
        assert!(!elements.reached_pixels);
        let item = elements.first_item(0x0028_3000).expect("well formed").expect("an item");
        assert_eq!(item.values[&0x0028_3006], [1, 0, 2, 0]);
        // An item that claims more than its sequence holds.
        bytes[12..16].copy_from_slice(&1000_u32.to_le_bytes());
        let elements = read_data_set(&bytes, Encoding::IMPLICIT_LITTLE, true).expect("the outer length is right");
        assert!(elements.first_item(0x0028_3000).is_err());
    }

    #[test]
    fn a_length_beyond_the_file_is_an_error_not_an_allocation() {
        let bytes = implicit(0x0010_0010, 0xFFFF_FFF0);
        let error = read_data_set(&bytes, Encoding::IMPLICIT_LITTLE, true).err().expect("too long");
        assert_eq!(error.code(), "truncated");
    }

    #[test]
    fn endless_nesting_is_an_error_not_a_stack_overflow() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend(implicit(0x0040_A730, UNDEFINED));
            bytes.extend(implicit(ITEM, UNDEFINED));
        }
        let error = read_data_set(&bytes, Encoding::IMPLICIT_LITTLE, true).err().expect("too deep");
        assert!(error.to_string().contains("nested"), "{error}");
    }

    #[test]
    fn text_is_no_data_set() {
        assert_eq!(bare_data_set(&[b'a'; 100]), None);
        let mut bytes = implicit(0x0008_0000, 4);
        bytes.resize(100, 0);
        assert_eq!(bare_data_set(&bytes), Some(Encoding::IMPLICIT_LITTLE));
        bytes[4..8].copy_from_slice(&1_000_000_u32.to_le_bytes());
        assert_eq!(bare_data_set(&bytes), None);
    }
}
