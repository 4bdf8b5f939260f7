//! Bad weight files: of another network, truncated, holding NaN, or changed after they were added.
//!
//! Each is refused with a message that names the file, says what does not fit and what to do; the model store and the
//! studies stay as they were. The files are made from formula weights, so that none needs to be fetched.

#![allow(missing_docs)]

mod common;

use chestnut_zoo::read::safetensors::{read_safetensors, write_safetensors};
use chestnut_zoo::weights::{Tensor, Weights, seeded};
use chestnut_zoo::{Architecture, Head};
use common::{NET, NET_FOLDER, Scratch, files};
use std::collections::BTreeMap;

/// A file with formula weights of DenseNet121 without a head.
const FILE: &str = "densenet.safetensors";

fn write(scratch: &Scratch, name: &str, weights: &Weights) {
    write_safetensors(&scratch.path(name), weights, &BTreeMap::new(), false).expect("written");
}

fn with_weights(scratch: Scratch) -> Scratch {
    write(&scratch, FILE, &seeded(&Architecture::DenseNet121.graph(&Head::none()), 0));
    scratch
}

fn with_network(scratch: Scratch) -> Scratch {
    let scratch = with_weights(scratch);
    scratch.chestnut(&["models", "add", FILE, "--name", "mine"]).ends(0).says(&["densenet121", "sha256"]);
    scratch
}

/// Names and sizes of what the store holds.
fn store(scratch: &Scratch) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(scratch.path("models")).into_iter().flatten().flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        found.extend(files(&entry.path()).into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes.len())));
    }
    found.sort();
    found
}

#[test]
fn weights_of_another_network() {
    let s = with_network(Scratch::new());
    let before = store(&s);
    let run = s.chestnut(&["models", "add", FILE, "--name", "other", "--arch", "vgg16"]).ends(1);
    let run = run.says(&[FILE, "do not fit vgg16", "26 tensors missing", "block1_conv1.kernel"]);
    let run = run.says(&["not part of this network", "and 599 more", "--arch"]);
    assert_eq!(run.err.matches("do not fit vgg16").count(), 1, "said once\n{run}");

    let odd = Tensor { shape: vec![3, 3, 3, 8], data: vec![0.5; 216] };
    write(&s, "odd.safetensors", &Weights::from([("stem.kernel".to_owned(), odd)]));
    s.chestnut(&["models", "add", "odd.safetensors", "--name", "odd"]).ends(1).says(&[
        "odd.safetensors",
        "none of the known networks",
        "stem.kernel",
    ]);

    // One tensor of another shape, one missing.
    let mut weights = read_safetensors(&s.path(FILE)).expect("readable").tensors;
    weights.remove("conv1_bn.gamma").expect("a tensor of DenseNet121");
    let kernel = weights.get_mut("conv1_conv.kernel").expect("a tensor of DenseNet121");
    kernel.shape.swap(0, 3);
    write(&s, "bent.safetensors", &weights);
    s.chestnut(&["models", "add", "bent.safetensors", "--name", "bent", "--arch", "densenet121"]).ends(1).says(&[
        "bent.safetensors",
        "conv1_bn.gamma",
        "conv1_conv.kernel is [64, 7, 3, 7], needed [7, 7, 3, 64]",
    ]);
    assert_eq!(store(&s), before, "the store is as it was");
}

