//! What `compare` keeps of its first split: the models of each approach, and the index of them.
//!
//! Model files are written first and the index last, so that an index names whole files only. Files of an earlier
//! comparison that the new index does not name are removed: a study has no models that its tables do not show.

use super::index::{
    INDEX_FORMAT, KeptApproach, KeptModel, MODELS, ModelIndex, NetworkRecord, TrainingSet, recipes_sha256, sha256,
    weights_sha256,
};
use super::score::Reads;
use super::space::EmbeddingSpace;
use crate::cohort::Cohort;
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::evaluate::calibrate::LabelCalibration;
use crate::study::Study;
use crate::tune::training_hash;
use chestnut_forest::{Features, Forest, MAX_MODEL_BYTES, Model, ModelFile, ModelFileError, ModelInput};
use std::collections::BTreeSet;

/// Bytes that a tree's node, and its share of one label, take in a model file at the least.
const LEAST_NODE: usize = 70;
const LEAST_SHARE: usize = 4;

/// One fitted approach.
pub(crate) struct Kept {
    /// As in the tables.
    pub(crate) name: String,
    /// Settings, for people.
    pub(crate) settings: String,
    /// What the scores are made from.
    pub(crate) reads: Reads,
    /// As many as that needs, in the order of the networks.
    pub(crate) models: Vec<Model>,
    /// Per label, why nothing could be learned.
    pub(crate) untrained: Vec<Option<String>>,
    /// Per label.
    pub(crate) calibrations: Vec<LabelCalibration>,
}

/// Writes `kept` and its index; without any approach, removes what was there. Answers which approaches have models that
/// are too large to be read back and are not kept.
///
/// `training` are the rows of `cohort` that were learned from.
///
/// # Errors
/// Any I/O error, naming the file, or a model that cannot be read back.
pub(crate) fn write(
    study: &Study,
    cohort: &Cohort,
    networks: &[Network],
    tables: &[EmbeddingTable],
    labels: &[String],
    training: &[usize],
    kept: Vec<Kept>,
) -> Result<Vec<String>> {
    let settings = &study.settings;
    let records: Vec<NetworkRecord> = networks.iter().zip(tables).map(|(n, t)| NetworkRecord::of(n, t.width)).collect();
    let before = named(study);
    let (mut approaches, mut said) = (Vec::new(), Vec::new());
    for Kept { name, settings, reads, models, untrained, calibrations } in kept {
        let Some(files) = files(study, &records, labels, &name, &reads, models)? else {
            said.push(format!(
                "{name} is not kept for predict: a model of it would be larger than what is read back ({} MiB)",
                MAX_MODEL_BYTES >> 20
            ));
            continue;
        };
        let mut models = Vec::with_capacity(files.len());
        for (file, bytes) in files {
            study.write(&file, &bytes)?;
            models.push(KeptModel { sha256: sha256(&bytes), file });
        }
        approaches.push(KeptApproach { name, settings, reads, models, untrained, calibrations });
    }
    if approaches.is_empty() {
        remove(study)?;
        return Ok(said);
    }
    let patients: Vec<&str> = cohort.images.iter().map(|i| i.patient.as_str()).collect();
    let own_distances = EmbeddingSpace::new(tables).own_distances(&patients, settings.split.seed);
    let index = ModelIndex {
        format_version: INDEX_FORMAT,
        chestnut: env!("CARGO_PKG_VERSION").to_owned(),
        labels: labels.to_vec(),
        networks: records,
        recipe: settings.recipe.clone(),
        blank: settings.blank.clone(),
        training: TrainingSet {
            images: training.len(),
            patients: training.iter().map(|&i| patients[i]).collect::<BTreeSet<_>>().len(),
            seed: settings.split.seed,
            hash: training_hash(cohort, training),
        },
        cohort_hash: cohort_hash(cohort),
        own_distances,
        approaches,
    };
    let text = serde_json::to_string_pretty(&index).map_err(|e| Error::Request(e.to_string()))?;
    study.write(MODELS, text.as_bytes())?;
    let now: BTreeSet<&str> = index.approaches.iter().flat_map(|a| &a.models).map(|m| m.file.as_str()).collect();
    before.iter().filter(|file| !now.contains(file.as_str())).try_for_each(|file| remove_file(study, file))?;
    Ok(said)
}

