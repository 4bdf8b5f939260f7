//! The models that a study's heat maps explain: per network a fine-tuned head and a random forest on its embeddings.
//!
//! Both are fitted on the patients to learn from and never on those shown. They are fitted once and then asked by all
//! parts of `explain`: maps, hidden parts of the image, other views of it. A `Runner` feeds images to one network; it
//! reads them as `embed` does, so that a map belongs to the very numbers that were embedded.

use super::{ExplainedHead, SOURCES};
use crate::cohort::Cohort;
use crate::cohort::Unit;
use crate::cohort::source::Sources;
use crate::compare::{label_table, not_taught_here, parts_of, untrained};
use crate::embed::{self, EmbeddingTable, Network, unlike_plain};
use crate::error::{Error, Result};
use crate::evaluate::table::SPLIT_BY_IMAGE;
use crate::image::Radiograph;
use crate::image::recipe::{Recipe, Standardisation};
use crate::predict::space::{EmbeddingSpace, SimilarImage, similar_cases};
use crate::study::Study;
use crate::transfer::fine_tune;
use chestnut_forest::{Features, Forest, Labels, Params};
use chestnut_nn::{Engine, Taps};
use chestnut_train::{Schedule, TrainedHead};
use chestnut_zoo::graph::Shape;
use rayon::prelude::*;
use std::path::Path;

/// Items that were asked for and cannot be used, each with the reason.
pub type Refusals = Vec<(String, String)>;

/// The two models of one network.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) head: TrainedHead,
    pub(super) forest: Forest,
    /// Width of the embedding.
    pub(super) width: usize,
}

impl Fitted {
    fn new(table: &EmbeddingTable, labels: &Labels, [train, validation]: [&[usize]; 2], seed: u64) -> Result<Self> {
        let head = fine_tune::fit(table, labels, [train, validation], &Schedule::fair(), seed)?;
        let mut development = [train, validation].concat();
        development.sort_unstable();
        let features = Features::new(table.embeddings.clone(), table.width)?.select(&development);
        let forest = Forest::fit(&features, &labels.select(&development), &Params::random_forest(seed))?;
        Ok(Self { head, forest, width: table.width })
    }

    /// `[source][label]`: what both models say of one embedding.
    pub(super) fn probabilities(&self, embedding: &[f32]) -> Result<[Vec<f64>; 2]> {
        let forest = self.forest.predict(&Features::new(embedding.to_vec(), self.width)?)?;
        Ok([self.head.predict(embedding), forest])
    }

    /// The head's score of each label.
    pub(super) fn heads(&self, labels: &[String]) -> Result<Vec<ExplainedHead>> {
        let head = |(k, name): (usize, &String)| ExplainedHead::trained(&self.head, k, name);
        Ok(labels.iter().enumerate().map(head).collect::<std::result::Result<_, _>>()?)
    }
}

/// A study's networks, each with its two fitted models, and the images that they may be asked about.
#[derive(Debug)]
pub struct Models<'a> {
    study: &'a Study,
    store: &'a Path,
    networks: &'a [Network],
    cohort: Cohort,
    labels: Vec<String>,
    truth: Labels,
    /// Rows of the cohort that were learned from, ascending.
    learned: Vec<usize>,
    test: Vec<usize>,
    fitted: Vec<Fitted>,
    sources: Sources,
    /// `[source][label]`: why nothing was learned. Heads learn from the training part alone.
    untrained: [Vec<Option<String>>; 2],
}

