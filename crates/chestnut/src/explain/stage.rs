//! `chestnut explain`: heat maps of the test part by the models that the tables show, beside what experts drew.
//!
//! Two models are explained, each fitted on the patients to learn from and never on those shown: the fine-tuned head
//! (Grad-CAM) and the random forest on embeddings (tree-CAM). Both come from the last feature map of one pass per image.

use super::agreement::{AgreementRow, AgreementRule, LabelAgreement, evaluate, summarise};
use super::cam::{self, CamKind};
use super::chance::ChanceMap;
use super::experts::{self, ExpertRegion, Known};
use super::population::{MeanMap, heat_shares};
use super::{ExplainError, ExplainedHead, FeatureMap, HeatMap, tree_cam};
use crate::cohort::Cohort;
use crate::cohort::source::Sources;
use crate::compare::{label_table, parts_of};
use crate::embed::{EmbeddingTable, Network};
use crate::error::{Error, Result};
use crate::image;
use crate::image::recipe::Recipe;
use crate::study::Study;
use chestnut_forest::{Features, Forest, Labels, Params};
use chestnut_train::{Rows, Schedule, TrainedHead};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Images that run through a network together.
const BATCH: usize = 8;
/// Names of the two models in tables and files.
pub const SOURCES: [&str; 2] = ["fine-tuned head", "forest"];

/// What to explain.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// Images by id; all of the test part if empty.
    pub images: Vec<String>,
    /// How the head's maps are made.
    pub cam: CamKind,
    /// Resamples of the agreement's intervals; the library's default if `None`.
    pub resamples: Option<usize>,
}

/// Maps of one image, at the size of a network's last feature map, each scaled by its own rule when they are combined.
#[derive(Clone, Debug)]
pub struct ImageMaps {
    /// Row of the cohort.
    pub row: usize,
    /// `[source][label]`: probability, mean over the networks.
    pub probabilities: [Vec<f64>; 2],
    /// `[source][label][network]`.
    maps: [Vec<Vec<HeatMap>>; 2],
}

impl ImageMaps {
    /// The map of a label, averaged over the networks, at the size asked for.
    ///
    /// # Errors
    /// [`ExplainError`] if there is no such label or size.
    pub fn map(
        &self,
        source: usize,
        label: usize,
        kind: CamKind,
        width: usize,
        height: usize,
    ) -> std::result::Result<HeatMap, ExplainError> {
        let maps = &self.maps[source][label];
        if source == 0 { cam::combine(kind, maps, width, height) } else { tree_cam::combine(maps, width, height) }
    }
}

/// Everything that one run explains.
#[derive(Debug)]
pub struct Explained {
    /// Label names.
    pub labels: Vec<String>,
    /// In the order of the cohort.
    pub images: Vec<ImageMaps>,
    /// Images that could not be read any more, with the reason.
    pub refused: Vec<(String, String)>,
    /// The cohort that the rows count in.
    pub cohort: Cohort,
}

/// The two models of one network.
struct Fitted {
    head: TrainedHead,
    forest: Forest,
}

fn fit(table: &EmbeddingTable, labels: &Labels, [train, validation]: [&[usize]; 2], seed: u64) -> Result<Fitted> {
    let x = |rows: &[usize]| -> Vec<f32> {
        rows.iter().flat_map(|&r| &table.embeddings[r * table.width..(r + 1) * table.width]).copied().collect()
    };
    let y = |rows: &[usize]| -> Vec<Option<f32>> {
        let of = |r: usize| (0..labels.outputs()).map(move |k| labels.get(r, k).map(|p| if p { 1.0 } else { 0.0 }));
        rows.iter().flat_map(|&r| of(r)).collect()
    };
    let (train_x, train_y, validation_x, validation_y) = (x(train), y(train), x(validation), y(validation));
    let head = TrainedHead::train(
        Rows { embeddings: &train_x, targets: &train_y },
        Rows { embeddings: &validation_x, targets: &validation_y },
        table.width,
        labels.outputs(),
        &Schedule::fair(),
        seed,
    )?;
    let mut development = [train, validation].concat();
    development.sort_unstable();
    let features = Features::new(x(&development), table.width)?;
    let forest = Forest::fit(&features, &labels.select(&development), &Params::random_forest(seed))?;
    Ok(Fitted { head, forest })
}

