//! `chestnut explain`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::Cohort;
use chestnut::embed::Network;
use chestnut::explain::agreement::{LabelAgreement, rows_csv, summary_csv};
use chestnut::explain::batches::batches;
use chestnut::explain::gallery::{
    Gallery, Grid, Section, agreement_table, heat_table, shortcut_table, stability_table,
};
use chestnut::explain::lungs::Lungs;
use chestnut::explain::masked::{Shortcuts, shortcuts};
use chestnut::explain::means::Means;
use chestnut::explain::perturb::MAX_PREDICTIONS;
use chestnut::explain::perturbed::{self, Perturbation};
use chestnut::explain::pictures::{self, Drawn, FOLDER, Painter};
use chestnut::explain::population::{DEFAULT_GRID, PAPER_BATCH};
use chestnut::explain::stage::{self, ExplainOptions, Explained};
use chestnut::explain::summary::{SUMMARY, Summary, split_of};
use chestnut::explain::{BoxRule, CamKind, MaskRule, Models};
use chestnut::predict::MAX_SIMILAR;
use chestnut::predict::space::similar_csv;
use chestnut::report;
use chestnut::study::{StageRecord, Study};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Show where the models look: heat maps of the test images, mean maps, agreement with experts.
///
/// Writes STUDY/explain/: index.html shows everything; overlays/*.png, together/*.png with --together, cases/*.png
/// (surest right, surest wrong, least sure), population/*.png, population.csv, batches/*.png and batches.csv (mean maps
/// of two random batches), similar.csv and similar/*.png, agreement.csv and agreement_rows.csv with --experts,
/// shortcuts.csv with --shortcuts, perturbation.csv with --perturb. If the study was compared, its report is renewed. A
/// heat map says what a model used, not that it is right.
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
    /// Also draw all labels that a model calls on one film, each in its colour; as many films as --overlays.
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

/// Messages that are shown; the files have all.
const SHOWN: usize = 20;

