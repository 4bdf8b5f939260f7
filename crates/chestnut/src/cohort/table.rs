//! Delimited text from outside, read within limits.
//!
//! Hospital exports come with commas, semicolons or tabs, in several encodings (`encoding`), with
//! Excel's `sep=;` line, with empty columns at the end, and with rows that are too short or not UTF-8.
//! One bad row is kept as bad, with its row number and the reason, and never stops the table. This
//! module knows nothing of labels.

mod encoding;

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
    /// No text, or text of another code page.
    #[error("{name} is not text in UTF-8, UTF-16 or Windows-1252; save the table as \"CSV UTF-8\"")]
    Encoding {
        /// File name.
        name: String,
    },
    /// A workbook of Excel or LibreOffice, or a web page under such a name.
    #[error(
        "{name} is a workbook or a web page, not a table as text; open it in Excel (File, Save As, \"CSV UTF-8\") or LibreOffice (File, Save As, \"Text CSV\") and give the new file"
    )]
    Workbook {
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
    /// Line of the file on which the row begins, the first line being 1: what an editor shows.
    pub(crate) row: u64,
    /// As many cells as the header has, at least; bytes that are not UTF-8 are replaced in a bad row.
    pub(crate) cells: StringRecord,
    /// Why the row cannot be used.
    pub(crate) fault: Option<String>,
}

/// A table with a header.
#[derive(Debug)]
pub(crate) struct Table {
    /// Names of the columns; columns without a name at the end are left out.
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<TableRow>,
    /// What stands between cells. With a comma there, no number is written with a decimal comma.
    pub(crate) delimiter: u8,
    /// Sentences for the summary.
    pub(crate) warnings: Vec<String>,
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

/// Parses delimited text from outside. The delimiter is that of a first line `sep=;` as Excel writes it, else the
/// commonest of `,` `;` and tab in the header line.
pub(crate) fn parse_table(name: &str, content: &[u8]) -> Result<Table, TableError> {
    let (content, warning) = encoding::decode(name, content)?;
    let (delimiter, start) = stated_delimiter(&content).unwrap_or_else(|| (sniff_delimiter(&content), 0));
    let mut table = parse_delimited(name, &content, start, delimiter)?;
    table.warnings.extend(warning);
    Ok(table)
}

/// Parses text that [`to_csv`] wrote: commas, whatever the names in the header hold.
pub(crate) fn parse_stored(name: &str, content: &str) -> Result<Table, TableError> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    parse_delimited(name, content.as_bytes(), 0, b',')
}

/// Parses `content` from byte `start`; rows are numbered by the lines of all of it.
fn parse_delimited(name: &str, content: &[u8], start: usize, delimiter: u8) -> Result<Table, TableError> {
    let malformed = |e: csv::Error| TableError::Malformed { name: name.to_owned(), reason: e.to_string() };
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(&content[start..]);
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(malformed)? {
        return Err(TableError::Empty { name: name.to_owned() });
    }
    let width = record.len();
    if width > MAX_TABLE_COLUMNS {
        return Err(too_many(name, "columns", MAX_TABLE_COLUMNS));
    }
    let mut header = Vec::with_capacity(width);
    for cell in &record {
        let cell = std::str::from_utf8(cell).ok().filter(|c| !c.contains('\0'));
        header.push(cell.ok_or_else(|| TableError::Encoding { name: name.to_owned() })?.trim().to_owned());
    }
    while header.last().is_some_and(String::is_empty) {
        header.pop();
    }
    if header.is_empty() {
        return Err(TableError::Empty { name: name.to_owned() });
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
        let at = record.position().map_or(0, csv::Position::byte);
        let row = lines.line_of_record(usize::try_from(at).map_or(usize::MAX, |at| at.saturating_add(start)));
        rows.push(check_row(row, &record, header.len(), width));
    }
    Ok(Table { header, rows, delimiter, warnings: Vec::new() })
}

fn too_many(name: &str, what: &'static str, limit: usize) -> TableError {
    TableError::TooMany { name: name.to_owned(), what, limit }
}

/// `columns` have a name; up to `width` stand in the header line, and what lies beyond must be empty.
fn check_row(row: u64, record: &ByteRecord, columns: usize, width: usize) -> TableRow {
    let long = record.iter().any(|cell| cell.len() > MAX_FIELD_BYTES);
    let surplus = record.iter().skip(width).any(|cell| !cell.trim_ascii().is_empty());
    let (cells, utf8) = match StringRecord::from_byte_record(record.clone()) {
        Ok(cells) => (cells, true),
        Err(_) => (StringRecord::from_byte_record_lossy(record.clone()), false),
    };
    let fault = if long {
        Some(format!("a field is longer than {MAX_FIELD_BYTES} bytes; is a quotation mark left open?"))
    } else if cells.len() < columns || surplus {
        Some(format!("it has {} fields and the header has {width}", cells.len()))
    } else if !utf8 {
        Some("it is not UTF-8 text; save the table as \"CSV UTF-8\"".to_owned())
    } else {
        None
    };
    TableRow { row, cells, fault }
}

