//! Cohort to embeddings: decode, recipe, network, Parquet shards.
//!
//! A shard holds [`SHARD`] images of one network and is written whole or not at all, so a run that was killed goes on
//! at the first missing shard. A few dozen prepared images are in memory at a time, however large the cohort.

mod options;
mod shard;

use crate::cohort::source::Sources;
use crate::cohort::{BlankRules, Cohort, CohortImage};
use crate::error::{Error, Result};
use crate::image::recipe::Standardisation;
use crate::image::{self, Radiograph, recipe::Recipe};
use crate::study::Study;
use chestnut_nn::{Engine, Options, Precision};
use chestnut_zoo::store::{self, ModelRecord};
use chestnut_zoo::{Architecture, Graph, Head, Weights, weights};
pub use options::EmbedOptions;
#[cfg(test)]
pub(crate) use options::made_with;
pub(crate) use options::{differences_of, unlike_plain};
use rayon::prelude::*;
pub use shard::{EmbeddingTable, ShardError};
use std::collections::BTreeMap;
use std::path::Path;

/// Images per shard.
pub const SHARD: usize = 256;
/// Images that are decoded and embedded together.
const BATCH: usize = 32;
/// Marks the key of a shard that lacks images which could not be read.
const INCOMPLETE: &str = "incomplete ";
/// Metadata key of the labels whose probabilities were multiplied by their parents'; absent if none were.
const CONDITIONAL: &str = "chestnut.conditional";
/// Metadata keys of what else than images goes into a shard's key, in the words of messages. The version is last: where
/// something else has changed as well, that says more.
const MADE_WITH: [(&str, &str); 7] = [
    ("chestnut.weights_sha256", "other weights"),
    ("chestnut.recipe_hash", "another recipe"),
    ("chestnut.standardisation", "another standardisation"),
    ("chestnut.labels", "other names of the network's outputs"),
    (CONDITIONAL, "other conditions of the network's outputs"),
    ("chestnut.blank", "other blanked regions"),
    ("chestnut.version", "another version of chestnut"),
];
/// Prefix of a network whose weights are a formula, for trying the chain without any file.
pub const SEEDED: &str = "seeded:";
/// Suffix of a seeded network that ends in CheXpert's 14 outputs, its head a formula too: `seeded:vgg16+chexpert`.
pub const SEEDED_HEAD: &str = "+chexpert";

/// A network that is ready to be loaded: its record, without weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name in the store, or `seeded:<architecture>`, with a head `seeded:<architecture>+chexpert`.
    pub name: String,
    /// What the store knows.
    pub record: ModelRecord,
}

impl Network {
    /// Finds `name` in the model store `models`, or makes a seeded network of it.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn find(models: &Path, name: &str) -> Result<Self> {
        let Some(architecture) = name.strip_prefix(SEEDED) else {
            return Ok(Self { name: name.to_owned(), record: store::record(models, name)? });
        };
        let (architecture, head) = match architecture.strip_suffix(SEEDED_HEAD) {
            Some(architecture) => (architecture, Head::chexpert()),
            None => (architecture, Head::none()),
        };
        let architecture: Architecture =
            architecture.parse().map_err(|problem| Error::Network { network: name.to_owned(), problem })?;
        let record = ModelRecord {
            name: name.to_owned(),
            architecture: architecture.name().to_owned(),
            channels: 3,
            standardisation: Standardisation::ImageNet.to_string(),
            input_size: 224,
            saved_input_size: None,
            source_file: String::new(),
            source_format: "formula".to_owned(),
            source_sha256: String::new(),
            weights_sha256: "seeded (not trained)".to_owned(),
            licence: "none needed: made by a formula".to_owned(),
            notes: vec!["weights are a formula, not trained on anything".to_owned()],
            taught_on: Vec::new(),
            added_by_version: env!("CARGO_PKG_VERSION").to_owned(),
            head,
            conditional: BTreeMap::new(),
        };
        Ok(Self { name: name.to_owned(), record })
    }

    /// Name of its folder in the study.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("embeddings/{}", self.name.replace(':', "-"))
    }

    /// What the network was trained to be fed.
    ///
    /// # Errors
    /// If the record names an unknown standardisation.
    pub fn standardisation(&self) -> Result<Standardisation> {
        Ok(self.record.standardisation.parse()?)
    }

    /// The network and its weights, whose hash is that of the record.
    ///
    /// # Errors
    /// If they cannot be read or were changed.
    pub fn load(&self, models: &Path) -> Result<(Graph, Weights)> {
        if self.name.starts_with(SEEDED) {
            let graph =
                self.record.graph().map_err(|problem| Error::Network { network: self.name.clone(), problem })?;
            let weights = weights::seeded(&graph, 0);
            return Ok((graph, weights));
        }
        // The hash is recorded with everything that the weights make, so it must be theirs.
        let (_, graph, weights) = store::load_verified(models, &self.name)?;
        Ok((graph, weights))
    }

    pub(crate) fn engine(&self, models: &Path) -> Result<Engine> {
        self.engine_with(models, Precision::F32)
    }

    fn engine_with(&self, models: &Path, precision: Precision) -> Result<Engine> {
        let (graph, weights) = self.load(models)?;
        Engine::new(graph, weights, Options { precision, ..Options::default() })
            .map_err(|e| Error::Network { network: self.name.clone(), problem: e.to_string() })
    }
}