/// Fits the models, runs the images through the networks again and keeps their maps.
///
/// `progress` is called with (done, total) passes of an image through a network.
///
/// # Errors
/// If embeddings are missing, an image is not in the study, or a network cannot be loaded.
pub fn explain(
    study: &Study,
    cohort: &Cohort,
    models: &Path,
    networks: &[Network],
    options: &ExplainOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Explained> {
    let (cohort, tables) = crate::compare::common(study, cohort, networks)?;
    let [train, validation, test] = parts_of(&cohort, &study.settings.split)?;
    let mut development = [&train[..], &validation[..]].concat();
    development.sort_unstable();
    let (names, labels) = label_table(&cohort, &development)?;
    let rows = if options.images.is_empty() { test } else { named(&cohort, &options.images)? };
    let learned: BTreeSet<usize> = development.into_iter().collect();
    if let Some(&row) = rows.iter().find(|r| learned.contains(r)) {
        let id = &cohort.images[row].id;
        return Err(Error::Request(format!(
            "{id} was learned from; a map of it would show what the model remembers. Name images of the test part (split.csv)"
        )));
    }
    let blank = || -> [Vec<Vec<HeatMap>>; 2] { [vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]] };
    let zero = || [vec![0.0; names.len()], vec![0.0; names.len()]];
    let mut images: Vec<ImageMaps> =
        rows.iter().map(|&row| ImageMaps { row, probabilities: zero(), maps: blank() }).collect();
    let mut refused = BTreeMap::new();
    let sources = Sources::new(&study.settings.images);
    let (mut done, total) = (0, rows.len() * networks.len());
    progress(0, total);
    for (network, table) in networks.iter().zip(&tables) {
        let fitted = fit(table, &labels, [&train, &validation], study.settings.split.seed)?;
        let mut engine = network.engine(models)?;
        let recipe = Recipe { size: network.record.input_size, ..study.settings.recipe.clone() };
        let standardisation = network.standardisation()?;
        let problem = |problem: String| Error::Network { network: network.name.clone(), problem };
        let shape = engine.feature_map_shape(recipe.size, recipe.size).map_err(|e| problem(e.to_string()))?;
        let one = recipe.size * recipe.size * standardisation.channels();
        for batch in images.chunks_mut(BATCH) {
            let read = |of: &ImageMaps| {
                let image = &cohort.images[of.row];
                let bytes = sources.read(&image.id).map_err(|e| e.to_string())?;
                let mut decoded = image::decode_with(&bytes, &recipe.pixels).map_err(|e| e.to_string())?;
                study.settings.blank.apply(&mut decoded.radiograph, decoded.dicom.as_ref());
                let mut input = vec![0.0; one];
                standardisation.apply(&recipe.prepare(&decoded.radiograph).grey, &mut input);
                Ok::<_, String>(input)
            };
            let inputs: Vec<_> = batch.par_iter().map(read).collect();
            let good: Vec<f32> = inputs.iter().filter_map(|i| i.as_ref().ok()).flatten().copied().collect();
            let taps = engine.run(&good, recipe.size, recipe.size, true).map_err(|e| problem(e.to_string()))?;
            let mut at = 0;
            let mut places = Vec::new();
            for (of, input) in batch.iter().zip(&inputs) {
                places.push(input.is_ok().then_some(at));
                match input {
                    Ok(_) => at += 1,
                    Err(reason) => drop(refused.insert(cohort.images[of.row].id.clone(), reason.clone())),
                }
            }
            let width = table.width;
            batch.par_iter_mut().zip(places).try_for_each(|(of, place)| -> Result<()> {
                let Some(place) = place else { return Ok(()) };
                let map = FeatureMap::of(&taps, place, shape)?;
                let embedding = &taps.embeddings[place * width..(place + 1) * width];
                let [head, forest] = [fitted.head.predict(embedding), {
                    fitted.forest.predict(&Features::new(embedding.to_vec(), width)?)?
                }];
                let shap = fitted.forest.shap(embedding)?;
                for (k, name) in names.iter().enumerate() {
                    let gradient = ExplainedHead::trained(&fitted.head, k, name)?.gradient(embedding)?;
                    of.maps[0][k].push(cam::explain(options.cam, &map, &gradient, head[k])?);
                    of.maps[1][k].push(tree_cam::tree_cam(&shap, k, &map)?);
                    of.probabilities[0][k] += head[k] / networks.len() as f64;
                    of.probabilities[1][k] += forest[k] / networks.len() as f64;
                }
                Ok(())
            })?;
            done += batch.len();
            progress(done, total);
        }
    }
    images.retain(|i| i.maps[0].iter().all(|m| m.len() == networks.len()));
    Ok(Explained { labels: names, images, refused: refused.into_iter().collect(), cohort })
}

