//! Bytes of a table to UTF-8: what spreadsheets write, and what is no text at all.
//!
//! UTF-8 with or without byte order mark, UTF-16 with one (Excel's "Unicode text"), and as the last
//! resort Windows-1252, which Western European hospital systems still export and which holds Latin-1.
//! A single bad row of a UTF-8 table stays bad: the fallback is for files that are not UTF-8 as a whole.

use std::borrow::Cow;

use super::TableError;

/// Windows-1252 from 0x80 to 0x9F; above, it is Latin-1. Five bytes stand for nothing, and a file that
/// has them is of another code page.
const WINDOWS_1252: [Option<char>; 32] = [
    Some('€'),
    None,
    Some('‚'),
    Some('ƒ'),
    Some('„'),
    Some('…'),
    Some('†'),
    Some('‡'),
    Some('ˆ'),
    Some('‰'),
    Some('Š'),
    Some('‹'),
    Some('Œ'),
    None,
    Some('Ž'),
    None,
    None,
    Some('‘'),
    Some('’'),
    Some('“'),
    Some('”'),
    Some('•'),
    Some('–'),
    Some('—'),
    Some('˜'),
    Some('™'),
    Some('š'),
    Some('›'),
    Some('œ'),
    None,
    Some('ž'),
    Some('Ÿ'),
];

/// First bytes of workbooks: ZIP (xlsx, ods) and the compound files of old Excel (xls).
const WORKBOOKS: [&[u8]; 2] = [b"PK\x03\x04", b"\xD0\xCF\x11\xE0"];

/// The text, as UTF-8 but for single bad rows, and a sentence if the encoding was guessed.
pub(super) fn decode<'a>(name: &str, content: &'a [u8]) -> Result<(Cow<'a, [u8]>, Option<String>), TableError> {
    let failed = || TableError::Encoding { name: name.to_owned() };
    if WORKBOOKS.iter().any(|start| content.starts_with(start)) {
        return Err(TableError::Workbook { name: name.to_owned() });
    }
    let wide = match content {
        [0xFF, 0xFE, rest @ ..] => Some((rest, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xFE, 0xFF, rest @ ..] => Some((rest, u16::from_be_bytes as fn([u8; 2]) -> u16)),
        _ => None,
    };
    if let Some((rest, unit)) = wide {
        let (pairs, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(failed());
        }
        let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect();
        return Ok((Cow::Owned(text.map_err(|_| failed())?.into_bytes()), None));
    }
    if let Some(rest) = content.strip_prefix(b"\xEF\xBB\xBF") {
        return Ok((Cow::Borrowed(rest), None));
    }
    if let Some(b'<') = content.trim_ascii_start().first() {
        // Some systems call a web page or XML "xls".
        return Err(TableError::Workbook { name: name.to_owned() });
    }
    if std::str::from_utf8(content).is_ok() || is_damaged_utf8(content) {
        return Ok((Cow::Borrowed(content), None));
    }
    let text = from_windows_1252(content).ok_or_else(failed)?;
    let warning = format!(
        "{name} is not UTF-8 and was read as Windows-1252 (Latin-1): check letters with accents in its names; saving it as \"CSV UTF-8\" avoids the guess"
    );
    Ok((Cow::Owned(text.into_bytes()), Some(warning)))
}

/// Whether letters beyond ASCII are UTF-8, but for fewer that are not.
fn is_damaged_utf8(content: &[u8]) -> bool {
    let (mut whole, mut broken) = (0usize, 0usize);
    for chunk in content.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    whole > 0 && whole >= broken
}

/// `None` if a byte is none of Windows-1252's, or a NUL, which no text has.
fn from_windows_1252(content: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(content.len() + content.len() / 8);
    for &byte in content {
        text.push(match byte {
            0 => return None,
            0x80..=0x9F => WINDOWS_1252[usize::from(byte - 0x80)]?,
            _ => char::from(byte),
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &[u8]) -> (String, bool) {
        let (bytes, warning) = decode("t.csv", content).expect("text");
        (String::from_utf8(bytes.into_owned()).expect("UTF-8"), warning.is_some())
    }

    #[test]
    fn one_text_in_every_encoding() {
        let sample = "Età;Größe €\r\n1;2\r\n";
        let marked = format!("\u{feff}{sample}");
        let little: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for content in [sample.as_bytes(), marked.as_bytes(), &little[..], &big[..]] {
            assert_eq!(text(content), (sample.to_owned(), false));
        }
        assert_eq!(text(b"Et\xE0;Gr\xF6\xDFe \x80\r\n1;2\r\n"), (sample.to_owned(), true), "guessed, and said");
    }

    #[test]
    fn one_bad_byte_does_not_change_the_encoding() {
        let (bytes, warning) = decode("t.csv", "é;è;ü\n\u{e0}".as_bytes()).expect("text");
        assert!(warning.is_none() && bytes.len() == 11);
        let mut damaged = "é;è;ü\n".as_bytes().to_vec();
        damaged.push(0xE0);
        let (bytes, warning) = decode("t.csv", &damaged).expect("text");
        assert!(warning.is_none() && bytes[..] == damaged[..], "the row is refused later, by its number");
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_way_out() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let code_page_850 = b"gr\x81n\n";
        let cut = b"\xFF\xFEa\0,";
        let lone_surrogate = b"\xFF\xFE\0\xD8a\0";
        for content in [&png[..], code_page_850, cut, lone_surrogate] {
            let error = decode("t.csv", content).expect_err("no text");
            assert!(error.to_string().contains("CSV UTF-8"), "{error}");
        }
        for content in [&b"PK\x03\x04..."[..], b"\xD0\xCF\x11\xE0", b"\r\n<html>"] {
            let error = decode("t.xlsx", content).expect_err("a workbook");
            assert!(matches!(error, TableError::Workbook { .. }) && error.to_string().contains("Save As"), "{error}");
        }
    }
}