/// An image that could be ingested but not embedded, such as a file that vanished since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// Image id.
    pub image: String,
    /// Why.
    pub reason: String,
}

/// What embedding one network did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Embedded {
    /// Images computed now.
    pub computed: usize,
    /// Images that an earlier run had computed with the same recipe and weights.
    pub kept: usize,
    /// Images that could not be read any more.
    pub refused: Vec<Refused>,
}

/// Embeds the whole cohort with one network; shards that fit are kept.
///
/// `progress` is called with (done, total) images.
///
/// # Errors
/// If the network cannot be loaded or a shard cannot be written.
pub fn embed(
    study: &Study,
    cohort: &Cohort,
    models: &Path,
    network: &Network,
    progress: &dyn Fn(usize, usize),
) -> Result<Embedded> {
    embed_with(study, cohort, models, network, EmbedOptions::default(), progress)
}

/// As [`embed`], in another way.
///
/// # Errors
/// As [`embed`], and if this processor lacks the precision.
pub fn embed_with(
    study: &Study,
    cohort: &Cohort,
    models: &Path,
    network: &Network,
    options: EmbedOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Embedded> {
    let recipe = Recipe { size: network.record.input_size, ..study.settings.recipe.clone() };
    let mut metadata = metadata(network, &recipe, &study.settings.blank);
    options::note(&mut metadata, &options.differences());
    let variants = options.tta.variants();
    let unusable = |problem: String| Error::Network { network: network.name.clone(), problem };
    let paths = network.record.paths().map_err(unusable)?;
    let folder = study.path(&network.folder());
    crate::fs::create_writable_folder(&folder).map_err(Error::Write)?;
    let total = cohort.images.len();
    let mut result = Embedded::default();
    let sources = Sources::new(&study.settings.images);
    let mut engine = None;
    for (i, images) in cohort.images.chunks(SHARD).enumerate() {
        let path = folder.join(shard_name(i));
        let ids: Vec<(&str, &str)> = images.iter().map(|i| (i.id.as_str(), i.sha256.as_str())).collect();
        let key = shard_key(&metadata, &ids);
        if shard::stored_key(&path).as_deref() == Some(key.as_str()) {
            result.kept += images.len();
            progress(result.kept + result.computed + result.refused.len(), total);
            continue;
        }
        if engine.is_none() {
            engine = Some(network.engine_with(models, options.precision)?);
        }
        let Some(engine) = engine.as_mut() else { continue };
        let mut table = EmbeddingTable::default();
        for batch in images.chunks((BATCH / variants.len()).max(1)) {
            let prepared: Vec<_> = batch.par_iter().map(|image| prepare(study, &sources, &recipe, image)).collect();
            let standardisation = network.standardisation()?;
            let one = recipe.size * recipe.size * standardisation.channels();
            let good: Vec<&Vec<f32>> = prepared.iter().filter_map(|p| p.as_ref().ok()).collect();
            let looks = variants.len();
            let mut input = vec![0.0; good.len() * looks * one];
            input.par_chunks_mut(one).enumerate().for_each(|(i, out)| {
                let seen = variants[i % looks].apply(good[i / looks], recipe.size);
                standardisation.apply(&seen, out);
            });
            let mut taps = engine
                .run(&input, recipe.size, recipe.size, false)
                .map_err(|e| Error::Network { network: network.name.clone(), problem: e.to_string() })?;
            along_paths(&mut taps.outputs, &paths);
            let mut row = 0;
            let (width, outputs) = (engine.graph().embedding_width(), network.record.head.outputs());
            for (image, prepared) in batch.iter().zip(&prepared) {
                match prepared {
                    Ok(_) => {
                        let embedding = mean_of(&taps.embeddings, row, looks, width);
                        if embedding.iter().all(|v| v.is_finite()) {
                            table.push(&image.id, &embedding, &mean_of(&taps.outputs, row, looks, outputs));
                        } else {
                            let reason = format!("its embedding by {} is not finite", network.name);
                            result.refused.push(Refused { image: image.id.clone(), reason });
                        }
                        row += 1;
                    }
                    Err(reason) => result.refused.push(Refused { image: image.id.clone(), reason: reason.clone() }),
                }
            }
            result.computed += row;
            progress(result.kept + result.computed + result.refused.len(), total);
        }
        // A shard with refused images is not marked complete: the next run tries them again.
        let complete = table.ids.len() == images.len();
        let key = if complete { key } else { format!("{INCOMPLETE}{key}") };
        shard::write(&path, &table, &metadata, &key).map_err(|e| Error::File { path, problem: e.to_string() })?;
    }
    remove_stale_shards(&folder, total.div_ceil(SHARD))?;
    Ok(result)
}

/// The number of images in the shard at `path`, if it can be read: for the fuzz targets.
pub(crate) fn images_in_shard(path: &Path) -> Option<usize> {
    shard::read(path).ok().map(|(table, _)| table.ids.len())
}

/// Turns outputs, `[image][output]`, that hold only where a parent is present into probabilities: products along `paths`.
pub(crate) fn along_paths(outputs: &mut [f32], paths: &[Vec<usize>]) {
    if paths.iter().all(|path| path.len() == 1) {
        return;
    }
    for row in outputs.chunks_exact_mut(paths.len()) {
        let given = row.to_vec();
        row.iter_mut().zip(paths).for_each(|(out, path)| *out = path.iter().map(|&at| given[at]).product());
    }
}

/// Mean over the `looks` rows of an image, each of `width` values.
fn mean_of(values: &[f32], image: usize, looks: usize, width: usize) -> Vec<f32> {
    let rows = &values[image * looks * width..][..looks * width];
    let sum = |k: usize| rows.iter().skip(k).step_by(width).map(|&v| f64::from(v)).sum::<f64>();
    (0..width).map(|k| (sum(k) / looks as f64) as f32).collect()
}

/// Grey values of one image as the recipe prepares them, or why there are none.
pub(crate) fn prepare(
    study: &Study,
    sources: &Sources,
    recipe: &Recipe,
    image: &CohortImage,
) -> std::result::Result<Vec<f32>, String> {
    Ok(recipe.prepare(&film(study, sources, recipe, image)?).grey)
}

/// The film of an image at its own size, blanked as the study asks, or why it cannot be read.
pub(crate) fn film(
    study: &Study,
    sources: &Sources,
    recipe: &Recipe,
    image: &CohortImage,
) -> std::result::Result<Radiograph, String> {
    let bytes = sources.read(&image.id).map_err(|e| e.to_string())?;
    let mut decoded = image::decode_with(&bytes, &recipe.pixels).map_err(|e| e.to_string())?;
    if decoded.content_sha256 != image.sha256 {
        return Err("has changed since it was ingested; run ingest again".to_owned());
    }
    study.settings.blank.apply(&mut decoded.radiograph, decoded.dicom.as_ref());
    Ok(decoded.radiograph)
}

fn shard_name(i: usize) -> String {
    format!("part-{i:05}.parquet")
}

/// Shards of an earlier, larger cohort would be read as part of this one.
fn remove_stale_shards(folder: &Path, count: usize) -> Result<()> {
    let mut i = count;
    while folder.join(shard_name(i)).is_file() {
        let path = folder.join(shard_name(i));
        std::fs::remove_file(&path).map_err(Error::io(&path))?;
        i += 1;
    }
    Ok(())
}

/// What is written beside the values: who made them and how.
fn metadata(network: &Network, recipe: &Recipe, blank: &BlankRules) -> BTreeMap<String, String> {
    let rules = (!blank.is_empty()).then(|| ("chestnut.blank", format!("{blank:?}")));
    let tree = &network.record.conditional;
    let conditional = (!tree.is_empty()).then(|| (CONDITIONAL, format!("{tree:?}")));
    [
        ("chestnut.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("chestnut.network", network.name.clone()),
        ("chestnut.architecture", network.record.architecture.clone()),
        ("chestnut.weights_sha256", network.record.weights_sha256.clone()),
        ("chestnut.recipe", recipe.describe().join("; ")),
        ("chestnut.recipe_hash", recipe.hash()),
        ("chestnut.standardisation", network.record.standardisation.clone()),
        ("chestnut.labels", network.record.head.output_names().join(",")),
    ]
    .into_iter()
    .chain(rules)
    .chain(conditional)
    .map(|(k, v)| (k.to_owned(), v))
    .collect()
}

/// Identifies the content of a shard: everything it was made from.
fn shard_key(metadata: &BTreeMap<String, String>, images: &[(&str, &str)]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (k, v) in metadata {
        hash.update(format!("{k}={v}\n"));
    }
    for (id, sha256) in images {
        hash.update(format!("{id}\t{sha256}\n"));
    }
    crate::fs::to_hex(&hash.finalize())
}

/// Reads one network's embeddings of the cohort, in the cohort's order.
///
/// # Errors
/// If shards are missing, damaged, or made from another cohort, recipe or weights.
pub fn load(study: &Study, cohort: &Cohort, network: &Network) -> Result<EmbeddingTable> {
    let folder = study.path(&network.folder());
    let command = format!("chestnut embed {} --net {}", study.root.display(), network.name);
    let recipe = Recipe { size: network.record.input_size, ..study.settings.recipe.clone() };
    let plain = metadata(network, &recipe, &study.settings.blank);
    let mut first = None;
    let mut all = EmbeddingTable::default();
    for (i, images) in cohort.images.chunks(SHARD).enumerate() {
        let path = folder.join(shard_name(i));
        if !path.is_file() {
            let what = format!("the embedding by {}", network.name);
            return Err(Error::StageMissing { study: study.root.clone(), what, command });
        }
        let (table, found) = shard::read(&path)
            .map_err(|e| Error::File { path: path.clone(), problem: format!("{e}; remove it and run `{command}`") })?;
        // The shards say how their images were looked at; it must be the same for all.
        let differences = options::noted(&found);
        if *first.get_or_insert_with(|| differences.clone()) != differences {
            let problem =
                format!("was made with another --tta or --precision than the first part; run `{command}` again");
            return Err(Error::File { path, problem });
        }
        let mut metadata = plain.clone();
        options::note(&mut metadata, &differences);
        if let Some((_, what)) = MADE_WITH.iter().find(|(key, _)| found.get(*key) != metadata.get(*key)) {
            let problem = format!("was made with {what}; run `{command}` again");
            return Err(Error::File { path, problem });
        }
        // A shard whose images were not all readable holds the others, in the same order.
        let mut expected = images.iter().map(|i| &i.id);
        if !table.ids.iter().all(|id| expected.any(|e| e == id)) {
            let problem = format!("does not hold the cohort's images; run `{command}` again");
            return Err(Error::File { path, problem });
        }
        let ids: Vec<(&str, &str)> = images.iter().map(|i| (i.id.as_str(), i.sha256.as_str())).collect();
        if found.get(shard::KEY).is_none_or(|k| k.trim_start_matches(INCOMPLETE) != shard_key(&metadata, &ids)) {
            let problem = format!("was made from other images than the cohort's; run `{command}` again");
            return Err(Error::File { path, problem });
        }
        all.append(table);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::tests::image;

    /// A message that blames the images sends people to the wrong place.
    #[test]
    fn what_makes_a_shard_stale_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let study = crate::study::bare(folder.path());
        let images = vec![image("a.png", "P1", "+")];
        let ids = [("a.png", images[0].sha256.as_str())];
        let network = Network::find(Path::new("none"), "seeded:vgg16+chexpert").expect("a formula");
        let recipe = Recipe { size: network.record.input_size, ..Recipe::default() };
        let now = metadata(&network, &recipe, &study.settings.blank);
        let mut table = EmbeddingTable::default();
        table.push("a.png", &[1.0, 2.0], &[0.5; 14]);
        let path = study.path(&network.folder()).join(shard_name(0));
        crate::fs::create_writable_folder(&study.path(&network.folder())).expect("a folder");
        let cohort = Cohort { label_names: vec!["A".to_owned()], images: images.clone(), ..Cohort::default() };
        let loaded = |made: &BTreeMap<String, String>| {
            shard::write(&path, &table, made, &shard_key(made, &ids)).expect("written");
            load(&study, &cohort, &network).map(|found| found.ids).map_err(|e| e.to_string())
        };
        assert_eq!(loaded(&now), Ok(vec!["a.png".to_owned()]));
        for (key, words) in MADE_WITH {
            let mut before = now.clone();
            before.insert(key.to_owned(), "of before".to_owned());
            let message = loaded(&before).expect_err("stale");
            assert!(message.contains(words) && message.contains("chestnut embed"), "{key}: {message}");
        }
        // What else is in the key follows from these.
        let follows = ["chestnut.network", "chestnut.architecture", "chestnut.recipe"];
        let named = |key: &str| follows.contains(&key) || MADE_WITH.iter().any(|(k, _)| *k == key);
        assert!(now.keys().all(|key| named(key)), "{now:?}");
    }

    #[test]
    fn conditional_outputs_become_products_along_their_paths() {
        let mut outputs = [0.5, 0.25, 0.8, 1.0, 0.5, 0.1];
        along_paths(&mut outputs, &[vec![0, 2, 1], vec![1], vec![2, 1]]);
        let expected = [0.5 * 0.8 * 0.25, 0.25, 0.8 * 0.25, 0.1 * 0.5, 0.5, 0.1 * 0.5];
        assert!(outputs.iter().zip(expected).all(|(o, e): (&f32, f32)| (o - e).abs() < 1e-6), "{outputs:?}");
        let mut plain = [0.3, 0.7];
        along_paths(&mut plain, &[vec![0], vec![1]]);
        assert_eq!(plain, [0.3, 0.7]);
        along_paths(&mut [], &[]);
    }

    #[test]
    fn shards_say_whether_outputs_were_multiplied() {
        let network = Network::find(Path::new("none"), "seeded:vgg16+chexpert").expect("a formula");
        let (recipe, blank) = (Recipe::default(), BlankRules::default());
        let plain = metadata(&network, &recipe, &blank);
        assert!(!plain.contains_key(CONDITIONAL));
        let conditional = BTreeMap::from([("Pneumonia".to_owned(), "Consolidation".to_owned())]);
        let record = ModelRecord { conditional, ..network.record.clone() };
        let tree = metadata(&Network { record, ..network }, &recipe, &blank);
        assert!(tree.contains_key(CONDITIONAL) && shard_key(&tree, &[]) != shard_key(&plain, &[]));
    }
}
