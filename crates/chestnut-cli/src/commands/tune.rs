//! `chestnut tune`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::{TreeArg, Tune};
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::embed::Network;
use chestnut::forest::{Grid, Learner};
use chestnut::study::{Study, read_text};
use chestnut::tune::{TuneOptions, tune};

pub(crate) fn run(a: &Tune) -> anyhow::Result<Outcome> {
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "tune")?;
    let cohort = study.cohort()?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let models = models_folder(&a.store)?;
    let networks: Vec<Network> = names.iter().map(|n| Network::find(&models, n)).collect::<Result<_, _>>()?;
    let grids = match &a.grid {
        Some(file) => vec![Grid::from_toml(&read_text(file)?).with_context(|| file.display().to_string())?],
        None => a.learner.iter().map(|l| Grid::paper(learner(*l))).collect(),
    };
    let progress = Progress::new("tuning", "pieces");
    let options = TuneOptions { grids, folds: a.folds, repeats: a.repeats };
    let found = tune(&study, &cohort, &networks, &options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} settings", found.iter().map(|t| t.settings).sum::<usize>()));
    for t in &found {
        println!(
            "{:<28} {}  AUC {:.3} (sd {:.3}) over {} settings",
            t.network, t.best.params, t.best.mean, t.best.sd, t.settings
        );
    }
    println!("Tables and pictures: {} and {}", study.path("tables").display(), study.path("figures").display());
    Ok(Outcome::Clean)
}

fn learner(l: TreeArg) -> Learner {
    match l {
        TreeArg::Rf => Learner::RandomForest,
        TreeArg::Xrt => Learner::ExtraTrees,
        TreeArg::Dt => Learner::DecisionTree,
    }
}
