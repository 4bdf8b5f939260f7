//! `chestnut pretrain`

mod live;

use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use anyhow::{Context, bail};
use chestnut::cohort::LabelSet;
use chestnut::image::recipe::Standardisation;
use chestnut::pretrain::augment::Augment;
use chestnut::pretrain::crop::Crop;
use chestnut::pretrain::schedule::{Schedule, Shape};
use chestnut::pretrain::set::csv::CsvOptions;
use chestnut::pretrain::set::{TrainingSet, Views, chexpert, csv, nih14};
use chestnut::pretrain::targets::{Blank, Policies, Uncertain};
use chestnut::pretrain::{self, Every, MISSING_FILE, Publication, Request, Settings, Start};
use chestnut::study::read_text;
use chestnut::train::{Adam, Cpu, Learner, Update};
use chestnut_zoo::store::{self, StoreError};
use clap::{Args, ValueEnum};
use live::Live;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Side of the cached images over that of the input: 256 for 224, as published.
const CACHE_SHARE: (usize, usize) = (8, 7);
/// Name of the set whose blanks are negatives and whose -1 are smoothed ones, as published.
const CHEXPERT: &str = "chexpert";

/// Train a whole network on a labelled collection of radiographs; an interrupted run goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut pretrain labels.csv --images images/ --labels Normal,Pneumonia -o run --name mine
  chestnut pretrain CheXpert-v1.0-small/train.csv --images . --set chexpert -o run --name mine
  chestnut pretrain Data_Entry_2017.csv --images nih/ --set nih14 -o run --init imagenet
  chestnut pretrain labels.csv --images images/ --labels Edema -o run --schedule cosine --epochs 10

Without further options it trains as published: Adam at 1e-4, divided by 10 after each epoch,
batch 64. Early stopping, the best weights and all AUCs go by patients that are never learned from.
The run's folder holds last.safetensors (to go on from), best.safetensors, log.jsonl and
learning_curve.svg; with --name the best weights go into the model store.")]
pub(crate) struct Pretrain {
    /// Table with one row per image.
    pub(crate) table: PathBuf,
    /// Folder that the table's paths begin in.
    #[arg(long)]
    pub(crate) images: PathBuf,
    /// How table and folders are laid out.
    #[arg(long, value_enum, default_value_t = SetArg::Csv)]
    pub(crate) set: SetArg,
    /// Folder of the run, made if needed.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// densenet121, densenet169, densenet201, inception_resnet_v2, xception, vgg16 or vgg19.
    #[arg(long, default_value = "densenet121")]
    pub(crate) net: String,
    /// Name for the trained network in the model store; without it the weights stay in the run's folder.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Licence of the weights, as text.
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// Store kernels in 16 bits: half the size.
    #[arg(long)]
    pub(crate) half: bool,
    /// Replace a network of that name.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Network of the store to start from, such as ImageNet's; random weights if not given.
    #[arg(long)]
    pub(crate) init: Option<String>,
    /// Layers that stay as they are, by the beginning of their names; `backbone` is all but the head.
    #[arg(long, value_delimiter = ',')]
    pub(crate) freeze: Vec<String>,
    /// Seed of all draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads that read and move images ahead of the network.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Minutes between two checkpoints within an epoch.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) checkpoint_minutes: f64,
    /// Batches between two checkpoints within an epoch, if that comes first.
    #[arg(long)]
    pub(crate) checkpoint_batches: Option<usize>,
    #[command(flatten)]
    pub(crate) store: Store,
    // Headings hold for what follows them, so these come last.
    #[command(flatten)]
    pub(crate) columns: Columns,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) optimiser: Optimiser,
}

/// What of the table is used, and what its cells mean.
#[derive(Debug, Args)]
#[command(next_help_heading = "Labels and patients")]
pub(crate) struct Columns {
    /// Label columns of a csv set.
    #[arg(long, value_delimiter = ',', conflicts_with = "label_set")]
    pub(crate) labels: Vec<String>,
    /// Label set of a csv set: chexpert, hum-cxr or a TOML file.
    #[arg(long)]
    pub(crate) label_set: Option<String>,
    /// Column with the image's path [default: image, path, file ...].
    #[arg(long)]
    pub(crate) path_column: Option<String>,
    /// Column with the patient [default: patient_id, patient ...].
    #[arg(long)]
    pub(crate) patient_column: Option<String>,
    /// Column with train, validation or test, instead of dealing patients by --validation.
    #[arg(long)]
    pub(crate) split_column: Option<String>,
    /// Views to keep (chexpert, nih14).
    #[arg(long, value_enum, default_value_t = ViewsArg::Frontal)]
    pub(crate) views: ViewsArg,
    /// File of patients to leave out, one id a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_patients: Option<PathBuf>,
    /// Share of the images to judge by, whole patients.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) validation: f64,
    /// What -1 becomes [default: ones-smoothed for chexpert, as published; else ignore].
    #[arg(long, value_enum)]
    pub(crate) uncertain: Option<UncertainArg>,
    /// What an empty cell becomes [default: zeros for chexpert, ignore for csv].
    #[arg(long, value_enum)]
    pub(crate) blank: Option<BlankArg>,
    /// A present child of CheXpert's tree makes its parents present.
    #[arg(long)]
    pub(crate) propagate: bool,
    /// Learn a child only where its parent is present, and judge it by the product along its path.
    #[arg(long)]
    pub(crate) conditional: bool,
    /// Largest share of images that may be missing.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) max_missing: f64,
}

