//! `chestnut ingest`

use crate::Outcome;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::blank::BlankRules;
use chestnut::cohort::labels::guess_label_set;
use chestnut::cohort::rules::{DEFAULT_RULES, SelectionRules};
use chestnut::cohort::{self, ColumnNames, Copies, IngestOptions, LabelSet, Unit, ViewFilter};
use chestnut::study::{Settings, SplitSettings, StageRecord, Study};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Read a folder of radiographs and a labels table into a study.
///
/// DICOM, PNG and JPEG files (8 to 16 bit, with any or no extension) are read, also inside zip and tar archives. DICOM
/// headers are judged by rules that you can edit: frontal chest radiographs are taken, and so are images whose view or
/// body part nothing tells, which are counted in the warnings (with --view AP or PA an unknown view is refused);
/// everything else is refused. Every file and every row ends in cohort.csv or, with a reason, in rejects.csv; hidden
/// files, DICOMDIR and the table itself are no images and are left out.
#[derive(Debug, Args)]
#[command(override_usage = "chestnut ingest IMAGES --labels TABLE -o STUDY [OPTIONS]
       chestnut ingest --explain FILE
       chestnut ingest --print-rules")]
#[command(after_help = "Examples:
  chestnut ingest images/ --labels labels.csv -o study
  chestnut ingest images/ --labels labels.csv -o study --labels-columns Edema,Effusion --view PA
  chestnut ingest dicom/ --labels export.csv -o study --label-set hum-cxr --key accession
  chestnut ingest export.zip --labels export.csv -o study --rules rules.toml
  chestnut ingest --print-rules > rules.toml
  chestnut ingest --explain dicom/IM000001

