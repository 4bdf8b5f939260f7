//! Fine-tuning, test-time augmentation and export, as a user types them.

#![allow(missing_docs)]

mod common;

use common::{NET, NET_FOLDER, Scratch, files};
use std::process::Stdio;
use std::time::Instant;

const RECORD: &str = "finetuned/seeded-densenet121-block.json";
const WEIGHTS: &str = "models/seeded-densenet121-block/weights.safetensors";

#[test]
fn last_blocks_are_taught_compared_and_refused_where_they_would_leak() {
    let s = Scratch::new();
    s.chestnut(&["phantom", "-n", "40", "--size", "96", "--seed", "3", "-o", "phantom"]).ends(0);
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", NET]).ends(0);
    let block = ["compare", "study", "--approach", "embeddings,finetuned-block"];
    s.chestnut(&block).fails_saying(&[RECORD, "chestnut finetune study"]);
    s.chestnut(&["finetune", "study", "--epochs", "0"]).fails_saying(&["epochs"]);
    s.chestnut(&["finetune", "study", "--checkpoint-minutes", "0"]).fails_saying(&["--checkpoint-minutes is 0"]);
    let teach = ["finetune", "study", "--net", NET, "--epochs", "2", "--batch", "8"];
    s.chestnut(&teach).ends(0).says(&["validation AUC", "seeded-densenet121-block"]);
    let record: serde_json::Value = serde_json::from_slice(&s.read(&format!("study/{RECORD}"))).expect("JSON");
    assert_eq!(record["predictions"].as_object().expect("a map").len(), 40, "each image is predicted once");
    assert!(record["fits"].as_array().expect("a list").len() > 1, "folds were run");

    // It stands in the tables, and with one network it is one row.
    let comparison = s.compare_json("study");
    let methods = comparison["methods"].as_array().expect("methods");
    let ours = methods.iter().filter(|m| m["approach"] == "Fine-tuning, last block").count();
    assert_eq!(ours, 1, "{comparison:#}");
    let listed = s.chestnut(&["models", "list", "--models", "study/models"]).ends(0);
    listed.says(&["seeded-densenet121-block", "densenet121", "7 outputs"]);

    // The same seed and images give the same bytes, however often it is killed.
    let outputs = || [RECORD, WEIGHTS].map(|name| s.read(&format!("study/{name}")));
    let before = outputs();
    let start = Instant::now();
    s.chestnut(&teach).ends(0);
    let took = start.elapsed();
    assert!(outputs() == before);
    let often = [&teach[..], &["--checkpoint-minutes", "0.00001"]].concat();
    let mut caught = 0;
    for share in [0.7, 0.4, 0.8, 0.55, 0.9] {
        let mut command = s.command(&often);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        std::thread::sleep(took.mul_f64(share));
        caught += u32::from(child.try_wait().expect("its state").is_none());
        let _ = child.kill();
        child.wait().expect("ended");
    }
    assert!(caught > 0, "every run was faster than the kill");
    s.chestnut(&teach).ends(0);
    assert!(outputs() == before, "the same bytes as without a kill");
    assert!(!s.path("study/finetuned/seeded-densenet121-block.unfinished").exists(), "what was kept to go on is gone");

    s.chestnut(&[&block[..], &["--repeats", "2"]].concat()).fails_saying(&["first split"]);
    let repeated = s.chestnut(&["compare", "study", "--repeats", "2", "--quick"]).ends(0);
    repeated.says(&["what finetune taught is left out", "--repeats"]);
    let settings = s.text("study/study.toml");
    s.write("study/study.toml", settings.replacen("seed = 0", "seed = 1", 1).as_bytes());
    s.chestnut(&["compare", "study"]).fails_saying(&["another split", "chestnut finetune"]);

    // Taught here is taught here: from a copy under another name, and with a film less.
    let weights = "study/models/seeded-densenet121-block/weights.safetensors";
    s.chestnut(&["models", "add", weights, "--name", "again"]).ends(0).says(&["taught on"]);
    let lines = s.label_lines();
    s.write("fewer.csv", lines[..lines.len() - 1].join("\n").as_bytes());
    s.ingest("fewer.csv", "study").ends(2);
    s.chestnut(&["embed", "study", "--net", "again"]).ends(0).says(&["39 images"]);
    for command in ["compare", "tune", "explain", "finetune"] {
        let run = s.chestnut(&[command, "study", "--net", "again"]);
        run.fails_saying(&["network again", "was taught by finetune on", "of this study's 39 images", "--net"]);
    }
}