impl<'a> Models<'a> {
    /// Fits both models of every network. `store` is the model store; `progress` is called with (done, total) networks.
    ///
    /// # Errors
    /// If embeddings are missing or stale, a network was taught on the study, the cohort cannot be split, or nothing
    /// can be learned.
    pub fn fit(
        study: &'a Study,
        cohort: &Cohort,
        store: &'a Path,
        networks: &'a [Network],
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self> {
        if networks.is_empty() {
            return Err(Error::Request("there is nothing to explain: name at least one network".to_owned()));
        }
        if let Some((Network { name, .. }, option)) = unlike_plain(study, networks) {
            let problem = format!(
                "its embeddings were made with --{option}, and a heat map belongs to one look in f32; run embed without \
                 --{option} first"
            );
            return Err(Error::Network { network: name.clone(), problem });
        }
        let (cohort, tables) = crate::compare::common(study, cohort, networks)?;
        not_taught_here(networks, &cohort)?;
        let [train, validation, test] = parts_of(&cohort, &study.settings.split)?;
        let mut learned = [&train[..], &validation[..]].concat();
        learned.sort_unstable();
        let (labels, truth) = label_table(&cohort, &learned)?;
        let mut fitted = Vec::with_capacity(tables.len());
        for table in &tables {
            progress(fitted.len(), tables.len());
            fitted.push(Fitted::new(table, &truth, [&train, &validation], study.settings.split.seed)?);
        }
        progress(tables.len(), tables.len());
        let sources = Sources::new(&study.settings.images);
        let untrained = [untrained(&truth, &train), untrained(&truth, &learned)];
        Ok(Self { study, store, networks, cohort, labels, truth, learned, test, fitted, sources, untrained })
    }

    /// The study.
    #[must_use]
    pub fn study(&self) -> &Study {
        self.study
    }

    /// The networks.
    #[must_use]
    pub fn networks(&self) -> &[Network] {
        self.networks
    }

    /// The cohort that rows count in: images that every network has embedded.
    #[must_use]
    pub fn cohort(&self) -> &Cohort {
        &self.cohort
    }

    /// Labels that could be learned, in the order of all maps.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether an image has a label; `None` if that is not known.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn truth(&self, row: usize, label: usize) -> Option<bool> {
        self.truth.get(row, label)
    }

    /// Why a model learned nothing of a label, if so; the head is source 0, the forest 1.
    pub(super) fn untrained(&self, source: usize, label: usize) -> Option<&String> {
        self.untrained[source].get(label)?.as_ref()
    }

    /// What must stand beside all maps and numbers, one sentence each: a split by image, models that learned nothing.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let by_image = self.study.settings.split.unit == Unit::Image;
        let mut remarks: Vec<String> = by_image.then(|| SPLIT_BY_IMAGE.to_owned()).into_iter().collect();
        for (source, name) in SOURCES.iter().enumerate() {
            for (label, why) in self.labels.iter().zip(&self.untrained[source]) {
                remarks.extend(why.as_ref().map(|why| format!("{label}, {name}: {why}; its maps show nothing")));
            }
        }
        remarks
    }

    /// Share of positives among the images that were learned from, 0 to 1: where a probability becomes a call.
    #[must_use]
    pub fn share(&self, label: usize) -> f64 {
        let known: Vec<bool> = self.learned.iter().filter_map(|&row| self.truth.get(row, label)).collect();
        known.iter().filter(|p| **p).count() as f64 / known.len().max(1) as f64
    }

    /// Rows of the images called `ids`, in their order, or all of the test part; and those that cannot be explained:
    /// not in the study, or learned from.
    ///
    /// # Errors
    /// If none is left.
    pub fn rows(&self, ids: &[String]) -> Result<(Vec<usize>, Refusals)> {
        if ids.is_empty() {
            return Ok((self.test.clone(), Vec::new()));
        }
        let (mut rows, mut refused) = (Vec::new(), Vec::new());
        for id in ids {
            let reason = match self.cohort.images.binary_search_by(|i| i.id.as_str().cmp(id)) {
                Err(_) => "is not an image of this study; cohort.csv lists them",
                Ok(row) if self.learned.binary_search(&row).is_ok() => {
                    "was learned from; a map of it would show what the model remembers. Name images of the test part \
                     (split.csv)"
                }
                Ok(row) => {
                    if !rows.contains(&row) {
                        rows.push(row);
                    }
                    continue;
                }
            };
            refused.push((id.clone(), reason.to_owned()));
        }
        match refused.first() {
            Some((id, reason)) if rows.is_empty() => Err(Error::Request(format!("{id} {reason}"))),
            _ => Ok((rows, refused)),
        }
    }

    /// Numbers of the labels called `names`, whatever their case, or all labels; and the names that no label has.
    ///
    /// # Errors
    /// If none is left.
    pub fn labels_named(&self, names: &[String]) -> Result<(Vec<usize>, Refusals)> {
        if names.is_empty() {
            return Ok(((0..self.labels.len()).collect(), Vec::new()));
        }
        let reason = format!("no such label could be learned; the study has {}", self.labels.join(", "));
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for name in names {
            match self.labels.iter().position(|l| l.eq_ignore_ascii_case(name)) {
                Some(label) if found.contains(&label) => {}
                Some(label) => found.push(label),
                None => refused.push((name.clone(), reason.clone())),
            }
        }
        match refused.first() {
            Some((name, reason)) if found.is_empty() => Err(Error::Request(format!("{name}: {reason}"))),
            _ => Ok((found, refused)),
        }
    }

    /// Similar cases of images `rows`: the `count` nearest images of other patients by the embeddings of all networks,
    /// anywhere in the study. Embeddings are read again, so that nothing of them is kept beside the models.
    ///
    /// # Errors
    /// If embeddings are missing or stale.
    pub fn similar(&self, rows: &[usize], count: usize) -> Result<Vec<(String, Vec<SimilarImage>)>> {
        let (cohort, tables) = crate::compare::common(self.study, &self.study.cohort()?, self.networks)?;
        if cohort.images.len() != self.cohort.images.len() {
            let problem = "the study has changed while it was explained; run `chestnut explain` again";
            return Err(Error::Request(problem.to_owned()));
        }
        Ok(similar_cases(&EmbeddingSpace::new(&tables), &cohort, rows, count))
    }

    /// The film of an image at its own size, blanked as the study asks.
    ///
    /// # Errors
    /// Why it cannot be read any more.
    pub fn film(&self, row: usize) -> std::result::Result<Radiograph, String> {
        embed::film(self.study, &self.sources, &self.study.settings.recipe, &self.cohort.images[row])
    }

    /// Network number `number`, loaded.
    pub(super) fn runner(&self, number: usize) -> Result<Runner<'_>> {
        let network = &self.networks[number];
        let engine = network.engine(self.store)?;
        let recipe = Recipe { size: network.record.input_size, ..self.study.settings.recipe.clone() };
        let reader = Reader { models: self, recipe, standardisation: network.standardisation()? };
        let problem = |problem: String| Error::Network { network: network.name.clone(), problem };
        let size = reader.recipe.size;
        let shape = engine.feature_map_shape(size, size).map_err(|e| problem(e.to_string()))?;
        Ok(Runner { name: &network.name, reader, engine, fitted: &self.fitted[number], shape })
    }
}

