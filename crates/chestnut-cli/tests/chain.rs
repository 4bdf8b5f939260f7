//! The whole chain as a user types it: phantom, ingest, embed, compare.
//!
//! What must hold: every promised file is there, every label has its place in the tables, no patient is in two parts,
//! the same input gives the same bytes for any number of threads, and a run that was killed goes on where it was.

#![allow(missing_docs)]

mod common;

use common::{NET, NET_FOLDER, Scratch, files};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// HUM-CXR-7, the labels of the phantom.
const LABELS: [&str; 7] = ["Pleura", "Device", "PNX", "Cardiac", "Lung", "Bone", "Normal"];
const NETS: &str = "seeded:densenet121,seeded:xception";
const NET_NAMES: [&str; 2] = ["seeded:densenet121", "seeded:xception"];
const METHODS: [&str; 9] = [
    "seeded:densenet121",
    "seeded:xception",
    "Average",
    "Entropy",
    "seeded:densenet121",
    "seeded:xception",
    "Average",
    "Entropy",
    "Stacking",
];

/// A study of 40 phantoms, embedded with two networks and compared; `threads` for the image pipeline.
fn study(scratch: &Scratch, name: &str, threads: &str) {
    for args in [
        &["ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", name, "--keep-ids"][..],
        &["embed", name, "--net", NETS],
        &["compare", name],
    ] {
        let run = scratch.command(args).env("RAYON_NUM_THREADS", threads).output().expect("the program starts");
        assert!(run.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&run.stderr));
    }
}

fn phantoms() -> Scratch {
    let scratch = Scratch::new();
    scratch.chestnut(&["phantom", "-n", "40", "--size", "96", "--seed", "3", "-o", "phantom"]).ends(0);
    scratch
}

#[test]
fn from_a_folder_of_images_to_tables() {
    let s = phantoms();
    let run = s.ingest("phantom/labels.csv", "study").ends(0);
    let run = run.says(&["40 images of ", "Nothing was refused", "contact_sheet.png"]).says(&LABELS);
    assert!(!run.text().contains("-P000"), "the summary names no patient\n{run}");
    s.chestnut(&["embed", "study", "--net", NETS]).ends(0).says(&["40 images", "images/s"]);
    let run = s.chestnut(&["compare", "study", "--repeats", "2"]).ends(0);
    let run = run.says(&LABELS).says(&METHODS).says(&["Report: ", "Embeddings + RF"]);
    assert!(run.out.lines().all(|l| l.chars().count() <= 100), "{run}");

    for file in [
        "study.toml",
        "cohort.csv",
        "rejects.csv",
        "contact_sheet.png",
        "manifest.json",
        "split.csv",
        "predictions.csv",
        "metrics.json",
        "report/index.html",
    ] {
        assert!(s.has(&format!("study/{file}")), "{file} is missing");
    }
    assert!(!files(&s.path("study/tables")).is_empty(), "tables/ is empty");
    for net in NET_NAMES {
        let shards = files(&s.path(&format!("study/embeddings/{}", net.replace(':', "-"))));
        assert_eq!(shards.len(), 1, "{net}");
        assert!(shards[0].1.starts_with(b"PAR1") && shards[0].1.ends_with(b"PAR1"));
    }
    let sheet = image::load_from_memory(&s.read("study/contact_sheet.png")).expect("a picture");
    assert!(sheet.width() > 500 && sheet.height() > 500);
    let page = s.text("study/report/index.html");
    for word in LABELS.iter().chain(&METHODS) {
        assert!(page.contains(word), "the report does not name {word}");
    }
    assert!(page.contains("<svg"), "the report shows no curve");
    for outside in ["src=\"http", "href=\"http://", "@import", "<script src"] {
        assert!(!page.contains(outside), "the report must not fetch anything: {outside}");
    }
}