#[test]
fn several_looks_are_part_of_what_a_shard_is() {
    let s = Scratch::with_study();
    let plain = files(&s.path(&format!("study/{NET_FOLDER}")));
    let teach = ["finetune", "study", "--net", NET, "--depth", "head", "--epochs", "1", "--quick"];
    s.chestnut(&teach).ends(0);
    s.chestnut(&["embed", "study", "--net", NET, "--tta", "five"]).ends(0).says(&["12 images,"]);
    assert!(files(&s.path(&format!("study/{NET_FOLDER}"))) != plain);
    s.chestnut(&["embed", "study", "--net", NET, "--tta", "five"]).ends(0).says(&["12 kept from before"]);
    let warnings = s.compare_json("study")["warnings"].to_string();
    for said in ["means over five looks", "Fine-tuning, head is left out", "run embed without --tta"] {
        assert!(warnings.contains(said), "{warnings}");
    }
    // What was taught by one look does not stand beside several, and several teach nothing.
    let taught = ["compare", "study", "--approach", "finetuned-head", "--quick", "--json"];
    for command in [&teach[..], &taught] {
        s.chestnut(command).fails_saying(&["made with --tta", "run embed without --tta"]);
    }
    s.chestnut(&["embed", "study", "--net", NET]).ends(0).says(&["12 images,"]);
    assert!(files(&s.path(&format!("study/{NET_FOLDER}"))) == plain);
    s.chestnut(&taught).ends(0).says(&["Fine-tuning, head"]);
}

/// Teaching again would not mend that.
#[test]
fn an_image_that_another_network_lacks_is_named() {
    let s = Scratch::with_study();
    s.chestnut(&["finetune", "study", "--net", NET, "--depth", "head", "--epochs", "1", "--quick"]).ends(0);
    std::fs::remove_file(s.path("phantom/images/A0-00003.png")).expect("removed");
    let other = format!("{NET}+chexpert");
    s.chestnut(&["embed", "study", "--net", &other]).ends(2).says(&["11 images"]);
    let compare = ["compare", "study", "--quick", "--approach", "embeddings,finetuned-head", "--net"];
    let both = format!("{NET},{other}");
    let run = s.chestnut(&[&compare[..], &[both.as_str()]].concat());
    run.fails_saying(&["lacks 1 of them (A0-00003.png)", "compare with --net seeded:densenet121 alone"]);
    s.chestnut(&[&compare[..], &[NET]].concat()).ends(0);
    let run = s.chestnut(&["compare", "study", "--quick"]).ends(2);
    run.says(&["Fine-tuning, head is left out", "--net seeded:densenet121+chexpert --depth head"]);
}

#[test]
fn networks_are_exported_and_read_again() {
    let s = Scratch::new();
    let export = ["models", "export", "seeded:vgg16", "--onnx", "vgg.onnx", "--safetensors", "vgg.safetensors"];
    s.chestnut(&export).ends(0).says(&["vgg.onnx", "vgg.safetensors"]);
    // 14.7 million values of 4 bytes.
    assert!(s.read("vgg.onnx").len() > 58_000_000);
    s.chestnut(&["models", "add", "vgg.safetensors", "--name", "again"]).ends(0).says(&["vgg16"]);
    s.chestnut(&export).fails_saying(&["vgg.onnx", "already there", "--replace"]);
    s.chestnut(&[&export[..], &["--replace", "--half"]].concat()).ends(0);
    assert!(s.read("vgg.safetensors").len() < 30_000_000);
    s.chestnut(&["models", "export", "seeded:vgg16", "--onnx", "x.onnx", "--input-size", "9"]).fails_saying(&["9"]);
    let run = s.chestnut(&["models", "export", "seeded:vgg16"]).ends(1);
    assert!(run.err.contains("--onnx"), "{run}");
}
