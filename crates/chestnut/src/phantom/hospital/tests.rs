//! The export is read by the ingest itself and compared with the truth to the last row.

use super::*;
use crate::cohort::{IngestOptions, LabelSet, ingest, pseudonym};
use std::collections::{BTreeMap, BTreeSet};

const KEY: [u8; 32] = [9; 32];

fn records(folder: &Path, name: &str) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(folder.join(name)).expect("a table");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    reader
        .records()
        .map(|r| {
            let record = r.expect("a record");
            header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect()
        })
        .collect()
}

#[test]
fn the_ingest_says_of_every_file_and_row_what_is_true() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = HospitalConfig { files: 700, films: 12, size: MIN_EXPORT_SIZE, seed: 3 };
    export_hospital(&config, folder.path(), &|_, _| {}).expect("written");
    let truth = records(folder.path(), "truth.csv");
    let set = std::fs::read_to_string(folder.path().join("label_set.toml")).expect("a label set");
    let mut options = IngestOptions::new(LabelSet::from_toml(&set).expect("valid"));
    options.pseudonym_key = Some(KEY);
    let cohort =
        ingest(&folder.path().join("images"), &folder.path().join("labels.csv"), &options, &|_| {}).expect("a cohort");

    let mut images: BTreeMap<&str, _> = cohort.images.iter().map(|i| (i.id.as_str(), i)).collect();
    let mut rejects: BTreeMap<&str, _> = cohort.rejects.iter().map(|r| (r.item.as_str(), r)).collect();
    let mut kinds: BTreeSet<(&str, &str)> = BTreeSet::new();
    for row in &truth {
        let (item, reason) = (row["item"].as_str(), row["reason"].as_str());
        kinds.insert((row["stage"].as_str(), reason));
        if row["verdict"] == "used" {
            let image = images.remove(item).unwrap_or_else(|| panic!("{item} must be used: {:?}", rejects.get(item)));
            assert_eq!(image.patient, pseudonym(&KEY, &row["patient_id"]), "{item}");
            assert_eq!(image.view.as_deref(), Some(row["view"].as_str()), "{item}");
            assert_eq!(image.age_years.map(|a| a.to_string()).as_ref(), Some(&row["age_years"]), "{item}");
            assert_eq!(image.sha256, row["sha256"], "{item}");
            assert_eq!(image.row.to_string(), row["row"], "{item}");
            for (name, label) in cohort.label_names.iter().zip(&image.labels) {
                assert_eq!(label.as_str(), row[name], "{item} {name}");
            }
        } else {
            let reject = rejects.remove(item).unwrap_or_else(|| panic!("{item} must be refused ({reason})"));
            assert_eq!(reject.stage.as_str(), row["stage"], "{reject:?}");
            assert_eq!(reject.row.map(|r| r.to_string()).unwrap_or_default(), row["row"], "{reject:?}");
            assert!(reject.reason.contains(reason), "{reject:?} does not say {reason:?}");
            assert!(reject.reason.contains(&row["kept"]), "{reject:?} does not name {}", row["kept"]);
        }
    }
    assert!(images.is_empty(), "used against the truth: {:?}", images.keys());
    assert!(rejects.is_empty(), "refused against the truth: {:?}", rejects.values());
    assert!(kinds.len() > 14, "too few kinds to tell anything: {kinds:?}");
}

#[test]
fn the_same_request_gives_the_same_bytes_and_impossible_ones_are_refused() {
    let config = HospitalConfig { files: 40, films: 3, size: MIN_EXPORT_SIZE, seed: 1 };
    let truth = || {
        let folder = tempfile::tempdir().expect("a folder");
        export_hospital(&config, folder.path(), &|_, _| {}).expect("written");
        std::fs::read(folder.path().join("truth.csv")).expect("the truth, with a hash of each file")
    };
    assert_eq!(truth(), truth());
    assert_eq!(HospitalConfig { files: 0, ..config }.check(), Err(PhantomError::ExportFiles(0)));
    assert_eq!(HospitalConfig { films: 1, ..config }.check(), Err(PhantomError::Films(1)));
    assert_eq!(HospitalConfig { size: 64, ..config }.check(), Err(PhantomError::ExportSize(64)));
}