A label set of your own (--label-set FILE.toml); all below labels may be left out:
  name = \"ward 3\"
  labels = [\"Edema\", \"Effusion\"]
  blank = \"unknown\"        # the default; or \"negative\", or \"exclude\", which refuses the row
  uncertain = \"unknown\"    # what -1 means; or \"negative\", \"positive\", or the default \"refuse\"
  [blank_for]              # what blank means for single labels
  Edema = \"negative\"
  [columns]                # other names of a label's column
  Effusion = [\"Pleural Effusion\"]
  [values]                 # words of the table, besides yes, no and their like
  positive = [\"2\", \"seen\"]
  unknown = [\"-\"]          # also negative and uncertain; standard = false: no other words

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
    /// Label columns, separated by commas; a blank cell is unknown. Needed unless --label-set is given or the table has
    /// all columns of CheXpert-14 or HUM-CXR-7.
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

/// The rules that were used, in the study's folder, for the record.
const RULES_RECORD: &str = "selection_rules.toml";

pub(crate) fn run(a: &Ingest) -> anyhow::Result<Outcome> {
    if a.print_rules {
        crate::output::write(format_args!("{DEFAULT_RULES}"));
        return Ok(Outcome::Clean);
    }
    if let Some(file) = &a.explain {
        return super::pixels::run(file, None);
    }
    let (Some(images), Some(labels), Some(output)) = (&a.images, &a.labels, &a.output) else {
        bail!("name the images, the labels table (--labels) and the folder of the study (-o)");
    };
    if !images.is_dir() && !images.is_file() {
        bail!("{} is no folder and no archive; name the folder that holds the images", images.display());
    }
    if !labels.is_file() {
        bail!("{} is no file; name the labels table with --labels", labels.display());
    }
    if !(a.test > 0.0 && a.test < 1.0) {
        bail!("--test is {}; it must lie between 0 and 1", a.test);
    }
    let rules_text = a.rules.as_deref().map(|path| read("--rules", path)).transpose()?;
    let mut rules = match (&rules_text, &a.rules) {
        (Some(text), Some(path)) => SelectionRules::from_toml(text).with_context(|| path.display().to_string())?,
        _ => SelectionRules::default(),
    };
    if a.secondary_captures {
        rules = rules.with_secondary_captures();
    }
    let blank = match &a.blank {
        Some(path) => BlankRules::from_toml(&read("--blank", path)?).with_context(|| path.display().to_string())?,
        None => BlankRules::default(),
    };
    chestnut::fs::create_writable_folder(output)?;
    let _lock = super::locked(output, "ingest")?;
    let mut options = IngestOptions::new(label_set(a, labels)?);
    options.rules = rules;
    options.blank = blank;
    options.any_body_part = a.any_body_part;
    options.columns = ColumnNames {
        key: a.key.clone(),
        patient: a.patient.clone(),
        view: a.view_column.clone(),
        sex: a.sex.clone(),
        age: a.age.clone(),
    };
    options.view = ViewFilter::named(a.view.as_deref());
    if a.keep_copies {
        options.copies = Copies::Keep;
    }
    if !a.keep_ids {
        options.pseudonym_key = Some(Study::pseudonym_key(output)?);
    }
    let split = SplitSettings {
        test: a.test,
        validation: SplitSettings::default().validation.min((1.0 - a.test) / 2.0),
        seed: a.seed,
        unit: match a.unit {
            UnitArg::Patient => Unit::Patient,
            UnitArg::Image => Unit::Image,
        },
    };
    let outcome = ingest(images, labels, output, &options, split)?;
    let mut record = String::new();
    for (given, option) in [(a.secondary_captures, "--secondary-captures"), (a.any_body_part, "--any-body-part")] {
        if given {
            record += &format!("# Changed by {option}.\n");
        }
    }
    record += rules_text.as_deref().unwrap_or(DEFAULT_RULES);
    chestnut::fs::write_atomic(&output.join(RULES_RECORD), record.as_bytes())?;
    Ok(outcome)
}

/// The text of a file named by an option.
fn read(option: &str, path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{option} {} cannot be read", path.display()))
}

fn label_set(a: &Ingest, labels: &Path) -> anyhow::Result<LabelSet> {
    if !a.labels_columns.is_empty() {
        return Ok(LabelSet::from_columns(&a.labels_columns)?);
    }
    let Some(name) = &a.label_set else { return Ok(guess_label_set(labels)?) };
    if let Some(set) = LabelSet::ready_made(name) {
        return Ok(set);
    }
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("--label-set {name} is neither chexpert nor hum-cxr nor a file that can be read"))?;
    LabelSet::from_toml(&text).with_context(|| name.clone())
}

/// Ingests and stores; also the demo's first stage.
pub(crate) fn ingest(
    images: &Path,
    labels: &Path,
    output: &Path,
    options: &IngestOptions,
    split: SplitSettings,
) -> anyhow::Result<Outcome> {
    let progress = Progress::new("reading images", "images");
    let cohort = cohort::ingest(images, labels, options, &|p| progress.update(p.done, p.total))?;
    progress.finish(&format!("{} images used, {} items refused", cohort.images.len(), cohort.rejects.len()));
    if cohort.images.is_empty() && output.join("cohort.csv").is_file() {
        say!("{}", cohort::summary(&cohort));
        bail!("no image could be used; {} is left as the earlier ingest made it", output.display());
    }
    let images = std::path::absolute(images).unwrap_or_else(|_| images.to_path_buf());
    let settings = Settings {
        images: images.clone(),
        view: options.view.name().map(str::to_owned),
        blank: options.blank.clone(),
        recipe: Default::default(),
        split,
        labels: options.label_set.clone(),
    };
    let study = Study::create(output, settings)?;
    study.write_cohort(&cohort)?;
    if !cohort.images.is_empty() {
        study.write(
            "contact_sheet.png",
            &cohort::sheet(&cohort, &images, &study.settings.blank, study.settings.split.seed)?,
        )?;
    }
    study.record("ingest", StageRecord { seconds: progress.seconds(), ..StageRecord::default() })?;
    say!("{}", cohort::summary(&cohort));
    say!("Study: {}", output.display());
    if cohort.images.is_empty() {
        bail!("no image could be used; {} says why", study.path("rejects.csv").display());
    }
    say!("Look at {} before you go on.", study.path("contact_sheet.png").display());
    Ok(if cohort.rejects.is_empty() { Outcome::Clean } else { Outcome::SomeRefused })
}
