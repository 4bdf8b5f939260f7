//! `chestnut predict` as a user types it, on studies that `compare` kept models of.
//!
//! What must hold: the study's own test images get the probabilities of predictions.csv, whatever they come in; refused
//! files are named and end with 2; an image unlike the cohort is called so; a study or a file that has changed since is
//! refused with the way out.

#![allow(missing_docs)]

mod common;

use common::{NET, Run, Scratch, files};
use std::collections::BTreeMap;

const NETS: &str = "seeded:densenet121,seeded:xception";
const APPROACHES: [(&str, &str); 3] = [
    ("Embeddings + RF", "embeddings-rf"),
    ("Embeddings + LR", "embeddings-lr"),
    ("Fine-tuned head", "fine-tuned-head"),
];

/// Networks with outputs of their own.
const OWN: &str = "seeded:densenet121+chexpert,seeded:xception+chexpert";

/// A study of phantoms, compared with all learners that keep models.
fn compared(images: &str, nets: &str) -> Scratch {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", images, "--size", "96", "--seed", "3", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", nets]).ends(0);
    s.chestnut(&["compare", "study", "--learner", "rf,lr"]).ends(0);
    s
}

/// Probability by image and label.
type Table = BTreeMap<(String, String), f64>;

/// What predictions.csv says of one approach and source.
fn scored(s: &Scratch, approach: &str, source: &str) -> Table {
    let rows = s.table("study/predictions.csv");
    let at = |name: &str| rows[0].iter().position(|c| c == name).unwrap_or_else(|| panic!("no {name}"));
    let (image, label, p) = (at("image"), at("label"), at("probability"));
    let wanted = |r: &&Vec<String>| r[at("approach")] == approach && r[at("source")] == source;
    rows[1..]
        .iter()
        .filter(wanted)
        .map(|r| ((r[image].clone(), r[label].clone()), r[p].parse().expect("a number")))
        .collect()
}

/// The probabilities of a table that `predict` made; blank ones are left out.
fn predicted(s: &Scratch, file: &str) -> Table {
    let rows = s.table(file);
    let mut found = Table::new();
    for row in &rows[1..] {
        for (name, cell) in rows[0].iter().zip(row) {
            let Some(label) = name.strip_suffix("_probability") else { continue };
            if !cell.is_empty() {
                found.insert((row[0].clone(), label.to_owned()), cell.parse().expect("a number"));
            }
        }
    }
    found
}

/// The cells of one image.
fn row_of(s: &Scratch, file: &str, image: &str) -> BTreeMap<String, String> {
    let rows = s.table(file);
    let row = rows.iter().find(|r| r[0] == image).unwrap_or_else(|| panic!("{image} is not in {file}"));
    rows[0].iter().cloned().zip(row.iter().cloned()).collect()
}

fn predict(s: &Scratch, images: &str, more: &[&str]) -> Run {
    s.chestnut(&[&["predict", images, "--study", "study"][..], more].concat())
}

#[test]
fn the_studys_own_test_images_get_the_probabilities_of_the_tables() {
    let s = compared("40", NETS);
    let before = s.read("study/predictions.csv");
    let split = s.table("study/split.csv");
    let test: Vec<&str> = split[1..].iter().filter(|r| r[2] == "test").map(|r| r[0].as_str()).collect();
    for (approach, folder) in APPROACHES {
        assert_eq!(files(&s.path(&format!("study/models/{folder}"))).len(), 2, "{approach}");
        let out = format!("{folder}.csv");
        predict(&s, "phantom/images", &["--approach", approach, "--out", out.as_str()])
            .ends(0)
            .says(&[approach, out.as_str()]);
        let (expected, found) = (scored(&s, approach, "Average"), predicted(&s, &out));
        assert!(expected.len() >= test.len(), "{approach}: {}", expected.len());
        let mut compared = 0;
        for (key, p) in &expected {
            let Some(q) = found.get(key) else { continue };
            assert!((p - q).abs() <= 1e-6 + 1e-12, "{approach}: {key:?} {p} {q}");
            compared += 1;
        }
        // Labels with one class among 28 images have no number here; most have both.
        assert!(compared >= 4 * test.len(), "{approach}: {compared} of {}", expected.len());
    }
    // One row per image; those that were learned from say so.
    let table = s.table("embeddings-rf.csv");
    assert_eq!(table.len(), 41);
    for row in &split[1..] {
        let cells = row_of(&s, "embeddings-rf.csv", &row[0]);
        assert_eq!(cells["status"], "predicted");
        assert_eq!(cells["remark"].contains("learned from"), row[2] != "test", "{cells:?}");
        assert!(cells["remark"].contains("of the study"), "{cells:?}");
    }
    assert!(before == s.read("study/predictions.csv"));

    // Without the models the tables are the same, and predict says what to do.
    s.chestnut(&["compare", "study", "--learner", "rf,lr", "--no-models"]).ends(0);
    assert!(before == s.read("study/predictions.csv"));
    assert!(!s.has("study/models/index.json") && files(&s.path("study/models/embeddings-rf")).is_empty());
    predict(&s, "phantom/images", &[]).fails_saying(&["models/index.json", "chestnut compare study"]);
}

