//! Delimited text from outside, read within limits.
//!
//! Hospital exports come with commas, semicolons or tabs, with or without a byte order mark, and
//! with rows that are too short or not UTF-8. One bad row is kept as bad, with its row number and
//! the reason, and never stops the table. This module knows nothing of labels.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder, StringRecord};
use thiserror::Error;

/// Largest table, bytes.
pub const MAX_TABLE_BYTES: u64 = 256 << 20;
/// Most columns of a table.
pub const MAX_TABLE_COLUMNS: usize = 4096;
/// Most rows of a table, the header not counted.
pub const MAX_TABLE_ROWS: usize = 5_000_000;
/// Longest field, bytes; a longer one usually means a quotation mark left open.
pub const MAX_FIELD_BYTES: usize = 32 << 10;

/// Why a table cannot be read at all.
#[derive(Debug, Error)]
pub enum TableError {
    /// The file cannot be opened or read.
    #[error("cannot read the table {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Larger than [`MAX_TABLE_BYTES`].
    #[error("the table {path} has {bytes} bytes; at most {MAX_TABLE_BYTES} are read: split it")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// UTF-16 or other text that is not UTF-8.
    #[error("the header of {name} is not UTF-8 text; save the table as \"CSV UTF-8\"")]
    Encoding {
        /// File name.
        name: String,
    },
    /// No header line.
    #[error("{name} is empty; its first line must name the columns")]
    Empty {
        /// File name.
        name: String,
    },
    /// More columns than [`MAX_TABLE_COLUMNS`] or rows than [`MAX_TABLE_ROWS`].
    #[error("{name} has more than {limit} {what}; keep only those that the study needs")]
    TooMany {
        /// File name.
        name: String,
        /// "rows" or "columns".
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The CSV reader gave up.
    #[error("{name} is not a table: {reason}")]
    Malformed {
        /// File name.
        name: String,
        /// What the CSV reader said.
        reason: String,
    },
}

/// One row: where it stands, and its cells or why it cannot be used.
#[derive(Debug)]
pub(crate) struct TableRow {
    /// Line of the file on which the row begins, the header being line 1: what an editor and a spreadsheet show.
    pub(crate) row: u64,
    /// As many cells as the header has, at least; bytes that are not UTF-8 are replaced in a bad row.
    pub(crate) cells: StringRecord,
    /// Why the row cannot be used.
    pub(crate) fault: Option<String>,
}

/// A table with a header.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<TableRow>,
}

/// Reads a whole file of at most [`MAX_TABLE_BYTES`].
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, TableError> {
    let failed = |source| TableError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > MAX_TABLE_BYTES {
        return Err(TableError::TooLarge { path: path.to_owned(), bytes });
    }
    let mut content = Vec::new();
    // A pipe has length 0 and a file may grow: the limit holds for what is read.
    file.take(MAX_TABLE_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_TABLE_BYTES {
        return Err(TableError::TooLarge { path: path.to_owned(), bytes: content.len() as u64 });
    }
    Ok(content)
}

/// Parses delimited text; the delimiter is the commonest of `,` `;` and tab in the header line.
pub(crate) fn parse_table(name: &str, content: &[u8]) -> Result<Table, TableError> {
    parse_delimited(name, content, sniff_delimiter(content))
}

/// Parses text that [`to_csv`] wrote: commas, whatever the names in the header hold.
pub(crate) fn parse_stored(name: &str, content: &str) -> Result<Table, TableError> {
    parse_delimited(name, content.as_bytes(), b',')
}

fn parse_delimited(name: &str, content: &[u8], delimiter: u8) -> Result<Table, TableError> {
    let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    let malformed = |e: csv::Error| TableError::Malformed { name: name.to_owned(), reason: e.to_string() };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(content);
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(malformed)? {
        return Err(TableError::Empty { name: name.to_owned() });
    }
    if record.len() > MAX_TABLE_COLUMNS {
        return Err(too_many(name, "columns", MAX_TABLE_COLUMNS));
    }
    let mut header = Vec::with_capacity(record.len());
    for cell in &record {
        let cell = std::str::from_utf8(cell).ok().filter(|c| !c.contains('\0'));
        header.push(cell.ok_or_else(|| TableError::Encoding { name: name.to_owned() })?.trim().to_owned());
    }
    let mut rows = Vec::new();
    let mut lines = LineCounter { content, at: 0, line: 1 };
    while reader.read_byte_record(&mut record).map_err(malformed)? {
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            // A blank line of a spreadsheet is no row.
            continue;
        }
        if rows.len() == MAX_TABLE_ROWS {
            return Err(too_many(name, "rows", MAX_TABLE_ROWS));
        }
        let start = record.position().map_or(0, csv::Position::byte);
        let row = lines.line_of_record(usize::try_from(start).unwrap_or(usize::MAX));
        rows.push(check_row(row, &record, header.len()));
    }
    Ok(Table { header, rows })
}

