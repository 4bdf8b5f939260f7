//! State dictionaries of PyTorch, written here byte by byte.

use crate::with_head;
use chestnut_zoo::Architecture;
use chestnut_zoo::graph::Graph;
use chestnut_zoo::head::Activation;
use chestnut_zoo::read::{HeadHint, ReadError, ReadOptions, SourceFormat, read};
use chestnut_zoo::weights::{Tensor, seeded};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

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

    // As many outputs as CheXpert has labels, in a file that can just as well have ChestX-ray14's.
    let graph = Architecture::DenseNet121.graph(&with_head(&[(14, Activation::Sigmoid)]));
    let fourteen: Vec<(String, Tensor)> = seeded(&graph, 1).iter().map(|(name, t)| to_torch(name, t)).collect();
    write_torch(&path, &fourteen);
    let model = read(&path, &ReadOptions::default()).expect("a dictionary of tensors");
    let fitted = model.fit(Architecture::DenseNet121, &HeadHint::default()).expect("fits");
    assert!(fitted.head.labels.is_empty(), "{:?}", fitted.head.labels);
    assert!(fitted.notes.iter().any(|n| n.contains("14 outputs") && n.contains("--labels")), "{:?}", fitted.notes);

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
