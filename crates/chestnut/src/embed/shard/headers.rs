//! A look at Parquet's own headers before its reader sees them.
//!
//! They are in Thrift's compact protocol. The reader skips fields that it does not know by the counts that they claim,
//! and truth values in a list take no byte there: a file of 200 bytes could keep it busy for hours (found by fuzzing).
//! So lists of truth values, which no header of a table has, long lists, and large headers are refused here.

use super::ShardError;
use std::io::{Read, Seek, SeekFrom};

/// Largest footer: it holds a few columns and some lines of text.
const MAX_FOOTER: u64 = 1 << 20;
/// Largest header of a page: some numbers, smallest and largest value among them.
const MAX_PAGE_HEADER: u64 = 1 << 16;
/// Most elements of a list or map: columns, encodings, lines of text.
const MAX_ELEMENTS: u64 = 1 << 10;
/// Structs and lists inside each other.
const MAX_DEPTH: usize = 16;
/// Field of a page's header that says how many bytes follow it.
const COMPRESSED_SIZE: i64 = 3;
/// What a Parquet file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";

/// Looks at the footer of a file of `size` bytes.
pub(super) fn check_footer(file: &mut (impl Read + Seek), size: u64) -> Result<(), ShardError> {
    let mut end = [0; 8];
    let start = size.checked_sub(8).ok_or_else(|| refused("it is too short"))?;
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if magic != *MAGIC {
        return Err(refused("it does not end as one"));
    }
    if length > MAX_FOOTER {
        return Err(refused("its footer is too large"));
    }
    let start = start.checked_sub(length).ok_or_else(|| refused("its footer is longer than the file"))?;
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(length).read_to_end(&mut footer)?;
    Walk { bytes: &footer }.whole_struct(MAX_DEPTH)?;
    Ok(())
}

/// Looks at the headers of all pages of a column, which has `length` bytes from `start`.
pub(super) fn check_pages(file: &mut (impl Read + Seek), start: u64, length: u64) -> Result<(), ShardError> {
    let end = start.checked_add(length).ok_or_else(|| refused("a column is longer than the file"))?;
    let mut at = start;
    let mut window = Vec::new();
    while at < end {
        window.clear();
        file.seek(SeekFrom::Start(at))?;
        file.take(MAX_PAGE_HEADER.min(end - at)).read_to_end(&mut window)?;
        let mut walk = Walk { bytes: &window };
        let page = walk.whole_struct(MAX_DEPTH)?.and_then(|size| u64::try_from(size).ok());
        let page = page.ok_or_else(|| refused("a page does not say how long it is"))?;
        let header = (window.len() - walk.bytes.len()) as u64;
        at = at.checked_add(header).and_then(|at| at.checked_add(page)).ok_or_else(|| refused("a page is too long"))?;
    }
    Ok(())
}

fn refused(why: &str) -> ShardError {
    ShardError::Shape(format!("{why}, or its headers are damaged"))
}