#[test]
fn no_patient_is_in_two_parts() {
    let s = phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study"]).ends(0);
    let split = s.table("study/split.csv");
    assert_eq!(split[0], ["image", "patient", "part"]);
    assert_eq!(split.len(), 41);
    let mut part_of: BTreeMap<&str, &str> = BTreeMap::new();
    for row in &split[1..] {
        let part = part_of.entry(&row[1]).or_insert(&row[2]);
        assert_eq!(*part, row[2], "patient {} is in two parts", row[1]);
    }
    assert!(part_of.len() < 40, "some patients have several images, else this shows nothing");
    let test: Vec<&str> = split[1..].iter().filter(|r| r[2] == "test").map(|r| r[0].as_str()).collect();
    assert!((8..=16).contains(&test.len()), "about 30 % are tested on: {}", test.len());
    // Only test images are predicted, each once per label, with a probability.
    let predictions = s.table("study/predictions.csv");
    let column = |name: &str| predictions[0].iter().position(|c| c == name).unwrap_or_else(|| panic!("no {name}"));
    let (image, probability) = (column("image"), column("probability"));
    // One network: its forest and its fine-tuned head.
    assert_eq!(predictions.len() - 1, 2 * test.len() * LABELS.len());
    for row in &predictions[1..] {
        assert!(test.contains(&row[image].as_str()), "{row:?}");
        let p: f64 = row[probability].parse().expect("a number");
        assert!((0.0..=1.0).contains(&p), "{row:?}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let s = phantoms();
    study(&s, "a", "1");
    study(&s, "b", "4");
    let mut names = vec!["cohort.csv".to_owned(), "rejects.csv".to_owned(), "contact_sheet.png".to_owned()];
    names.extend(["split.csv".to_owned(), "predictions.csv".to_owned()]);
    names.extend(NET_NAMES.map(|n| format!("embeddings/{}/part-00000.parquet", n.replace(':', "-"))));
    let bytes = |study: &str| -> Vec<Vec<u8>> { names.iter().map(|n| s.read(&format!("{study}/{n}"))).collect() };
    let first = bytes("a");
    for (name, (a, b)) in names.iter().zip(first.iter().zip(&bytes("b"))) {
        assert!(a == b, "{name} differs between two studies of the same input");
    }
    // Once more in the same study: nothing is computed again and nothing changes.
    s.chestnut(&["embed", "a", "--net", NETS]).ends(0).says(&["nothing to do, 40 kept from before"]);
    study(&s, "a", "2");
    assert!(first == bytes("a"));
    // Another seed is another split.
    let args = ["ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", "b", "--keep-ids", "--seed", "1"];
    s.chestnut(&args).ends(0);
    s.chestnut(&["compare", "b"]).ends(0);
    assert!(s.read("a/split.csv") != s.read("b/split.csv"));
}

#[test]
fn results_as_json() {
    let s = phantoms();
    study(&s, "study", "2");
    let json = s.compare_json("study");
    assert_eq!(json["labels"], serde_json::json!(LABELS));
    assert_eq!((json["images"].as_u64(), json["unit"].as_str()), (Some(40), Some("patient")));
    let methods = json["methods"].as_array().expect("methods");
    assert_eq!(methods.iter().map(|m| m["source"].as_str().unwrap_or("")).collect::<Vec<_>>(), METHODS);
    for method in methods {
        for label in method["labels"].as_array().expect("labels") {
            // An AUC, or the reason why there is none; and the numbers that it rests on.
            assert!(label["auc"].is_f64() != label["reason"].as_str().is_some_and(|r| r.contains("not estimable")));
            let [positives, negatives] = ["positives", "negatives"].map(|k| label[k].as_u64().expect("a count"));
            assert_eq!(positives + negatives, json["parts"][2]["images"].as_u64().expect("a count"));
        }
    }
    let stored: serde_json::Value = serde_json::from_str(&s.text("study/metrics.json")).expect("metrics.json is JSON");
    assert!(s.text("study/metrics.json").contains("seeded:xception"));
    assert!(stored.is_object());
    let manifest: serde_json::Value = serde_json::from_str(&s.text("study/manifest.json")).expect("JSON");
    for stage in ["ingest", "embed seeded:xception", "compare"] {
        assert!(manifest["stages"][stage]["seconds"].is_f64(), "{manifest}");
    }
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "300", "--size", "64", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "whole").ends(0);
    s.ingest("phantom/labels.csv", "killed").ends(0);
    let embed = |study: &str| s.chestnut(&["embed", study, "--net", NET]).ends(0);
    embed("whole").says(&["300 images"]);
    let whole = files(&s.path(&format!("whole/{NET_FOLDER}")));
    assert_eq!(whole.len(), 2, "256 images and the rest");

    let [first, second] = ["part-00000.parquet", "part-00001.parquet"].map(|f| format!("killed/{NET_FOLDER}/{f}"));
    let mut command = s.command(&["embed", "killed", "--net", NET]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("the program starts");
    let start = Instant::now();
    while !s.has(&first) {
        assert!(start.elapsed() < Duration::from_secs(300), "no shard was written");
        assert!(child.try_wait().expect("its state").is_none_or(|status| status.success()), "it failed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    if s.has(&second) {
        // The machine was faster than the kill: take the second shard away by hand.
        std::fs::remove_file(s.path(&second)).expect("removed");
    }
    embed("killed").says(&["44 images", "256 kept from before"]);
    let resumed = || files(&s.path(&format!("killed/{NET_FOLDER}")));
    assert!(whole == resumed(), "the same files and bytes as without the kill");

    std::fs::remove_file(s.path(&first)).expect("removed");
    embed("killed").says(&["256 images", "44 kept from before"]);
    assert!(whole == resumed());
    embed("killed").says(&["nothing to do, 300 kept from before"]);
}
