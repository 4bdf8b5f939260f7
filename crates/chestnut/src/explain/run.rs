//! One run of `explain`, step by step: each works something out, writes its tables and pictures, and puts them on the
//! page.
//!
//! [`Run::begin`] reads what people brought (outlines of experts, lung masks) before it removes what an earlier run left,
//! so that a mistake there costs nothing, and makes what later steps need. Then steps follow in any order, or none; they
//! stand on the page as they came. [`Run::finish`] writes the page and the summary for the report. Nothing is printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use super::agreement::{rows_csv, summary_csv};
use super::batches::batches;
use super::gallery::{agreement_table, heat_table, stability_table};
use super::lungs::{Lungs, LungsRead};
use super::masked::{Shortcuts, shortcuts};
use super::means::Means;
use super::page::Page;
use super::perturbed::{self, Perturbation};
use super::pictures::{self, FOLDER, Painter};
use super::population::DEFAULT_GRID;
use super::stage::{self, Agreed, ExplainOptions, Explained};
use super::{BoxRule, Models, Refusals};
use crate::cohort::Cohort;
use crate::error::Result;
use crate::predict::space::{SimilarImage, similar_csv};
use crate::study::StageRecord;

/// What is asked of a run beside its maps.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How maps and masks are made.
    pub maps: ExplainOptions,
    /// Which boxes are drawn round a map's mask.
    pub boxes: BoxRule,
    /// Numbers of the labels that are drawn.
    pub labels: Vec<usize>,
    /// Masks, boxes or polygons that experts drew.
    pub experts: Option<PathBuf>,
    /// What the experts call a label of the study.
    pub renamed: BTreeMap<String, String>,
    /// Folder of lung masks; without one lungs are two rough ellipses.
    pub lungs: Option<PathBuf>,
    /// Similar cases of each image; 0 for none.
    pub similar: usize,
}

/// A run between its beginning and its end.
pub struct Run<'a> {
    models: &'a Models<'a>,
    explained: &'a Explained,
    options: &'a RunOptions,
    painter: Painter<'a>,
    page: Page<'a>,
    agreed: Option<Agreed>,
    lungs: Lungs,
    means: Means,
    similar: Vec<(String, Vec<SimilarImage>)>,
    /// Rows of the images that could be read.
    readable: Vec<usize>,
    refused: Refusals,
    /// Seconds spent on pictures.
    drawing: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Images that cannot be used, with the reason.
    pub refused: Refusals,
    /// Whether anything else could not be used or drawn; it was said.
    pub incomplete: bool,
    /// Where the time went, in one line.
    pub time: String,
}

impl<'a> Run<'a> {
    /// Scores the maps against experts, clears the folder, and makes mean maps, shares of heat and similar cases.
    ///
    /// `cohort` is the study's whole one; `say` gets each message as it comes.
    ///
    /// # Errors
    /// If the experts' files or the lung masks cannot be used at all, or a file cannot be written.
    pub fn begin(
        models: &'a Models<'a>,
        explained: &'a Explained,
        cohort: &Cohort,
        options: &'a RunOptions,
        say: &'a dyn Fn(&str),
    ) -> Result<Self> {
        let study = models.study();
        let (cam, mask, seed) = (options.maps.cam, options.maps.mask, study.settings.split.seed);
        let scored = |path| stage::agreement(explained, path, &options.renamed, &options.maps, seed);
        let agreed = options.experts.as_deref().map(scored).transpose()?;
        let LungsRead { lungs, refused, messages } = match &options.lungs {
            Some(folder) => Lungs::read(folder, explained, DEFAULT_GRID)?,
            None => LungsRead { lungs: Lungs::rough(DEFAULT_GRID)?, refused: Refusals::new(), messages: Vec::new() },
        };
        pictures::clear(study)?;
        let readable: Vec<usize> = explained.images.iter().map(|i| i.row).collect();
        let similar = if options.similar > 0 { models.similar(&readable, options.similar)? } else { Vec::new() };
        let mut run = Self {
            models,
            explained,
            options,
            painter: Painter { models, explained, kind: cam, mask, boxes: options.boxes },
            page: Page::new(models, explained, cohort, &options.maps, say),
            agreed,
            means: Means::of(explained, cam, DEFAULT_GRID, &lungs)?,
            lungs,
            similar,
            readable,
            refused: [explained.refused.clone(), refused].concat(),
            drawing: 0.0,
        };
        run.page.warn("explain", &models.remarks());
        // Images that a network could not embed.
        run.page.warn("explain", models.cohort().warnings.get(cohort.warnings.len()..).unwrap_or_default());
        run.page.warn("explain", &run.means.flat_messages(&explained.labels));
        run.page.warn("lungs", &messages);
        run.tables()?;
        Ok(run)
    }