/// Bytes that are still to be walked over.
struct Walk<'a> {
    bytes: &'a [u8],
}

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, ShardError> {
        let (first, rest) = self.bytes.split_first().ok_or_else(|| refused("it ends too early"))?;
        self.bytes = rest;
        Ok(*first)
    }

    fn skip(&mut self, count: u64) -> Result<(), ShardError> {
        let count = usize::try_from(count).ok().filter(|n| *n <= self.bytes.len());
        self.bytes = &self.bytes[count.ok_or_else(|| refused("it ends too early"))?..];
        Ok(())
    }

    /// An unsigned number in groups of 7 bits, lowest first.
    fn number(&mut self) -> Result<u64, ShardError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(refused("a number is too long"))
    }

    /// A signed number, whose sign is its lowest bit.
    fn signed(&mut self) -> Result<i64, ShardError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Walks over a struct; returns the value of its field [`COMPRESSED_SIZE`] if that is a number.
    fn whole_struct(&mut self, depth: usize) -> Result<Option<i64>, ShardError> {
        let (mut id, mut size) = (0_i64, None);
        loop {
            let head = self.byte()?;
            if head & 0xf == 0 {
                return Ok(size);
            }
            id = match head >> 4 {
                0 => self.signed()?,
                step => id.wrapping_add(i64::from(step)),
            };
            match head & 0xf {
                // A field's truth value is its type.
                1 | 2 => {}
                4..=6 if id == COMPRESSED_SIZE => size = Some(self.signed()?),
                kind => self.value(kind, depth)?,
            }
        }
    }

    /// Walks over a value of this type.
    fn value(&mut self, kind: u8, depth: usize) -> Result<(), ShardError> {
        let inside = depth.checked_sub(1).ok_or_else(|| refused("it is nested too deep"))?;
        match kind {
            3 => self.skip(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.skip(8),
            8 => self.number().and_then(|length| self.skip(length)),
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 0xf { self.number()? } else { u64::from(head >> 4) };
                self.values(count, &[head & 0xf], inside)
            }
            11 => match self.number()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    self.values(count, &[kinds >> 4, kinds & 0xf], inside)
                }
            },
            12 => self.whole_struct(inside).map(|_| ()),
            13 => self.skip(16),
            // Truth values in a list, and what is no type.
            _ => Err(refused("it holds a type that no header has")),
        }
    }

    fn values(&mut self, count: u64, kinds: &[u8], depth: usize) -> Result<(), ShardError> {
        if count > MAX_ELEMENTS {
            return Err(refused("a list is too long"));
        }
        for _ in 0..count {
            kinds.iter().try_for_each(|kind| self.value(*kind, depth))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file whose footer is this.
    fn file(footer: &[u8]) -> Vec<u8> {
        [MAGIC, footer, &(footer.len() as u32).to_le_bytes(), MAGIC].concat()
    }

    fn checked(footer: &[u8]) -> Result<(), ShardError> {
        let bytes = file(footer);
        check_footer(&mut Cursor::new(&bytes), bytes.len() as u64)
    }

    #[test]
    fn what_would_keep_the_reader_busy_is_refused() {
        // Field 1 = 300, field 2 = a text, field 3 = a list of two numbers, field 4 = a map, field 5 = true.
        let good = [0x15, 0xac, 0x02, 0x18, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x1b, 1, 0x85, 1, b'k', 6, 0x11, 0];
        checked(&good).expect("nothing is wrong with it");
        for length in 0..good.len() {
            assert!(checked(&good[..length]).is_err(), "cut at {length}");
        }
        // 2^31 - 1 truth values in a field that nobody knows.
        let endless = [0x09, 0xd0, 0x0f, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        assert!(checked(&endless).is_err_and(|e| e.to_string().contains("too long")));
        assert!(checked(&[0x19, 0x21, 0]).is_err_and(|e| e.to_string().contains("no header has")), "two of them");
        let deep = vec![0x1c; 40];
        assert!(checked(&deep).is_err_and(|e| e.to_string().contains("too deep")));
        assert!(check_footer(&mut Cursor::new(b"PAR1"), 4).is_err());
    }

    #[test]
    fn pages_are_followed_to_the_end_of_their_column() {
        // Field 1 = 0, field 2 = 5, field 3 = the bytes that follow.
        let page = |size: u8| [&[0x15, 0, 0x15, 10, 0x15, 2 * size, 0][..], &vec![9; usize::from(size)]].concat();
        let column = [page(5), page(0), page(7)].concat();
        let check = |bytes: &[u8]| check_pages(&mut Cursor::new(bytes), 0, bytes.len() as u64);
        check(&column).expect("three pages");
        let endless = [page(5), vec![0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0]].concat();
        assert!(check(&endless).is_err(), "the second page is looked at, too");
        assert!(check(&[0x15, 0, 0]).is_err_and(|e| e.to_string().contains("how long")));
        assert!(check(&[0x15, 0, 0x15, 0, 0x15, 1, 0]).is_err(), "minus one byte");
    }
}
