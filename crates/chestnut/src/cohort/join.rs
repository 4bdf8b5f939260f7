//! Which row of the table belongs to which file of the folder.
//!
//! A row names a study or a patient as DICOM headers do (`header`), or its image by a path, a file name, or a file name
//! without its extension. The exact path wins; otherwise one path must end in the other; what could mean two files is
//! refused, never guessed, because a label on the wrong image cannot be seen later. Every row and every file leaves here
//! in a pair or with a reason.

mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::labels::{KeyKind, LabelRow, LabelTable};
use super::source::last_part;
use super::stored::quote;
use super::{Reject, Stage};

/// File endings that are left out when names are compared without them.
const EXTENSIONS: [&str; 13] =
    ["png", "jpg", "jpeg", "dcm", "dicom", "tif", "tiff", "bmp", "gif", "webp", "jp2", "pgm", "ima"];
/// Most names that one message lists.
const MAX_NAMED: usize = 3;

/// A file of the image folder, and what its header calls it.
#[derive(Clone, Debug)]
pub(crate) struct FileKeys {
    /// Path below the image folder, with `/` between its parts; each once.
    pub(crate) id: String,
    /// `None` for a file without DICOM header, and where the table names files.
    pub(crate) header: Option<HeaderKeys>,
}

/// The keys of a DICOM header, raw: they may identify a patient and are for joining only. Empty ones are `None`.
#[derive(Clone, Default)]
pub(crate) struct HeaderKeys {
    /// (0008,0050).
    pub(crate) accession: Option<String>,
    /// (0020,000D).
    pub(crate) study_uid: Option<String>,
    /// (0010,0020).
    pub(crate) patient_id: Option<String>,
    /// (0008,0018).
    pub(crate) sop_uid: Option<String>,
}

impl fmt::Debug for HeaderKeys {
    /// Which keys there are, not what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderKeys")
            .field("accession", &self.accession.is_some())
            .field("study_uid", &self.study_uid.is_some())
            .field("patient_id", &self.patient_id.is_some())
            .field("sop_uid", &self.sop_uid.is_some())
            .finish()
    }
}

/// Rows and files brought together.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// Index of the file and its row; a row about a study stands at each of its files.
    pub(crate) pairs: BTreeMap<usize, LabelRow>,
    /// Every file and every row that is in no pair.
    pub(crate) rejects: Vec<Reject>,
    /// Sentences for the summary.
    pub(crate) warnings: Vec<String>,
}

/// What a key finds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The one file.
    File(usize),
    /// The one file of this name, in another folder than the key says.
    Elsewhere(usize),
    Several(Vec<usize>),
}

/// Files by their last path component.
struct PathIndex {
    paths: Vec<String>,
    by_name: BTreeMap<String, Vec<usize>>,
}

impl PathIndex {
    fn new(paths: Vec<String>) -> Self {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, path) in paths.iter().enumerate() {
            by_name.entry(last_part(path).to_owned()).or_default().push(index);
        }
        Self { paths, by_name }
    }

    fn find(&self, key: &str) -> Found {
        let Some(candidates) = self.by_name.get(last_part(key)) else { return Found::Nothing };
        let exact: Vec<usize> = candidates.iter().copied().filter(|&f| self.paths[f] == key).collect();
        if let [one] = exact[..] {
            return Found::File(one);
        }
        if !exact.is_empty() {
            return Found::Several(exact);
        }
        // One path ends in the other; the longest common ending wins if it is the only one.
        let mut best = Vec::new();
        let mut longest = 0;
        for &file in candidates {
            let parts = common_ending(&self.paths[file], key);
            if parts > longest {
                longest = parts;
                best.clear();
            }
            if parts > 0 && parts == longest {
                best.push(file);
            }
        }
        if let [one] = best[..] {
            return Found::File(one);
        }
        if !best.is_empty() {
            return Found::Several(best);
        }
        if let [one] = candidates[..] { Found::Elsewhere(one) } else { Found::Several(candidates.clone()) }
    }
}