    /// Writes what [`Run::begin`] has made.
    fn tables(&mut self) -> Result<()> {
        let labels = &self.explained.labels;
        self.write("population.csv", &self.means.csv(self.explained, &self.lungs)?)?;
        if self.options.similar > 0 {
            self.write("similar.csv", &similar_csv(&self.explained.cohort.label_names, &self.similar))?;
        }
        if let Some(agreed) = &self.agreed {
            self.write("agreement_rows.csv", &rows_csv(&agreed.rows, agreed.mask))?;
            self.write("agreement.csv", &summary_csv(&agreed.table, agreed.mask))?;
            self.page.warn("experts", &agreed.messages);
            self.page.table(agreement_table(&agreed.table, agreed.mask));
            self.page.refused |= agreed.refused;
        }
        self.page.table(heat_table(labels, &self.means, &self.lungs)?);
        Ok(())
    }

    /// Agreement with experts, if they drew anything.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Number of images that could be read.
    #[must_use]
    pub fn images(&self) -> usize {
        self.readable.len()
    }

    /// Asks the models again with parts of every image hidden. `progress` as for [`shortcuts`].
    ///
    /// # Errors
    /// If a network cannot be run or a file cannot be written.
    pub fn shortcuts(&mut self, progress: &dyn Fn(usize, usize)) -> Result<Shortcuts> {
        let check = shortcuts(self.models, &self.readable, progress)?;
        self.write("shortcuts.csv", &check.csv())?;
        self.refused.extend(check.refused.iter().cloned());
        self.page.shortcuts(&check);
        let views = self.painter.views(&check)?;
        self.page.show("What was hidden", "Hidden pixels take the mean of the visible ones.", views);
        Ok(check)
    }

    /// Makes maps by hiding parts of the images, and gives the number of images. `progress` as for
    /// [`perturbed::perturb`].
    ///
    /// # Errors
    /// As [`perturbed::perturb`], or if a file cannot be written.
    pub fn perturb(&mut self, method: Perturbation, progress: &dyn Fn(usize, usize)) -> Result<usize> {
        let (found, lost) = perturbed::perturb(self.models, &self.readable, method, progress)?;
        self.refused.extend(lost);
        let table = perturbed::csv(self.explained, &found, method, self.options.maps.cam)?;
        self.write("perturbation.csv", &table)?;
        let mut drawn = self.painter.perturbed(&self.options.labels, &found, method)?;
        self.painter.similar(&mut drawn, &self.similar)?;
        let note = "The models were asked about copies with parts hidden; nothing inside them was looked at.";
        self.page.films(&format!("By hiding parts: {}", method.name()), note, drawn);
        Ok(found.len())
    }

    /// Draws the mean maps: over all images, and of two random batches of `batch` images each unless that is 0. The report
    /// shows the batches, which tell how stable the means are, and without them the means over all.
    ///
    /// # Errors
    /// If maps do not fit or a file cannot be written.
    pub fn population(&mut self, batch: usize) -> Result<()> {
        let clock = Instant::now();
        let labels = &self.options.labels;
        let over_all = self.painter.means(labels, &self.means.maps)?;
        if batch > 0 {
            let seed = self.models.study().settings.split.seed;
            let halves = batches(self.explained, self.options.maps.cam, batch, DEFAULT_GRID, seed)?;
            self.write("batches.csv", &halves.csv())?;
            self.page.table(stability_table(&halves));
            let drawn = self.painter.batches(labels, &halves)?;
            self.page.summary.show(&drawn.pictures);
            let note = format!(
                "{} The most probable label of each image, then each label over all images. If the two differ, more \
                 images are needed before anything is read from a mean map.",
                halves.describe()
            );
            self.page.show("Mean maps of two random batches", &note, drawn);
        }
        if self.page.summary.maps.is_empty() {
            self.page.summary.show(&over_all.pictures);
        }
        let note = "The mean over all explained images, each scaled from 0 to 1. Heat in border or corners on most images \
                    is a reason to look for markers.";
        self.page.show("Mean maps", note, over_all);
        self.drawing += clock.elapsed().as_secs_f64();
        Ok(())
    }

