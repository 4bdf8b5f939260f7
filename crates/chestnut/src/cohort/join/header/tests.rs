//! Tests of the join by headers. Keys that must not leave the module hold "SECRET".

use chestnut_stats::random::Stream;

use super::super::super::LabelSet;
use super::super::super::labels::{ColumnNames, parse_labels};
use super::super::join;
use super::*;

fn read(text: &str) -> LabelTable {
    let set = LabelSet::new("s", &["A"]);
    parse_labels("t.csv", text.as_bytes(), &set, &ColumnNames::default()).expect("a table")
}

/// A file `name` of patient, study and accession number; `-` is an absent one.
fn file(name: &str, patient: &str, study: &str, accession: &str) -> FileKeys {
    let some = |text: &str| Some(text.to_owned()).filter(|t| t != "-");
    let header = HeaderKeys {
        accession: some(accession),
        study_uid: some(study),
        patient_id: some(patient),
        sop_uid: Some(format!("1.2.3.{name}")),
    };
    FileKeys { id: name.to_owned(), header: Some(header) }
}

/// Index of each used file and its row.
fn pairs(joined: &Joined) -> Vec<(usize, u64)> {
    joined.pairs.iter().map(|(&file, row)| (file, row.row)).collect()
}

fn reasons(joined: &Joined, item: &str) -> Vec<String> {
    joined.rejects.iter().filter(|r| r.item == item).map(|r| r.reason.clone()).collect()
}

#[test]
fn one_row_per_study_is_applied_to_its_images() {
    let files = [
        file("1", "P1", "1.2.1", "ACC-1 "),
        file("2", "P1", "1.2.1", "ACC-1"),
        file("3", "P2", "1.2.2\0", "ACC-2"),
        file("4", "P3", "1.2.4", "-"),
        FileKeys { id: "5".to_owned(), header: None },
    ];
    let joined = join(&files, read("accession,A\nACC-1,1\n ACC-2 ,0\nACC-9,1\n"));
    assert_eq!(pairs(&joined), [(0, 2), (1, 2), (2, 3)]);
    assert!(reasons(&joined, "row 4")[0].contains("no image has its accession number"), "{joined:?}");
    assert!(reasons(&joined, "4")[0].contains("has no accession number"), "{joined:?}");
    assert!(reasons(&joined, "5")[0].contains("no DICOM header"), "{joined:?}");
    assert!(joined.warnings[0].contains("2 rows of t.csv were applied to 3 images"), "{:?}", joined.warnings);
    let joined = join(&files, read("StudyInstanceUID,A\n1.2.1,1\n1.2.2,0\n1.2.4,1\n"));
    assert_eq!(pairs(&joined), [(0, 2), (1, 2), (2, 3), (3, 4)]);
    let joined = join(&files, read("SOPInstanceUID;A\n1.2.3.1;1\n1.2.3.4;0\n"));
    assert_eq!(pairs(&joined), [(0, 2), (3, 3)]);
    assert!(reasons(&joined, "2")[0].contains("no row of t.csv has its SOPInstanceUID"), "{joined:?}");
}

#[test]
fn rows_for_one_study_agree_or_go() {
    let files = [file("1", "P1", "1.2.1", "A1"), file("2", "P1", "1.2.1", "A1")];
    let same = join(&files, read("accession,A\nA1,1\nA1,1\n"));
    assert_eq!(pairs(&same), [(0, 2), (1, 2)]);
    assert!(reasons(&same, "row 3")[0].contains("the same as row 2"), "{same:?}");
    for rows in ["A1,1\nA1,0\n", "A1,1\nA1,maybe\n", "A1,oops\n"] {
        let conflict = join(&files, read(&format!("accession,A\n{rows}")));
        assert!(conflict.pairs.is_empty());
        assert_eq!(conflict.rejects.len(), rows.lines().count() + 2, "every row and both files: {conflict:?}");
    }
    let conflict = join(&files, read("accession,A\nA1,1\nA1,0\n"));
    assert!(reasons(&conflict, "1")[0].contains("name this study and differ in a label"), "{conflict:?}");
}

