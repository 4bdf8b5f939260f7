//! A real network on real radiographs, against Keras (`scripts/oracle_xception_real.py`).
//!
//! The network is a Keras 3 Xception trained on chest radiographs, obtained by `scripts/fetch_xception.sh`
//! (`CHESTNUT_XCEPTION` names another place); the images are NIH radiographs in the folder `CHESTNUT_DATA`. Both may be
//! absent: then a test says on standard error that it was skipped, and how to obtain what it needs.

#![allow(missing_docs)]

mod common;
#[path = "common/libjpeg.rs"]
mod libjpeg;

use chestnut::image::recipe::{Recipe, Standardisation};
use chestnut::image::{self, Radiograph};
use chestnut_nn::{Engine, Options, Taps};
use chestnut_zoo::Architecture;
use chestnut_zoo::read::{HeadHint, ReadOptions, read};
use chestnut_zoo::store::sha256_file;
use chestnut_zoo::weights::unit_sequence;
use common::Scratch;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Relative error that the project promises against Keras on the same pixels.
const TOLERANCE: f64 = 1e-4;
/// Relative distance of embeddings that one JPEG decoder or another may make. Measured on these five images: pixels
/// that differ by one grey level move the embedding by 0.0025 to 0.0047.
const DECODER: f64 = 1e-2;
/// Label, and mean AUC over 20 patient-grouped 70/30 splits of the same recipe in Keras and scikit-learn.
const ORIENTATION: [(&str, f64); 5] =
    [("No_Finding", 0.82), ("Infiltration", 0.72), ("Atelectasis", 0.61), ("Effusion", 0.72), ("Edema", 0.81)];
/// Spread of one label's AUC from split to split there.
const SPREAD: f64 = 0.06;

/// Says it on standard error itself: the test harness would hide what a passing test prints.
fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}

fn weights(test: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/pneumonia_xception.keras");
    let file = std::env::var_os("CHESTNUT_XCEPTION").map_or_else(default, PathBuf::from);
    if file.is_file() {
        return file.canonicalize().ok();
    }
    skipped(test, &format!("there is no {}; run `sh scripts/fetch_xception.sh`", file.display()));
    None
}

fn radiographs(test: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("CHESTNUT_DATA").map_or_else(default, PathBuf::from).join("nih1000");
    if folder.join("labels.csv").is_file() {
        return folder.canonicalize().ok();
    }
    let why = "set CHESTNUT_DATA to the folder that holds nih1000/labels.csv and nih1000/images";
    skipped(test, &format!("there is no {}; {why}", folder.display()));
    None
}

fn oracle() -> Value {
    serde_json::from_str(include_str!("oracle_xception_real.json")).expect("the committed oracle is JSON")
}

fn number(v: &Value) -> f64 {
    v.as_f64().expect("a number")
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(number).collect()
}

/// The network, after a check that the file is the oracle's.
fn network(file: &Path, oracle: &Value) -> Engine {
    let found = sha256_file(file).expect("a readable file");
    let why = "this is not the oracle's file; remove it and run `sh scripts/fetch_xception.sh`";
    assert_eq!(Some(found.as_str()), oracle["model_sha256"].as_str(), "{}: {why}", file.display());
    let source = read(file, &ReadOptions::default()).expect("a weight file");
    let fitted = source.fit(Architecture::Xception, &HeadHint::default()).expect("an Xception");
    Engine::new(fitted.graph, fitted.weights, Options::default()).expect("a network")
}

fn run(engine: &mut Engine, radiograph: &Radiograph) -> (Vec<f32>, Taps) {
    let prepared = Recipe::default().prepare(radiograph);
    let mut input = vec![0.0; prepared.grey.len() * 3];
    Standardisation::ImageNet.apply(&prepared.grey, &mut input);
    let taps = engine.run(&input, prepared.size, prepared.size, false).expect("a pass");
    (prepared.grey, taps)
}

/// Dot product with the oracle's check vector.
fn project(values: &[f32]) -> f64 {
    values.iter().zip(unit_sequence("check", 0)).map(|(&v, u)| f64::from(v) * f64::from(2.0 * u - 1.0)).sum()
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

fn sum(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum()
}

#[track_caller]
fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected} to {tolerance}");
}

/// Every value of the oracle for these pixels: recipe to 1e-6, embedding and logits to [`TOLERANCE`].
fn check(name: &str, engine: &mut Engine, radiograph: &Radiograph, expected: &Value) -> Taps {
    let (square, taps) = run(engine, radiograph);
    let size = [radiograph.width as u64, radiograph.height as u64];
    assert_eq!(size.map(Some), [expected["width"].as_u64(), expected["height"].as_u64()], "{name}");
    let mean = sum(&radiograph.pixels) / radiograph.pixels.len() as f64;
    assert_near(&format!("{name}: mean"), mean, number(&expected["mean"]), 1e-6);
    let row = 100 * Recipe::default().size;
    for (i, &value) in numbers(&expected["square"]["row_100"]).iter().enumerate() {
        assert_near(&format!("{name}: row 100, pixel {i}"), f64::from(square[row + i]), value, 1e-6);
    }
    let scale = square.len() as f64;
    assert_near(&format!("{name}: sum"), sum(&square), number(&expected["square"]["sum"]), 1e-6 * scale);
    assert_near(&format!("{name}: check"), project(&square), number(&expected["square"]["check"]), 1e-6 * scale);

    let embedding = &taps.embeddings;
    assert_eq!(embedding.len(), 2048);
    let shown = numbers(&expected["embedding"]);
    let distance = length(embedding.iter().zip(&shown).map(|(&a, &b)| f64::from(a) - b));
    assert_near(&format!("{name}: embedding"), distance / length(shown.iter().copied()), 0.0, TOLERANCE);
    let norm = number(&expected["norm"]);
    let found = length(embedding.iter().copied().map(f64::from));
    assert_near(&format!("{name}: norm"), found, norm, TOLERANCE * norm);
    let total = number(&expected["sum"]);
    assert_near(&format!("{name}: sum of the embedding"), sum(embedding), total, TOLERANCE * total);
    assert_near(
        &format!("{name}: check of the embedding"),
        project(embedding),
        number(&expected["check"]),
        TOLERANCE * norm,
    );
    let logits = numbers(&expected["logits"]);
    assert_eq!(taps.outputs.len(), logits.len(), "the file's own head: two logits");
    for (&found, &expected) in taps.outputs.iter().zip(&logits) {
        assert_near(&format!("{name}: logit"), f64::from(found), expected, TOLERANCE * expected.abs().max(1.0));
    }
    taps
}

