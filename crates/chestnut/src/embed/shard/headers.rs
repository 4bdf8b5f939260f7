//! A look at Parquet's own headers before its reader sees them.
//!
//! They are in Thrift's compact protocol. The reader skips fields that it does not know by the counts that they claim, and
//! takes the type of those that it knows for granted; truth values in a list take no byte there, so a file of 100 bytes
//! could keep it busy for hours (found by fuzzing). So headers are held here to the fields, types and order that this
//! program's shards have, and to limits: what passes has nothing for the reader to skip.

use super::ShardError;
use std::io::{Read, Seek, SeekFrom};

/// Largest footer: it holds a few columns and some lines of text.
const MAX_FOOTER: u64 = 1 << 20;
/// Largest header of a page: some numbers, smallest and largest value among them.
const MAX_PAGE_HEADER: u64 = 1 << 16;
/// Most elements of a list or map: columns, encodings, lines of text.
const MAX_ELEMENTS: u64 = 1 << 10;
/// Field of a page's header that says how many bytes follow it.
const COMPRESSED_SIZE: i64 = 3;
/// What a Parquet file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    I16,
    I32,
    I64,
    Bytes,
    List(&'static Kind),
    Struct(&'static [(i64, Kind)]),
}
use Kind::{Bool, Bytes, I16, I32, I64, List, Struct};

/// Fields by number, as in parquet.thrift of the Parquet format, those that shards have.
const FOOTER: &[(i64, Kind)] = &[
    (1, I32),
    (2, List(&Struct(SCHEMA_ELEMENT))),
    (3, I64),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(&[(1, Bytes), (2, Bytes)]))),
    (6, Bytes),
    (7, List(&Struct(&[(1, Struct(&[])), (2, Struct(&[]))]))),
];
const SCHEMA_ELEMENT: &[(i64, Kind)] = &[(1, I32), (3, I32), (4, Bytes), (5, I32), (6, I32)];
const ROW_GROUP: &[(i64, Kind)] = &[(1, List(&Struct(COLUMN_CHUNK))), (2, I64), (3, I64), (5, I64), (6, I64), (7, I16)];
const COLUMN_CHUNK: &[(i64, Kind)] = &[(2, I64), (3, Struct(COLUMN)), (4, I64), (5, I32), (6, I64), (7, I32)];
const COLUMN: &[(i64, Kind)] = &[
    (1, I32),
    (2, List(&I32)),
    (3, List(&Bytes)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (9, I64),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, I32), (2, I32), (3, I32)]))),
    (16, Struct(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
];
const STATISTICS: &[(i64, Kind)] =
    &[(1, Bytes), (2, Bytes), (3, I64), (4, I64), (5, Bytes), (6, Bytes), (7, Bool), (8, Bool), (9, I64)];
const PAGE: &[(i64, Kind)] = &[
    (1, I32),
    (2, I32),
    (COMPRESSED_SIZE, I32),
    (4, I32),
    (5, Struct(&[(1, I32), (2, I32), (3, I32), (4, I32), (5, Struct(STATISTICS))])),
];

impl Kind {
    /// Whether this is the type that a field or an element of a list says it has.
    fn is(self, wire: u8) -> bool {
        match self {
            Bool => matches!(wire, 1 | 2),
            I16 => wire == 4,
            I32 => wire == 5,
            I64 => wire == 6,
            Bytes => wire == 8,
            List(_) => wire == 9,
            Struct(_) => wire == 12,
        }
    }
}

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
    Walk { bytes: &footer }.fields(FOOTER)?;
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
        let page = walk.fields(PAGE)?.and_then(|size| u64::try_from(size).ok());
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

    /// Walks over a struct that has some of these fields, in this order; returns the value of its field
    /// [`COMPRESSED_SIZE`] if that is a number of 32 bits.
    fn fields(&mut self, known: &[(i64, Kind)]) -> Result<Option<i64>, ShardError> {
        let (mut id, mut size) = (0_i64, None);
        loop {
            let head = self.byte()?;
            if head & 0xf == 0 {
                return Ok(size);
            }
            // No shard leaves out so many numbers that the next one is written out.
            let step = i64::from(head >> 4);
            id += step;
            let kind = known.iter().find(|(number, kind)| *number == id && kind.is(head & 0xf));
            match kind.filter(|_| step > 0) {
                None => return Err(refused("it holds a field that no shard has")),
                // A field's truth value is its type.
                Some((_, Bool)) => {}
                Some((COMPRESSED_SIZE, I32)) => size = Some(self.signed()?),
                Some((_, kind)) => self.value(*kind)?,
            }
        }
    }

    fn value(&mut self, kind: Kind) -> Result<(), ShardError> {
        match kind {
            // In a list; no shard has such.
            Bool => Err(refused("it holds a list of truth values")),
            I16 | I32 | I64 => self.number().map(|_| ()),
            Bytes => self.number().and_then(|length| self.skip(length)),
            Struct(known) => self.fields(known).map(|_| ()),
            List(element) => {
                let head = self.byte()?;
                let count = if head >> 4 == 0xf { self.number()? } else { u64::from(head >> 4) };
                if count > MAX_ELEMENTS {
                    return Err(refused("a list is too long"));
                }
                if !element.is(head & 0xf) {
                    return Err(refused("a list holds what no shard's does"));
                }
                (0..count).try_for_each(|_| self.value(*element))
            }
        }
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
        // Version 2, a column called "ab", 300 rows, no row group, a pair of texts, who wrote it.
        let good = [
            0x15, 4, 0x19, 0x1c, 0x48, 2, b'a', b'b', 0, 0x16, 0xd8, 0x04, 0x19, 0x0c, 0x19, 0x1c, 0x18, 1, b'k', 0,
            0x18, 0, 0,
        ];
        checked(&good).expect("nothing is wrong with it");
        for length in 0..good.len() {
            assert!(checked(&good[..length]).is_err(), "cut at {length}");
        }
        let said = |footer: &[u8], words: &str| checked(footer).is_err_and(|e| e.to_string().contains(words));
        // 2^31 - 1 truth values: in a field that nobody knows, where structs should be, and behind a type that the reader
        // would not look at.
        assert!(said(&[0x09, 0xd0, 0x0f, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0], "no shard has"));
        assert!(said(&[0x29, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0], "too long"));
        assert!(said(&[0x29, 0x21, 0], "no shard's does"));
        assert!(said(&[0x12, 0x00, 0x83], "no shard has"), "a truth value for the version");
        assert!(said(&[0x15, 4, 0x15, 4, 0], "no shard has"), "a number for the schema");
        assert!(said(&[0x36, 2, 0x09, 4, 0x1c, 0], "no shard has"), "fields in another order");
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
