//! Which row of the table belongs to which file of the folder.
//!
//! A row names its image by a path, a file name, or a file name without its extension. The exact
//! path wins; otherwise one path must end in the other; what could mean two files is refused, never
//! guessed, because a label on the wrong image cannot be seen later. Every row and every file
//! leaves here in a pair or with a reason.

use std::collections::{BTreeMap, BTreeSet};

use super::labels::{LabelRow, LabelTable};
use super::stored::quote;
use super::{Reject, Stage};

/// File endings that are left out when names are compared without them.
const EXTENSIONS: [&str; 13] =
    ["png", "jpg", "jpeg", "dcm", "dicom", "tif", "tiff", "bmp", "gif", "webp", "jp2", "pgm", "ima"];
/// Most names that one message lists.
const MAX_NAMED: usize = 3;

/// Rows and files brought together.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// Index of the file and its row.
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

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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

/// Brings rows and files together. `files` are ids: relative paths with `/`, each once.
pub(crate) fn join(files: &[String], table: LabelTable) -> Joined {
    let whole = PathIndex::new(files.to_vec());
    let bare = PathIndex::new(files.iter().map(|f| without_extension(f).to_owned()).collect());
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
    let name = &table.name;
    let refuse_row = |item: &str, row: u64, reason: String| Reject {
        item: item.to_owned(),
        row: Some(row),
        stage: Stage::Row,
        reason,
    };
    for refused in table.refused {
        if let Found::File(file) | Found::Elsewhere(file) = find(&refused.key) {
            bad.entry(file).or_default().push(refused.row);
        }
        joined.rejects.push(refuse_row(&refused.key, refused.row, refused.reason));
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
                joined.rejects.push(refuse_row(&row.key, row.row, reason));
            }
            Found::Several(hits) => {
                let names = some_names(hits.iter().map(|&f| files[f].as_str()));
                let reason = format!("{name} row {}: it could mean {names}; give the path of the image", row.row);
                for file in hits {
                    unclear.entry(file).or_insert(row.row);
                }
                joined.rejects.push(refuse_row(&row.key, row.row, reason));
            }
        }
    }
    for (file, id) in files.iter().enumerate() {
        let rows = good.remove(&file).unwrap_or_default();
        let refused = bad.remove(&file).unwrap_or_default();
        match settle(name, rows, &refused, &mut joined.rejects) {
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

/// The row of a file among those that name it; the others are refused. An error is the file's reason.
fn settle(
    table: &str,
    rows: Vec<LabelRow>,
    refused: &[u64],
    rejects: &mut Vec<Reject>,
) -> Result<Option<LabelRow>, String> {
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
            Some(format!("rows {} and {row} of {table} name this image and differ in {what}", first.row))
        }
        (None, Some(row)) => {
            Some(format!("rows {} and {row} of {table} name this image and row {row} was refused", first.row))
        }
        (None, None) => None,
    };
    let mut refuse = |row: &LabelRow, reason: String| {
        rejects.push(Reject { item: row.key.clone(), row: Some(row.row), stage: Stage::Row, reason });
    };
    if let Some(conflict) = conflict {
        let reason = format!("{conflict}; keep the right one");
        for row in std::iter::once(&first).chain(&others) {
            refuse(row, format!("{} is named twice: {reason}", quote(&row.key)));
        }
        return Err(reason);
    }
    for other in &others {
        refuse(other, format!("{table} row {}: the same as row {}, which is kept", other.row, first.row));
    }
    Ok(Some(first))
}

/// What two rows for one image disagree on; never the values, which may name a patient.
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
mod tests {
    use super::super::LabelSet;
    use super::super::labels::{ColumnNames, parse_labels};
    use super::*;