/// The oracle's 8-bit image, made by the same formula.
fn formula_image() -> Radiograph {
    let (width, height) = (320_u32, 300_u32);
    let pixel = |(i, u): (u32, f32)| {
        let (x, y) = (i % width, i / width);
        let value = 20 + (x * x + 3 * y * y + x * y) / 256 % 160 + (16.0 * u).floor() as u32;
        if x < 8 && y < 5 { 255.0 } else { value as f32 }
    };
    let pixels = (0..width * height).zip(unit_sequence("image", 0)).map(pixel).collect();
    Radiograph { width: width as usize, height: height as usize, pixels, bits: 8 }
}

#[test]
fn a_formula_image_gives_keras_values() {
    let Some(file) = weights("parity on a formula image") else { return };
    let oracle = oracle();
    let mut engine = network(&file, &oracle);
    check("formula image", &mut engine, &formula_image(), &oracle["formula_image"]);
}

#[test]
fn five_radiographs_give_keras_values() {
    let test = "parity on five radiographs";
    let (Some(file), Some(data)) = (weights(test), radiographs(test)) else { return };
    let oracle = oracle();
    let mut engine = network(&file, &oracle);
    let images = oracle["images"].as_array().expect("images");
    assert_eq!(images.len(), 5);
    for expected in images {
        let name = expected["image"].as_str().expect("a name");
        let bytes = std::fs::read(data.join("images").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        // The oracle's own pixels.
        let (width, height, pixels) = libjpeg::decode(&bytes);
        let exact = Radiograph { width, height, pixels: pixels.iter().map(|&v| f32::from(v)).collect(), bits: 8 };
        let reference = check(name, &mut engine, &exact, expected).embeddings;

        // The pixels that the program reads: another decoder of the same file.
        let ours = image::decode(&bytes).unwrap_or_else(|e| panic!("{name} {e}")).radiograph;
        assert_eq!((ours.width, ours.height, ours.bits), (width, height, 8), "{name}");
        let most = ours.pixels.iter().zip(&exact.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= 2.0, "{name}: a pixel differs by {most} grey levels from libjpeg's");
        let (_, taps) = run(&mut engine, &ours);
        let distance = length(taps.embeddings.iter().zip(&reference).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let norm = length(reference.iter().copied().map(f64::from));
        assert_near(&format!("{name}: embedding with our decoder"), distance / norm, 0.0, DECODER);
    }
}

#[test]
fn the_chain_reaches_the_aucs_of_keras_and_scikit_learn() {
    let test = "AUCs on 625 radiographs";
    let (Some(file), Some(data)) = (weights(test), radiographs(test)) else { return };
    if cfg!(debug_assertions) {
        skipped(test, "it takes many minutes in a debug build; run `cargo test --release`");
        return;
    }
    let s = Scratch::new();
    let path = |p: &Path| p.to_str().expect("a UTF-8 path").to_owned();
    let (file, images, labels) = (path(&file), path(&data.join("images")), path(&data.join("labels.csv")));
    let columns = ORIENTATION.map(|(label, _)| label).join(",");
    s.chestnut(&["models", "add", &file, "--name", "xception", "--labels", "NORMAL,PNEUMONIA"]).ends(0).says(&[
        "xception (",
        "Dense(128, Relu), Dense(2, Linear)",
        "NORMAL, PNEUMONIA",
        "150 x 150",
    ]);
    let args = ["ingest", &images, "--labels", &labels, "--labels-columns", &columns, "-o", "nih"];
    let run = s.chestnut(&args);
    // One film is there twice; it is refused and said.
    assert!(matches!(run.code, Some(0 | 2)), "{run}");
    let used = s.table("nih/cohort.csv").len() - 1;
    assert!(used >= 600 && used + s.rejects("nih").len() == 625, "{run}");
    s.chestnut(&["embed", "nih"]).ends(0);
    let run = s.chestnut(&["compare", "nih", "--repeats", "20", "--json"]).ends(0);
    let json: Value = serde_json::from_str(&run.out).expect("JSON");
    let method = &json["methods"][0];
    assert_eq!(method["source"].as_str(), Some("xception"));
    let spread = &method["spread"];
    assert_eq!(spread["repeats"].as_u64(), Some(20));
    for (k, (label, expected)) in ORIENTATION.into_iter().enumerate() {
        assert_eq!(json["labels"][k].as_str(), Some(label));
        assert_near(label, number(&spread["labels"][k]["mean"]), expected, SPREAD);
        let [low, high] = [0, 1].map(|i| number(&method["labels"][k]["interval"][i]));
        let auc = number(&method["labels"][k]["auc"]);
        assert!(low < auc && auc < high, "{label}: {low} {auc} {high}");
    }
    assert_near("mean", number(&spread["mean"]["mean"]), 0.73, SPREAD / 2.0);
}