#[test]
fn lost_zeros_are_found_where_only_one_study_fits() {
    let files = [file("1", "P1", "1.2.1", "00123"), file("2", "P2", "1.2.2", "0456"), file("3", "P3", "1.2.3", "456")];
    let joined = join(&files, read("accession;A\n123;1\n456;1\n"));
    assert_eq!(pairs(&joined), [(0, 2), (2, 3)], "the letter wins");
    assert!(joined.warnings.iter().any(|w| w.contains("1 rows") && w.contains("leading zeros")), "{joined:?}");
    assert_eq!(pairs(&join(&files, read("accession;A\n123.0;1\n"))), [(0, 2)]);
    // Two studies fit, or two rows.
    let joined = join(&files, read("accession;A\n00456;1\n"));
    assert!(joined.pairs.is_empty() && reasons(&joined, "row 2")[0].contains("could be several"), "{joined:?}");
    assert!(reasons(&joined, "2")[0].contains("row 2 could mean this study or another"), "{joined:?}");
    let joined = join(&files, read("accession;A\n123;1\n0123;0\n"));
    assert!(joined.pairs.is_empty(), "{joined:?}");
    let joined = join(&files, read("accession;A\n1,23457E+11;1\n"));
    assert!(reasons(&joined, "row 2")[0].contains("power of ten"), "{joined:?}");
}

#[test]
fn a_patient_with_several_studies_has_no_one_label() {
    let files = [
        file("1", "0P1", "1.2.1", "A1"),
        file("2", "0P1", "1.2.9", "A2"),
        file("3", "007", "1.2.3", "A3"),
        file("4", "007", "1.2.3", "A3"),
    ];
    let joined = join(&files, read("PatientID;A\n0P1;1\n7;0\n"));
    assert_eq!(pairs(&joined), [(2, 3), (3, 3)]);
    assert_eq!(joined.pairs[&2].patient.as_deref(), Some("007"), "as the header writes it");
    for item in ["row 2", "1", "2"] {
        assert!(reasons(&joined, item)[0].contains("2 studies of this patient"), "{item}: {joined:?}");
    }
}

#[test]
fn an_accession_number_of_two_patients_names_nobody() {
    let files = [file("1", "P1", "1.2.1", "1"), file("2", "P2", "1.2.2", "1")];
    let joined = join(&files, read("accession;A\n1;1\n"));
    assert!(joined.pairs.is_empty());
    assert!(reasons(&joined, "row 2")[0].contains("to 2 patients"), "{joined:?}");
}

#[test]
fn no_key_is_in_any_message() {
    let files = [
        file("1", "SECRET-1", "1.2.1", "SECRET-A"),
        file("2", "SECRET-1", "1.2.2", "SECRET-B"),
        file("3", "SECRET-2", "1.2.2", "SECRET-B"),
        file("4", "SECRET-3", "1.2.4", "SECRET-D"),
    ];
    assert!(!format!("{files:?}").contains("SECRET"));
    for column in ["accession", "PatientID"] {
        let keys = ["A", "A", "B", "C", "D", "1", "1", "3"].map(|key| format!("SECRET-{key};1\n"));
        let text = format!("{column};A\n{}SECRET-D;bad\nSECRET-3;0\n", keys.concat());
        let joined = join(&files, read(&text));
        let said = format!("{:?}{:?}", joined.rejects, joined.warnings);
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn every_row_and_every_file_ends_somewhere() {
    let mut stream = Stream::keyed(1, "header join");
    for _ in 0..200 {
        let files: Vec<FileKeys> = (0..8)
            .map(|i| {
                let accession = ["1", "01", "2", "02", "3", "-"][stream.below(6)];
                let patient = ["P1", "P2"][stream.below(2)];
                file(&i.to_string(), patient, "1.2", accession)
            })
            .collect();
        let rows = 6;
        let lines: Vec<String> = (0..rows)
            .map(|_| {
                format!(
                    "{};{}\n",
                    ["1", "01", "001", "2", "3", "9"][stream.below(6)],
                    ["0", "1", "bad"][stream.below(3)]
                )
            })
            .collect();
        let joined = join(&files, read(&format!("accession;A\n{}", lines.concat())));
        let used: BTreeSet<u64> = joined.pairs.values().map(|r| r.row).collect();
        let refused: Vec<u64> = joined.rejects.iter().filter_map(|r| r.row).collect();
        let mut all: Vec<u64> = used.iter().copied().chain(refused).collect();
        all.sort_unstable();
        assert_eq!(all, (2..2 + rows).collect::<Vec<_>>(), "each row once: {lines:?} {joined:?}");
        let labels = joined.rejects.iter().filter(|r| r.stage == Stage::Labels).map(|r| r.item.clone());
        let mut ids: Vec<String> = joined.pairs.keys().map(|&f| files[f].id.clone()).chain(labels).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).map(|i| i.to_string()).collect::<Vec<_>>(), "each file once: {lines:?} {joined:?}");
        for (&file, row) in &joined.pairs {
            let header = files[file].header.as_ref().and_then(|h| h.accession.as_deref()).expect("a key");
            assert_eq!(as_number(header), as_number(&row.key), "a row of another study");
        }
    }
}