pub(crate) fn run(a: &Explain) -> anyhow::Result<Outcome> {
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
    if a.cases > pictures::MAX_CASES {
        bail!("--cases {}: give 0 to {}", a.cases, pictures::MAX_CASES);
    }
    let renamed = renamed(&a.renamed)?;
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "explain")?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let store = models_folder(&a.store)?;
    let networks: Vec<Network> = names.iter().map(|n| Network::find(&store, n)).collect::<Result<_, _>>()?;
    let cohort = study.cohort()?;

    let progress = Progress::new("fitting", "networks");
    let models = Models::fit(&study, &cohort, &store, &networks, &|done, total| progress.update(done, total))?;
    let fitting = progress.seconds();
    progress.finish(&format!("{} networks", networks.len()));
    let (rows, mut refused) = models.rows(&a.images)?;
    if method.is_some() && rows.len() > perturbed::MAX_PERTURBED {
        bail!("--perturb: {} images are too many; name at most {}", rows.len(), perturbed::MAX_PERTURBED);
    }
    let (drawn, unknown) = models.labels_named(&a.labels)?;
    refused.extend(unknown.into_iter().map(|(name, reason)| (format!("--labels {name}"), reason)));

    let options = ExplainOptions { cam, mask, resamples: None };
    let progress = Progress::new("explaining", "passes");
    let explained = stage::explain(&models, &rows, &options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images, {} labels", explained.images.len(), explained.labels.len()));
    refused.extend(explained.refused.iter().cloned());
    let readable: Vec<usize> = explained.images.iter().map(|i| i.row).collect();

    let painter = Painter { models: &models, explained: &explained, kind: cam, mask, boxes };
    // What may be wrong with the experts' files is found before an earlier run's pictures go.
    let seed = study.settings.split.seed;
    let agreed =
        a.experts.as_ref().map(|path| stage::agreement(&explained, path, &renamed, &options, seed)).transpose()?;
    let (lungs, about_lungs) = match &a.lungs {
        Some(folder) => {
            let read = Lungs::read(folder, &explained, DEFAULT_GRID)?;
            refused.extend(read.refused);
            (read.lungs, read.messages)
        }
        None => (Lungs::rough(DEFAULT_GRID)?, Vec::new()),
    };
    pictures::clear(&study)?;
    let mut page = Page::new(&study, &cohort, &explained, &networks, &options);
    page.warn("explain", &models.remarks());
    // Images that a network could not embed.
    page.warn("explain", models.cohort().warnings.get(cohort.warnings.len()..).unwrap_or_default());
    let means = Means::of(&explained, cam, DEFAULT_GRID, &lungs)?;
    study.write("explain/population.csv", means.csv(&explained, &lungs)?.as_bytes())?;
    page.warn("explain", &means.flat_messages(&explained.labels));
    page.warn("lungs", &about_lungs);
    let similar = if a.similar > 0 { models.similar(&readable, a.similar)? } else { Vec::new() };
    if a.similar > 0 {
        study.write("explain/similar.csv", similar_csv(&explained.cohort.label_names, &similar).as_bytes())?;
    }
    if let Some(agreed) = &agreed {
        study.write("explain/agreement_rows.csv", rows_csv(&agreed.rows, mask).as_bytes())?;
        study.write("explain/agreement.csv", summary_csv(&agreed.table, mask).as_bytes())?;
        print_agreement(&agreed.table);
        page.warn("experts", &agreed.messages);
        page.table(agreement_table(&agreed.table, mask));
        page.refused |= agreed.refused;
    }
    page.table(heat_table(&explained.labels, &means, &lungs)?);
    if a.shortcuts {
        let progress = Progress::new("shortcut check", "passes");
        let check = shortcuts(&models, &readable, &|done, total| progress.update(done, total))?;
        progress.finish(&format!("{} images", readable.len()));
        study.write("explain/shortcuts.csv", check.csv().as_bytes())?;
        print_shortcuts(&check);
        refused.extend(check.refused.iter().cloned());
        page.table(shortcut_table(&check));
        page.gallery.warnings.extend(check.warnings());
        page.summary.shortcuts = Some(check.warnings());
        page.show("What was hidden", "Hidden pixels take the mean of the visible ones.", painter.views(&check)?);
    }
    if let Some(method) = method {
        let progress = Progress::new(method.name(), "predictions");
        let (found, lost) =
            perturbed::perturb(&models, &readable, method, &|done, total| progress.update(done, total))?;
        progress.finish(&format!("{} images", found.len()));
        refused.extend(lost);
        let table = perturbed::csv(&explained, &found, method, cam)?;
        study.write("explain/perturbation.csv", table.as_bytes())?;
        let note = "The models were asked about copies with parts hidden; nothing inside them was looked at.";
        let mut pictures = painter.perturbed(&drawn, &found, method)?;
        painter.similar(&mut pictures, &similar)?;
        page.show(&format!("By hiding parts: {}", method.name()), note, pictures);
    }
    let drawing = std::time::Instant::now();
    let over_all = painter.means(&drawn, &means.maps)?;
    if a.population > 0 {
        let seed = study.settings.split.seed;
        let halves = batches(&explained, cam, a.population, DEFAULT_GRID, seed)?;
        study.write("explain/batches.csv", halves.csv().as_bytes())?;
        page.table(stability_table(&halves));
        let pictures = painter.batches(&drawn, &halves)?;
        page.summary.show(&pictures.pictures);
        let note = format!(
            "{} The most probable label of each image, then each label over all images. If the two differ, more images \
             are needed before anything is read from a mean map.",
            halves.describe()
        );
        page.show("Mean maps of two random batches", &note, pictures);
    }
    if page.summary.maps.is_empty() {
        page.summary.show(&over_all.pictures);
    }
    page.show(
        "Mean maps",
        "The mean over all explained images, each scaled from 0 to 1. Heat in border or corners on most images is a \
         reason to look for markers.",
        over_all,
    );
    if !a.no_overlays {
        if a.cases > 0 {
            let note = "Rows: surely right, surely wrong, least sure. Begin with the surely wrong: many are errors of \
                        the labels. A probability at or above the label's share of positives counts as a call.";
            page.show("Contact sheets", note, painter.cases(&drawn, a.cases)?);
        }
        if a.together {
            let progress = Progress::new("together", "images");
            let mut films = painter.together(&drawn, a.overlays, &|done, total| progress.update(done, total))?;
            progress.finish(&format!("{} pictures", films.pictures.len()));
            painter.similar(&mut films, &similar)?;
            let note = format!(
                "All labels that the model calls, in the colours of the legend. Outlined: {}. A probability at or above \
                 the label's share of positives counts as a call. Films with most calls by the forest come first.",
                mask.describe()
            );
            page.show("Several labels on one film", &note, films);
        }
        let progress = Progress::new("overlays", "images");
        let mut overlays = painter.overlays(&drawn, a.overlays, &|done, total| progress.update(done, total))?;
        progress.finish(&format!("{} pictures", overlays.pictures.len()));
        painter.similar(&mut overlays, &similar)?;
        let note = format!(
            "Those with the highest probability by the forest. Grad-CAM: evidence for the label only. Tree-CAM: red \
             speaks for the label, blue against it. Outlined: {}. Below: the nearest images of other patients as the \
             networks see them, which is no diagnosis.",
            mask.describe()
        );
        page.show("Overlays", &note, overlays);
    }
    let drawing = drawing.elapsed().as_secs_f64();
    let (passes, maps) = (explained.timings.passes, explained.timings.maps);
    let share = if passes > 0.0 { 100.0 * maps / passes } else { 0.0 };
    let time = format!(
        "Time: {fitting:.1} s fitting, {passes:.1} s reading and passes, {maps:.1} s maps ({share:.0} % of the passes), \
         {drawing:.1} s pictures"
    );
    println!("{time}");
    page.gallery.facts.push(time);
    study.write("explain/index.html", page.gallery.html()?.as_bytes())?;
    study.write(SUMMARY, &serde_json::to_vec_pretty(&page.summary)?)?;
    let facts = [
        ("networks", names.join(",")),
        ("images", explained.images.len().to_string()),
        ("cam", cam.name().to_owned()),
        ("mask", mask.to_string()),
        ("lungs", lungs.name().to_owned()),
        ("seconds_fitting", format!("{fitting:.3}")),
        ("seconds_passes", format!("{passes:.3}")),
        ("seconds_maps", format!("{maps:.3}")),
        ("seconds_pictures", format!("{drawing:.3}")),
    ];
    let facts = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    study.record("explain", StageRecord { seconds: fitting + passes + maps + drawing, facts })?;
    println!("Pictures and tables: {}", study.path("explain/index.html").display());
    // What was explained stands whether or not an older comparison can be shown with it.
    match report::renew(&study.root) {
        Ok(Some(path)) => println!("Report, renewed: {}", path.display()),
        Ok(None) => println!("The report of `chestnut compare` will show this too."),
        Err(problem) => eprintln!("  - {problem}"),
    }
    for (id, reason) in &refused {
        eprintln!("{id}: {reason}");
    }
    Ok(if refused.is_empty() && !page.refused { Outcome::Clean } else { Outcome::SomeRefused })
}

