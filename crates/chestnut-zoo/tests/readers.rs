//! Weight readers against files written by Keras itself, and against damaged and misleading ones.
//!
//! `fixtures/` holds tiny models in every container format with the values that must be found in them
//! (`scripts/make_weight_fixtures.py`). Full-size files in `models/` are used where they exist; tests without them say
//! that they were skipped.

use chestnut_zoo::Architecture;
use chestnut_zoo::graph::{Graph, Op};
use chestnut_zoo::head::{Activation, CHEXPERT_14, Head, HeadLayer};
use chestnut_zoo::read::{HeadHint, ReadError, ReadOptions, SourceFormat, SourceLayer, SourceModel, read};
use chestnut_zoo::weights::{Tensor, Weights, seeded};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
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

/// A file's content as some other program would hold it: one layer per node, under `rename`d names.
fn source(weights: &Weights, rename: impl Fn(&str) -> String) -> SourceModel {
    let mut layers: Vec<SourceLayer> = Vec::new();
    for (name, tensor) in weights {
        let split = name.find(".depthwise.").or_else(|| name.find(".pointwise.")).or_else(|| name.rfind('.'));
        let (layer, kind) = name.split_at(split.expect("a kind"));
        let layer = rename(layer);
        if !layers.iter().any(|l| l.name == layer) {
            layers.push(SourceLayer { name: layer.clone(), ..SourceLayer::default() });
        }
        let place = layers.iter_mut().find(|l| l.name == layer).expect("just added");
        place.tensors.push((kind[1..].to_owned(), tensor.clone()));
    }
    SourceModel {
        format: SourceFormat::KerasHdf5Weights,
        input_size: None,
        layers,
        recorded: chestnut_zoo::read::Recorded::default(),
        notes: Vec::new(),
    }
}

fn with_head(layers: &[(usize, Activation)]) -> Head {
    Head { layers: layers.iter().map(|&(units, activation)| HeadLayer { units, activation }).collect(), labels: vec![] }
}

#[test]
fn session_counters_are_matched_by_their_order() {
    let graph = Architecture::Xception.graph(&Head::chexpert());
    let weights = seeded(&graph, 1);
    let renamed =
        source(&weights, |layer| match layer.strip_prefix("conv2d").or(layer.strip_prefix("batch_normalization")) {
            Some("") => format!("{layer}_8"),
            // 8, 9, 10, 11: alphabetical order would be wrong.
            Some(number) => {
                let stem = layer.trim_end_matches(number);
                format!("{stem}_{}", number[1..].parse::<usize>().expect("a number") + 8)
            }
            None => layer.replace("head.0", "dense_3"),
        });
    assert_eq!(renamed.guess(&HeadHint::default()).expect("fits"), Architecture::Xception);
    let fitted = renamed.fit(Architecture::Xception, &HeadHint::default()).expect("fits");
    assert_eq!(fitted.weights, weights);
    assert_eq!(fitted.head, Head::chexpert());
    assert!(fitted.notes.iter().any(|n| n.contains("sigmoid")), "assumptions are noted: {:?}", fitted.notes);
}

#[test]
fn what_does_not_fit_is_listed() {
    let weights = seeded(&Architecture::Vgg16.graph(&Head::none()), 1);
    let fit = |weights: &Weights, architecture: Architecture| {
        source(weights, str::to_owned)
            .fit(architecture, &HeadHint::default())
            .map(|_| ())
            .expect_err("does not fit")
            .to_string()
    };
    let wrong = fit(&weights, Architecture::DenseNet121);
    assert!(wrong.contains("conv1_conv.kernel") && wrong.contains("block1_conv1.bias"), "{wrong}");

    let mut missing = weights.clone();
    missing.remove("block3_conv2.bias");
    assert!(fit(&missing, Architecture::Vgg16).contains("1 tensors missing: block3_conv2.bias"));

    let mut extra = weights.clone();
    extra.insert("side_conv.kernel".into(), Tensor { shape: vec![1, 1, 1, 1], data: vec![0.0] });
    assert!(fit(&extra, Architecture::Vgg16).contains("side_conv.kernel"));

    let mut reshaped = weights.clone();
    reshaped.insert("block5_conv3.bias".into(), Tensor { shape: vec![2, 256], data: vec![0.0; 512] });
    assert!(fit(&reshaped, Architecture::Vgg16).contains("block5_conv3.bias is [2, 256], needed [512]"));

    for bad in [f32::NAN, f32::INFINITY] {
        let mut poisoned = weights.clone();
        poisoned.get_mut("block4_conv1.kernel").expect("there").data[77] = bad;
        let error = fit(&poisoned, Architecture::Vgg16);
        assert!(error.contains("NaN or infinity: block4_conv1.kernel"), "{error}");
    }
    let guess = source(&missing, str::to_owned).guess(&HeadHint::default()).expect_err("nothing fits").to_string();
    assert!(guess.contains("vgg16") && guess.contains("block3_conv2.bias"), "{guess}");
}

