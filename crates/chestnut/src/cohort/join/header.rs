//! Rows that name a study, a patient or an image as DICOM headers do.
//!
//! One row applies to every image whose header has its key. Accession numbers and patient ids that a spreadsheet took
//! for numbers have lost their leading zeros; they are matched without them where only one header fits, and said.
//! Keys may identify a patient, so no message and no reject holds one: rows are called by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::super::labels::{KeyKind, LabelRow, LabelTable};
use super::super::{Reject, Stage};
use super::{FileKeys, HeaderKeys, Joined, Wording, settle};

/// The key of a kind in a header, without padding; `None` if it is empty.
fn key_of(header: &HeaderKeys, kind: KeyKind) -> Option<&str> {
    let key = match kind {
        KeyKind::File => return None,
        KeyKind::Accession => &header.accession,
        KeyKind::StudyUid => &header.study_uid,
        KeyKind::PatientId => &header.patient_id,
        KeyKind::SopUid => &header.sop_uid,
    };
    key.as_deref().map(bare).filter(|key| !key.is_empty())
}

/// A key without the spaces and zero bytes that pad DICOM values.
fn bare(key: &str) -> &str {
    key.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// The digits of a key as a spreadsheet keeps them, without leading zeros; `None` if it is no whole number.
fn as_number(key: &str) -> Option<&str> {
    // Tables that went through floating point have 123.0.
    let whole = key.strip_suffix(".0").or_else(|| key.strip_suffix(",0")).unwrap_or(key);
    let digits = whole.trim_start_matches('0');
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// Whether a spreadsheet shortened a long number to something like `1,23457E+11`.
fn is_shortened(key: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    key.split_once(['E', 'e']).is_some_and(|(number, power)| {
        power.strip_prefix('+').is_some_and(digits) && number.split(['.', ',']).all(digits)
    })
}

/// What the key of a row finds among the headers.
enum Found {
    Nothing,
    Key(String),
    /// The one key that is equal but for leading zeros.
    Number(String),
    /// Several such keys, or one that several rows would share.
    Unclear(Vec<String>),
}

/// The files of each key.
struct Index {
    by_key: BTreeMap<String, Vec<usize>>,
    by_number: BTreeMap<String, Vec<String>>,
    /// How many different keys of the table are one number.
    written: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    fn new(files: &[FileKeys], table: &LabelTable) -> Self {
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (file, keys) in files.iter().enumerate() {
            if let Some(key) = keys.header.as_ref().and_then(|header| key_of(header, table.key_kind)) {
                by_key.entry(key.to_owned()).or_default().push(file);
            }
        }
        let mut by_number: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        // UIDs hold dots and never were numbers.
        if matches!(table.key_kind, KeyKind::Accession | KeyKind::PatientId) {
            for key in by_key.keys() {
                if let Some(number) = as_number(key) {
                    by_number.entry(number.to_owned()).or_default().push(key.clone());
                }
            }
            let keys = table.rows.iter().map(|r| &r.key).chain(table.refused.iter().map(|r| &r.key));
            for key in keys.map(|key| bare(key)) {
                if let Some(number) = as_number(key) {
                    written.entry(number.to_owned()).or_default().insert(key.to_owned());
                }
            }
        }
        Self { by_key, by_number, written }
    }

    fn find(&self, key: &str) -> Found {
        let key = bare(key);
        if self.by_key.contains_key(key) {
            return Found::Key(key.to_owned());
        }
        let Some(number) = as_number(key) else { return Found::Nothing };
        match self.by_number.get(number).map(Vec::as_slice) {
            None | Some([]) => Found::Nothing,
            Some([one]) if self.written.get(number).is_none_or(|keys| keys.len() == 1) => Found::Number(one.clone()),
            Some(several) => Found::Unclear(several.to_vec()),
        }
    }
}

/// Why one row cannot speak for all these files; nothing if it can.
fn mixture(files: &[FileKeys], group: &[usize], kind: KeyKind) -> Option<String> {
    let headers = group.iter().filter_map(|&file| files[file].header.as_ref());
    if kind == KeyKind::PatientId {
        let of_each = headers.map(|h| key_of(h, KeyKind::StudyUid).or_else(|| key_of(h, KeyKind::Accession)));
        let studies = of_each.collect::<BTreeSet<Option<&str>>>().len();
        return (studies > 1).then(|| {
            format!(
                "the headers hold {studies} studies of this patient, and labels belong to one of them; use a table with accession numbers or StudyInstanceUIDs"
            )
        });
    }
    let patients = headers.filter_map(|h| key_of(h, KeyKind::PatientId)).collect::<BTreeSet<&str>>().len();
    let (subject, kind) = (kind.subject(), kind.describe());
    (patients > 1).then(|| {
        format!(
            "the headers give its {kind} to {patients} patients, so it does not name one {subject}; use a table with file names"
        )
    })
}

/// Brings rows and files together by the headers.
pub(super) fn join(files: &[FileKeys], table: LabelTable) -> Joined {
    let index = Index::new(files, &table);
    let mut joined = Joined::default();
    let (name, kind) = (table.name.as_str(), table.key_kind);
    let wording = Wording { table: name, kind };
    let key_name = kind.describe();
    let mut good: BTreeMap<String, Vec<LabelRow>> = BTreeMap::new();
    let mut bad: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut unclear: BTreeMap<String, u64> = BTreeMap::new();
    let mut without_zeros = 0usize;
    for refused in table.refused {
        if let Found::Key(key) | Found::Number(key) = index.find(&refused.key) {
            bad.entry(key).or_default().push(refused.row);
        }
        joined.rejects.push(wording.refuse(&refused.key, refused.row, refused.reason));
    }
    for row in table.rows {
        let reason = match index.find(&row.key) {
            Found::Key(key) => {
                good.entry(key).or_default().push(row);
                continue;
            }
            Found::Number(key) => {
                without_zeros += 1;
                good.entry(key).or_default().push(row);
                continue;
            }
            Found::Nothing if is_shortened(bare(&row.key)) => format!(
                "a spreadsheet shortened its {key_name} to a power of ten; make that column text and export the table again"
            ),
            Found::Nothing => {
                format!("no image has its {key_name} in the DICOM header; add the images or remove the row")
            }
            Found::Unclear(keys) => {
                for key in keys {
                    unclear.entry(key).or_insert(row.row);
                }
                format!(
                    "without leading zeros its {key_name} could be several; make that column text and export the table again"
                )
            }
        };
        joined.rejects.push(wording.refuse(&row.key, row.row, format!("{name} row {}: {reason}", row.row)));
    }
    let mut used_rows = 0usize;
    for (key, group) in &index.by_key {
        let rows = good.remove(key).unwrap_or_default();
        let refused = bad.remove(key).unwrap_or_default();
        let mixed = if rows.is_empty() { None } else { mixture(files, group, kind) };
        let verdict = match mixed {
            Some(reason) => {
                for row in &rows {
                    let reason = format!("{name} row {}: {reason}", row.row);
                    joined.rejects.push(wording.refuse(&row.key, row.row, reason));
                }
                Err(reason)
            }
            None => settle(wording, rows, &refused, &mut joined.rejects),
        };
        let reason = match verdict {
            Ok(Some(row)) => {
                used_rows += 1;
                for &file in group {
                    joined.pairs.insert(file, of_file(&row, &files[file], kind));
                }
                continue;
            }
            Ok(None) => match unclear.get(key) {
                Some(row) => format!(
                    "without leading zeros {name} row {row} could mean this {} or another; make its {key_name} text",
                    kind.subject()
                ),
                None => format!("no row of {name} has its {key_name}; add a row or remove the file"),
            },
            Err(reason) => reason,
        };
        joined.rejects.extend(group.iter().map(|&file| refuse_file(&files[file], reason.clone())));
    }
    for keys in files {
        let reason = match &keys.header {
            None => format!(
                "it has no DICOM header, and {name} names images by their {key_name}; give a column of file names, if need be with --key"
            ),
            Some(header) if key_of(header, kind).is_none() => {
                format!("its DICOM header has no {key_name}, by which {name} names images")
            }
            Some(_) => continue,
        };
        joined.rejects.push(refuse_file(keys, reason));
    }
    if joined.pairs.len() > used_rows {
        joined.warnings.push(format!(
            "{used_rows} rows of {name} were applied to {} images by their {key_name}: all images of a {} have its labels",
            joined.pairs.len(),
            kind.subject()
        ));
    }
    if without_zeros > 0 {
        joined.warnings.push(format!(
            "{without_zeros} rows of {name} were matched without the leading zeros of their {key_name}, which spreadsheets drop; check some, or make that column text and export the table again"
        ));
    }
    joined
}

/// A row about a patient names the patient as this file's header does, zeros included.
fn of_file(row: &LabelRow, file: &FileKeys, kind: KeyKind) -> LabelRow {
    let mut row = row.clone();
    if kind == KeyKind::PatientId
        && let Some(patient) = file.header.as_ref().and_then(|header| key_of(header, kind))
    {
        row.patient = Some(patient.to_owned());
    }
    row
}

fn refuse_file(file: &FileKeys, reason: String) -> Reject {
    Reject { item: file.id.clone(), row: None, stage: Stage::Labels, reason }
}

#[cfg(test)]
mod tests;