/// The page in the making.
struct Page {
    gallery: Gallery,
    /// What the report shows of it.
    summary: Summary,
    /// Whether an item was refused that is not in the list of refused images.
    refused: bool,
}

impl Page {
    fn new(
        study: &Study,
        cohort: &Cohort,
        explained: &Explained,
        networks: &[Network],
        options: &ExplainOptions,
    ) -> Self {
        let title = study.root.file_name().map_or_else(|| "study".to_owned(), |n| n.to_string_lossy().into_owned());
        let networks: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
        let facts = vec![
            format!("{} images that were not learned from, {} labels", explained.images.len(), explained.labels.len()),
            format!("Networks: {}", networks.join(", ")),
            format!("fine-tuned head: {}", options.cam.describe()),
            "forest: tree-CAM, exact SHAP values of the embedding's features, each laid over its feature's activations"
                .to_owned(),
            format!("Outlines and masks: {} (--mask {})", options.mask.describe(), options.mask),
        ];
        let summary = Summary { facts: facts.clone(), split: split_of(&study.settings.split), ..Summary::new(cohort) };
        Self { gallery: Gallery { title, facts, ..Gallery::default() }, summary, refused: false }
    }

    /// A table for the page and for the report.
    fn table(&mut self, table: Grid) {
        self.summary.tables.push(table.clone());
        self.gallery.tables.push(table);
    }

    /// Says messages and puts them on the page.
    fn warn(&mut self, about: &str, messages: &[String]) {
        messages.iter().take(SHOWN).for_each(|m| eprintln!("  - {m}"));
        if messages.len() > SHOWN {
            eprintln!("  - and {} more about {about}", messages.len() - SHOWN);
        }
        self.gallery.warnings.extend(messages.iter().take(SHOWN).cloned());
    }

    fn show(&mut self, title: &str, note: &str, drawn: Drawn) {
        self.refused |= !drawn.problems.is_empty();
        self.warn(FOLDER, &drawn.problems);
        self.gallery.sections.push(Section {
            title: title.to_owned(),
            note: note.to_owned(),
            pictures: drawn.pictures,
        });
    }
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
    println!("{:<24} {:<34} {:>4} {:>9} {:>6} {:>6} {:>9}", "label", "map", "n", "coverage", "IoU", "hit", "pixel AUC");
    for row in table {
        let value = |measure: &str| {
            let found = row.measures.iter().find(|m| m.measure == measure).and_then(|m| m.mean);
            found.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
        };
        let (label, source) = (&row.label, &row.source);
        println!(
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
    println!("{:<24} {:<16} {:<38} {:>4} {:>6}", "label", "model", "visible", "pos", "AUC");
    for s in &check.scores {
        let auc = s.score.auc.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        println!("{:<24} {:<16} {:<38} {:>4} {auc:>6}", s.score.label, s.source, s.view, s.score.positives);
    }
    let warnings = check.warnings();
    for warning in &warnings {
        println!("Warning: {warning}");
    }
    if warnings.is_empty() {
        println!("No label is told without the chest by the rules of this check.");
    }
}

fn renamed(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |p: &String| {
        let (expert, label) = p.split_once('=').with_context(|| format!("--renamed {p}: write EXPERT=LABEL"))?;
        Ok((expert.to_owned(), label.to_owned()))
    };
    pairs.iter().map(pair).collect()
}
