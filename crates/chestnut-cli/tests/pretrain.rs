//! `chestnut pretrain` as a whole process: a network is taught, found by `embed`, and a kill changes no bit.

#![allow(missing_docs)]

mod common;

use common::{Scratch, with_cell};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A small run on the phantoms: the arguments after the folder of the run.
const SMALL: [&str; 20] = [
    "phantom/labels.csv",
    "--images",
    "phantom/images",
    "--labels",
    "Lung,Device",
    "--size",
    "64",
    "--cache-size",
    "72",
    "--batch",
    "4",
    "--epochs",
    "4",
    "--validation",
    "0.25",
    "--rotation",
    "7",
    "--checkpoint-batches",
    "1",
    "--cache",
];

fn pretrain<'a>(folder: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["pretrain", "-o", folder][..], &SMALL, &["squares"], more].concat()
}

#[test]
fn a_taught_network_is_in_the_store_and_a_kill_changes_no_bit() {
    let s = Scratch::with_phantoms();
    let run = s.chestnut(&pretrain("whole", &["--name", "mine", "--half", "--licence", "CC0"])).ends(0);
    let run = run.says(&["12 images, 2 labels: Lung, Device", "Best epoch", "mean", "chestnut embed STUDY --net mine"]);
    assert!(run.text().lines().any(|l| l.starts_with("epoch 4: loss ")), "{run}");
    for file in ["last.safetensors", "best.safetensors", "log.jsonl", "learning_curve.svg", "settings.json"] {
        assert!(s.has(&format!("whole/{file}")), "{file}\n{run}");
    }
    let epochs = s.text("whole/log.jsonl").lines().filter(|l| l.contains("validation_auc")).count();
    assert_eq!(epochs, 4);
    s.chestnut(&["models", "show", "mine"]).ends(0).says(&["64 x 64", "Lung, Device", "CC0", "trained from random"]);
    s.chestnut(&pretrain("other", &["--name", "mine"])).fails_saying(&["mine is already in the store", "--replace"]);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", "mine"]).ends(0).says(&["12 images"]);

    let mut caught = 0;
    for i in 0..10_u64 {
        let mut command = s.command(&pretrain("killed", &[]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        let start = Instant::now();
        while !s.has("killed/last.safetensors") {
            assert!(start.elapsed() < Duration::from_secs(300), "no checkpoint was written");
            assert!(child.try_wait().expect("its state").is_none_or(|status| status.success()), "it failed");
            std::thread::sleep(Duration::from_millis(2));
        }
        // Ten moments: while it starts, computes, and writes.
        std::thread::sleep(Duration::from_millis(i * 137 % 400));
        // One that has come to its end leaves nothing to do, which must hold as well.
        caught += u32::from(child.try_wait().expect("its state").is_none());
        let _ = child.kill();
        child.wait().expect("ended");
    }
    assert!(caught > 0, "every run was faster than the kill");
    s.chestnut(&pretrain("killed", &[])).ends(0).says(&["going on in epoch", "best.safetensors"]);
    assert!(s.read("whole/best.safetensors") == s.read("killed/best.safetensors"), "the same weights");
    let (whole, killed) = (s.read("whole/last.safetensors"), s.read("killed/last.safetensors"));
    assert!(values(&whole) == values(&killed), "weights and moments of the last update");
}

/// Values of a checkpoint: its header holds the log's length, which depends on speed.
fn values(bytes: &[u8]) -> &[u8] {
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    &bytes[8 + header..]
}

#[test]
fn what_was_learned_under_a_parent_is_recorded_and_embedded() {
    let s = Scratch::with_phantoms();
    // Two columns get names of CheXpert's tree.
    let mut lines = s.label_lines();
    let named = |column: &str| match column {
        "Lung" => "Lung Opacity".to_owned(),
        "Device" => "Edema".to_owned(),
        other => other.to_owned(),
    };
    lines[0] = lines[0].split(',').map(named).collect::<Vec<_>>().join(",");
    s.write("tree.csv", lines.join("\n").as_bytes());
    let base = ["pretrain", "tree.csv", "--images", "phantom/images", "--labels", "Lung Opacity,Edema", "--size", "64"];
    let how = ["--crop", "whole", "--batch", "2", "--accumulate", "2", "--balanced", "--epochs", "1"];
    let run =
        |more: &[&str]| s.chestnut(&[&base[..], &how, &["--validation", "0.25", "--cache", "squares"], more].concat());
    run(&["--freeze", "backbone", "-o", "tree", "--name", "tree", "--conditional"]).ends(0);
    s.chestnut(&["models", "show", "tree"]).ends(0).says(&["conditional", "Edema (of Lung Opacity)"]);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", "tree"]).ends(0).says(&["12 images"]);
    // Without the tree the embedding is another one and has to be made again.
    let record = "models/tree/model.toml";
    let text = s.text(record);
    let at = text.find("[conditional]").expect("in the record");
    s.write(record, &text.as_bytes()[..at]);
    let again = s.chestnut(&["embed", "study", "--net", "tree"]).ends(0).says(&["12 images"]);
    assert!(!again.text().contains("kept from before"), "{again}");
    // What taught the network that another starts from is still in the weights.
    s.write(record, format!("taught_on = [\"0123456789abcdef\"]\n{}", &text[..at]).as_bytes());
    run(&["--freeze", "backbone", "-o", "heir", "--init", "tree", "--name", "heir"]).ends(0);
    s.chestnut(&["models", "show", "heir"]).ends(0).says(&["taught on        1 films"]);
    run(&["-o", "other", "--positive-weights"]).ends(1).says(&["--balanced", "--positive-weights"]);
    run(&["-o", "tree", "--freeze", "backbone"]).ends(1).says(&["was made with policies"]);
}

#[test]
fn bad_input_is_named() {
    let s = Scratch::with_phantoms();
    let tiny = ["--freeze", "backbone", "--epochs", "1"];
    // Later arguments must not repeat earlier ones, so the small run is spelled again.
    let run = |folder: &str, table: &str, more: &[&str]| {
        let base =
            ["pretrain", table, "--images", "phantom/images", "--labels", "Lung", "-o", folder, "--cache", "squares"];
        let input = ["--size", "64", "--crop", "whole", "--batch", "4", "--validation", "0.25"];
        s.chestnut(&[&base[..], &input, &tiny, more].concat())
    };
    let mut lines = s.label_lines();
    lines.push("absent.png,new,PA,50,F,0,0,0,0,0,0,0".to_owned());
    s.write("missing.csv", lines.join("\n").as_bytes());
    run("a", "missing.csv", &[]).fails_saying(&["1 of 13 images", "missing.csv", "--max-missing"]);
    assert!(s.text("a/missing.csv").contains("absent.png"));
    run("a", "missing.csv", &["--max-missing", "0.1"]).ends(2).says(&["1 images could not be read"]);

    s.write(
        "range.csv",
        lines.join("\n").replace("absent.png,new,PA,50,F,0,0,0,0,0,0,0", "x.png,p,PA,50,F,7,7,7,7,7,7,7").as_bytes(),
    );
    run("b", "range.csv", &[]).fails_saying(&["range.csv row 14", "Lung is \"7\""]);
    run("b", "phantom/labels.csv", &["--freeze-nothing"]).ends(1);
    for without_name in [&["--half"][..], &["--replace"], &["--licence", "CC0"]] {
        run("b", "phantom/labels.csv", without_name).ends(1).says(&["--name"]);
    }
    // A name that is taken, though by a damaged network, is found out before the training.
    std::fs::create_dir_all(s.path("models/broken")).expect("made");
    s.write("models/broken/model.toml", b"architecture =");
    let taken = run("d", "phantom/labels.csv", &["--name", "broken"]);
    taken.fails_saying(&["broken is already in the store", "--replace"]);
    assert!(!s.path("d").exists());
    run("b", "phantom/labels.csv", &["--patient-column", "mrn"]).fails_saying(&["no column mrn", "patient_id"]);

    s.ingest("phantom/labels.csv", "study").ends(0);
    run("d", "phantom/labels.csv", &["--exclude-study", "study"]).fails_saying(&["no image is left to train on"]);
    run("d", "phantom/labels.csv", &["--exclude-study", "phantom"]).fails_saying(&["--exclude-study", "study.toml"]);

    // What an earlier start missed is there now.
    std::fs::create_dir(s.path("c")).expect("made");
    s.write("c/missing.csv", b"image,reason\nold.png,there is no such file\n");
    run("c", "phantom/labels.csv", &["--net", "densenet121"]).ends(0);
    assert!(!s.has("c/missing.csv"));
    run("c", "phantom/labels.csv", &["--net", "vgg16"]).fails_saying(&["last.safetensors", "network \"densenet121\""]);
    run("c", "phantom/labels.csv", &["--seed", "1"]).fails_saying(&["seed 0, asked is 1"]);
    // What was learned from the old label, or by the old patient, is not what was asked for.
    let lines = s.label_lines();
    let lung = lines[0].split(',').position(|c| c == "Lung").expect("a column");
    let opposite = if lines[1].split(',').nth(lung) == Some("1") { "0" } else { "1" };
    for (name, column, value) in [("cell.csv", lung, opposite), ("patient.csv", 1, "somebody")] {
        let mut lines = lines.clone();
        lines[1] = with_cell(&lines[1], column, value);
        s.write(name, lines.join("\n").as_bytes());
        run("c", name, &[]).fails_saying(&["last.safetensors", "another table"]);
    }
    let cut = s.read("c/last.safetensors");
    s.write("c/last.safetensors", &cut[..cut.len() / 2]);
    run("c", "phantom/labels.csv", &["--net", "densenet121"]).fails_saying(&["last.safetensors"]);
}