#[test]
fn every_head_is_welcome() {
    let two = with_head(&[(128, Activation::Relu), (2, Activation::Linear)]);
    let weights = seeded(&Architecture::Vgg16.graph(&two), 1);
    let file = source(&weights, |l| l.replace("head.0", "dense_11").replace("head.1", "dense_12"));

    // What the user says.
    let hint = HeadHint {
        labels: Some(vec!["ill".into(), "well".into()]),
        activations: Some(vec![Activation::Relu, Activation::Linear]),
    };
    let fitted = file.clone().fit(Architecture::Vgg16, &hint).expect("fits");
    assert_eq!((fitted.head.layers, fitted.head.labels), (two.layers, vec!["ill".to_owned(), "well".to_owned()]));
    assert_eq!(fitted.weights, weights);
    let short = HeadHint { labels: Some(vec!["ill".into()]), activations: None };
    assert!(matches!(file.clone().fit(Architecture::Vgg16, &short), Err(ReadError::Labels { given: 1, outputs: 2 })));

    // What the configuration says: an activation of its own layer, and one that is not known here.
    let dense = |file: &SourceModel| file.layers.iter().position(|l| l.name == "dense_12").expect("there");
    let mut configured = file.clone();
    for layer in &mut configured.layers {
        let (class, activation) = match layer.name.as_str() {
            "dense_11" => ("Dense", "relu"),
            "dense_12" => ("Dense", "linear"),
            _ => ("Conv2D", "relu"),
        };
        (layer.class, layer.activation) = (Some(class.to_owned()), Some(activation.to_owned()));
    }
    let behind = |class: &str, activation: Option<&str>| SourceLayer {
        name: class.to_lowercase(),
        class: Some(class.to_owned()),
        activation: activation.map(str::to_owned),
        ..SourceLayer::default()
    };
    let mut softmax = configured.clone();
    let at = dense(&softmax) + 1;
    softmax.layers.insert(at, behind("Activation", Some("softmax")));
    softmax.layers.insert(at, behind("Dropout", None));
    let fitted = softmax.fit(Architecture::Vgg16, &HeadHint::default()).expect("fits");
    let activations: Vec<_> = fitted.head.layers.iter().map(|l| l.activation).collect();
    assert_eq!(activations, [Activation::Relu, Activation::Softmax]);

    let mut tanh = configured;
    let at = dense(&tanh);
    tanh.layers[at].activation = Some("tanh".into());
    let error = tanh.clone().fit(Architecture::Vgg16, &short).expect_err("labels need a head").to_string();
    assert!(error.contains("tanh"), "{error}");
    let fitted = tanh.fit(Architecture::Vgg16, &HeadHint::default()).expect("the embedding does not need it");
    assert_eq!(fitted.head, Head::none());
    assert!(fitted.notes.iter().any(|n| n.contains("tanh")), "{:?}", fitted.notes);
}

#[test]
fn fully_connected_layers_on_the_flattened_map_are_left_out() {
    let weights = seeded(&Architecture::Vgg16.graph(&Head::none()), 1);
    let mut file = source(&weights, str::to_owned);
    for (name, rows, units) in [("fc1", 25_088, 8), ("fc2", 8, 8), ("predictions", 8, 1000)] {
        let tensors = vec![
            ("kernel".to_owned(), Tensor { shape: vec![rows, units], data: vec![0.0; rows * units] }),
            ("bias".to_owned(), Tensor { shape: vec![units], data: vec![0.0; units] }),
        ];
        file.layers.push(SourceLayer { name: name.into(), tensors, ..SourceLayer::default() });
    }
    let fitted = file.fit(Architecture::Vgg16, &HeadHint::default()).expect("fits without them");
    assert_eq!(fitted.head, Head::none());
    assert_eq!(fitted.weights, weights);
    assert!(fitted.notes.iter().any(|n| n.contains("fc1") && n.contains("flattened")), "{:?}", fitted.notes);
}

#[test]
fn another_epsilon_is_moved_into_the_variance() {
    let graph = Architecture::DenseNet121.graph(&Head::none());
    let weights = seeded(&graph, 1);
    let mut file = source(&weights, str::to_owned);
    for layer in &mut file.layers {
        if layer.name == "conv1_bn" {
            layer.epsilon = Some(0.5);
        }
    }
    let fitted = file.fit(Architecture::DenseNet121, &HeadHint::default()).expect("fits");
    let (old, new) = (&weights["conv1_bn.moving_variance"].data, &fitted.weights["conv1_bn.moving_variance"].data);
    for (old, new) in old.iter().zip(new) {
        assert!((old + 0.5 - (new + 1.001e-5)).abs() < 1e-6, "{old} {new}");
    }
    assert_eq!(weights["bn.moving_variance"], fitted.weights["bn.moving_variance"]);
}

