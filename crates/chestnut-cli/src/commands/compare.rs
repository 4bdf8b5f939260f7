//! `chestnut compare`

use super::embed::STAGE;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::LabelMap;
use chestnut::compare::{self, Approach, CompareOptions};
use chestnut::embed::Network;
use chestnut::evaluate::{Comparison, table};
use chestnut::forest::Params;
use chestnut::report::{self, Pictures};
use chestnut::study::Study;
use chestnut::train::{Depth, Schedule};
use chestnut::transfer::deep;
use chestnut::transfer::embeddings::Learner;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Compare all ways from the networks to your labels on the same held-out patients, and write the report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut compare study
  chestnut compare study --repeats 20    the spread over 20 splits
  chestnut compare study --as-published  also the paper's own protocol, in study/as_published
  chestnut compare study --learner rf,xrt,dt,lr,knn --json > metrics.json

A label map of your own (--label-map FILE.toml; docs/maps/children-to-nih.toml is one):
  from = \"my network\"    # both names are for people
  to = \"my labels\"
  groups = [[\"Effusion\", [\"Pleural Effusion\", \"Pleural Other\"]], [\"Lung\", [\"Edema\"]]]
Each label is the largest of the networks' outputs named behind it. A label without such a group,
or whose group names an output that the networks lack, takes the output of its own name, if any.
The map feeds baseline and stacking only.")]
pub(crate) struct Compare {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Ways from the networks to your labels [default: the first four and, of a single split, each depth to which
    /// `finetune` taught every network that is compared; what it taught to some of them only is left out, and said].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) approach: Vec<ApproachArg>,
    /// Learners on the embeddings.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rf")]
    pub(crate) learner: Vec<LearnerArg>,
    /// Train the new head as published: 5 epochs, rate 1e-4 divided by 10 each epoch, file order.
    #[arg(long)]
    pub(crate) published_schedule: bool,
    /// Also make the paper's Tables 5 to 7 by its own protocol: split by image, three test sets, stacking in-sample.
    /// They are marked and go into a folder of their own (as_published), which the next comparison removes.
    #[arg(long)]
    pub(crate) as_published: bool,
    /// TOML file: which of the networks' outputs each label of yours is the largest of, for baseline and stacking
    /// [default: the paper's Table 3; in both, outputs of a label's own name serve where the map does not].
    #[arg(long)]
    pub(crate) label_map: Option<PathBuf>,
    /// Also draw the AUC against the number of patients to learn from, with this many draws of each size.
    #[arg(long, default_value_t = 0, conflicts_with = "quick")]
    pub(crate) learning_curve: usize,
    /// Leave out thresholds, calibration, subgroups and differences, which take five more fits of everything.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Number of splits; tables show the first and the spread over all. What `finetune` taught is left out, and said.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    /// Use the settings that `chestnut tune` chose instead of the paper's final values; refused with --repeats, since
    /// they were chosen on the first split.
    #[arg(long)]
    pub(crate) tuned: bool,
    /// Also show the paper's Eq. 2 as printed, without its denominator.
    #[arg(long)]
    pub(crate) literal_entropy: bool,
    /// Keep no models for `chestnut predict`, which saves one more fit of everything; earlier ones are removed.
    #[arg(long)]
    pub(crate) no_models: bool,
    /// Also fit each learner on all networks' embeddings side by side (source "Concatenated").
    #[arg(long)]
    pub(crate) concat: bool,
    /// Also show the majority vote of the networks.
    #[arg(long)]
    pub(crate) majority_vote: bool,
    /// Baseline: map each network's outputs to your labels first and combine them then.
    #[arg(long)]
    pub(crate) map_first: bool,
    /// Print the results as JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the table as Markdown.
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApproachArg {
    /// The networks' own outputs, mapped to your labels.
    Baseline,
    /// A forest on the networks' own outputs.
    Stacking,
    /// Learners on embeddings.
    Embeddings,
    /// A new classification layer on frozen features (fine-tuning of the head).
    Head,
    /// Heads taught by `finetune --depth head`.
    FinetunedHead,
    /// Last convolutions taught by `finetune --depth conv`.
    FinetunedConv,
    /// Last blocks taught by `finetune --depth block`.
    FinetunedBlock,
    /// Networks taught by `finetune --depth all`.
    FinetunedAll,
}

/// What is compared unless asked otherwise; fine-tuned networks come on top.
const USUAL: [ApproachArg; 4] =
    [ApproachArg::Baseline, ApproachArg::Stacking, ApproachArg::Embeddings, ApproachArg::Head];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnerArg {
    /// Random forest.
    Rf,
    /// Extremely randomised trees.
    Xrt,
    /// Decision tree.
    Dt,
    /// L2 logistic regression (linear probe).
    Lr,
    /// Nearest neighbours.
    Knn,
}

pub(crate) fn run(a: &Compare) -> anyhow::Result<Outcome> {
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "compare")?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let seed = study.settings.split.seed;
    let schedule = if a.published_schedule { Schedule::as_published() } else { Schedule::fair() };
    let models = models_folder(&a.store)?;
    let asked = if a.approach.is_empty() { &USUAL[..] } else { &a.approach[..] };
    let mut approaches: Vec<Approach> = Vec::new();
    approaches.extend(asked.iter().flat_map(|approach| match approach {
        ApproachArg::Baseline => vec![Approach::Baseline],
        ApproachArg::Stacking => vec![Approach::Stacking],
        ApproachArg::Embeddings => a.learner.iter().map(|l| Approach::Embeddings(learner(*l, seed))).collect(),
        ApproachArg::Head => vec![Approach::FineTuned(schedule)],
        ApproachArg::FinetunedHead => vec![Approach::DeepTuned(Depth::Head)],
        ApproachArg::FinetunedConv => vec![Approach::DeepTuned(Depth::Conv)],
        ApproachArg::FinetunedBlock => vec![Approach::DeepTuned(Depth::Block)],
        ApproachArg::FinetunedAll => vec![Approach::DeepTuned(Depth::All)],
    }));
    let mut left_out = Vec::new();
    if a.approach.is_empty() {
        let networks: Vec<Network> = names.iter().map(|n| Network::find(&models, n)).collect::<Result<_, _>>()?;
        let (taught, said) = deep::depths(&study, &networks);
        if a.repeats == 1 {
            approaches.extend(taught.into_iter().map(Approach::DeepTuned));
            left_out = said;
        } else if !taught.is_empty() || !said.is_empty() {
            let why = "it was taught on the first split, whose training patients other splits test on (--repeats)";
            left_out.push(format!("what finetune taught is left out: {why}"));
        }
        left_out.iter().for_each(|line| remark!("{line}"));
    }
    let label_map = match &a.label_map {
        None => LabelMap::chexpert_to_hum_cxr(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            LabelMap::from_toml(&text).with_context(|| path.display().to_string())?
        }
    };
    let tuned = if a.tuned { Some(chestnut::tune::tuned(&study)?) } else { None };
    let options = CompareOptions {
        repeats: a.repeats,
        literal_entropy: a.literal_entropy,
        majority_vote: a.majority_vote,
        map_first: a.map_first,
        approaches,
        label_map,
        learning_draws: a.learning_curve,
        details: !a.quick,
        tuned,
        models: !a.no_models,
        concat: a.concat,
        left_out,
    };
    let (comparison, page) = compare(&study, &models, &names, &options)?;
    if a.json {
        say!("{}", serde_json::to_string_pretty(&comparison)?);
    } else if a.markdown {
        say!("{}", table::markdown(&comparison));
    } else {
        say!("{}", table::terminal(&comparison));
        say!("Report: {}", page.display());
    }
    // Those of the cohort come first and were told by ingest; what finetune left out was told before the run.
    let cohort = study.cohort()?;
    let news = comparison.warnings.iter().skip(cohort.warnings.len()).filter(|w| !options.left_out.contains(w));
    news.for_each(|warning| remark!("Please note: {warning}"));
    if a.as_published {
        as_published(a, &study, &models, &names, &options)?;
    }
    let left_out = cohort.images.len() - comparison.images;
    Ok(if left_out > 0 { Outcome::SomeRefused } else { Outcome::Clean })
}

/// The paper's own tables, below the study's; with --json they are in their file alone, so that nothing is mixed.
fn as_published(
    a: &Compare,
    study: &Study,
    models: &Path,
    names: &[String],
    options: &CompareOptions,
) -> anyhow::Result<()> {
    let networks: Vec<Network> = names.iter().map(|n| Network::find(models, n)).collect::<Result<_, _>>()?;
    let progress = Progress::new("as published", "fits");
    let tables = compare::as_published(study, &study.cohort()?, &networks, options, &|done, total| {
        progress.update(done, total);
    })?;
    progress.finish("fitted and scored");
    let show = |c: &Comparison| if a.markdown { table::markdown(c) } else { table::terminal(c) };
    if !a.json {
        tables.iter().for_each(|made| say!("\n{}", show(&made.comparison)));
    }
    let page = report::write_published(&study.root, &tables)?;
    // The study's own report links to the page, now that there is one.
    report::renew(&study.root)?;
    remark!("As published: {}", page.display());
    Ok(())
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
    let progress = Progress::new("comparing", "fits");
    let comparison = compare::compare(study, &cohort, &networks, options, &|done, total| progress.update(done, total))?;
    progress.finish("fitted and scored");
    let page = report::write(&study.root, &comparison, &Pictures::of(&study.root))?;
    Ok((comparison, page))
}
