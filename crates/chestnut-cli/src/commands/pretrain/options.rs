//! The options of `chestnut pretrain`, by what they are about.

use crate::args::Store;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    #[arg(long, requires = "name")]
    pub(crate) licence: Option<String>,
    /// Store kernels in 16 bits: half the size.
    #[arg(long, requires = "name")]
    pub(crate) half: bool,
    /// Replace a network of that name.
    #[arg(long, requires = "name")]
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
    /// Label set of a csv set: chexpert, hum-cxr or a TOML file; its labels, columns and words are used, and --blank and
    /// --uncertain say what such cells mean.
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
    /// File of patients to leave out, one id a line as the table writes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_patients: Option<PathBuf>,
    /// Leave out all patients of a study that was ingested, known by id, pseudonym or any film of theirs.
    #[arg(long, value_name = "STUDY")]
    pub(crate) exclude_study: Option<PathBuf>,
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