/// Reads images as one network wants them.
pub(super) struct Reader<'m> {
    models: &'m Models<'m>,
    recipe: Recipe,
    standardisation: Standardisation,
}

impl Reader<'_> {
    /// The recipe's grey square of an image, before standardisation, or why there is none.
    pub(super) fn square(&self, row: usize) -> std::result::Result<Vec<f32>, String> {
        Ok(self.recipe.prepare(&self.models.film(row)?).grey)
    }

    /// Side of the square.
    pub(super) fn size(&self) -> usize {
        self.recipe.size
    }
}

/// One network, loaded, with its models.
pub(super) struct Runner<'m> {
    name: &'m str,
    pub(super) reader: Reader<'m>,
    engine: Engine,
    pub(super) fitted: &'m Fitted,
    /// Of the last feature map.
    pub(super) shape: Shape,
}

impl Runner<'_> {
    /// Runs grey squares through the network.
    pub(super) fn run(&mut self, squares: &[Vec<f32>], maps: bool) -> Result<Taps> {
        let (size, standardisation) = (self.reader.recipe.size, self.reader.standardisation);
        let one = size * size * standardisation.channels();
        let mut input = vec![0.0; squares.len() * one];
        input.par_chunks_mut(one).zip(squares).for_each(|(out, grey)| standardisation.apply(grey, out));
        let run = self.engine.run(&input, size, size, maps);
        run.map_err(|e| Error::Network { network: self.name.to_owned(), problem: e.to_string() })
    }

    /// `[image][source][label]`: what both models say of grey squares.
    pub(super) fn answers(&mut self, squares: &[Vec<f32>]) -> Result<Vec<[Vec<f64>; 2]>> {
        let taps = self.run(squares, false)?;
        let fitted = self.fitted;
        taps.embeddings.par_chunks(fitted.width).map(|embedding| fitted.probabilities(embedding)).collect()
    }
}

/// Adds `share` times the second to the first, `[source][label]`.
pub(super) fn add_share(sums: &mut [Vec<f64>; 2], values: &[Vec<f64>; 2], share: f64) {
    for (sums, values) in sums.iter_mut().zip(values) {
        sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += share * v);
    }
}