/// Number of components of the shorter path if the longer one ends in it, else 0.
fn common_ending(a: &str, b: &str) -> usize {
    let same = a.rsplit('/').zip(b.rsplit('/')).take_while(|(x, y)| x == y).count();
    let shorter = a.split('/').count().min(b.split('/').count());
    if same == shorter { same } else { 0 }
}

/// A key as a path below the image folder.
fn as_path(key: &str) -> String {
    let path = key.trim().replace('\\', "/");
    path.trim_start_matches("./").trim_start_matches('/').to_owned()
}

/// A path without the ending of an image file.
fn without_extension(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && EXTENSIONS.iter().any(|e| ending.eq_ignore_ascii_case(e)) => stem,
        _ => path,
    }
}

/// Names for a message, the first few of them.
fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let all = names.len();
    let mut text = names.take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if all > MAX_NAMED {
        text.push_str(&format!(" and {} more", all - MAX_NAMED));
    }
    text
}

/// Brings rows and files together.
pub(crate) fn join(files: &[FileKeys], table: LabelTable) -> Joined {
    if table.key_kind.needs_header() { header::join(files, table) } else { join_by_name(files, table) }
}

/// How a table and its rows are called in messages.
#[derive(Clone, Copy)]
struct Wording<'a> {
    table: &'a str,
    kind: KeyKind,
}

impl Wording<'_> {
    /// A row as an item of `rejects.csv`: its file name, or its number where the key may identify a patient.
    fn item(&self, key: &str, row: u64) -> String {
        if self.kind.needs_header() { format!("row {row}") } else { key.to_owned() }
    }

    fn refuse(&self, key: &str, row: u64, reason: String) -> Reject {
        Reject { item: self.item(key, row), row: Some(row), stage: Stage::Row, reason }
    }
}

/// Rows that name files.
fn join_by_name(files: &[FileKeys], table: LabelTable) -> Joined {
    let whole = PathIndex::new(files.iter().map(|f| f.id.clone()).collect());
    let bare = PathIndex::new(files.iter().map(|f| without_extension(&f.id).to_owned()).collect());
    let mut joined = Joined::default();
    let keys = table.rows.iter().map(|r| r.key.as_str()).chain(table.refused.iter().map(|r| r.key.as_str()));
    let shared = names_of_several_keys(keys);
    let find = |key: &str| {
        let key = as_path(key);
        if last_part(&key).is_empty() {
            return Found::Nothing;
        }
        let found = match whole.find(&key) {
            Found::Nothing => bare.find(without_extension(&key)),
            found => found,
        };
        match found {
            // The name alone decides only if no other row bears it.
            Found::Elsewhere(_) if shared.contains(without_extension(last_part(&key))) => Found::Nothing,
            found => found,
        }
    };
    let mut good: BTreeMap<usize, Vec<LabelRow>> = BTreeMap::new();
    let mut bad: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut unclear: BTreeMap<usize, u64> = BTreeMap::new();
    let mut elsewhere = 0usize;
    let name = table.name.as_str();
    let wording = Wording { table: name, kind: table.key_kind };
    for refused in table.refused {
        if let Found::File(file) | Found::Elsewhere(file) = find(&refused.key) {
            bad.entry(file).or_default().push(refused.row);
        }
        joined.rejects.push(wording.refuse(&refused.key, refused.row, refused.reason));
    }
    for row in table.rows {
        match find(&row.key) {
            Found::File(file) => good.entry(file).or_default().push(row),
            Found::Elsewhere(file) => {
                elsewhere += 1;
                good.entry(file).or_default().push(row);
            }
            Found::Nothing => {
                let reason =
                    format!("{name} row {}: no such image in the folder; add the image or remove the row", row.row);
                joined.rejects.push(wording.refuse(&row.key, row.row, reason));
            }
            Found::Several(hits) => {
                let names = some_names(hits.iter().map(|&f| files[f].id.as_str()));
                let reason = format!("{name} row {}: it could mean {names}; give the path of the image", row.row);
                for file in hits {
                    unclear.entry(file).or_insert(row.row);
                }
                joined.rejects.push(wording.refuse(&row.key, row.row, reason));
            }
        }
    }
    for (file, FileKeys { id, .. }) in files.iter().enumerate() {
        let rows = good.remove(&file).unwrap_or_default();
        let refused = bad.remove(&file).unwrap_or_default();
        match settle(wording, rows, &refused, &mut joined.rejects) {
            Ok(Some(row)) => {
                joined.pairs.insert(file, row);
            }
            Ok(None) => {
                let reason = match unclear.get(&file) {
                    Some(row) => format!("{name} row {row} could mean this image or another; give its path there"),
                    None => format!("no row of {name} names this file; add a row or remove the file"),
                };
                joined.rejects.push(Reject { item: id.clone(), row: None, stage: Stage::Labels, reason });
            }
            Err(reason) => joined.rejects.push(Reject { item: id.clone(), row: None, stage: Stage::Labels, reason }),
        }
    }
    if elsewhere > 0 {
        joined.warnings.push(format!(
            "{elsewhere} rows of {name} were matched by the file name although the folders differ; check the paths"
        ));
    }
    joined
}

