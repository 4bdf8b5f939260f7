//! `chestnut explain`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::Cohort;
use chestnut::embed::Network;
use chestnut::explain::agreement::LabelAgreement;
use chestnut::explain::masked::Shortcuts;
use chestnut::explain::perturb::MAX_PREDICTIONS;
use chestnut::explain::perturbed::{self, Perturbation};
use chestnut::explain::pictures::MAX_CASES;
use chestnut::explain::population::PAPER_BATCH;
use chestnut::explain::run::{Run, RunOptions};
use chestnut::explain::stage::{self, ExplainOptions, Explained};
use chestnut::explain::{BoxRule, CamKind, MaskRule, Models};
use chestnut::predict::MAX_SIMILAR;
use chestnut::report::{self, ReportError};
use chestnut::study::Study;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Show where the models look: heat maps of the test images, mean maps, agreement with experts.
///
/// Writes STUDY/explain/: index.html shows all tables and, of each section, at most 400 pictures; overlays/*.png,
/// together/*.png with --together, boxes.csv (their boxes in pixels of the films), cases/*.png (surest right, surest
/// wrong, least sure), population/*.png, population.csv, batches/*.png and batches.csv (mean maps of two random batches),
/// similar.csv and similar/*.png, agreement.csv and agreement_rows.csv with --experts, shortcuts.csv with --shortcuts,
/// perturbation.csv with --perturb. If the study was compared, its report is renewed. A heat map says what a model used,
/// not that it is right.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut explain study
  chestnut explain study --experts boxes.csv --labels Effusion,Edema --overlays 40
  chestnut explain study --shortcuts
  chestnut explain study --together --boxes parts --similar 5
  chestnut explain study --experts boxes.csv --mask share:0.5 --lungs lung_masks
  chestnut explain study --images a.png,b.png --perturb occlusion

Agreement on phantoms, whose true masks are known:
  chestnut phantom -n 300 --masks -o phantom
  chestnut ingest phantom/images --labels phantom/labels.csv -o study
  chestnut embed study --net NAME
  chestnut explain study --experts phantom/masks")]
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
    /// Which part of a map is outlined and held against experts: quantile:Q (at or above it), otsu, share:S (fewest
    /// pixels with that share of the heat) or peak:P (from that share of the greatest value)
    /// [default: quantile:0.8; peak:0.5 with --cam legacy].
    #[arg(long)]
    pub(crate) mask: Option<String>,
    /// Lung masks for the share of heat outside the lungs: a folder with a PNG per image, white where lung is, called
    /// and placed as the image is below the image folder [default: two rough ellipses on every image].
    #[arg(long)]
    pub(crate) lungs: Option<PathBuf>,
    /// Overlays to draw, those with the highest probabilities first.
    #[arg(long, default_value_t = 20)]
    pub(crate) overlays: usize,
    /// Draw no overlays and no contact sheets, which take most of the time on large films.
    #[arg(long)]
    pub(crate) no_overlays: bool,
    /// Also draw all labels that a model calls on one film, 20 at most, each in its colour; as many films as --overlays.
    #[arg(long, conflicts_with = "no_overlays")]
    pub(crate) together: bool,
    /// Boxes on overlays: whole (one round all that is outlined) or parts (one round each of its parts).
    #[arg(long, default_value = "whole")]
    pub(crate) boxes: String,
    /// Images in each of two random batches whose mean maps are compared; 0 for none.
    #[arg(long, default_value_t = PAPER_BATCH)]
    pub(crate) population: usize,
    /// Similar cases of each image, of other patients, by the networks' embeddings; 0 for none.
    #[arg(long, default_value_t = 3)]
    pub(crate) similar: usize,
    /// Cases of each kind on a label's contact sheet; 0 for no sheets.
    #[arg(long, default_value_t = 4)]
    pub(crate) cases: usize,
    /// Ask the models again with border, corners or lungs hidden, and warn of labels that survive without the chest.
    #[arg(long)]
    pub(crate) shortcuts: bool,
    /// Also make maps by hiding parts of the named images, occlusion or rise: slow, and needs no insight into models.
    #[arg(long, requires = "images")]
    pub(crate) perturb: Option<String>,
    /// Masks of --perturb rise; noise falls with their square root [default: 4000].
    #[arg(long, requires = "perturb")]
    pub(crate) rise_masks: Option<usize>,
    #[command(flatten)]
    pub(crate) store: Store,
}

