//! `chestnut explain`: heat maps of the test part by the models that the tables show, beside what experts drew.
//!
//! Each image goes through each network once: that pass's last feature map gives the maps of all labels by both models
//! of [`Models`], the fine-tuned head (Grad-CAM) and the random forest on embeddings (tree-CAM). Only these small maps
//! are kept, a few kilobytes per image; pictures are drawn from them later, one at a time.

use super::agreement::{AgreementRow, AgreementRule, LabelAgreement, evaluate, summarise};
use super::cam::{self, CamKind};
use super::chance::ChanceMap;
use super::experts::{self, ExpertRegion, Known};
use super::models::add_share;
use super::{ExplainError, FeatureMap, HeatMap, MaskRule, Models, Refusals, SOURCES, tree_cam};
use crate::cohort::Cohort;
use crate::error::{Error, Result};
use chestnut_forest::Explainer;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// Images that run through a network together.
pub(super) const BATCH: usize = 8;

/// What to explain.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// How the head's maps are made.
    pub cam: CamKind,
    /// Which part of a map, of the head or the forest, is outlined and held against experts; [`MaskRule::of`] the kind
    /// unless asked otherwise.
    pub mask: MaskRule,
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

/// Where the time went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Loading networks, reading images and running them: what embedding the same images costs.
    pub passes: f64,
    /// Heat maps of all labels by both models, on top of that.
    pub maps: f64,
}

/// Everything that one run explains.
#[derive(Debug)]
pub struct Explained {
    /// Label names.
    pub labels: Vec<String>,
    /// In the order asked for.
    pub images: Vec<ImageMaps>,
    /// Images that could not be read any more, with the reason.
    pub refused: Refusals,
    /// The cohort that the rows count in.
    pub cohort: Cohort,
    /// Where the time went.
    pub timings: Timings,
}

/// Runs the images `rows` through the networks again and keeps their maps.
///
/// `progress` is called with (done, total) passes of an image through a network.
///
/// # Errors
/// If a network cannot be loaded, or its parts do not fit each other.
pub fn explain(
    models: &Models<'_>,
    rows: &[usize],
    options: &ExplainOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<Explained> {
    let names = models.labels();
    let networks = models.networks().len();
    let blank = |row: usize| ImageMaps {
        row,
        probabilities: [vec![0.0; names.len()], vec![0.0; names.len()]],
        maps: [vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]],
    };
    let mut images: Vec<ImageMaps> = rows.iter().map(|&row| blank(row)).collect();
    let mut refused = BTreeMap::new();
    let mut timings = Timings::default();
    let (mut done, total) = (0, rows.len() * networks);
    progress(0, total);
    for number in 0..networks {
        let clock = Instant::now();
        let mut runner = models.runner(number)?;
        timings.passes += clock.elapsed().as_secs_f64();
        let (fitted, shape) = (runner.fitted, runner.shape);
        let heads = fitted.heads(names)?;
        let explainer = Explainer::new(&fitted.forest)?;
        for batch in images.chunks_mut(BATCH) {
            let clock = Instant::now();
            let reader = &runner.reader;
            let read: Vec<_> = batch.par_iter().map(|of| reader.square(of.row)).collect();
            let (mut squares, mut places) = (Vec::new(), Vec::new());
            for (of, square) in batch.iter().zip(read) {
                match square {
                    Ok(square) => {
                        places.push(Some(squares.len()));
                        squares.push(square);
                    }
                    Err(reason) => {
                        places.push(None);
                        refused.insert(models.cohort().images[of.row].id.clone(), reason);
                    }
                }
            }
            let taps = runner.run(&squares, true)?;
            timings.passes += clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            let width = fitted.width;
            batch.par_iter_mut().zip(places).try_for_each(|(of, place)| -> Result<()> {
                let Some(place) = place else { return Ok(()) };
                let map = FeatureMap::of(&taps, place, shape)?;
                let embedding = &taps.embeddings[place * width..(place + 1) * width];
                let says = fitted.probabilities(embedding)?;
                let shap = explainer.explain(embedding)?;
                for (k, head) in heads.iter().enumerate() {
                    of.maps[0][k].push(cam::explain(options.cam, &map, &head.gradient(embedding)?, says[0][k])?);
                    of.maps[1][k].push(tree_cam::tree_cam(&shap, k, &map)?);
                }
                add_share(&mut of.probabilities, &says, 1.0 / networks as f64);
                Ok(())
            })?;
            timings.maps += clock.elapsed().as_secs_f64();
            done += batch.len();
            progress(done, total);
        }
    }
    images.retain(|i| i.maps[0].iter().all(|m| m.len() == networks));
    Ok(Explained {
        labels: names.to_vec(),
        images,
        refused: refused.into_iter().collect(),
        cohort: models.cohort().clone(),
        timings,
    })
}

/// Agreement of maps with what experts drew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreed {
    /// One per map and region.
    pub rows: Vec<AgreementRow>,
    /// Means per label and map.
    pub table: Vec<LabelAgreement>,
    /// What made masks of all maps, those of chance too.
    pub mask: MaskRule,
    /// What could not be used or was left out, one sentence each.
    pub messages: Vec<String>,
    /// Whether an item of the experts' files could not be used.
    pub refused: bool,
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
) -> Result<Agreed> {
    let fault = |e: experts::ExpertError| Error::File { path: path.to_path_buf(), problem: e.to_string() };
    let known = Known::of_cohort(&explained.cohort, renamed).map_err(fault)?;
    let read = experts::read(path, &known).map_err(fault)?;
    let rule = AgreementRule { mask: options.mask, ..AgreementRule::default() };
    let by_id: BTreeMap<&str, &ImageMaps> =
        explained.images.iter().map(|i| (explained.cohort.images[i.row].id.as_str(), i)).collect();
    let number = |region: &ExpertRegion| explained.labels.iter().position(|l| *l == region.label);
    let scored = |region: &ExpertRegion| -> Result<Vec<AgreementRow>> {
        let Some(maps) = by_id.get(region.image.as_str()) else { return Ok(Vec::new()) };
        let Some(label) = number(region) else { return Ok(Vec::new()) };
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
    let rows: Vec<Vec<AgreementRow>> = read.regions.par_iter().map(scored).collect::<Result<_>>()?;
    let rows = rows.concat();
    let table = summarise(&rows, options.resamples, seed);
    let elsewhere = read.regions.iter().filter(|r| !by_id.contains_key(r.image.as_str())).count();
    let unlearned: BTreeSet<&str> =
        read.regions.iter().filter(|r| number(r).is_none()).map(|r| r.label.as_str()).collect();
    let refused = !read.problems.is_empty();
    let mut messages: Vec<String> = read.problems.into_iter().chain(read.notes).collect();
    if elsewhere > 0 {
        messages.push(format!(
            "{elsewhere} of {} outlined findings lie on images that are not explained here (learned from, or not asked \
             for) and are not scored",
            read.regions.len()
        ));
    }
    if !unlearned.is_empty() {
        let names: Vec<&str> = unlearned.into_iter().collect();
        messages.push(format!("nothing was learned of {}, so no map of it can be scored", names.join(", ")));
    }
    let flat = rows.iter().filter(|r| SOURCES.contains(&r.source.as_str()) && r.agreement.hit.is_none()).count();
    if flat > 0 {
        messages.push(format!(
            "{flat} maps are the same everywhere, so they point nowhere: they cover nothing and have no part in the \
             pointing game"
        ));
    }
    Ok(Agreed { rows, table, mask: options.mask, messages, refused })
}

#[cfg(test)]
#[path = "stage_tests.rs"]
pub(super) mod tests;