#[test]
fn the_baseline_and_stacking_predict_from_the_networks_own_outputs() {
    let s = compared("40", OWN);
    let split = s.table("study/split.csv");
    let test: Vec<&str> = split[1..].iter().filter(|r| r[2] == "test").map(|r| r[0].as_str()).collect();
    let kept = [("Baseline", "baseline", "Average", 0), ("Stacking", "stacking", "Raw outputs", 1)];
    for (approach, folder, source, models) in kept {
        assert_eq!(files(&s.path(&format!("study/models/{folder}"))).len(), models, "{approach}");
        let out = format!("{folder}.csv");
        // By the name of the folder, too.
        predict(&s, "phantom/images", &["--approach", folder, "--out", out.as_str()]).ends(0).says(&[approach]);
        let (expected, found) = (scored(&s, approach, source), predicted(&s, &out));
        let both: Vec<(f64, f64)> = expected.iter().filter_map(|(key, &p)| Some((p, *found.get(key)?))).collect();
        assert!(both.len() >= 4 * test.len(), "{approach}: {} of {}", both.len(), expected.len());
        assert!(both.iter().all(|(p, q)| (p - q).abs() <= 1e-6 + 1e-12), "{approach}: {both:?}");
        let json = predict(&s, "phantom/images", &["--approach", approach, "--json"]).ends(0);
        let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
        assert_eq!((json["approach"].as_str(), json["source"].as_str()), (Some(approach), Some(source)));
    }
    // They say different things, and neither is what is used unless asked for.
    let said = |folder: &str| predicted(&s, &format!("{folder}.csv"));
    assert_ne!(said("baseline"), said("stacking"));
    predict(&s, "phantom/images", &["--out", "usual.csv"]).ends(0).says(&["Embeddings + RF"]);
    // The baseline has learned nothing, so no image was learned from but for its thresholds.
    let learned = &split[1..].iter().find(|r| r[2] == "train").expect("a training part")[0];
    assert!(row_of(&s, "baseline.csv", learned)["remark"].contains("thresholds and calibration were learned from"));
    assert!(row_of(&s, "stacking.csv", learned)["remark"].contains("that the models learned from"));

    // The baseline alone can be kept as well, mapped before it is averaged.
    s.chestnut(&["compare", "study", "--quick", "--approach", "baseline", "--map-first"]).ends(0);
    assert!(files(&s.path("study/models/stacking")).is_empty() && s.has("study/models/index.json"));
    predict(&s, "phantom/images", &["--out", "first.csv"]).ends(0).says(&["Baseline"]);
    let (expected, found) = (scored(&s, "Baseline", "Average"), predicted(&s, "first.csv"));
    assert!(!expected.is_empty());
    assert!(expected.iter().all(|(key, p)| found.get(key).is_some_and(|q| (p - q).abs() <= 1e-6 + 1e-12)));
}