pub(crate) fn run(a: &Explain) -> anyhow::Result<Outcome> {
    let (maps, boxes, method) = asked(a)?;
    let renamed = renamed(&a.renamed)?;
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "explain")?;
    let store = models_folder(&a.store)?;
    let networks = networks(a, &study, &store)?;
    let cohort = study.cohort()?;

    let (models, fitting) = fitted(&study, &cohort, &store, &networks)?;
    let (rows, mut refused) = models.rows(&a.images)?;
    if method.is_some() && rows.len() > perturbed::MAX_PERTURBED {
        bail!("--perturb: {} images are too many; name at most {}", rows.len(), perturbed::MAX_PERTURBED);
    }
    let (labels, unknown) = models.labels_named(&a.labels)?;
    refused.extend(unknown.into_iter().map(|(name, reason)| (format!("--labels {name}"), reason)));

    let explained = explained(&models, &rows, &maps)?;
    let (experts, lungs) = (a.experts.clone(), a.lungs.clone());
    let options = RunOptions { maps, boxes, labels, experts, renamed, lungs, similar: a.similar };
    let say = |message: &str| remark!("  - {message}");
    let mut run = Run::begin(&models, &explained, &cohort, &options, &say)?;
    if let Some(agreed) = run.agreed() {
        print_agreement(&agreed.table);
    }
    if a.shortcuts {
        shortcut_check(&mut run)?;
    }
    if let Some(method) = method {
        perturb(&mut run, method)?;
    }
    run.population(a.population)?;
    if !a.no_overlays {
        films(&mut run, a)?;
    }
    let finished = run.finish(fitting)?;

    say!("{}", finished.time);
    say!("Pictures and tables: {}", study.path("explain/index.html").display());
    renew_report(&study)?;
    refused.extend(finished.refused);
    for (id, reason) in &refused {
        remark!("{id}: {reason}");
    }
    Ok(if refused.is_empty() && !finished.incomplete { Outcome::Clean } else { Outcome::SomeRefused })
}

/// The options that are text or have limits, before anything is opened.
fn asked(a: &Explain) -> anyhow::Result<(ExplainOptions, BoxRule, Option<Perturbation>)> {
    let cam: CamKind = a.cam.parse().map_err(|e| anyhow::anyhow!("--cam {}: {e}", a.cam))?;
    let mask = match &a.mask {
        Some(text) => text.parse::<MaskRule>().map_err(|e| anyhow::anyhow!("--mask {text}: {e}"))?,
        None => MaskRule::of(cam),
    };
    let method = a.perturb.as_deref().map(|name| perturbation(name, a.rise_masks)).transpose()?;
    let boxes: BoxRule = a.boxes.parse().map_err(|e| anyhow::anyhow!("--boxes {}: {e}", a.boxes))?;
    if a.similar > MAX_SIMILAR {
        bail!("--similar {}: at most {MAX_SIMILAR} can be listed", a.similar);
    }
    if a.cases > MAX_CASES {
        bail!("--cases {}: give 0 to {MAX_CASES}", a.cases);
    }
    Ok((ExplainOptions { cam, mask, resamples: None }, boxes, method))
}

