//! New radiographs to embeddings: the same sources, rules, decoder, recipe and networks as `ingest` and `embed`.
//!
//! One bad file never stops a run: it is refused with a reason. Images are decoded once and fed to each network in turn,
//! so that one network and a few hundred prepared inputs are in memory at a time.

use super::index::{ModelIndex, NetworkRecord, sha256};
use crate::cohort::pseudonym::is_pseudonym;
use crate::cohort::rules::{SelectionRules, Verdict};
use crate::cohort::source::ImageSource;
use crate::cohort::{Cohort, ViewFilter, pseudonym};
use crate::embed::{Network, Refused, along_paths};
use crate::error::{Error, Result};
use crate::image;
use crate::image::recipe::Recipe;
use crate::study::{Study, read_text};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Images that are prepared before the networks take their turns.
pub(super) const CHUNK: usize = 512;
/// Images that run through a network together.
const BATCH: usize = 32;
/// The rules by which ingest chose the images, below the study's folder.
const RULES: &str = "selection_rules.toml";

/// A new image and what the networks say of it.
pub(super) struct NewImage {
    pub(super) id: String,
    pub(super) sha256: String,
    /// As the study names patients; `None` if the file does not say.
    pub(super) patient: Option<String>,
    /// One per network.
    pub(super) embeddings: Vec<Vec<f32>>,
    /// Probabilities by each network's own head; empty without one.
    pub(super) outputs: Vec<Vec<f32>>,
}

/// An image that is ready for every network.
struct Prepared {
    image: NewImage,
    /// Grey values by the side of the input.
    grey: BTreeMap<usize, Vec<f32>>,
}