#[test]
fn thresholds_calibration_and_similar_cases() {
    let s = compared("90", NET);
    predict(&s, "phantom/images", &["--out", "new.csv", "--similar", "3"]).ends(0).says(&["new_similar.csv"]);
    let header = s.table("new.csv").swap_remove(0);
    for column in ["Cardiac_probability", "Cardiac_calibrated", "Cardiac_Youden", "Cardiac_sensitivity_0.90"] {
        assert!(header.iter().any(|c| c == column), "{column} is not in {header:?}");
    }
    let json = predict(&s, "phantom/images", &["--json", "--similar", "3"]).ends(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["approach"], "Embeddings + RF");
    assert_eq!(json["source"], NET);
    let (mut decided, mut calibrated) = (0, 0);
    for image in json["images"].as_array().expect("images") {
        for label in image["labels"].as_array().expect("labels") {
            let p = label["probability"].as_f64();
            for decision in label["decisions"].as_array().expect("decisions") {
                let threshold = decision["threshold"].as_f64().expect("a number");
                assert_eq!(decision["positive"].as_bool(), p.map(|p| p >= threshold), "{label}");
                decided += 1;
            }
            if let Some(c) = label["calibrated"].as_f64() {
                assert!((0.0..=1.0).contains(&c) && label["calibration"].is_string(), "{label}");
                calibrated += 1;
            } else {
                assert!(label["reason"].is_string(), "{label}");
            }
        }
    }
    assert!(decided >= 90 && calibrated >= 90, "{decided} {calibrated}");

    // Similar cases: three other patients' images each, nearest first, with their labels.
    let cohort = s.table("study/cohort.csv");
    let of = |id: &str| cohort[1..].iter().find(|r| r[0] == id).unwrap_or_else(|| panic!("no {id}"));
    let similar = s.table("new_similar.csv");
    assert_eq!(similar[0][..4], ["image", "rank", "similar_image", "distance"]);
    assert_eq!(similar.len() - 1, 3 * 90);
    for three in similar[1..].chunks(3) {
        let distance: Vec<f64> = three.iter().map(|r| r[3].parse().expect("a number")).collect();
        assert!(distance.windows(2).all(|w| w[0] <= w[1]), "{three:?}");
        for row in three {
            let (one, other) = (of(&row[0]), of(&row[2]));
            assert_ne!(one[2], other[2], "another patient");
            assert_eq!(row[4..], other[12..], "its labels");
        }
    }
    predict(&s, "phantom/images", &["--similar", "3"]).fails_saying(&["--out"]);
}

#[test]
fn refused_files_are_named_and_strange_ones_are_called_so() {
    let s = compared("40", NET);
    std::fs::create_dir(s.path("new")).expect("a folder");
    let id = s.table("study/cohort.csv")[1][0].clone();
    std::fs::copy(s.path("phantom/images").join(&id), s.path("new/copy.png")).expect("copied");
    s.write("new/notes.txt", b"no image");
    let stripes = image::GrayImage::from_fn(96, 96, |x, y| {
        image::Luma([if (x / 3 + y / 5).is_multiple_of(2) { 255 } else { 0 }])
    });
    stripes.save(s.path("new/stripes.png")).expect("written");
    let run = predict(&s, "new", &["--out", "new.csv"]).ends(2);
    let run = run.says(&["1 refused", "notes.txt", "unlike the study's cohort", "stripes.png"]);
    assert!(!run.text().contains("copy.png"), "{run}");
    assert_eq!(s.table("new.csv").len(), 4);
    let copy = row_of(&s, "new.csv", "copy.png");
    assert!(copy["status"] == "predicted" && copy["remark"].contains("of the study"), "{copy:?}");
    let notes = row_of(&s, "new.csv", "notes.txt");
    assert!(notes["status"] == "refused" && notes["remark"].contains("text"), "{notes:?}");
    let stripes = row_of(&s, "new.csv", "stripes.png");
    assert!(stripes["percentile"] == "100.0" && stripes["remark"].contains("unlike"), "{stripes:?}");

    // One file alone says the same of it.
    predict(&s, "new/copy.png", &["--out", "one.csv"]).ends(0);
    assert_eq!(row_of(&s, "one.csv", "copy.png"), copy);
    predict(&s, "new/notes.txt", &[]).ends(2).says(&["notes.txt,refused"]);
    predict(&s, "nowhere", &[]).fails_saying(&["nowhere"]);
    std::fs::create_dir(s.path("empty")).expect("a folder");
    predict(&s, "empty", &[]).fails_saying(&["no file"]);
    predict(&s, "new", &["--approach", "Stacking"]).fails_saying(&["\"Stacking\"", "\"Fine-tuned head\""]);
}

