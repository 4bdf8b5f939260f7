//! Weight readers against files written by Keras itself, and against damaged and misleading ones.
//!
//! `fixtures/` holds tiny models in every container format with the values that must be found in them
//! (`scripts/make_weight_fixtures.py`). Full-size files in `models/` are used where they exist; tests without them say
//! that they were skipped.

mod names;
mod torch;

use chestnut_zoo::Architecture;
use chestnut_zoo::graph::Op;
use chestnut_zoo::head::{Activation, CHEXPERT_14, Head, HeadLayer};
use chestnut_zoo::read::{HeadHint, ReadError, ReadOptions, SourceFormat, SourceModel, read};
use chestnut_zoo::weights::{Tensor, seeded};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Name and bytes of every fixture.
fn fixture_files() -> Vec<(String, Vec<u8>)> {
    let file = File::open(fixtures().join("weight_files.zip")).expect("the fixtures are part of the repository");
    let mut archive = zip::ZipArchive::new(file).expect("a zip archive");
    (0..archive.len())
        .map(|i| {
            let mut entry = archive.by_index(i).expect("an entry");
            let name = entry.name().expect("a name").into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            (name, bytes)
        })
        .collect()
}

fn expected() -> Value {
    let text = fs::read_to_string(fixtures().join("expected.json")).expect("the fixtures are part of the repository");
    serde_json::from_str(&text).expect("JSON")
}

fn read_bytes(folder: &Path, name: &str, bytes: &[u8]) -> Result<SourceModel, ReadError> {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    read(&path, &ReadOptions::default())
}

/// Layer, kind and tensor, one after the other.
fn tensors(model: &SourceModel) -> Vec<(&str, &str, &Tensor)> {
    model
        .layers
        .iter()
        .flat_map(|l| l.tensors.iter().map(|(kind, tensor)| (l.name.as_str(), kind.as_str(), tensor)))
        .collect()
}

#[test]
fn every_container_format_gives_every_tensor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let document = expected();
    let files = fixture_files();
    assert_eq!(files.len(), document["files"].as_object().expect("files").len());
    for (name, bytes) in files {
        let model = read_bytes(folder.path(), &name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let key = document["files"][&name]["model"].as_str().expect("a model");
        let wanted = document["models"][key].as_array().expect("tensors");
        let found = tensors(&model);
        assert_eq!(found.len(), wanted.len(), "{name}: number of tensors");
        for tensor in wanted {
            let text = |field: &str| tensor[field].as_str().expect("a text").to_owned();
            let (canonical, layer, kind) = (text("canonical"), text("layer"), text("kind"));
            let (_, _, values) = *found
                .iter()
                .find(|(l, k, _)| (*l == layer && *k == kind) || format!("{l}.{k}") == canonical)
                .unwrap_or_else(|| panic!("{name}: {layer}/{kind} is missing"));
            let shape: Vec<u64> = values.shape.iter().map(|&d| d as u64).collect();
            assert_eq!(Value::from(shape), tensor["shape"], "{name}: shape of {canonical}");
            for (i, first) in tensor["first"].as_array().expect("values").iter().enumerate() {
                assert_eq!(values.data[i], first.as_f64().expect("a number") as f32, "{name}: {canonical}[{i}]");
            }
        }
    }
}