/// What the network sees.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
pub(crate) struct Input {
    /// Rows and columns of the input.
    #[arg(long, default_value_t = 224)]
    pub(crate) size: usize,
    /// Rows and columns of the cached images [default: 8/7 of the input, 256 for 224; the input's with --crop whole].
    #[arg(long)]
    pub(crate) cache_size: Option<usize>,
    /// Folder of the cached images [default: cache/ in the run's folder].
    #[arg(long)]
    pub(crate) cache: Option<PathBuf>,
    /// Where the input is cut from the cached image [default: template, or whole if their sizes are equal].
    #[arg(long, value_enum)]
    pub(crate) crop: Option<CropArg>,
    /// Image to place the window by, instead of the mean of the training images.
    #[arg(long)]
    pub(crate) template: Option<PathBuf>,
    /// imagenet, keras-tf, keras-caffe, torchxrayvision or none [default: that of --init, or imagenet].
    #[arg(long)]
    pub(crate) standardisation: Option<String>,
    /// Turn by up to so many degrees.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rotation: f64,
    /// Scale by up to this share, such as 0.02.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) scale: f64,
    /// Shear by up to so many pixels.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) shear: f64,
    /// Swap left and right half of the time; hearts have sides.
    #[arg(long)]
    pub(crate) flip: bool,
}

