//! Tests of the store: networks in and out, refusals that leave nothing behind, files changed afterwards.

use super::*;
use crate::head::Head;
use crate::read::safetensors::{META_CONDITIONAL, META_HEAD, META_TAUGHT_ON};
use std::collections::BTreeMap;

fn export(folder: &Path, architecture: Architecture, head: &Head) -> PathBuf {
    let path = folder.join("source.safetensors");
    let weights = weights::seeded(&architecture.graph(head), 3);
    write_safetensors(&path, &weights, &BTreeMap::new(), false).expect("written");
    path
}

#[test]
fn a_network_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let file = export(folder.path(), Architecture::DenseNet121, &Head::chexpert());
    let added = add(&store, &file, "mine", None, &AddOptions::default()).expect("fits");
    assert_eq!(added.architecture, "densenet121");
    assert_eq!(
        added.head,
        Head { labels: Vec::new(), ..Head::chexpert() },
        "14 outputs of such a file can be anything's"
    );
    assert!(added.notes.iter().any(|n| n.contains("14 outputs") && n.contains("--labels")), "{:?}", added.notes);
    assert_eq!((added.licence.as_str(), added.standardisation.as_str()), ("not stated", "imagenet"));
    let (record, graph, weights) = load(&store, "mine").expect("loads");
    assert_eq!(record, added);
    assert_eq!(weights, weights::seeded(&graph, 3));
    assert_eq!(verify(&store, "mine").expect("unchanged"), added);
    assert!(load_verified(&store, "mine").expect("unchanged").2 == weights);
    let listed = list(&store).expect("listed");
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [crate::shipped::NAME, "mine"], "no unfinished folder is left");

    let error = add(&store, &file, "mine", None, &AddOptions::default()).expect_err("taken");
    assert!(matches!(error, StoreError::Exists(_)));
    let notes = vec!["trained on phantoms".to_owned()];
    let options = AddOptions { replace: true, input_size: Some(256), notes, ..AddOptions::default() };
    let replaced = add(&store, &file, "mine", None, &options).expect("replaced");
    assert_eq!((replaced.input_size, replaced.notes.contains(&options.notes[0])), (256, true));
    assert_eq!(fs::read_dir(&store).expect("listed").count(), 1);

    // A weight file of the store is itself a source, and keeps its head.
    let again = add(&store, &store.join("mine").join(WEIGHTS_FILE), "copy", None, &options).expect("fits");
    assert_eq!(again.head, added.head);
}

#[test]
fn conditional_outputs_are_known_from_the_file_and_kept_in_copies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let file = folder.path().join("source.safetensors");
    let weights = weights::seeded(&Architecture::Vgg16.graph(&Head::chexpert()), 3);
    let conditional = BTreeMap::from([("Pneumonia".to_owned(), "Consolidation".to_owned())]);
    let text = serde_json::to_string(&conditional).expect("JSON");
    let head = serde_json::to_string(&Head::chexpert()).expect("JSON");
    let metadata = BTreeMap::from([(META_CONDITIONAL.to_owned(), text), (META_HEAD.to_owned(), head)]);
    write_safetensors(&file, &weights, &metadata, false).expect("written");
    let added = add(&store, &file, "mine", None, &AddOptions::default()).expect("fits");
    assert_eq!(added.conditional, conditional);
    assert_eq!(record(&store, "mine").expect("read"), added);
    let copy = add(&store, &store.join("mine").join(WEIGHTS_FILE), "copy", None, &AddOptions::default());
    assert_eq!(copy.expect("fits").conditional, conditional);
    let labels = (0..14).map(|i| i.to_string()).collect();
    let options = AddOptions { head: HeadHint { labels: Some(labels), activations: None }, ..AddOptions::default() };
    let renamed = add(&store, &file, "renamed", None, &options).expect("fits");
    assert!(renamed.conditional.is_empty() && renamed.notes.iter().any(|n| n.contains("renamed")));
}

#[test]
fn films_that_taught_a_network_stay_known_in_copies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let file = folder.path().join("source.safetensors");
    let weights = weights::seeded(&Architecture::Vgg16.graph(&Head::none()), 3);
    let write = |text: &str| {
        let metadata = BTreeMap::from([(META_TAUGHT_ON.to_owned(), text.to_owned())]);
        write_safetensors(&file, &weights, &metadata, false).expect("written");
    };
    write("[\"0123456789abcdef\"]");
    let added = add(&store, &file, "mine", None, &AddOptions::default()).expect("fits");
    assert_eq!(added.taught_on, ["0123456789abcdef"]);
    assert_eq!(record(&store, "mine").expect("read"), added);
    let copy = add(&store, &store.join("mine").join(WEIGHTS_FILE), "copy", None, &AddOptions::default());
    assert_eq!(copy.expect("fits").taught_on, added.taught_on);
    // A list that cannot be read must not be taken for none.
    write("0123456789abcdef");
    let error = add(&store, &file, "other", None, &AddOptions::default()).expect_err("no list").to_string();
    assert!(error.contains(META_TAUGHT_ON), "{error}");
}

