//! `chestnut finetune`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::bail;
use chestnut::embed::Network;
use chestnut::study::Study;
use chestnut::train::Depth;
use chestnut::transfer::deep::{DeepOptions, Finetuned, finetune};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Teach the last layers of a network, or all of them, on a study's training patients; compare then shows it too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut finetune study --net xception
  chestnut finetune study --net densenet121 --depth all --epochs 5 --quick
  chestnut compare study --net xception         shows it beside the other approaches

The taught network is kept in the study: `chestnut models list --models study/models`. An
interrupted run goes on where it was; the same command again, and the end is the same bytes.")]
pub(crate) struct Finetune {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Which layers learn.
    #[arg(long, value_enum, default_value = "block")]
    pub(crate) depth: DepthArg,
    /// Epochs at most.
    #[arg(long, default_value_t = 20)]
    pub(crate) epochs: usize,
    /// Images per update.
    #[arg(long, default_value_t = 16)]
    pub(crate) batch: usize,
    /// First learning rate.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) rate: f64,
    /// How the learning rate changes.
    #[arg(long, value_enum, default_value = "cosine")]
    pub(crate) schedule: ScheduleArg,
    /// Stop after this many epochs without a better validation AUC.
    #[arg(long, default_value_t = 5)]
    pub(crate) patience: usize,
    /// Decoupled weight decay (AdamW).
    #[arg(long, default_value_t = 0.0)]
    pub(crate) weight_decay: f64,
    /// Batch normalisation learns too, with each batch's own statistics.
    #[arg(long)]
    pub(crate) train_norms: bool,
    /// Leave out the five more runs that thresholds, calibration and stacking need.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Minutes between two checkpoints: what a kill costs at most, beside the epoch that was going on.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) checkpoint_minutes: f64,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Which layers learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DepthArg {
    /// The classification layer.
    Head,
    /// That and the last convolutions, as the paper's authors did.
    Conv,
    /// The classification layer and the last stage of the network.
    Block,
    /// All layers.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleArg {
    /// Falls to 0 on half a cosine.
    Cosine,
    /// Stays.
    Constant,
}

pub(crate) fn run(a: &Finetune) -> anyhow::Result<Outcome> {
    let models = models_folder(&a.store)?;
    if !(a.checkpoint_minutes > 0.0 && a.checkpoint_minutes <= 10_000.0) {
        bail!("--checkpoint-minutes is {}; give minutes above 0", a.checkpoint_minutes);
    }
    let every = Duration::from_secs_f64(a.checkpoint_minutes * 60.0);
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "finetune")?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let depth = match a.depth {
        DepthArg::Head => Depth::Head,
        DepthArg::Conv => Depth::Conv,
        DepthArg::Block => Depth::Block,
        DepthArg::All => Depth::All,
    };
    let options = DeepOptions {
        epochs: a.epochs,
        batch: a.batch,
        rate: a.rate,
        cosine: a.schedule == ScheduleArg::Cosine,
        patience: a.patience,
        weight_decay: a.weight_decay,
        norms: a.train_norms,
        folds: !a.quick,
        ..DeepOptions::new(depth)
    };
    for name in &names {
        let network = Network::find(&models, name)?;
        let maps = Progress::new(&format!("preparing {name}"), "images");
        let learning = Progress::new(&format!("teaching {name}"), "epochs");
        let prepared = |n: usize, all: usize| {
            maps.update(n, all);
            if n == all {
                maps.finish(&format!("{n} images"));
            }
        };
        let taught = |n: usize, all: usize| learning.update(n, all);
        let done = finetune(&study, &models, &network, &options, every, &prepared, &taught)?;
        learning.finish(&said(&done));
        say!("{} is in {}.", done.model.name, study.path("models").display());
    }
    // Beside a network that was not taught so, compare would leave these out.
    let net = if a.net.is_empty() { String::new() } else { format!(" --net {}", a.net.join(",")) };
    say!("Now run `chestnut compare {}{net}`.", a.study.display());
    Ok(Outcome::Clean)
}

/// What a fine-tuning did, on one line.
fn said(done: &Finetuned) -> String {
    let auc = |auc: Option<f64>| auc.map_or_else(|| "not estimable".to_owned(), |a| format!("{a:.3}"));
    let Some(first) = done.fits.first() else { return String::new() };
    let best = first.best.checked_sub(1).and_then(|i| first.epochs.get(i)).and_then(|e| e.validation_auc);
    let after = if first.best == 0 { first.start_auc } else { best };
    format!(
        "{:.2} M values in {} runs; validation AUC {} with the head alone, {} after epoch {} of {}",
        done.parameters as f64 / 1e6,
        done.fits.len(),
        auc(first.start_auc),
        auc(after),
        first.best,
        first.epochs.len()
    )
}
