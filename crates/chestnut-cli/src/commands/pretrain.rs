//! `chestnut pretrain`

mod live;
mod options;

use super::models_folder;
use crate::Outcome;
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
use live::Live;
use options::{BlankArg, Columns, CropArg, ScheduleArg, SetArg, UncertainArg, ViewsArg};
use std::path::Path;
use std::time::Duration;

pub(crate) use options::Pretrain;

/// Side of the cached images over that of the input: 256 for 224, as published.
const CACHE_SHARE: (usize, usize) = (8, 7);
/// Name of the set whose blanks are negatives and whose -1 are smoothed ones, as published.
const CHEXPERT: &str = "chexpert";

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
    remark!("{} images, {} labels: {}", set.samples.len(), set.labels.len(), set.labels.join(", "));
    set.notes.iter().for_each(|note| remark!("  {note}"));
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
        remark!("{} images could not be read; they are listed in {}", finished.refused.len(), list.display());
    }
    if let Some(best) = finished.history.get(finished.best) {
        say!("Best epoch {} of {}:", finished.best + 1, finished.history.len());
        for (label, auc) in finished.settings.labels.iter().zip(&best.aucs) {
            say!("  {label:<28} {}", auc.map_or_else(|| "not enough images".to_owned(), |v| format!("{v:.4}")));
        }
        say!("  {:<28} {}", "mean", best.auc.map_or_else(|| "none".to_owned(), |v| format!("{v:.4}")));
    }
    match &a.name {
        Some(name) => {
            let how = Publication { name: name.clone(), licence: a.licence.clone(), half: a.half, replace: a.replace };
            let record = pretrain::publish(&a.output, &finished, &models, &how)?;
            say!("Added {} to {}; use it with `chestnut embed STUDY --net {}`.", record.name, models.display(), name);
        }
        None => say!(
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
    store::check_name(name)?;
    // A damaged network takes its name as well.
    if !a.replace && models.join(name).exists() {
        return Err(StoreError::Exists(name.clone()).into());
    }
    Ok(())
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
    if let Some(study) = &a.columns.exclude_study {
        set.exclude_study(study)?;
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
        table: String::new(),
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