#[test]
fn a_patient_of_the_study_is_known_by_the_dicom_header() {
    let s = Scratch::new();
    let phantom = ["phantom", "-n", "40", "--seed", "3", "--dicom"];
    s.chestnut(&[&phantom[..], &["--size", "96", "-o", "phantom"]].concat()).ends(0);
    // The same people on other films. Without --keep-ids the study knows them by pseudonyms.
    s.chestnut(&[&phantom[..], &["--size", "112", "-o", "again"]].concat()).ends(0);
    s.chestnut(&["ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", "study"]).ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    s.chestnut(&["compare", "study", "--quick"]).ends(0);
    predict(&s, "again/images", &["--out", "again.csv", "--similar", "2"]).ends(0);
    let cohort = s.table("study/cohort.csv");
    let patient = |id: &str| cohort[1..].iter().find(|r| r[0] == id).map(|r| r[2].clone()).expect("in the cohort");
    for row in &cohort[1..] {
        let cells = row_of(&s, "again.csv", &row[0]);
        assert!(cells["remark"].contains("of a patient of the study"), "{cells:?}");
        // --quick makes no out-of-fold predictions, hence no curves and no thresholds.
        assert!(cells["Cardiac_calibrated"].is_empty() && !cells.contains_key("Cardiac_Youden"), "{cells:?}");
    }
    let similar = s.table("again_similar.csv");
    assert_eq!(similar.len() - 1, 2 * 40);
    assert!(similar[1..].iter().all(|r| patient(&r[0]) != patient(&r[2])), "another patient's");
    let one = format!("again/images/{}", cohort[1][0]);
    predict(&s, &one, &["--out", "one.csv"]).ends(0);
    assert_eq!(row_of(&s, "one.csv", &cohort[1][0]), row_of(&s, "again.csv", &cohort[1][0]));
}

#[test]
fn what_has_changed_since_is_refused() {
    let s = compared("40", NET);
    let index = s.text("study/models/index.json");
    let refused = |parts: &[&str]| predict(&s, "phantom/images", &[]).fails_saying(parts);
    s.write("study/models/index.json", &index.as_bytes()[..index.len() / 2]);
    refused(&["index.json", "chestnut compare study"]);
    s.write("study/models/index.json", index.replacen("\"format_version\": 2", "\"format_version\": 9", 1).as_bytes());
    refused(&["format 9"]);
    s.write("study/models/index.json", index.replacen("seeded (not trained)", "other weights", 1).as_bytes());
    refused(&[NET, "embed and compare again"]);
    s.write("study/models/index.json", index.as_bytes());

    let name = files(&s.path("study/models/embeddings-rf"))[0].0.clone();
    let model = format!("study/models/embeddings-rf/{name}");
    let bytes = s.read(&model);
    s.write(&model, &[&bytes[..], b" "].concat());
    refused(&[name.as_str(), "not the file that compare wrote"]);
    std::fs::remove_file(s.path(&model)).expect("removed");
    refused(&[name.as_str()]);
    s.write(&model, &bytes);

    let settings = s.text("study/study.toml");
    let changed = settings.replacen("clip_quantile = 0.9995", "clip_quantile = 1.0", 1);
    assert_ne!(changed, settings);
    s.write("study/study.toml", changed.as_bytes());
    refused(&["recipe", "chestnut compare study"]);
    s.write("study/study.toml", settings.as_bytes());
    predict(&s, "phantom/images", &["--out", "new.csv"]).ends(0);
}

#[test]
fn the_demos_study_predicts() {
    let s = Scratch::new();
    s.chestnut(&["demo", "-o", "demo", "-n", "24"]).ends(0);
    let run = s.chestnut(&["predict", "demo/phantom/images", "--study", "demo", "--json"]).ends(0);
    let json: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!(json["images"].as_array().expect("images").len(), 24);
    assert_eq!(
        (json["source"].as_str(), json["networks"].as_array().map(Vec::len)),
        (Some("chestnut-densenet121"), Some(1))
    );
}
