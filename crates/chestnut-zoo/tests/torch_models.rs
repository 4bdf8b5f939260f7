//! Whole saved PyTorch models, old and new, and what must not come of them.
//!
//! `fixtures/torch_models.zip` holds a small DenseNet under TorchXRayVision's class names as `torch.save(model)` writes it
//! (`scripts/make_torch_fixtures.py`); each tensor holds the formula values of its PyTorch name.

use chestnut_zoo::read::{ReadError, ReadOptions, SourceFormat, SourceModel, read};
use chestnut_zoo::weights::{Tensor, unit_sequence};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// Our layers in order, and PyTorch's modules.
const LAYERS: [(&str, &str); 10] = [
    ("conv1_conv", "features.conv0"),
    ("conv1_bn", "features.norm0"),
    ("conv2_block1_0_bn", "features.denseblock1.denselayer1.norm1"),
    ("conv2_block1_1_conv", "features.denseblock1.denselayer1.conv1"),
    ("conv2_block1_1_bn", "features.denseblock1.denselayer1.norm2"),
    ("conv2_block1_2_conv", "features.denseblock1.denselayer1.conv2"),
    ("pool2_bn", "features.transition1.norm"),
    ("pool2_conv", "features.transition1.conv"),
    ("bn", "features.norm5"),
    ("classifier", "classifier"),
];

/// Name and bytes of every fixture.
fn files() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch_models.zip");
    let file = File::open(path).expect("the fixtures are part of the repository");
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

fn read_bytes(folder: &Path, name: &str, bytes: &[u8]) -> Result<SourceModel, ReadError> {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    read(&path, &ReadOptions::default())
}

/// The formula values of a PyTorch tensor in our layout.
fn wanted(torch: &str, shape: &[usize]) -> Vec<f32> {
    let values: Vec<f32> = unit_sequence(torch, 0).take(shape.iter().product()).collect();
    match *shape {
        [h, w, i, o] => (0..h * w * i * o)
            .map(|at| {
                let (y, x, c, f) = (at / (w * i * o), at / (i * o) % w, at / o % i, at % o);
                values[((f * i + c) * h + y) * w + x]
            })
            .collect(),
        [i, o] => (0..i * o).map(|at| values[at % o * i + at / o]).collect(),
        _ => values,
    }
}

#[test]
fn whole_models_give_every_tensor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = files();
    assert_eq!(files.len(), 3);
    for (file, bytes) in files {
        let model = read_bytes(folder.path(), &file, &bytes).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(model.format, SourceFormat::TorchModel, "{file}");
        assert!(model.notes.iter().any(|n| n.contains("torchxrayvision.models.DenseNet")), "{file}: {:?}", model.notes);
        let names: Vec<&str> = model.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, LAYERS.map(|l| l.0), "{file}");
        for (layer, (_, module)) in model.layers.iter().zip(LAYERS) {
            let norm = layer.class.as_deref() == Some("BatchNormalization");
            assert_eq!(layer.epsilon, norm.then_some(1e-5), "{file}: {module}");
            let kinds: Vec<&str> = layer.tensors.iter().map(|(kind, _)| kind.as_str()).collect();
            let expected: &[&str] = match layer.class.as_deref() {
                Some("BatchNormalization") => &["gamma", "beta", "moving_mean", "moving_variance"],
                Some("Dense") => &["kernel", "bias"],
                _ => &["kernel"],
            };
            assert_eq!(kinds, expected, "{file}: {module}");
            for (kind, Tensor { shape, data }) in &layer.tensors {
                let parameter = match kind.as_str() {
                    "kernel" | "gamma" => "weight",
                    "bias" | "beta" => "bias",
                    "moving_mean" => "running_mean",
                    _ => "running_var",
                };
                assert_eq!(*data, wanted(&format!("{module}.{parameter}"), shape), "{file}: {module}.{parameter}");
            }
        }
        // The buffer of TorchXRayVision's calibration is left out and said; the old file has none.
        assert_eq!(model.notes.iter().any(|n| n.contains("op_threshs")), file != "model_legacy.pt", "{file}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (file, bytes) in files() {
        let ends = (0..bytes.len()).step_by(61).chain(bytes.len() - 64..bytes.len());
        for length in ends {
            assert!(read_bytes(folder.path(), &file, &bytes[..length]).is_err(), "{file} cut to {length}");
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (file, bytes) in files() {
        let mut draws = unit_sequence(&file, 1);
        let mut below = |n: usize| (draws.next().expect("endless") * n as f32) as usize;
        let mut refused = 0;
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            // Most damage goes to the pickles.
            let reach = if below(4) == 0 { damaged.len() } else { damaged.len() * 3 / 5 };
            let at = below(reach).min(reach - 1);
            damaged[at] ^= 1 << below(8).min(7);
            match read_bytes(folder.path(), &file, &damaged) {
                Err(_) => refused += 1,
                Ok(model) => assert!(model.layers.len() <= LAYERS.len(), "{file}"),
            }
        }
        assert!(refused > 0, "{file}: no damage at all was noticed");
    }
}

#[test]
fn names_from_elsewhere_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, bytes) = files().into_iter().find(|(name, _)| name == "model_legacy.pt").expect("a fixture");
    // The same length, so that nothing else of the file is wrong.
    for (name, hostile) in [
        ("torch.nn.modules.linear\nLinear\n", "torch.nn.modulez.linear\nLinear\n"),
        (
            "torch.nn.backends.thnn\n_get_thnn_function_backend\n",
            "torch.nn.backends.thnn\n_get_evil_function_backend\n",
        ),
    ] {
        assert_eq!(name.len(), hostile.len());
        let at = bytes.windows(name.len()).position(|w| w == name.as_bytes()).expect("in the file");
        let mut changed = bytes.clone();
        changed[at..at + name.len()].copy_from_slice(hostile.as_bytes());
        let error = read_bytes(folder.path(), &file, &changed).expect_err("refused").to_string();
        let shown = hostile.trim_end().replace('\n', ".");
        assert!(error.contains(&shown) && error.contains("state_dict"), "{error}");
    }
    // Another pickled object.
    let error = read_bytes(folder.path(), "other.pt", b"\x80\x02cos\nsystem\nU\x02id\x85R.").expect_err("refused");
    assert!(error.to_string().contains("other.pt is a pickled Python object"), "{error}");
}