/// Name below the study's folder and bytes of each model file of an approach.
type Files = Vec<(String, Vec<u8>)>;

/// The model files of an approach; `None` if one is larger than what is read back, as forests of very large cohorts are.
fn files(
    study: &Study,
    networks: &[NetworkRecord],
    labels: &[String],
    name: &str,
    reads: &Reads,
    models: Vec<Model>,
) -> Result<Option<Files>> {
    let settings = &study.settings;
    let mut files = Vec::new();
    for (at, (model, networks)) in models.into_iter().zip(reads.networks_of(networks)).enumerate() {
        // Known before a gigabyte of text is made of it.
        if least_bytes(&model) > MAX_MODEL_BYTES {
            return Ok(None);
        }
        let input = |network: &NetworkRecord| ModelInput {
            network: network.name.clone(),
            weights_sha256: weights_sha256(&network.weights),
            width: reads.width(network),
        };
        let recipe = recipes_sha256(networks, &settings.recipe, &settings.blank);
        let inputs = networks.iter().map(input).collect();
        let bytes = match ModelFile::new(labels.to_vec(), recipe, inputs, model).and_then(|f| f.to_bytes()) {
            Ok(bytes) => bytes,
            Err(ModelFileError::TooLarge { what: "bytes" | "nodes", .. }) => return Ok(None),
            Err(e) => {
                return Err(Error::Request(format!(
                    "the model of {name} cannot be kept: {e}; compare with --no-models"
                )));
            }
        };
        // Numbered, because different names can be the same in a file name.
        let of = if let [only] = networks { plain(&only.name) } else { "all-networks".to_owned() };
        files.push((format!("models/{}/{}-{of}.json", plain(name), at + 1), bytes));
    }
    Ok(Some(files))
}

/// What a model takes in a file at the least.
fn least_bytes(model: &Model) -> usize {
    let forests: &[Forest] = match model {
        Model::Forest(forest) => std::slice::from_ref(forest),
        Model::SingleForests(forests) => forests.as_slice(),
        Model::LinearProbe(_) => &[],
    };
    let nodes = |f: &Forest| f.trees.iter().map(|t| t.nodes.len()).sum::<usize>();
    forests.iter().map(|f| nodes(f).saturating_mul(LEAST_NODE + LEAST_SHARE * f.outputs)).sum()
}

/// Removes the models of an earlier comparison: they are not those of the study's tables any more.
///
/// # Errors
/// Any I/O error, naming the file.
pub(crate) fn remove(study: &Study) -> Result<()> {
    let files = named(study);
    // The index first: what it names is there or it is not.
    remove_file(study, MODELS)?;
    files.iter().try_for_each(|file| remove_file(study, file))
}

/// Model files that the study's index names now; none if there is no index that can be read.
fn named(study: &Study) -> Vec<String> {
    ModelIndex::files(study).unwrap_or_default()
}

fn remove_file(study: &Study, name: &str) -> Result<()> {
    let path = study.path(name);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path)(e)),
        _ => Ok(()),
    }
}

/// Identity of all that models take from a cohort: its images, their patients and their labels.
pub(crate) fn cohort_hash(cohort: &Cohort) -> String {
    let mut text = format!("{:?}\n", cohort.label_names);
    for image in &cohort.images {
        let labels: Vec<&str> = image.labels.iter().map(|l| l.as_str()).collect();
        text += &format!("{}\t{}\t{}\t{}\n", image.id, image.sha256, image.patient, labels.join(","));
    }
    sha256(text.as_bytes())
}

/// Probabilities of a kept model, `[row][label]`.
///
/// # Errors
/// If the features are not those of its network.
pub(crate) fn probabilities(model: &Model, features: &Features) -> Result<Vec<f64>> {
    Ok(match model {
        Model::Forest(forest) => forest.predict(features)?,
        Model::LinearProbe(probe) => probe.predict(features)?,
        Model::SingleForests(forests) => {
            let columns: Vec<Vec<f64>> =
                forests.iter().map(|f| f.predict(features)).collect::<std::result::Result<_, _>>()?;
            (0..features.rows()).flat_map(|row| columns.iter().map(move |c| c[row])).collect()
        }
    })
}