    fn joined(files: &[&str], rows: &str) -> (Joined, usize) {
        let text = format!("image,patient_id,A\n{rows}");
        let set = LabelSet::new("s", &["A"]);
        let table = parse_labels("t.csv", text.as_bytes(), &set, &ColumnNames::default()).expect("a table");
        let rows = table.rows.len() + table.refused.len();
        let files: Vec<String> = files.iter().map(|&f| f.to_owned()).collect();
        (join(&files, table), rows)
    }

    fn pairs(joined: &Joined) -> Vec<(usize, u64)> {
        joined.pairs.iter().map(|(&file, row)| (file, row.row)).collect()
    }

    #[test]
    fn exact_path_then_ending_then_name_then_stem() {
        let files = ["a.png", "p1/x.png", "p2/x.png", "scan.dcm", "1.2.840.5"];
        let rows = "a.png,1,1\nroot/p1/x.png,1,1\n.\\p2\\x.png,1,0\nscan,1,1\n1.2.840.5,1,0\n";
        let (result, _) = joined(&files, rows);
        assert_eq!(pairs(&result), [(0, 2), (1, 3), (2, 4), (3, 5), (4, 6)]);
        assert!(result.rejects.is_empty() && result.warnings.is_empty(), "{result:?}");
    }

    #[test]
    fn what_could_mean_two_files_is_refused_for_all() {
        let (result, _) = joined(&["p1/x.png", "p2/x.png", "y.jpg", "y.png"], "x.png,1,1\ny,1,1\n");
        assert!(result.pairs.is_empty());
        assert_eq!(result.rejects.len(), 6);
        assert!(result.rejects[0].reason.contains("p1/x.png, p2/x.png"), "{:?}", result.rejects[0]);
    }

    #[test]
    fn the_labels_of_another_folder_are_not_taken() {
        // Two rows share the file name, so the name alone does not tell which is meant.
        let (result, _) = joined(&["p1/x.png"], "p3/x.png,1,1\np4/x.png,1,0\n");
        assert!(result.pairs.is_empty());
        // One row and one file of that name: taken, and said.
        let (result, _) = joined(&["p1/x.png"], "old/x.png,1,1\n");
        assert_eq!((pairs(&result), result.warnings.len()), (vec![(0, 2)], 1));
    }

    #[test]
    fn duplicate_rows() {
        let (same, _) = joined(&["a.png"], "a.png,1,1\na,1,1\n");
        assert_eq!(pairs(&same), [(0, 2)]);
        assert_eq!((same.rejects.len(), same.rejects[0].row), (1, Some(3)));
        for rows in ["a.png,1,1\na.png,1,0\n", "a.png,1,1\na.png,2,1\n", "a.png,1,1\na.png,1,oops\n"] {
            let (conflict, _) = joined(&["a.png"], rows);
            assert!(conflict.pairs.is_empty());
            assert_eq!(conflict.rejects.len(), 3, "both rows and the file: {rows:?}");
        }
    }

    #[test]
    fn every_row_and_every_file_ends_once() {
        let files = ["a.png", "b.png", "c/b.png", "d.png", "e.txt", "f.png"];
        let rows = "a.png,1,1\nb.png,1,0\nb.png,1,0\nd.png,1,7\ngone.png,1,1\nf.png,1,1\nf,2,1\n,1,1\n";
        let (result, row_count) = joined(&files, rows);
        let mut seen_rows: Vec<u64> = result.pairs.values().map(|r| r.row).collect();
        seen_rows.extend(result.rejects.iter().filter_map(|r| r.row));
        seen_rows.sort_unstable();
        assert_eq!(seen_rows, (2..2 + row_count as u64).collect::<Vec<_>>());
        let mut seen_files: Vec<&str> = result.pairs.keys().map(|&f| files[f]).collect();
        let refused = result.rejects.iter().filter(|r| r.stage == Stage::Labels);
        seen_files.extend(refused.map(|r| r.item.as_str()));
        seen_files.sort_unstable();
        assert_eq!(seen_files, files);
        assert_eq!(pairs(&result), [(0, 2), (1, 3)]);
    }
}