fn too_many(name: &str, what: &'static str, limit: usize) -> TableError {
    TableError::TooMany { name: name.to_owned(), what, limit }
}

fn check_row(row: u64, record: &ByteRecord, columns: usize) -> TableRow {
    let long = record.iter().any(|cell| cell.len() > MAX_FIELD_BYTES);
    let surplus = record.iter().skip(columns).any(|cell| !cell.trim_ascii().is_empty());
    let (cells, utf8) = match StringRecord::from_byte_record(record.clone()) {
        Ok(cells) => (cells, true),
        Err(_) => (StringRecord::from_byte_record_lossy(record.clone()), false),
    };
    let fault = if long {
        Some(format!("a field is longer than {MAX_FIELD_BYTES} bytes; is a quotation mark left open?"))
    } else if cells.len() < columns || surplus {
        Some(format!("it has {} fields and the header has {columns}", cells.len()))
    } else if !utf8 {
        Some("it is not UTF-8 text; save the table as \"CSV UTF-8\"".to_owned())
    } else {
        None
    };
    TableRow { row, cells, fault }
}

/// The delimiter that is commonest in the first line, outside quotation marks; a comma if there is none.
fn sniff_delimiter(content: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0usize), (b';', 0), (b'\t', 0)];
    for &byte in content {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if !quoted => {
                for (delimiter, count) in &mut counts {
                    *count += usize::from(*delimiter == byte);
                }
            }
            _ => {}
        }
    }
    let mut best = counts[0];
    for candidate in counts {
        if candidate.1 > best.1 {
            best = candidate;
        }
    }
    best.0
}

/// Counts lines up to a byte, forwards only: the CSV reader's own count is off by one after `\r\n`
/// and after blank lines.
struct LineCounter<'a> {
    content: &'a [u8],
    at: usize,
    line: u64,
}

impl LineCounter<'_> {
    fn line_of_record(&mut self, start: usize) -> u64 {
        while self.at < self.content.len() {
            let byte = self.content[self.at];
            if self.at >= start && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// Writes rows as CSV text with `\n` line ends.
pub(crate) fn to_csv<R, I>(rows: R) -> String
where
    R: IntoIterator<Item = I>,
    I: IntoIterator<Item = String>,
{
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("writing to memory cannot fail");
    }
    let bytes = writer.into_inner().expect("writing to memory cannot fail");
    String::from_utf8(bytes).expect("every field is a String")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_marks_and_line_ends() {
        for text in ["\u{feff}a;b\r\n1;2\r\n\r\n3;4\r\n", "a\tb\n1\t2\n\n3\t4", "\"a,x,y\";b\n1;2\n;\n3;4\n"] {
            let table = parse_table("t.csv", text.as_bytes()).expect("a table");
            assert_eq!(table.header.len(), 2, "{text:?}");
            let rows: Vec<(u64, &str)> = table.rows.iter().map(|r| (r.row, &r.cells[1])).collect();
            assert_eq!(rows, [(2, "2"), (4, "4")], "{text:?}");
        }
    }

    #[test]
    fn rows_count_as_an_editor_counts() {
        let table = parse_table("t.csv", b"a,b\n\"x\ny\",1\nz,2\n").expect("a table");
        assert_eq!(table.rows.iter().map(|r| r.row).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn bad_rows_are_kept_as_bad() {
        let mut text = b"a,b\n1\n1,2,3\n1,2,\n\xFF,2\n".to_vec();
        text.extend_from_slice(format!("{},2\n", "x".repeat(MAX_FIELD_BYTES + 1)).as_bytes());
        let table = parse_table("t.csv", &text).expect("a table");
        let bad: Vec<bool> = table.rows.iter().map(|r| r.fault.is_some()).collect();
        assert_eq!(bad, [true, true, false, true, true]);
        assert!(table.rows[3].fault.as_deref().is_some_and(|f| f.contains("UTF-8")));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(matches!(parse_table("t", b""), Err(TableError::Empty { .. })));
        assert!(matches!(parse_table("t", b"\xFF\xFEa\0,\0b\0\n\0"), Err(TableError::Encoding { .. })));
        let wide = ",".repeat(MAX_TABLE_COLUMNS);
        assert!(matches!(parse_table("t", wide.as_bytes()), Err(TableError::TooMany { .. })));
        assert!(matches!(read_bounded(Path::new("no/such/table.csv")), Err(TableError::Read { .. })));
    }
}
