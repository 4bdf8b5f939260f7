//! `chestnut ingest`

use crate::Outcome;
use crate::args::{Ingest, UnitArg};
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::blank::BlankRules;
use chestnut::cohort::labels::guess_label_set;
use chestnut::cohort::rules::{DEFAULT_RULES, SelectionRules};
use chestnut::cohort::{self, ColumnNames, Copies, IngestOptions, LabelSet, Unit, ViewFilter};
use chestnut::study::{Settings, SplitSettings, StageRecord, Study};
use std::io::Write;
use std::path::Path;

/// The rules that were used, in the study's folder, for the record.
const RULES_RECORD: &str = "selection_rules.toml";

pub(crate) fn run(a: &Ingest) -> anyhow::Result<Outcome> {
    if a.print_rules {
        std::io::stdout().write_all(DEFAULT_RULES.as_bytes())?;
        return Ok(Outcome::Clean);
    }
    if let Some(file) = &a.explain {
        return super::explain_pixels::run(file, None);
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
    options.view = match a.view.as_deref() {
        None => ViewFilter::Frontal,
        Some(v) if v.eq_ignore_ascii_case("any") => ViewFilter::Any,
        Some(v) => ViewFilter::Only(v.to_owned()),
    };
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
        println!("{}", cohort::summary(&cohort));
        bail!("no image could be used; {} is left as the earlier ingest made it", output.display());
    }
    let images = std::path::absolute(images).unwrap_or_else(|_| images.to_path_buf());
    let settings = Settings {
        images: images.clone(),
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
    println!("{}", cohort::summary(&cohort));
    println!("Study: {}", output.display());
    if cohort.images.is_empty() {
        bail!("no image could be used; {} says why", study.path("rejects.csv").display());
    }
    println!("Look at {} before you go on.", study.path("contact_sheet.png").display());
    Ok(if cohort.rejects.is_empty() { Outcome::Clean } else { Outcome::SomeRefused })
}