/// The delimiter of a first line `sep=;`, and where the line after it begins.
fn stated_delimiter(content: &[u8]) -> Option<(u8, usize)> {
    let end = content.iter().position(|&b| matches!(b, b'\r' | b'\n'))?;
    // The delimiter may itself be white space, and some systems quote the line.
    let line = content[..end].strip_prefix(b"\"").unwrap_or(&content[..end]);
    let (word, rest) = line.split_at_checked(4)?;
    let rest = rest.strip_suffix(b"\"").unwrap_or(rest);
    let (&[delimiter], true) = (rest, word.eq_ignore_ascii_case(b"sep=")) else { return None };
    let start = if content[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
    matches!(delimiter, b',' | b';' | b'\t' | b'|').then_some((delimiter, start))
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
    fn a_stated_delimiter_wins_and_its_line_counts() {
        for text in ["sep=;\r\na,x;b\r\n1;2\r\n", "\u{feff}SEP=\t\na,x,y\tb\n1\t2\n", "\"sep=|\"\na;x|b\n1|2\n"] {
            let table = parse_table("t.csv", text.as_bytes()).expect("a table");
            assert_eq!((table.header.len(), table.header[1].as_str()), (2, "b"), "{text:?}");
            assert_eq!((table.rows[0].row, &table.rows[0].cells[1]), (3, "2"), "{text:?}");
        }
        // A column may be called so.
        assert_eq!(parse_table("t.csv", b"sep=ab,c\n1,2\n").expect("a table").header, ["sep=ab", "c"]);
        assert!(matches!(parse_table("t.csv", b"sep=;\n"), Err(TableError::Empty { .. })));
    }

    #[test]
    fn empty_columns_and_rows_at_the_end_are_nothing() {
        let table = parse_table("t.csv", b"a;b;; ;\n1;2;;;\n1;2\n1;2;note;;\n;;;;\n1;2;;;;;x\n").expect("a table");
        assert_eq!(table.header, ["a", "b"]);
        assert_eq!(table.delimiter, b';');
        let good: Vec<bool> = table.rows.iter().map(|r| r.fault.is_none()).collect();
        assert_eq!(good, [true, true, true, false], "an unnamed note is no fault, a cell beyond the header is");
        assert!(matches!(parse_table("t.csv", b";;;\n1;2;3;4\n"), Err(TableError::Empty { .. })));
    }

    #[test]
    fn windows_text_is_read_and_said() {
        let table = parse_table("t.csv", b"Et\xE0;b\r\n\x80;2\r\n").expect("a table");
        assert_eq!((table.header[0].as_str(), &table.rows[0].cells[0]), ("Età", "€"));
        assert!(table.warnings[0].contains("Windows-1252"), "{:?}", table.warnings);
    }

    #[test]
    fn rows_count_as_an_editor_counts() {
        let table = parse_table("t.csv", b"a,b\n\"x\ny\",1\nz,2\n").expect("a table");
        assert_eq!(table.rows.iter().map(|r| r.row).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn bad_rows_are_kept_as_bad() {
        let mut text = "é,b\n1\n1,2,3\n1,2,\n".as_bytes().to_vec();
        text.extend_from_slice(b"\xFF,2\n");
        text.extend_from_slice(format!("{},2\n", "x".repeat(MAX_FIELD_BYTES + 1)).as_bytes());
        let table = parse_table("t.csv", &text).expect("a table");
        let bad: Vec<bool> = table.rows.iter().map(|r| r.fault.is_some()).collect();
        assert_eq!(bad, [true, true, false, true, true]);
        assert!(table.rows[3].fault.as_deref().is_some_and(|f| f.contains("UTF-8")));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(matches!(parse_table("t", b""), Err(TableError::Empty { .. })));
        // UTF-16 that does not say so.
        assert!(matches!(parse_table("t", b"a\0,\0b\0\n\0"), Err(TableError::Encoding { .. })));
        let wide = ",".repeat(MAX_TABLE_COLUMNS);
        assert!(matches!(parse_table("t", wide.as_bytes()), Err(TableError::TooMany { .. })));
        assert!(matches!(read_bounded(Path::new("no/such/table.csv")), Err(TableError::Read { .. })));
    }
}
