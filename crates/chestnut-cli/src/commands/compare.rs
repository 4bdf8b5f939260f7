//! `chestnut compare`

use super::embed::STAGE;
use super::models_folder;
use crate::Outcome;
use crate::args::{Compare, LearnerArg};
use crate::progress::Progress;
use anyhow::bail;
use chestnut::compare::{self, CompareOptions};
use chestnut::embed::Network;
use chestnut::evaluate::{Comparison, table};
use chestnut::forest::Params;
use chestnut::report::{self, Pictures};
use chestnut::study::Study;
use chestnut::transfer::embeddings::Learner;
use std::path::{Path, PathBuf};

pub(crate) fn run(a: &Compare) -> anyhow::Result<Outcome> {
    let study = Study::open(&a.study)?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let seed = study.settings.split.seed;
    let learners = a.learner.iter().map(|l| learner(*l, seed)).collect();
    let tuned = if a.tuned { Some(chestnut::tune::tuned(&study)?) } else { None };
    let options = CompareOptions { repeats: a.repeats, literal_entropy: a.literal_entropy, learners, tuned };
    let (comparison, page) = compare(&study, &models_folder(&a.store)?, &names, &options)?;
    if a.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else if a.markdown {
        println!("{}", table::markdown(&comparison));
    } else {
        println!("{}", table::terminal(&comparison));
        println!("Report: {}", page.display());
    }
    let left_out = study.cohort()?.images.len() - comparison.images;
    if left_out > 0 {
        eprintln!(
            "{left_out} images could not be embedded and are left out; `chestnut embed {}` names them.",
            a.study.display()
        );
        return Ok(Outcome::SomeRefused);
    }
    Ok(Outcome::Clean)
}

/// A learner with the paper's final values.
fn learner(learner: LearnerArg, seed: u64) -> Learner {
    match learner {
        LearnerArg::Rf => Learner::Trees(Params::random_forest(seed)),
        LearnerArg::Xrt => Learner::Trees(Params::extra_trees(seed)),
        LearnerArg::Dt => Learner::Trees(Params::decision_tree(seed)),
        LearnerArg::Lr => Learner::Linear,
        LearnerArg::Knn => Learner::Neighbours,
    }
}

/// Networks that the study holds embeddings of.
pub(crate) fn embedded_names(study: &Study) -> Vec<String> {
    study.manifest().stages.keys().filter_map(|k| k.strip_prefix(STAGE).map(str::to_owned)).collect()
}

/// Compares and writes the report; also the demo's last stage.
pub(crate) fn compare(
    study: &Study,
    models: &Path,
    names: &[String],
    options: &CompareOptions,
) -> anyhow::Result<(Comparison, PathBuf)> {
    let cohort = study.cohort()?;
    let networks: Vec<Network> = names.iter().map(|n| Network::find(models, n)).collect::<Result<_, _>>()?;
    let progress = Progress::new("comparing", "models");
    let comparison = compare::compare(study, &cohort, &networks, options, &|done, total| progress.update(done, total))?;
    progress.finish("fitted and scored");
    let pictures = Pictures { contact_sheet_png: std::fs::read(study.path("contact_sheet.png")).ok() };
    let page = report::write(&study.root, &comparison, &pictures)?;
    Ok((comparison, page))
}