fn named(cohort: &Cohort, ids: &[String]) -> Result<Vec<usize>> {
    let find = |id: &String| {
        let row = cohort.images.binary_search_by(|i| i.id.as_str().cmp(id)).ok();
        row.ok_or_else(|| Error::Request(format!("{id} is not an image of this study; cohort.csv lists them")))
    };
    ids.iter().map(find).collect()
}

/// Agreement of every map with what experts drew on its image, and of the two maps that chance would give.
///
/// # Errors
/// If the experts' file cannot be read at all; single bad items are messages.
pub fn agreement(
    explained: &Explained,
    path: &Path,
    renamed: &BTreeMap<String, String>,
    options: &ExplainOptions,
    seed: u64,
) -> Result<(Vec<AgreementRow>, Vec<LabelAgreement>, Vec<String>)> {
    let fault = |e: experts::ExpertError| Error::File { path: path.to_path_buf(), problem: e.to_string() };
    let known = Known::of_cohort(&explained.cohort, renamed).map_err(fault)?;
    let read = experts::read(path, &known).map_err(fault)?;
    let rule = AgreementRule::default();
    let by_id: BTreeMap<&str, &ImageMaps> =
        explained.images.iter().map(|i| (explained.cohort.images[i.row].id.as_str(), i)).collect();
    let rows = |region: &ExpertRegion| -> Result<Vec<AgreementRow>> {
        let Some(maps) = by_id.get(region.image.as_str()) else { return Ok(Vec::new()) };
        let Some(label) = explained.labels.iter().position(|l| *l == region.label) else { return Ok(Vec::new()) };
        let expert = region.mask();
        let row = |source: String, agreement| AgreementRow {
            image: region.image.clone(),
            patient: explained.cohort.images[maps.row].patient.clone(),
            label: region.label.clone(),
            source,
            agreement,
        };
        let mut found = Vec::new();
        for (source, name) in SOURCES.iter().enumerate() {
            let map = maps.map(source, label, options.cam, expert.width, expert.height)?;
            found.push(row((*name).to_owned(), evaluate(&map, &expert, &rule)?));
        }
        for chance in ChanceMap::both(seed) {
            let luck = chance.agreement(&region.image, &region.label, &expert, &rule)?;
            found.push(row(chance.describe(), luck));
        }
        Ok(found)
    };
    let rows: Vec<Vec<AgreementRow>> = read.regions.par_iter().map(rows).collect::<Result<_>>()?;
    let rows = rows.concat();
    let table = summarise(&rows, options.resamples, seed);
    Ok((rows, table, read.problems.into_iter().chain(read.notes).collect()))
}

/// Mean map of each label over all explained images, and where its heat lies; `[source][label]`.
///
/// # Errors
/// [`ExplainError`] if maps do not fit.
pub fn population(explained: &Explained, kind: CamKind, side: usize) -> Result<[Vec<MeanMap>; 2]> {
    let of = |source: usize| -> Result<Vec<MeanMap>> {
        let label = |k: usize| -> Result<MeanMap> {
            let mut mean = MeanMap::new(side)?;
            for image in &explained.images {
                // A forest's map has negative parts, which speak against the label; the mean shows what speaks for it.
                mean.add(&image.map(source, k, kind, side, side)?.relu().min_max())?;
            }
            Ok(mean)
        };
        (0..explained.labels.len()).map(label).collect()
    };
    Ok([of(0)?, of(1)?])
}

/// The table of a population's heat: source, label, images, shares in border and corners.
///
/// # Errors
/// [`ExplainError`] if a map has no heat to share.
pub fn population_csv(explained: &Explained, maps: &[Vec<MeanMap>; 2]) -> Result<String> {
    let mut rows = vec![["model", "label", "images", "flat", "heat"].map(str::to_owned).to_vec()];
    for (source, maps) in SOURCES.iter().zip(maps) {
        for (label, mean) in explained.labels.iter().zip(maps) {
            let shares = mean.mean().map(|m| heat_shares(&m, None)).transpose()?.flatten();
            let words = shares.map_or_else(|| "no heat".to_owned(), |s| super::population::describe_shares(&s));
            rows.push(vec![
                (*source).to_owned(),
                label.clone(),
                mean.images().to_string(),
                mean.flat().to_string(),
                words,
            ]);
        }
    }
    Ok(crate::cohort::table::to_csv(rows))
}
