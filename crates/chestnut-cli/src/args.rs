//! What was typed. What it means is each command's business (`commands/`).

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Adapt chest X-ray networks to your hospital's own labelled radiographs: on a laptop, without a GPU, offline.
///
/// For research only; not a medical device. Nothing ever leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "chestnut", version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Start here:
  chestnut demo                                       the whole chain on made-up radiographs
  chestnut models add xception.keras --name xception  add a network (Keras, safetensors, PyTorch)
  chestnut ingest images/ --labels labels.csv -o study
  chestnut embed study --net xception
  chestnut compare study                              AUC tables and study/report/index.html

Exit codes: 0 all good, 2 some items were refused (see rejects.csv), 1 the run failed.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ingest(Ingest),
    Embed(Embed),
    Tune(Tune),
    Compare(Compare),
    Demo(Demo),
    Phantom(Phantom),
    #[command(subcommand)]
    Models(Models),
    Bench(Bench),
    Explain(Explain),
    Pixels(Pixels),
    Doctor(Doctor),
}

/// Read a folder of radiographs and a labels table into a study.
///
/// DICOM, PNG and JPEG files (8 to 16 bit, with any or no extension) are read, also inside zip and tar archives. DICOM
/// headers are judged by rules that you can edit: frontal chest radiographs are taken, everything else is refused. Every
/// file and every row ends in cohort.csv or, with a reason, in rejects.csv.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut ingest images/ --labels labels.csv -o study
  chestnut ingest images/ --labels labels.csv -o study --labels-columns Edema,Effusion --view PA
  chestnut ingest dicom/ --labels export.csv -o study --label-set hum-cxr --key accession
  chestnut ingest export.zip --labels export.csv -o study --rules rules.toml
  chestnut ingest --print-rules > rules.toml
  chestnut ingest --explain dicom/IM000001