/// How it learns.
#[derive(Debug, Args)]
#[command(next_help_heading = "Learning")]
pub(crate) struct Optimiser {
    /// Epochs at most.
    #[arg(long, default_value_t = 5)]
    pub(crate) epochs: usize,
    /// Images that the network sees at a time; with --accumulate 1 also images per update.
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: usize,
    /// Batches per update: their gradients are added up before the weights move.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) accumulate: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-4)]
    pub(crate) rate: f64,
    /// How the rate changes.
    #[arg(long, value_enum, default_value_t = ScheduleArg::Steps)]
    pub(crate) schedule: ScheduleArg,
    /// Factor per epoch (steps) or per plateau.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) factor: f64,
    /// Epochs without a better AUC that make a plateau.
    #[arg(long, default_value_t = 2)]
    pub(crate) plateau: usize,
    /// Updates over which the rate rises from 0.
    #[arg(long, default_value_t = 0)]
    pub(crate) warm_up: usize,
    /// Stop after so many epochs without a better AUC.
    #[arg(long, default_value_t = 3)]
    pub(crate) patience: usize,
    /// Decoupled weight decay (AdamW).
    #[arg(long, default_value_t = 0.0)]
    pub(crate) weight_decay: f64,
    /// Share of the old running statistics that a batch leaves; 0.9 suits short runs.
    #[arg(long, default_value_t = 0.99)]
    pub(crate) statistics: f32,
    /// Keep averages of the weights with this decay, such as 0.999, and judge and store them.
    #[arg(long)]
    pub(crate) ema: Option<f64>,
    /// Weigh positive labels by their rarity.
    #[arg(long)]
    pub(crate) positive_weights: bool,
    /// Draw images with replacement so that the positives of all labels are seen about equally often.
    #[arg(long, conflicts_with = "positive_weights")]
    pub(crate) balanced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SetArg {
    /// Any table.
    Csv,
    /// CheXpert's train.csv.
    Chexpert,
    /// ChestX-ray14's Data_Entry_2017.csv.
    Nih14,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ViewsArg {
    Frontal,
    Pa,
    Ap,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UncertainArg {
    Ignore,
    Zeros,
    Ones,
    /// Between 0.55 and 0.85.
    OnesSmoothed,
    /// Between 0 and 0.3.
    ZerosSmoothed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlankArg {
    Ignore,
    Zeros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CropArg {
    Whole,
    Centre,
    Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleArg {
    /// Multiplied by --factor after each epoch.
    Steps,
    Cosine,
    /// Multiplied by --factor when the AUC stands still.
    Plateau,
    Constant,
}

pub(crate) fn run(a: &Pretrain) -> anyhow::Result<Outcome> {
    let models = models_folder(&a.store)?;
    if !(0.0..=1.0).contains(&a.columns.max_missing) {
        bail!("--max-missing is {}; give a share from 0 to 1", a.columns.max_missing);
    }
    if !(a.checkpoint_minutes > 0.0 && a.checkpoint_minutes <= 10_000.0) {
        bail!("--checkpoint-minutes is {}; give minutes above 0", a.checkpoint_minutes);
    }
    check_name(a, &models)?;
    let set = read_set(a)?;
    eprintln!("{} images, {} labels: {}", set.samples.len(), set.labels.len(), set.labels.join(", "));
    set.notes.iter().for_each(|note| eprintln!("  {note}"));
    let request = request(a, set, &models)?;
    chestnut::fs::create_writable_folder(&a.output)?;
    let _lock = super::locked(&a.output, "pretrain")?;
    let live = Live::default();
    let finished = pretrain::pretrain(
        &request,
        &mut |graph, weights, update, trained| {
            Cpu::new(graph, weights, update, trained).map(|cpu| Box::new(cpu) as Box<dyn Learner>)
        },
        &|event| live.show(event),
    )?;
    let mut outcome = Outcome::Clean;
    if !finished.refused.is_empty() {
        outcome = Outcome::SomeRefused;
        let list = a.output.join(MISSING_FILE);
        eprintln!("{} images could not be read; they are listed in {}", finished.refused.len(), list.display());
    }
    if let Some(best) = finished.history.get(finished.best) {
        println!("Best epoch {} of {}:", finished.best + 1, finished.history.len());
        for (label, auc) in finished.settings.labels.iter().zip(&best.aucs) {
            println!("  {label:<28} {}", auc.map_or_else(|| "not enough images".to_owned(), |v| format!("{v:.4}")));
        }
        println!("  {:<28} {}", "mean", best.auc.map_or_else(|| "none".to_owned(), |v| format!("{v:.4}")));
    }
    match &a.name {
        Some(name) => {
            let how = Publication { name: name.clone(), licence: a.licence.clone(), half: a.half, replace: a.replace };
            let record = pretrain::publish(&a.output, &finished, &models, &how)?;
            println!(
                "Added {} to {}; use it with `chestnut embed STUDY --net {}`.",
                record.name,
                models.display(),
                name
            );
        }
        None => println!(
            "The weights are {}; add them with `chestnut models add FILE --name NAME --input-size {}`.",
            pretrain::best_weights(&a.output).display(),
            finished.settings.size
        ),
    }
    Ok(outcome)
}

/// A name that cannot be used should not be found out after the training.
fn check_name(a: &Pretrain, models: &Path) -> anyhow::Result<()> {
    let Some(name) = &a.name else { return Ok(()) };
    match store::record(models, name) {
        Ok(_) if !a.replace => Err(StoreError::Exists(name.clone()).into()),
        Err(e @ StoreError::Name(_)) => Err(e.into()),
        _ => Ok(()),
    }
}

fn read_set(a: &Pretrain) -> anyhow::Result<TrainingSet> {
    let views = match a.columns.views {
        ViewsArg::Frontal => Views::Frontal,
        ViewsArg::Pa => Views::Pa,
        ViewsArg::Ap => Views::Ap,
        ViewsArg::All => Views::All,
    };
    if !a.images.is_dir() {
        bail!("{} is no folder; name the folder that the table's paths begin in with --images", a.images.display());
    }
    csv_only(a)?;
    let mut set = match a.set {
        SetArg::Chexpert => chexpert::read(&a.table, &a.images, views)?,
        SetArg::Nih14 => nih14::read(&a.table, &a.images, views)?,
        SetArg::Csv => {
            let options = CsvOptions {
                labels: label_set(&a.columns)?,
                path: a.columns.path_column.clone(),
                patient: a.columns.patient_column.clone(),
                split: a.columns.split_column.clone(),
            };
            csv::read(&a.table, &a.images, &options)?
        }
    };
    if let Some(file) = &a.columns.exclude_patients {
        set.exclude_patients(file)?;
    }
    Ok(set)
}

/// Options that other sets than csv would ignore.
fn csv_only(a: &Pretrain) -> anyhow::Result<()> {
    let c = &a.columns;
    let given = [
        ("--labels", !c.labels.is_empty()),
        ("--label-set", c.label_set.is_some()),
        ("--path-column", c.path_column.is_some()),
        ("--patient-column", c.patient_column.is_some()),
        ("--split-column", c.split_column.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) if a.set != SetArg::Csv => {
            bail!("{option} is for --set csv; this set brings its own labels and columns: leave it out")
        }
        _ => Ok(()),
    }
}

fn label_set(c: &Columns) -> anyhow::Result<LabelSet> {
    match &c.label_set {
        Some(name) => match LabelSet::ready_made(name) {
            Some(set) => Ok(set),
            None => LabelSet::from_toml(&read_text(Path::new(name))?).with_context(|| name.clone()),
        },
        None if c.labels.is_empty() => {
            bail!("say what is to be learned: --labels A,B,C (columns of the table) or --label-set FILE.toml")
        }
        None => Ok(LabelSet::from_columns(&c.labels)?),
    }
}

fn request(a: &Pretrain, set: TrainingSet, models: &Path) -> anyhow::Result<Request> {
    let (i, o, c) = (&a.input, &a.optimiser, &a.columns);
    let cache_size = i.cache_size.unwrap_or(match i.crop {
        Some(CropArg::Whole) => i.size,
        _ => i.size.saturating_mul(CACHE_SHARE.0).div_ceil(CACHE_SHARE.1),
    });
    let crop = match i.crop {
        Some(CropArg::Whole) => Crop::Whole,
        Some(CropArg::Centre) => Crop::Centre,
        Some(CropArg::Template) => Crop::Template,
        None if cache_size == i.size => Crop::Whole,
        None => Crop::Template,
    };
    let uncertain = match c.uncertain {
        Some(UncertainArg::Ignore) => Uncertain::Ignore,
        Some(UncertainArg::Zeros) => Uncertain::Zeros,
        Some(UncertainArg::Ones) => Uncertain::Ones,
        Some(UncertainArg::OnesSmoothed) => Uncertain::OnesSmoothed,
        Some(UncertainArg::ZerosSmoothed) => Uncertain::ZerosSmoothed,
        None if set.name == CHEXPERT => Uncertain::OnesSmoothed,
        None => Uncertain::Ignore,
    };
    let blank = match c.blank {
        Some(BlankArg::Ignore) => Blank::Ignore,
        Some(BlankArg::Zeros) => Blank::Zeros,
        None if set.name == CHEXPERT => Blank::Zeros,
        None => Blank::Ignore,
    };
    let factor = o.factor;
    let shape = match o.schedule {
        ScheduleArg::Steps => Shape::Steps { factor },
        ScheduleArg::Cosine => Shape::Cosine,
        ScheduleArg::Plateau => Shape::Plateau { factor, patience: o.plateau },
        ScheduleArg::Constant => Shape::Constant,
    };
    if !(0.0..1.0).contains(&o.statistics) {
        bail!("--statistics is {}; give a number from 0 to below 1", o.statistics);
    }
    let update =
        Update { adam: Adam::default(), weight_decay: o.weight_decay, momentum: o.statistics, ..Update::default() };
    let settings = Settings {
        network: a.net.parse::<chestnut_zoo::Architecture>().map_err(anyhow::Error::msg)?.name().to_owned(),
        labels: set.labels.clone(),
        start: String::new(),
        freeze: a.freeze.clone(),
        images: String::new(),
        size: i.size,
        crop,
        template: None,
        standardisation: String::new(),
        augment: Augment { rotation: i.rotation, scale: i.scale, shear: i.shear, flip: i.flip },
        policies: Policies { uncertain, blank, propagate: c.propagate, conditional: c.conditional },
        positive_weights: o.positive_weights,
        balanced: o.balanced,
        validation: c.validation,
        batch: o.batch,
        accumulate: o.accumulate,
        epochs: o.epochs,
        patience: o.patience,
        schedule: Schedule { rate: o.rate, shape, warm_up: o.warm_up },
        update,
        ema: o.ema,
        seed: a.seed,
    };
    Ok(Request {
        set,
        folder: a.output.clone(),
        cache: i.cache.clone().unwrap_or_else(|| a.output.join("cache")),
        cache_size,
        template: i.template.clone(),
        start: match &a.init {
            Some(name) => Start::Model { models: models.to_owned(), name: name.clone() },
            None => Start::Seed,
        },
        standardisation: i.standardisation.as_deref().map(str::parse::<Standardisation>).transpose()?,
        settings,
        max_missing: c.max_missing,
        workers: a.workers,
        every: Every {
            batches: a.checkpoint_batches.unwrap_or(usize::MAX),
            time: Duration::from_secs_f64(a.checkpoint_minutes * 60.0),
        },
    })
}