    /// Draws contact sheets with `count` cases of each kind.
    ///
    /// # Errors
    /// As [`Painter::cases`].
    pub fn cases(&mut self, count: usize) -> Result<()> {
        let clock = Instant::now();
        let drawn = self.painter.cases(&self.options.labels, count)?;
        let note = "Rows: surely right, surely wrong, least sure. Begin with the surely wrong: many are errors of the \
                    labels. A probability at or above the label's share of positives counts as a call.";
        self.page.show("Contact sheets", note, drawn);
        self.drawing += clock.elapsed().as_secs_f64();
        Ok(())
    }

    /// Draws all labels that a model calls on each of `count` films, and gives the number of pictures. `progress` as for
    /// [`Painter::together`].
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn together(&mut self, count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<usize> {
        let clock = Instant::now();
        let mut drawn = self.painter.together(&self.options.labels, count, progress)?;
        let pictures = drawn.pictures.len();
        self.painter.similar(&mut drawn, &self.similar)?;
        let note = format!(
            "All labels that the model calls, in the colours of the legend. Outlined: {}. A probability at or above the \
             label's share of positives counts as a call. Films with most calls by the forest come first.",
            self.options.maps.mask.describe()
        );
        self.page.films("Several labels on one film", &note, drawn);
        self.drawing += clock.elapsed().as_secs_f64();
        Ok(pictures)
    }

    /// Draws overlays of about `count` images and gives the number of pictures. `progress` as for [`Painter::overlays`].
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn overlays(&mut self, count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<usize> {
        let clock = Instant::now();
        let mut drawn = self.painter.overlays(&self.options.labels, count, progress)?;
        let pictures = drawn.pictures.len();
        self.painter.similar(&mut drawn, &self.similar)?;
        let note = format!(
            "Those with the highest probability by the forest. Grad-CAM: evidence for the label only. Tree-CAM: red \
             speaks for the label, blue against it. Outlined: {}. Below: the nearest images of other patients as the \
             networks see them, which is no diagnosis.",
            self.options.maps.mask.describe()
        );
        self.page.films("Overlays", &note, drawn);
        self.drawing += clock.elapsed().as_secs_f64();
        Ok(pictures)
    }

    /// Writes the page and the summary, and records the stage; `fitting` is the time that the models took, in seconds.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(mut self, fitting: f64) -> Result<Finished> {
        let (passes, maps, drawing) = (self.explained.timings.passes, self.explained.timings.maps, self.drawing);
        let share = if passes > 0.0 { 100.0 * maps / passes } else { 0.0 };
        let time = format!(
            "Time: {fitting:.1} s fitting, {passes:.1} s reading and passes, {maps:.1} s maps ({share:.0} % of the \
             passes), {drawing:.1} s pictures"
        );
        self.page.gallery.facts.push(time.clone());
        let study = self.models.study();
        self.page.write(study)?;
        let networks: Vec<&str> = self.models.networks().iter().map(|n| n.name.as_str()).collect();
        let facts = [
            ("networks", networks.join(",")),
            ("images", self.images().to_string()),
            ("cam", self.options.maps.cam.name().to_owned()),
            ("mask", self.options.maps.mask.to_string()),
            ("lungs", self.lungs.name().to_owned()),
            ("seconds_fitting", format!("{fitting:.3}")),
            ("seconds_passes", format!("{passes:.3}")),
            ("seconds_maps", format!("{maps:.3}")),
            ("seconds_pictures", format!("{drawing:.3}")),
        ];
        let facts = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        study.record("explain", StageRecord { seconds: fitting + passes + maps + drawing, facts })?;
        Ok(Finished { refused: self.refused, incomplete: self.page.refused, time })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        self.models.study().write(&format!("{FOLDER}/{name}"), text.as_bytes())
    }
}