A label set of your own (--label-set FILE.toml):
  name = \"ward 3\"
  labels = [\"Edema\", \"Effusion\"]
  blank = \"unknown\"        # or \"negative\"
  uncertain = \"unknown\"    # what -1 means; or \"negative\", \"positive\"

Regions to blank (--blank FILE.toml), each with any of the three conditions:
  [[region]]
  manufacturer = \"Example\"
  rows = 2500
  columns = 2048
  pixels = [0, 0, 600, 80]  # left, top, width, height; or share = [0.0, 0.0, 0.3, 0.05]")]
pub(crate) struct Ingest {
    /// Folder of images, or one zip or tar archive of them; subfolders and archives are searched.
    #[arg(required_unless_present_any = ["explain", "print_rules"])]
    pub(crate) images: Option<PathBuf>,
    /// Table with one row per image or study: file name or another key, labels, and if possible patient and view.
    #[arg(long, required_unless_present_any = ["explain", "print_rules"])]
    pub(crate) labels: Option<PathBuf>,
    /// Folder of the study, made if needed.
    #[arg(short, long, required_unless_present_any = ["explain", "print_rules"])]
    pub(crate) output: Option<PathBuf>,
    /// chexpert, hum-cxr, or a TOML file; by default whichever of the two fits the table.
    #[arg(long, conflicts_with = "labels_columns")]
    pub(crate) label_set: Option<String>,
    /// Label columns, separated by commas; a blank cell is unknown.
    #[arg(long, value_delimiter = ',')]
    pub(crate) labels_columns: Vec<String>,
    /// Column with the image's file name, accession number, study or SOP instance UID, or patient id.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Column with the patient's id.
    #[arg(long)]
    pub(crate) patient: Option<String>,
    /// Column with the view (AP, PA, ...).
    #[arg(long)]
    pub(crate) view_column: Option<String>,
    /// Column with the sex.
    #[arg(long)]
    pub(crate) sex: Option<String>,
    /// Column with the age in years.
    #[arg(long)]
    pub(crate) age: Option<String>,
    /// Keep this view only (AP or PA); by default all frontal ones, or `any`.
    #[arg(long)]
    pub(crate) view: Option<String>,
    /// Rules by which DICOM headers are judged, instead of the built-in ones.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the built-in rules, to be edited, and do nothing else.
    #[arg(long)]
    pub(crate) print_rules: bool,
    /// Take secondary captures (screenshots, scanned films, public collections made of PNG files).
    #[arg(long)]
    pub(crate) secondary_captures: bool,
    /// Take images whose DICOM header names another body part than the chest.
    #[arg(long)]
    pub(crate) any_body_part: bool,
    /// Rectangles to blank before anything looks at the pixels, such as burnt-in names.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) blank: Option<PathBuf>,
    /// Show every step from the stored values of one image to a network's input, and do nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) explain: Option<PathBuf>,
    /// Keep images that are copies of each other.
    #[arg(long)]
    pub(crate) keep_copies: bool,
    /// Keep patient ids as they are instead of keyed pseudonyms.
    #[arg(long)]
    pub(crate) keep_ids: bool,
    /// Share of the patients to test on.
    #[arg(long, default_value_t = 0.3)]
    pub(crate) test: f64,
    /// Seed of the split and of all learners.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// What the split keeps whole; `image` is as published and inflates results.
    #[arg(long, value_enum, default_value_t = UnitArg::Patient)]
    pub(crate) unit: UnitArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum UnitArg {
    Patient,
    Image,
}

/// Where networks are kept.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// Folder of the model store [default: $CHESTNUT_MODELS, else ~/.local/share/chestnut/models].
    #[arg(long = "models", global = true)]
    pub(crate) models: Option<PathBuf>,
}

/// Compute the embeddings of a study's images; an interrupted run goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut embed study --net xception,densenet121

`--net seeded:densenet121` runs a network whose weights are a formula, to try the chain without any file.")]
pub(crate) struct Embed {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name, separated by commas [default: all in the store].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Search the paper's whole grid of tree settings on the training patients; an interrupted search goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut tune study
  chestnut tune study --learner rf,xrt --folds 5 --repeats 3    as the paper's code
  chestnut compare study --tuned                                use what was found")]
pub(crate) struct Tune {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Learners on the embeddings.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rf")]
    pub(crate) learner: Vec<TreeArg>,
    /// A grid of your own as TOML (learner, trees, max_depth, min_samples_split, ...), instead of the paper's.
    #[arg(long, conflicts_with = "learner")]
    pub(crate) grid: Option<PathBuf>,
    /// Folds of the cross-validation, by patient and stratified over labels.
    #[arg(long, default_value_t = 5)]
    pub(crate) folds: usize,
    /// How often it is repeated with other folds.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Fit trees on each network's embeddings and score them on held-out patients.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut compare study
  chestnut compare study --repeats 20    the spread over 20 splits
  chestnut compare study --learner rf,xrt,dt,lr,knn --json > metrics.json")]
pub(crate) struct Compare {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Ways from the networks to your labels.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "baseline,stacking,embeddings,head")]
    pub(crate) approach: Vec<ApproachArg>,
    /// Learners on the embeddings.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rf")]
    pub(crate) learner: Vec<LearnerArg>,
    /// Train the new head as published: 5 epochs, rate 1e-4 divided by 10 each epoch, file order.
    #[arg(long)]
    pub(crate) published_schedule: bool,
    /// TOML file: which of the networks' labels each local label is the largest of [default: the paper's Table 3].
    #[arg(long)]
    pub(crate) label_map: Option<PathBuf>,
    /// Also draw the AUC against the number of patients to learn from, with this many draws of each size.
    #[arg(long, default_value_t = 0)]
    pub(crate) learning_curve: usize,
    /// Leave out thresholds, calibration, subgroups and differences, which take five more fits of everything.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Number of splits; tables show the first and the spread over all.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeats: usize,
    /// Use the settings that `chestnut tune` chose instead of the paper's final values.
    #[arg(long)]
    pub(crate) tuned: bool,
    /// Also show the paper's Eq. 2 as printed, without its denominator.
    #[arg(long)]
    pub(crate) literal_entropy: bool,
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
}

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

/// Run the whole chain on made-up radiographs: no file, no network connection, no patient.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut demo -o demo -n 300")]
pub(crate) struct Demo {
    /// Folder of the study.
    #[arg(short, long, default_value = "chestnut-demo")]
    pub(crate) output: PathBuf,
    /// Images.
    #[arg(short = 'n', long, default_value_t = 300)]
    pub(crate) images: usize,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Draw a made-up chest radiograph cohort with known findings.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut phantom -n 300 --hospital B --seed 0 -o phantom --masks")]
pub(crate) struct Phantom {
    /// Images.
    #[arg(short = 'n', long, default_value_t = 300)]
    pub(crate) images: usize,
    /// A or B: they differ in film, noise, size, markers and bit depth.
    #[arg(long, default_value = "A")]
    pub(crate) hospital: String,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Long side in pixels.
    #[arg(long, default_value_t = 512)]
    pub(crate) size: usize,
    /// Folder to write.
    #[arg(short, long)]
    pub(crate) output: PathBuf,
    /// DICOM files instead of PNG.
    #[arg(long)]
    pub(crate) dicom: bool,
    /// Also write a mask for each finding.
    #[arg(long)]
    pub(crate) masks: bool,
    /// Plant a corner marker that goes with this finding (Normal, Cardiac, Lung, PNX, Pleura, Bone, Device).
    #[arg(long)]
    pub(crate) shortcut: Option<String>,
    /// Probability, 0 to 1, that the planted marker agrees with the label.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) shortcut_fidelity: f64,
}

/// Add, list and show networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    Add(ModelsAdd),
    /// List the networks in the store.
    List {
        #[command(flatten)]
        store: Store,
    },
    /// Show everything that is known about a network (or `seeded:<architecture>`).
    Show {
        /// Name.
        name: String,
        #[command(flatten)]
        store: Store,
    },
}

/// Check a weights file against its network, convert it and record where it came from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut models add DenseNet121_model.hdf5 --name densenet121 --licence 'CC BY 4.0'
  chestnut models add xception.keras --name xception --labels NORMAL,PNEUMONIA")]
pub(crate) struct ModelsAdd {
    /// Keras .hdf5, .h5 or .keras, safetensors, or a PyTorch state dict.
    pub(crate) file: PathBuf,
    /// Name in the store.
    #[arg(long)]
    pub(crate) name: String,
    /// densenet121, densenet169, densenet201, inception_resnet_v2, xception, vgg16 or vgg19; found by itself if not given.
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Licence of the weights, as text.
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// Names of the head's outputs.
    #[arg(long, value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Activation of each Dense layer (linear, relu, sigmoid, softmax), where the file does not say.
    #[arg(long, value_delimiter = ',')]
    pub(crate) activations: Vec<String>,
    /// imagenet (as the paper), keras-tf, keras-caffe, torchxrayvision or none.
    #[arg(long)]
    pub(crate) standardisation: Option<String>,
    /// Rows and columns of the input.
    #[arg(long)]
    pub(crate) input_size: Option<usize>,
    /// Replace a network of that name.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Measure how fast this machine runs each network.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut bench --net seeded:densenet121 --layers")]
pub(crate) struct Bench {
    /// Networks by name [default: all seven, seeded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Images per pass.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub(crate) batch: Vec<usize>,
    /// Rows and columns of the input.
    #[arg(long, default_value_t = 224)]
    pub(crate) size: usize,
    /// Seconds to measure each network and batch.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Threads [default: all cores].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Time of each layer.
    #[arg(long)]
    pub(crate) layers: bool,
    /// Print all times as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Check this machine, the model store and studies: what is in order, what is not, and the way out.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut doctor study")]
pub(crate) struct Doctor {
    /// Folders of studies.
    pub(crate) studies: Vec<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Show where the models look: heat maps of the test images, mean maps, agreement with experts.
///
/// Writes STUDY/explain/: overlays/*.png, population/*.png, population.csv, agreement.csv and agreement_rows.csv. A heat map
/// says what a model used, not that it is right.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut explain study
  chestnut explain study --experts boxes.csv --labels Effusion,Edema --overlays 40
  chestnut explain study --images a.png,b.png")]
pub(crate) struct Explain {
    /// Folder of the study.
    pub(crate) study: PathBuf,
    /// Networks by name [default: all that were embedded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Images of the test part, by their names in cohort.csv [default: all of it].
    #[arg(long, value_delimiter = ',')]
    pub(crate) images: Vec<String>,
    /// Labels to draw [default: all].
    #[arg(long, value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Masks or boxes that experts drew: a folder of PNG, a CSV, or a JSON file (COCO, CheXlocalize).
    #[arg(long)]
    pub(crate) experts: Option<PathBuf>,
    /// What the experts call a label of the study, as EXPERT=LABEL.
    #[arg(long, value_delimiter = ',')]
    pub(crate) renamed: Vec<String>,
    /// How the head's maps are made: grad-cam, hi-res or legacy.
    #[arg(long, default_value = "grad-cam")]
    pub(crate) cam: String,
    /// Overlays to draw, those with the highest probabilities first.
    #[arg(long, default_value_t = 20)]
    pub(crate) overlays: usize,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Print and draw every pixel step of one image, from stored values to network input.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut pixels image.dcm -o steps.png")]
pub(crate) struct Pixels {
    /// PNG, JPEG or DICOM.
    pub(crate) file: PathBuf,
    /// Picture of the steps [default: FILE.explain.png in this folder].
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
}
