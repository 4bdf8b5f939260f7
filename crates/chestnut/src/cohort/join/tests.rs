//! Tests of the join by file names; those by headers are in `header`.

use super::super::LabelSet;
use super::super::labels::{ColumnNames, parse_labels};
use super::*;

fn joined(files: &[&str], rows: &str) -> (Joined, usize) {
    let text = format!("image,patient_id,A\n{rows}");
    let set = LabelSet::new("s", &["A"]);
    let table = parse_labels("t.csv", text.as_bytes(), &set, &ColumnNames::default()).expect("a table");
    let rows = table.rows.len() + table.refused.len();
    let files: Vec<FileKeys> = files.iter().map(|&f| FileKeys { id: f.to_owned(), header: None }).collect();
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
