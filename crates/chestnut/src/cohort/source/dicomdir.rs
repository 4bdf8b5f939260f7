//! DICOMDIR, the table of contents of a DICOM medium (PS3.3, annex F).
//!
//! It is no image and is not needed to find any: the walk through the folder finds the files. It tells which files
//! should be there, so that a copy of a disc that stopped half-way is noticed. Only ReferencedFileID (0004,1500) is
//! looked for, by its bytes: a DICOMDIR is always explicit little endian, and no sequence needs to be entered.

use super::MAX_FILES;

/// ReferencedFileID with its value representation.
const REFERENCED_FILE_ID: [u8; 6] = [0x04, 0x00, 0x00, 0x15, b'C', b'S'];
/// Longest ReferencedFileID, bytes: eight parts of at most 16, leaving room for writers that do not count.
const MAX_ID_BYTES: usize = 512;

/// Whether a file is a DICOMDIR by its name.
pub(super) fn is_dicomdir(name: &str) -> bool {
    name.eq_ignore_ascii_case("DICOMDIR")
}

/// The files that a DICOMDIR lists, with `/` between the parts of their paths; at most [`MAX_FILES`].
pub(super) fn listed_files(bytes: &[u8]) -> Vec<String> {
    let mut files = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 8) {
        if header[..6] != REFERENCED_FILE_ID {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([header[6], header[7]]));
        let value = if length <= MAX_ID_BYTES { bytes.get(at + 8..at + 8 + length) } else { None };
        let Some(value) = value else {
            at += 6;
            continue;
        };
        let text = String::from_utf8_lossy(value);
        let parts: Vec<&str> =
            text.split('\\').map(|p| p.trim_matches([' ', '\0'])).filter(|p| !p.is_empty()).collect();
        if !parts.is_empty() && files.len() < MAX_FILES {
            files.push(parts.join("/"));
        }
        at += 8 + length;
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_wherever_they_stand_and_lies_about_lengths_are_passed_over() {
        let mut bytes = vec![0_u8; 200];
        for (id, length) in [("IMAGES\\A1 ", 10), ("B2", 2), ("C3", 60_000), ("D4\0\0", 4)] {
            bytes.extend_from_slice(&REFERENCED_FILE_ID);
            bytes.extend_from_slice(&(length as u16).to_le_bytes());
            bytes.extend_from_slice(id.as_bytes());
        }
        assert_eq!(listed_files(&bytes), ["IMAGES/A1", "B2", "D4"]);
        assert_eq!(listed_files(&bytes[..bytes.len() - 2]), ["IMAGES/A1", "B2"], "cut in a value");
        assert!(listed_files(b"").is_empty());
        assert!(is_dicomdir("DicomDir") && !is_dicomdir("DICOMDIR.png"));
    }
}