#[test]
fn configurations_say_size_classes_and_activations() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in fixture_files() {
        let model = read_bytes(folder.path(), &name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let format = match name.as_str() {
            n if n.ends_with(".weights.h5") => SourceFormat::KerasV3Weights,
            n if n.ends_with(".keras") => SourceFormat::KerasV3,
            n if n.ends_with(".safetensors") => SourceFormat::Safetensors,
            "tiny_keras2_weights.h5" | "tiny_keras2_split.h5" => SourceFormat::KerasHdf5Weights,
            _ => SourceFormat::KerasHdf5Model,
        };
        assert_eq!(model.format, format, "{name}");
        if !matches!(format, SourceFormat::KerasV3 | SourceFormat::KerasHdf5Model) {
            assert_eq!(model.input_size, None, "{name}: weights only");
            continue;
        }
        assert_eq!(model.input_size, Some(12), "{name}");
        let dense: Vec<_> = model.layers.iter().filter(|l| l.class.as_deref() == Some("Dense")).collect();
        let activations: Vec<_> = dense.iter().map(|l| l.activation.as_deref().expect("an activation")).collect();
        let wanted: &[&str] = if name.contains("nested") { &["relu", "linear"] } else { &["sigmoid"] };
        assert_eq!(activations, wanted, "{name}");
        let norm = model.layers.iter().find(|l| l.name.ends_with("bn")).expect("a batch normalisation");
        assert_eq!(norm.epsilon, Some(1.001e-5), "{name}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in fixture_files() {
        let mut lengths: Vec<usize> = (0..64).collect();
        lengths.extend((0..60).map(|i| bytes.len() * i / 60));
        lengths.extend((1..=16).map(|i| bytes.len() - i));
        for length in lengths {
            let cut = read_bytes(folder.path(), &name, &bytes[..length]);
            assert!(cut.is_err(), "{name} cut to {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for (name, bytes) in fixture_files() {
        let mut refused = 0;
        for round in 0..150 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                // Half of the damage goes to the first part, where structure is densest.
                let reach = if round % 2 == 0 { damaged.len() } else { damaged.len().min(4096) };
                let at = next() % reach;
                damaged[at] = match round % 3 {
                    0 => 0xFF,
                    1 => damaged[at] ^ (1 << (next() % 8)),
                    _ => next() as u8,
                };
            }
            match read_bytes(folder.path(), &name, &damaged) {
                Err(_) => refused += 1,
                Ok(model) => assert!(model.layers.len() < 1000, "{name}"),
            }
        }
        assert!(refused > 0, "{name}: no damage at all was noticed");
    }
}

fn with_head(layers: &[(usize, Activation)]) -> Head {
    Head { layers: layers.iter().map(|&(units, activation)| HeadLayer { units, activation }).collect(), labels: vec![] }
}

#[test]
fn full_size_files_of_every_format_are_exact() {
    let folder = models().join("formula");
    let mut used = 0;
    for architecture in Architecture::ALL {
        for ending in ["keras", "h5", "weights.h5", "legacy.hdf5"] {
            let path = folder.join(format!("{architecture}.{ending}"));
            if !path.is_file() {
                continue;
            }
            used += 1;
            let model = read(&path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{architecture}.{ending}: {e}"));
            assert_eq!(model.guess(&HeadHint::default()).expect("fits"), architecture, "{ending}");
            let fitted = model
                .fit(architecture, &HeadHint::default())
                .unwrap_or_else(|e| panic!("{architecture}.{ending}: {e}"));
            assert_eq!(fitted.head, Head::chexpert(), "{architecture}.{ending}");
            assert_eq!(fitted.head.labels, CHEXPERT_14);
            assert!(fitted.weights == seeded(&fitted.graph, 0), "{architecture}.{ending}: values");
        }
    }
    if used == 0 {
        skipped("no files in models/formula; make them with scripts/make_weight_fixtures.py --full");
    }
}

#[test]
fn a_published_xception_is_read() {
    let path = models().join("pneumonia_xception.keras");
    if !path.is_file() {
        skipped("models/pneumonia_xception.keras is not there; fetch it with scripts/fetch_xception.sh");
        return;
    }
    let model = read(&path, &ReadOptions::default()).expect("a Keras archive");
    assert_eq!(model.input_size, Some(150));
    let fitted = model.fit(Architecture::Xception, &HeadHint::default()).expect("fits");
    let wanted = with_head(&[(128, Activation::Relu), (2, Activation::Linear)]);
    assert_eq!(fitted.head, wanted);
    assert!(fitted.graph.nodes.iter().any(|n| matches!(n.op, Op::Depthwise { .. })));
}