/// The networks asked for, or all that were embedded.
fn networks(a: &Explain, study: &Study, store: &Path) -> anyhow::Result<Vec<Network>> {
    let names = if a.net.is_empty() { embedded_names(study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    Ok(names.iter().map(|n| Network::find(store, n)).collect::<Result<_, _>>()?)
}

/// The models of every network, and the seconds that they took.
fn fitted<'a>(
    study: &'a Study,
    cohort: &Cohort,
    store: &'a Path,
    networks: &'a [Network],
) -> anyhow::Result<(Models<'a>, f64)> {
    let progress = Progress::new("fitting", "networks");
    let models = Models::fit(study, cohort, store, networks, &|done, total| progress.update(done, total))?;
    let seconds = progress.seconds();
    progress.finish(&format!("{} networks", networks.len()));
    Ok((models, seconds))
}

fn explained(models: &Models<'_>, rows: &[usize], options: &ExplainOptions) -> anyhow::Result<Explained> {
    let progress = Progress::new("explaining", "passes");
    let explained = stage::explain(models, rows, options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images, {} labels", explained.images.len(), explained.labels.len()));
    Ok(explained)
}

fn shortcut_check(run: &mut Run<'_>) -> anyhow::Result<()> {
    let progress = Progress::new("shortcut check", "passes");
    let check = run.shortcuts(&|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images", run.images()));
    print_shortcuts(&check);
    Ok(())
}

fn perturb(run: &mut Run<'_>, method: Perturbation) -> anyhow::Result<()> {
    let progress = Progress::new(method.name(), "predictions");
    let images = run.perturb(method, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{images} images"));
    Ok(())
}

/// Pictures on films.
fn films(run: &mut Run<'_>, a: &Explain) -> anyhow::Result<()> {
    if a.cases > 0 {
        run.cases(a.cases)?;
    }
    if a.together {
        let progress = Progress::new("together", "images");
        let pictures = run.together(a.overlays, &|done, total| progress.update(done, total))?;
        progress.finish(&format!("{pictures} pictures"));
    }
    let progress = Progress::new("overlays", "images");
    let pictures = run.overlays(a.overlays, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{pictures} pictures"));
    Ok(())
}

/// What was explained stands whether or not an older comparison can be shown with it.
fn renew_report(study: &Study) -> anyhow::Result<()> {
    match report::renew(&study.root) {
        Ok(Some(path)) => say!("Report, renewed: {}", path.display()),
        Ok(None) => say!("The report of `chestnut compare` will show this too."),
        Err(problem @ ReportError::Write { .. }) => return Err(problem.into()),
        Err(problem) => remark!("  - {problem}"),
    }
    Ok(())
}

fn perturbation(name: &str, masks: Option<usize>) -> anyhow::Result<Perturbation> {
    let method: Perturbation = name.parse().map_err(|e| anyhow::anyhow!("--perturb {name}: {e}"))?;
    match (method, masks) {
        (_, None) => Ok(method),
        (Perturbation::Rise { .. }, Some(masks)) if (1..=MAX_PREDICTIONS).contains(&masks) => {
            Ok(Perturbation::Rise { masks })
        }
        (Perturbation::Rise { .. }, Some(masks)) => bail!("--rise-masks {masks}: give 1 to {MAX_PREDICTIONS}"),
        (Perturbation::Occlusion, Some(_)) => bail!("--rise-masks belongs to --perturb rise"),
    }
}

fn print_agreement(table: &[LabelAgreement]) {
    say!("{:<24} {:<34} {:>4} {:>9} {:>6} {:>6} {:>9}", "label", "map", "n", "coverage", "IoU", "hit", "pixel AUC");
    for row in table {
        let value = |measure: &str| {
            let found = row.measures.iter().find(|m| m.measure == measure).and_then(|m| m.mean);
            found.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
        };
        let (label, source) = (&row.label, &row.source);
        say!(
            "{label:<24} {source:<34} {:>4} {:>9} {:>6} {:>6} {:>9}",
            row.regions,
            value("coverage"),
            value("iou"),
            value("hit"),
            value("pixel_auc")
        );
    }
}

fn print_shortcuts(check: &Shortcuts) {
    say!("{:<24} {:<16} {:<38} {:>4} {:>6}", "label", "model", "visible", "pos", "AUC");
    for s in &check.scores {
        let auc = s.score.auc.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        say!("{:<24} {:<16} {:<38} {:>4} {auc:>6}", s.score.label, s.source, s.view, s.score.positives);
    }
    let warnings = check.warnings();
    for warning in &warnings {
        say!("Warning: {warning}");
    }
    if warnings.is_empty() {
        say!("No label is told without the chest by the rules of this check.");
    }
}

fn renamed(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |p: &String| {
        let (expert, label) = p.split_once('=').with_context(|| format!("--renamed {p}: write EXPERT=LABEL"))?;
        Ok((expert.to_owned(), label.to_owned()))
    };
    pairs.iter().map(pair).collect()
}