/// File names (without ending) that keys with different paths share.
fn names_of_several_keys<'a>(keys: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    for key in keys {
        let path = as_path(key);
        let name = without_extension(last_part(&path)).to_owned();
        match first.get(&name) {
            Some(other) if *other != path => {
                shared.insert(name);
            }
            Some(_) => {}
            None => {
                first.insert(name, path);
            }
        }
    }
    shared
}

/// The row among those that name one image or study; the others are refused. An error is the reason for its files.
fn settle(
    wording: Wording<'_>,
    rows: Vec<LabelRow>,
    refused: &[u64],
    rejects: &mut Vec<Reject>,
) -> Result<Option<LabelRow>, String> {
    let (table, subject) = (wording.table, wording.kind.subject());
    let mut rows = rows.into_iter();
    let Some(first) = rows.next() else {
        return match refused.first() {
            None => Ok(None),
            Some(row) => Err(format!("its row {row} of {table} was refused; correct that row and run ingest again")),
        };
    };
    let others: Vec<LabelRow> = rows.collect();
    let differs = others.iter().find_map(|other| difference(&first, other).map(|what| (other.row, what)));
    let conflict = match (differs, refused.first()) {
        (Some((row, what)), _) => {
            Some(format!("rows {} and {row} of {table} name this {subject} and differ in {what}", first.row))
        }
        (None, Some(row)) => {
            Some(format!("rows {} and {row} of {table} name this {subject} and row {row} was refused", first.row))
        }
        (None, None) => None,
    };
    if let Some(conflict) = conflict {
        let reason = format!("{conflict}; keep the right one");
        for row in std::iter::once(&first).chain(&others) {
            let named = if wording.kind.needs_header() { format!("the {subject}") } else { quote(&row.key) };
            rejects.push(wording.refuse(&row.key, row.row, format!("{named} is named twice: {reason}")));
        }
        return Err(reason);
    }
    for other in &others {
        let reason = format!("{table} row {}: the same as row {}, which is kept", other.row, first.row);
        rejects.push(wording.refuse(&other.key, other.row, reason));
    }
    Ok(Some(first))
}

/// What two rows for one image or study disagree on; never the values, which may name a patient.
fn difference(a: &LabelRow, b: &LabelRow) -> Option<&'static str> {
    if a.labels != b.labels {
        Some("a label")
    } else if a.patient != b.patient {
        Some("the patient id")
    } else if a.view != b.view {
        Some("the view")
    } else if a.sex != b.sex || a.age_years != b.age_years {
        Some("age or sex")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
