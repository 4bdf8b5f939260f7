//! `chestnut tune`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::embed::Network;
use chestnut::forest::{Grid, Learner};
use chestnut::study::{Study, read_text};
use chestnut::tune::{TuneOptions, tune};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Search the paper's whole grid of tree settings on the training patients; an interrupted search goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut tune study
  chestnut tune study --learner rf,xrt --folds 5 --repeats 3    as the paper's code
  chestnut compare study --tuned                                use what was found

A grid of your own (--grid FILE.toml); every combination is tried:
  learner = \"random-forest\"                # or \"extra-trees\", \"decision-tree\"
  trees = [100, 300]
  max_depth = [5, 10, 20]
  min_samples_split = [2, 10]
  min_samples_leaf = [1, 4]
  criterion = [\"gini\", \"entropy\"]
  max_features = [\"sqrt\", { count = 64 }]   # or \"log2\", \"all\"
  bootstrap = [false]
  class_weight = \"balanced\"               # may be left out: \"none\"")]
pub(crate) struct Tune {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Learners on the embeddings.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rf")]
    pub(crate) learner: Vec<TreeArg>,
    /// A grid of your own as TOML, as below, instead of the paper's.
    #[arg(long, conflicts_with = "learner")]
    pub(crate) grid: Option<PathBuf>,
    /// Folds of the cross-validation, by patient and stratified over labels.
    #[arg(long, default_value_t = 5)]
    pub(crate) folds: usize,
    /// How often it is repeated with other folds.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    /// Also search for all networks' embeddings side by side, for `compare --concat --tuned`.
    #[arg(long)]
    pub(crate) concat: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Learners that have a grid to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TreeArg {
    /// Random forest.
    Rf,
    /// Extremely randomised trees.
    Xrt,
    /// Decision tree.
    Dt,
}

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
    let options = TuneOptions { grids, folds: a.folds, repeats: a.repeats, concat: a.concat };
    let found = tune(&study, &cohort, &networks, &options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} settings", found.iter().map(|t| t.settings).sum::<usize>()));
    for t in &found {
        say!(
            "{:<28} {}  AUC {:.3} (sd {:.3}) over {} settings",
            t.network,
            t.best.params,
            t.best.mean,
            t.best.sd,
            t.settings
        );
    }
    say!("Tables and pictures: {} and {}", study.path("tables").display(), study.path("figures").display());
    Ok(Outcome::Clean)
}

fn learner(l: TreeArg) -> Learner {
    match l {
        TreeArg::Rf => Learner::RandomForest,
        TreeArg::Xrt => Learner::ExtraTrees,
        TreeArg::Dt => Learner::DecisionTree,
    }
}