/// A name that is safe in a file name: "Embeddings + RF" is embeddings-rf.
pub(super) fn plain(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::Label;
    use crate::cohort::tests::image;
    use chestnut_forest::{Forest, Labels, Params};

    #[test]
    fn names_are_safe_in_file_names() {
        assert_eq!(plain("Embeddings + RF"), "embeddings-rf");
        assert_eq!(plain("../../seeded:DenseNet121"), "seeded-densenet121");
    }

    #[test]
    fn the_least_size_of_a_model_is_no_more_than_its_size() {
        let features = Features::new((0..120).map(|i| (i % 11) as f32).collect(), 2).expect("finite");
        let truth: Vec<_> = (0..120).map(|i| Some(features.row(i / 2)[i % 2] > 4.0)).collect();
        let labels = Labels::new(&truth, 2).expect("whole");
        let forest = Forest::fit(&features, &labels, &Params { trees: 20, ..Params::random_forest(0) }).expect("fits");
        let single = chestnut_forest::fit_single(&features, &labels, &Params::decision_tree(0)).expect("fits");
        for model in [Model::Forest(forest), Model::SingleForests(single)] {
            let (least, bytes) = (least_bytes(&model), serde_json::to_vec(&model).expect("plain values").len());
            // Not so little that it would tell nothing.
            assert!((1..=bytes).contains(&least) && 5 * least > bytes, "{least} of {bytes}");
        }
    }

    #[test]
    fn the_models_cohort_has_labels_and_patients() {
        let images = vec![image("a.png", "P1", "+-"), image("b.png", "P2", "-?")];
        let cohort = Cohort { label_names: vec!["A".to_owned(), "B".to_owned()], images, ..Cohort::default() };
        let changed = |change: &dyn Fn(&mut Cohort)| {
            let mut other = cohort.clone();
            change(&mut other);
            cohort_hash(&other) != cohort_hash(&cohort)
        };
        assert!(!changed(&|_| ()));
        assert!(changed(&|c| c.images[1].labels[1] = Label::Negative), "a corrected label");
        assert!(changed(&|c| c.images[1].patient = "P1".to_owned()), "a corrected patient");
        assert!(changed(&|c| c.label_names.reverse()));
        assert!(changed(&|c| c.images[1].sha256 = "another file".to_owned()));
        assert!(changed(&|c| c.images.truncate(1)));
        assert!(!changed(&|c| c.images[0].age_years = Some(50.0)), "nothing learns from an age");
    }

    /// Those of an index that this program does not read any more would stay for ever.
    #[test]
    fn files_of_an_older_index_are_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let study = crate::study::bare(folder.path());
        let (old, other) = ("models/old/1-net.json", "models/tuned.json");
        [old, other].iter().for_each(|name| study.write(name, b"{}").expect("written"));
        let files = format!("[{{\"file\":\"{old}\",\"sha256\":\"0\"}},{{\"file\":\"{other}\",\"sha256\":\"0\"}}]");
        let index = format!("{{\"format_version\":1,\"approaches\":[{{\"name\":\"old\",\"models\":{files}}}]}}");
        study.write(MODELS, index.as_bytes()).expect("written");
        let message = ModelIndex::read(&study).expect_err("older").to_string();
        assert!(message.contains("format 1") && message.contains("chestnut compare"), "{message}");
        remove(&study).expect("removed");
        assert!(!study.path(MODELS).exists() && !study.path(old).exists() && study.path(other).is_file());
    }

    #[test]
    fn single_forests_stand_side_by_side() {
        let features = Features::new((0..40).map(|i| (i % 7) as f32).collect(), 2).expect("finite");
        let truth: Vec<_> = (0..40).map(|i| Some(features.row(i / 2)[i % 2] > 3.0)).collect();
        let labels = Labels::new(&truth, 2).expect("whole");
        let params = Params::decision_tree(0);
        let single = chestnut_forest::fit_single(&features, &labels, &params).expect("fits");
        let both = probabilities(&Model::SingleForests(single.clone()), &features).expect("predicts");
        for (k, forest) in single.iter().enumerate() {
            let alone = probabilities(&Model::Forest(Forest::clone(forest)), &features).expect("predicts");
            assert!(alone.iter().enumerate().all(|(row, p)| both[row * 2 + k] == *p));
        }
        assert!(both.chunks(2).any(|row| row[0] != row[1]), "the labels differ, else this shows nothing");
    }
}
