//! Tests of the findings about studies and stores that are made here, without networks.

use super::*;
use crate::cohort::tests::image;
use crate::cohort::{LabelSet, Reject, Stage};
use crate::lock::StudyLock;
use crate::study::{Settings, StageRecord};

/// A study of two files that are no pictures: nothing here decodes them.
fn study(root: &Path) -> Study {
    let images = root.join("images");
    fs::create_dir_all(&images).expect("a folder");
    let mut found = Vec::new();
    for id in ["a.png", "b.png"] {
        fs::write(images.join(id), id).expect("written");
        let mut image = image(id, id, "+");
        image.sha256 = store::sha256_file(&images.join(id)).expect("hashed");
        found.push(image);
    }
    let settings = Settings {
        images,
        blank: Default::default(),
        recipe: Default::default(),
        split: Default::default(),
        labels: LabelSet::new("s", &["A"]),
    };
    let study = Study::create(&root.join("study"), settings).expect("made");
    let reject = Reject { item: "c".into(), row: None, stage: Stage::Read, reason: "cut".into() };
    let cohort = Cohort { label_names: vec!["A".into()], images: found, rejects: vec![reject], warnings: Vec::new() };
    study.write_cohort(&cohort).expect("written");
    study.record("ingest", StageRecord::default()).expect("written");
    study
}

fn diagnosis(root: &Path) -> Diagnosis {
    examine(&root.join("models"), &[root.join("study")], &|_| {})
}

/// The one finding of this name about the study.
fn finding(root: &Path, name: &str) -> (Status, String) {
    let all = diagnosis(root).findings;
    let found: Vec<Finding> = all.into_iter().filter(|f| f.about.starts_with("study") && f.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    (found[0].status, format!("{} {}", found[0].text, found[0].way_out.as_deref().unwrap_or("")))
}

#[track_caller]
fn assert_finds(root: &Path, name: &str, status: Status, part: &str) {
    let (found, text) = finding(root, name);
    assert!(found == status && text.contains(part), "{name}: {found:?} {text:?}");
}

#[test]
fn a_study_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    study(folder.path());
    let all = diagnosis(folder.path());
    assert_eq!(all.count(Status::Problem), 0, "{all:?}");
    let text = serde_json::to_string(&all).expect("JSON");
    assert!(text.contains("\"status\":\"ok\"") && text.contains("\"threads\""), "{text}");
    assert_finds(folder.path(), "cohort", Status::Ok, "2 images of 2 patients, 1 items refused");
    assert_finds(folder.path(), "images", Status::Ok, "2 looked at");
    assert_finds(folder.path(), "lock", Status::Ok, "not in use");
    assert_finds(folder.path(), "results", Status::Ok, "none yet");
    assert!(text.contains("chestnut-densenet121"), "an empty store has the network that ships: {text}");
}

#[test]
fn what_is_wrong_with_a_study_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let study = study(root);
    fs::write(root.join("images/b.png"), "other").expect("written");
    assert_finds(root, "images", Status::Problem, "1 of 2 looked at have changed: b.png");
    fs::remove_file(root.join("images/b.png")).expect("removed");
    assert_finds(root, "images", Status::Problem, "1 of 2 are missing: b.png");
    fs::remove_dir_all(root.join("images")).expect("removed");
    assert_finds(root, "images", Status::Problem, "study.toml");

    fs::create_dir_all(study.path("embeddings/x")).expect("a folder");
    fs::write(study.path("embeddings/x/.chestnut-abc"), "").expect("written");
    assert_finds(root, "leftovers", Status::Warning, "embeddings/x/.chestnut-abc");
    // Of a fine-tuning: a folder with weights, and a network that was not finished.
    fs::create_dir_all(study.path(".chestnut-net")).expect("a folder");
    fs::create_dir_all(study.path("models/.net.17.tmp")).expect("a folder");
    assert_finds(root, "leftovers", Status::Warning, "3 temporary files are left: .chestnut-net, ");
    assert_finds(root, "leftovers", Status::Warning, "models/.net.17.tmp");
    let lock = StudyLock::acquire(&study.root, "embed").expect("free");
    assert_finds(root, "lock", Status::Warning, "in use by process");
    let during = diagnosis(root);
    assert!(during.findings.iter().all(|f| f.name != "leftovers"), "a run's own files are no leftovers");
    drop(lock);

    study.record("embed missing", StageRecord::default()).expect("written");
    assert_finds(root, "missing", Status::Problem, "no network called missing");
    study.record("embed seeded:vgg16", StageRecord::default()).expect("written");
    assert_finds(root, "seeded:vgg16", Status::Problem, "chestnut embed");
    fs::write(study.path("manifest.json"), "{").expect("written");
    assert_finds(root, "stages", Status::Problem, "damaged");
    fs::write(study.path("cohort.csv"), "image\n").expect("written");
    assert_finds(root, "cohort", Status::Problem, "cohort.csv");
    fs::remove_file(study.path("study.toml")).expect("removed");
    assert_finds(root, "settings", Status::Problem, "chestnut ingest");
}

#[test]
fn a_study_of_anybody_steers_neither_terminal_nor_doctor() {
    let folder = tempfile::tempdir().expect("a folder");
    let study = study(folder.path());
    study.record("embed \u{1b}[2J", StageRecord::default()).expect("written");
    let all = diagnosis(folder.path()).findings;
    let bare = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    assert!(all.iter().all(|f| bare(&f.name) && bare(&f.text) && f.way_out.as_deref().is_none_or(bare)), "{all:?}");
    let text = fs::read_to_string(study.path("cohort.csv")).expect("read").replace("b.png", "../../b.png");
    // In the order of ids, as a cohort must be.
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1..].sort_unstable();
    fs::write(study.path("cohort.csv"), lines.join("\n")).expect("written");
    assert_finds(folder.path(), "images", Status::Problem, "1 have no path below");
}

#[test]
fn an_unfinished_network_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join(".net.17.tmp")).expect("a folder");
    fs::create_dir_all(folder.path().join("damaged")).expect("a folder");
    fs::write(folder.path().join("damaged/model.toml"), "name = 3").expect("written");
    let found = examine(folder.path(), &[], &|_| {}).findings;
    let of = |name: &str| found.iter().find(|f| f.name == name).map(|f| f.status);
    assert_eq!((of("leftovers"), of("damaged")), (Some(Status::Warning), Some(Status::Problem)), "{found:?}");

    fs::create_dir_all(folder.path().join(".my.net.17.old")).expect("a folder");
    fs::create_dir_all(folder.path().join(".damaged.17.old")).expect("a folder");
    let found = examine(folder.path(), &[], &|_| {}).findings;
    let cut = found.iter().find(|f| f.name == "my.net").expect("found");
    assert!(cut.status == Status::Problem && cut.text.contains(".my.net.17.old"), "{cut:?}");
    assert!(cut.way_out.as_ref().is_some_and(|w| w.contains("rename that folder to my.net")), "{cut:?}");
    let left = found.iter().find(|f| f.name == "leftovers").expect("found");
    assert!(left.text.contains(".damaged.17.old") && !left.text.contains("my.net"), "{left:?}");
}

#[test]
fn sizes() {
    let all =
        [(0, "0.0 kB"), (1536, "1.5 kB"), (1 << 30, "1.0 GB"), (25_276_502_016, "24 GB"), (u64::MAX, "16777216 TB")];
    for (bytes, text) in all {
        assert_eq!(size(bytes), text);
    }
}