/// How images are judged, prepared and embedded.
pub(super) struct Reader<'a> {
    study: &'a Study,
    models: &'a Path,
    networks: &'a [Network],
    rules: SelectionRules,
    /// Projections that are taken.
    view: ViewFilter,
    /// Key of the patients' pseudonyms, if the study has one.
    key: Option<[u8; 32]>,
    /// Hashes of the images that the study has taken already.
    known: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    /// `any_view` takes every projection, whatever the study takes.
    ///
    /// # Errors
    /// If the study's rules or key cannot be read.
    pub(super) fn new(
        study: &'a Study,
        models: &'a Path,
        networks: &'a [Network],
        cohort: &'a Cohort,
        any_view: bool,
    ) -> Result<Self> {
        let key = study.path(".pseudonym-key");
        // A key may be left from an earlier ingest: --keep-ids names patients as they came.
        let named = cohort.images.iter().all(|i| is_pseudonym(&i.patient));
        let key = if named && key.is_file() { Some(Study::pseudonym_key(&study.root)?) } else { None };
        let known = cohort.images.iter().map(|i| i.sha256.as_str()).collect();
        let view = if any_view { ViewFilter::Any } else { study.view() };
        Ok(Self { study, models, networks, rules: rules(study, &view)?, view, key, known })
    }

    /// Embeds some images; `tick` is called with the number of passes of an image through a network just done.
    ///
    /// # Errors
    /// If a network cannot be loaded or run.
    pub(super) fn embed(
        &self,
        sources: &[ImageSource],
        tick: &mut dyn FnMut(usize),
    ) -> Result<(Vec<NewImage>, Vec<Refused>)> {
        let prepared: Vec<std::result::Result<Prepared, Refused>> =
            sources.par_iter().map(|source| self.prepare(source)).collect();
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for one in prepared {
            match one {
                Ok(one) => good.push(one),
                Err(one) => {
                    tick(self.networks.len());
                    refused.push(one);
                }
            }
        }
        if good.is_empty() {
            return Ok((Vec::new(), refused));
        }
        for network in self.networks {
            let problem = |problem: String| Error::Network { network: network.name.clone(), problem };
            let mut engine = network.engine(self.models)?;
            let standardisation = network.standardisation()?;
            let paths = network.record.paths().map_err(problem)?;
            let (side, width) = (network.record.input_size, engine.graph().embedding_width());
            let outputs = network.record.head.outputs();
            let one = side * side * standardisation.channels();
            for batch in good.chunks_mut(BATCH) {
                let mut input = vec![0.0; batch.len() * one];
                input
                    .par_chunks_mut(one)
                    .zip(batch.par_iter())
                    .for_each(|(out, image)| standardisation.apply(&image.grey[&side], out));
                let mut taps = engine.run(&input, side, side, false).map_err(|e| problem(e.to_string()))?;
                along_paths(&mut taps.outputs, &paths);
                for (row, Prepared { image, .. }) in batch.iter_mut().enumerate() {
                    image.embeddings.push(taps.embeddings[row * width..][..width].to_vec());
                    image.outputs.push(taps.outputs[row * outputs..][..outputs].to_vec());
                }
                tick(batch.len());
            }
        }
        let mut images = Vec::with_capacity(good.len());
        for Prepared { image, .. } in good {
            let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
            let mut both = image.embeddings.iter().zip(&image.outputs);
            match both.position(|(embedding, outputs)| !finite(embedding) || !finite(outputs)) {
                None => images.push(image),
                Some(n) => {
                    let reason = format!("what {} says of it is not finite", self.networks[n].name);
                    refused.push(Refused { image: image.id, reason });
                }
            }
        }
        Ok((images, refused))
    }

    /// Judges and decodes one image and makes the networks' inputs; the pixels end here.
    fn prepare(&self, source: &ImageSource) -> std::result::Result<Prepared, Refused> {
        let refuse = |reason: String| Refused { image: source.id().to_owned(), reason };
        let settings = &self.study.settings;
        let bytes = source.read().map_err(|e| refuse(e.to_string()))?;
        let opened = image::open(&bytes).map_err(|e| refuse(e.to_string()))?;
        let taken = || self.known.contains(sha256(&bytes).as_str());
        let wanted = |view: Option<&str>| match self.view.check(view, &self.rules) {
            Err(reason) if !taken() => Err(refuse(format!("{reason}; --any-view takes it"))),
            _ => Ok(()),
        };
        // The header first: what is refused by it need not be decoded.
        let is_dicom = opened.facts().is_some();
        if let Some(facts) = opened.facts() {
            match self.rules.judge(facts, None) {
                Verdict::Take { view, .. } => wanted(view.as_deref())?,
                Verdict::Refuse { reason } if !taken() => return Err(refuse(reason)),
                Verdict::Refuse { .. } => {}
            }
        }
        let mut decoded = opened.decode(&settings.recipe.pixels).map_err(|e| refuse(e.to_string()))?;
        if !is_dicom {
            wanted(None)?;
        }
        drop(bytes);
        settings.blank.apply(&mut decoded.radiograph, decoded.dicom.as_ref());
        let patient = decoded.dicom.as_ref().and_then(|h| h.patient_id.as_deref()).filter(|p| !p.trim().is_empty());
        let patient = patient.map(|p| self.key.as_ref().map_or_else(|| p.to_owned(), |key| pseudonym(key, p)));
        let sides: BTreeSet<usize> = self.networks.iter().map(|n| n.record.input_size).collect();
        let grey = |size: usize| Recipe { size, ..settings.recipe.clone() }.prepare(&decoded.radiograph).grey;
        Ok(Prepared {
            grey: sides.into_iter().map(|side| (side, grey(side))).collect(),
            image: NewImage {
                id: source.id().to_owned(),
                sha256: decoded.content_sha256.clone(),
                patient,
                embeddings: Vec::with_capacity(self.networks.len()),
                outputs: Vec::with_capacity(self.networks.len()),
            },
        })
    }
}

/// The rules that chose the study's images, with the options that changed them, as far as `view` leaves them to judge.
fn rules(study: &Study, view: &ViewFilter) -> Result<SelectionRules> {
    let for_view = |rules: SelectionRules| {
        let other_views = view.takes_other_views(&rules);
        rules.with_any_view(other_views)
    };
    let path = study.path(RULES);
    if !path.is_file() {
        return Ok(for_view(SelectionRules::default()));
    }
    let text = read_text(&path)?;
    let rules = SelectionRules::from_toml(&text)
        .map_err(|e| Error::File { path, problem: format!("{e}; run ingest again") })?;
    let mut rules = for_view(rules);
    let changed = |option: &str| text.lines().any(|l| l == format!("# Changed by {option}."));
    if changed("--secondary-captures") {
        rules = rules.with_secondary_captures();
    }
    Ok(rules.with_any_body_part(changed("--any-body-part")))
}

/// The networks that the models were fitted with, as the model store has them now.
///
/// # Errors
/// If one is missing, or is not what it was.
pub(super) fn networks(index: &ModelIndex, models: &Path) -> Result<Vec<Network>> {
    let find = |record: &NetworkRecord| -> Result<Network> {
        let network = Network::find(models, &record.name)?;
        let now = NetworkRecord::of(&network, record.width);
        if now != *record {
            let problem = "is not the network that the study's models were fitted with (other weights, input or \
                           standardisation); put that one back, or run embed and compare again"
                .to_owned();
            return Err(Error::Network { network: record.name.clone(), problem });
        }
        Ok(network)
    };
    index.networks.iter().map(find).collect()
}