#[test]
fn truncated_weights_and_files_that_are_none() {
    let s = with_network(Scratch::new());
    let before = store(&s);
    let whole = s.read(FILE);
    s.write("cut.safetensors", &whole[..whole.len() / 2]);
    s.write("cut.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0");
    s.write("cut.keras", b"PK\x03\x04\x14\0\0\0\0\0");
    for file in ["cut.safetensors", "cut.h5", "cut.keras"] {
        let run = s.chestnut(&["models", "add", file, "--name", "cut"]);
        run.fails_saying(&[file, "damaged or incomplete", "fetch or save it again"]);
    }
    s.write("page.h5", b"<html>404</html>");
    s.chestnut(&["models", "add", "page.h5", "--name", "page"]).fails_saying(&[
        "page.h5",
        "not a weight file",
        ".keras",
    ]);
    s.write("pointer.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    s.chestnut(&["models", "add", "pointer.h5", "--name", "p"]).fails_saying(&["pointer.h5", "Git LFS", "fetch"]);
    s.chestnut(&["models", "add", "none.h5", "--name", "none"]).fails_saying(&["none.h5", "No such file"]);
    assert_eq!(store(&s), before, "the store is as it was");
    s.chestnut(&["models", "list"]).ends(0).says(&["mine", "densenet121"]);
}

#[test]
fn nan_in_weights() {
    let s = with_network(Scratch::new());
    let before = store(&s);
    let mut weights = read_safetensors(&s.path(FILE)).expect("readable").tensors;
    for (name, value) in [("conv1_conv.kernel", f32::NAN), ("conv1_bn.beta", f32::INFINITY)] {
        weights.get_mut(name).expect("a tensor of DenseNet121").data[5] = value;
    }
    write(&s, "nan.safetensors", &weights);
    let run = s.chestnut(&["models", "add", "nan.safetensors", "--name", "mine", "--replace"]).ends(1);
    let run = run.says(&["nan.safetensors", "NaN or infinity", "conv1_conv.kernel", "conv1_bn.beta"]);
    assert_eq!(run.err.matches("conv1_conv.kernel").count(), 1, "said once\n{run}");
    assert_eq!(store(&s), before, "what was to be replaced is still there");
}

#[test]
fn names_and_settings_that_cannot_be() {
    let s = with_network(Scratch::new());
    let add = |more: &[&str]| s.chestnut(&[&["models", "add", FILE][..], more].concat());
    add(&["--name", "mine"]).fails_saying(&["mine", "already in the store", "--replace"]);
    add(&["--name", "../mine"]).fails_saying(&["../mine", "letters, digits"]);
    add(&["--name", "a", "--labels", "x,y"]).fails_saying(&["2 labels", "0 outputs"]);
    add(&["--name", "a", "--arch", "resnet50"]).fails_saying(&["resnet50", "densenet121", "vgg19"]);
    add(&["--name", "a", "--standardisation", "zscore"]).fails_saying(&["zscore", "imagenet", "keras-tf"]);
    add(&["--name", "a", "--input-size", "8"]).fails_saying(&["8", "--input-size"]);
    add(&["--name", "a", "--input-size", "100000"]).fails_saying(&["100000", "--input-size"]);
    // Nothing of a network that was refused is in the store.
    s.chestnut(&["models", "show", "a"]).fails_saying(&["a", "it has: mine"]);
    // What --help lists is taken.
    add(&["--name", "plain", "--standardisation", "none"]).ends(0).says(&["none"]);
    s.write("file", b"");
    add(&["--name", "a", "--models", "file/store"]).fails_saying(&["file/store"]);
}

#[test]
fn weights_that_were_damaged_in_the_store() {
    let s = with_network(Scratch::with_study());
    let shards = || files(&s.path(&format!("study/{NET_FOLDER}")));
    let before = shards();
    let stored = "models/mine/weights.safetensors";
    let good = s.read(stored);
    let mut changed = good.clone();
    // One bit of one weight: still a network, but not the one that was added.
    let last = changed.len() - 2;
    changed[last] ^= 1;
    for bad in [&good[..good.len() / 2], changed.as_slice()] {
        s.write(stored, bad);
        s.chestnut(&["embed", "study", "--net", "mine"]).fails_saying(&["mine/weights.safetensors", "again"]);
    }
    std::fs::remove_file(s.path(stored)).expect("removed");
    s.chestnut(&["embed", "study", "--net", "mine"]).fails_saying(&["mine/weights.safetensors", "No such file"]);
    assert_eq!(before, shards(), "embeddings of other networks are still there");
    s.chestnut(&["compare", "study", "--net", NET]).ends(0);

    s.chestnut(&["models", "add", FILE, "--name", "mine", "--replace"]).ends(0);
    s.chestnut(&["embed", "study", "--net", "mine"]).ends(0);
    s.chestnut(&["compare", "study"]).ends(0).says(&["mine", NET, "Average", "Entropy"]);
}

#[test]
fn no_network_at_all() {
    let s = Scratch::with_phantoms();
    s.ingest("phantom/labels.csv", "study").ends(0);
    s.chestnut(&["embed", "study", "--net", "mine"]).fails_saying(&["mine", "models add"]);
    s.chestnut(&["embed", "study", "--net", "seeded:resnet"]).fails_saying(&["resnet", "densenet121", "vgg19"]);
    s.chestnut(&["compare", "study"]).fails_saying(&["no network was embedded", "chestnut embed study --net"]);
    // The one that ships is taken when there is no other.
    s.chestnut(&["embed", "study"]).ends(0).says(&["chestnut-densenet121"]);
    s.chestnut(&["models", "list"]).ends(0).says(&[
        "but the one that ships",
        "chestnut models add",
        "chestnut-densenet121",
    ]);
}