/// The bytes of a pickled dictionary of float tensors as PyTorch writes it, one storage each.
fn pickle(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    fn number(out: &mut Vec<u8>, number: usize) {
        out.push(b'J');
        out.extend((number as u32).to_le_bytes());
    }
    fn tuple(out: &mut Vec<u8>, numbers: &[usize]) {
        out.push(b'(');
        numbers.iter().for_each(|&n| number(out, n));
        out.push(b't');
    }
    let mut out = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec();
    for (key, (name, shape)) in tensors.iter().enumerate() {
        let count = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        number(&mut out, count);
        out.extend(b"tQ");
        number(&mut out, 0);
        tuple(&mut out, shape);
        tuple(&mut out, &strides);
        out.extend(b"\x89h\x00)RtR");
    }
    out.extend(b"u}X\x09\x00\x00\x00_metadataK\x01sb.");
    out
}

fn write_torch(path: &Path, tensors: &[(String, Tensor)]) {
    let index: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let mut archive = zip::ZipWriter::new(File::create(path).expect("created"));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("weights/data.pkl", options).expect("an entry");
    archive.write_all(&pickle(&index)).expect("written");
    for (key, (_, tensor)) in tensors.iter().enumerate() {
        archive.start_file(format!("weights/data/{key}"), options).expect("an entry");
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
        archive.write_all(&bytes).expect("written");
    }
    archive.finish().expect("written");
}

/// torchvision's name and layout of one of our DenseNet tensors.
fn to_torch(name: &str, tensor: &Tensor) -> (String, Tensor) {
    let (layer, kind) = name.rsplit_once('.').expect("a kind");
    let module = match layer {
        "conv1_conv" => "features.conv0".to_owned(),
        "conv1_bn" => "features.norm0".to_owned(),
        "bn" => "features.norm5".to_owned(),
        "head.0" => "classifier".to_owned(),
        _ => {
            let parts: Vec<&str> = layer.split('_').collect();
            let number = |text: &str| text.trim_start_matches(char::is_alphabetic).parse::<usize>().expect("a number");
            match parts[..] {
                [pool, part] => {
                    format!("features.transition{}.{}", number(pool) - 1, if part == "bn" { "norm" } else { "conv" })
                }
                [block, layer, step, part] => {
                    let (block, layer) = (number(block) - 1, number(layer));
                    let step = number(step) + usize::from(part == "bn");
                    let part = if part == "bn" { "norm" } else { "conv" };
                    format!("features.denseblock{block}.denselayer{layer}.{part}{step}")
                }
                _ => panic!("{layer}"),
            }
        }
    };
    let parameter = match kind {
        "kernel" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        "moving_mean" => "running_mean",
        _ => "running_var",
    };
    let tensor = match tensor.shape[..] {
        [h, w, i, o] if kind == "kernel" => {
            let mut data = vec![0.0; tensor.data.len()];
            for (index, &value) in tensor.data.iter().enumerate() {
                let (y, x, c, f) = (index / (w * i * o), index / (i * o) % w, index / o % i, index % o);
                data[((f * i + c) * h + y) * w + x] = value;
            }
            Tensor { shape: vec![o, i, h, w], data }
        }
        [i, o] => {
            let mut data = vec![0.0; tensor.data.len()];
            for (index, &value) in tensor.data.iter().enumerate() {
                data[index % o * i + index / o] = value;
            }
            Tensor { shape: vec![o, i], data }
        }
        _ => tensor.clone(),
    };
    (format!("{module}.{parameter}"), tensor)
}

#[test]
fn a_torch_state_dictionary_becomes_keras_densenet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weights.pt");
    let head = with_head(&[(18, Activation::Sigmoid)]);
    let graph: Graph = Architecture::DenseNet121.graph_with_channels(&head, 1);
    let weights = seeded(&graph, 1);
    let torch: Vec<(String, Tensor)> = weights.iter().map(|(name, tensor)| to_torch(name, tensor)).collect();
    write_torch(&path, &torch);
    let model = read(&path, &ReadOptions::default()).expect("a dictionary of tensors");
    assert_eq!(model.format, SourceFormat::TorchStateDict);
    let fitted = model.fit(Architecture::DenseNet121, &HeadHint::default()).expect("fits");
    assert_eq!(fitted.graph.input_channels(), 1);
    assert_eq!(fitted.head.labels.first().map(String::as_str), Some("Atelectasis"));
    for (name, tensor) in &weights {
        let found = &fitted.weights[name];
        assert_eq!(found.shape, tensor.shape, "{name}");
        let close = found.data.iter().zip(&tensor.data).all(|(a, b)| (a - b).abs() < 1e-7);
        assert!(if name.ends_with("variance") { close } else { found == tensor }, "{name}");
    }

    // A storage that is shorter than its tensor, and an entry cut off.
    let mut short = torch.clone();
    short[3].1.data.pop();
    write_torch(&path, &short);
    assert!(matches!(read(&path, &ReadOptions::default()), Err(ReadError::Broken(_))));
    write_torch(&path, &torch[..5]);
    let bytes = fs::read(&path).expect("bytes");
    for i in 0..40 {
        fs::write(&path, &bytes[..bytes.len() * i / 40]).expect("written");
        assert!(read(&path, &ReadOptions::default()).is_err());
    }
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