#[test]
fn nothing_is_left_of_a_network_that_does_not_fit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let file = export(folder.path(), Architecture::Vgg16, &Head::none());
    let wrong = add(&store, &file, "v", Some(Architecture::Vgg19), &AddOptions::default()).expect_err("VGG16");
    assert!(wrong.to_string().contains("vgg19") && wrong.to_string().contains("block3_conv4"), "{wrong}");
    assert!(!store.join("v").exists());
    for name in ["", ".hidden", "../up", "a/b", "a b", "-x"] {
        let error = add(&store, &file, name, None, &AddOptions::default()).expect_err("bad name");
        assert!(matches!(error, StoreError::Name(_)), "{name}");
    }
    let options = AddOptions { standardisation: Some("caffe".into()), ..AddOptions::default() };
    let error = add(&store, &file, "v", None, &options).expect_err("unknown").to_string();
    assert!(error.contains("keras-caffe"), "{error}");
    let labels = HeadHint { labels: Some(vec!["one".into()]), activations: None };
    let options = AddOptions { head: labels, ..AddOptions::default() };
    let error = add(&store, &file, "v", None, &options).expect_err("no head");
    assert!(error.to_string().contains("1 labels were given, but the network has 0 outputs"), "{error}");
    assert!(matches!(load(&store, "v"), Err(StoreError::Absent { .. })));
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that did not run says so")]
fn a_network_is_there_at_every_moment_of_its_replacement() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [one, other, target] = ["one", "other", "net"].map(|name| folder.path().join(name));
    fs::create_dir(&one).expect("made");
    fs::create_dir(&other).expect("made");
    if !swap(&one, &other) {
        eprintln!("SKIPPED: {} cannot swap two folders", folder.path().display());
        return;
    }
    let replace = || {
        let unfinished = Unfinished::new(folder.path(), "net").expect("made");
        fs::write(unfinished.path.join(RECORD_FILE), "new").expect("written");
        unfinished.publish(&target).expect("published");
    };
    replace();
    std::thread::scope(|scope| {
        let replacing = scope.spawn(|| (0..300).for_each(|_| replace()));
        while !replacing.is_finished() {
            assert!(target.exists(), "absent for a moment");
        }
    });
    assert_eq!(fs::read_to_string(target.join(RECORD_FILE)).expect("whole"), "new");
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 3, "nothing is left beside it");
}

#[test]
fn a_hash_that_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = export(folder.path(), Architecture::Vgg16, &Head::none());
    let added = add(folder.path(), &file, "v", None, &AddOptions::default()).expect("fits");
    assert!(added.short_hash().len() == 12 && added.weights_sha256.starts_with(added.short_hash()));
    let path = folder.path().join("v").join(RECORD_FILE);
    let text = fs::read_to_string(&path).expect("text");
    let hash = added.weights_sha256.clone();
    // Byte 12 of the first lies within a character.
    for bad in ["Prüfsumme ü ü unbekannt".to_owned(), String::new(), hash.to_uppercase(), hash[1..].to_owned()] {
        fs::write(&path, text.replace(&hash, &bad)).expect("written");
        let error = record(folder.path(), "v").expect_err("no hash").to_string();
        assert!(error.contains("weights_sha256 is"), "{error}");
        let edited = ModelRecord { weights_sha256: bad, ..added.clone() };
        assert!(edited.weights_sha256.starts_with(edited.short_hash()));
    }
}

#[test]
fn a_changed_file_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = export(folder.path(), Architecture::Vgg16, &Head::none());
    add(folder.path(), &file, "v", None, &AddOptions::default()).expect("fits");
    let path = folder.path().join("v").join(WEIGHTS_FILE);
    let mut bytes = fs::read(&path).expect("bytes");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("written");
    assert!(load(folder.path(), "v").is_ok(), "a small change is still a network");
    assert!(matches!(verify(folder.path(), "v"), Err(StoreError::Hash { .. })));
    bytes[last - 3..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).expect("written");
    let error = load(folder.path(), "v").expect_err("NaN").to_string();
    assert!(error.contains("NaN"), "{error}");
    fs::write(&path, &bytes[..last]).expect("written");
    assert!(load(folder.path(), "v").is_err(), "truncated");
}
