//! `chestnut explain`

use super::compare::embedded_names;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::{Context, bail};
use chestnut::cohort::source::Sources;
use chestnut::embed::Network;
use chestnut::explain::agreement::{rows_csv, summary_csv};
use chestnut::explain::overlay::{ColourMap, Heat, Mark, Overlay, Shape, caption_line, encode_png};
use chestnut::explain::stage::{self, ExplainOptions, Explained, SOURCES};
use chestnut::explain::{CamKind, MaskRule};
use chestnut::image::{self, Radiograph};
use chestnut::study::Study;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// Side of the mean maps.
const POPULATION_SIDE: usize = 64;
/// Side at which mean maps are drawn.
const PICTURE_SIDE: usize = 448;

pub(crate) fn run(a: &Explain) -> anyhow::Result<Outcome> {
    let study = Study::open(&a.study)?;
    let _lock = super::locked(&a.study, "explain")?;
    let names = if a.net.is_empty() { embedded_names(&study) } else { a.net.clone() };
    if names.is_empty() {
        bail!("no network was embedded yet; run `chestnut embed {} --net NAME` first", a.study.display());
    }
    let cam: CamKind = a.cam.parse().map_err(|e| anyhow::anyhow!("--cam {}: {e}", a.cam))?;
    let models = models_folder(&a.store)?;
    let networks: Vec<Network> = names.iter().map(|n| Network::find(&models, n)).collect::<Result<_, _>>()?;
    let cohort = study.cohort()?;
    let options = ExplainOptions { images: a.images.clone(), cam, resamples: None };
    let progress = Progress::new("explaining", "passes");
    let explained =
        stage::explain(&study, &cohort, &models, &networks, &options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images, {} labels", explained.images.len(), explained.labels.len()));
    let drawn: Vec<usize> = wanted(a, &explained.labels)?;

    let maps = stage::population(&explained, cam, POPULATION_SIDE)?;
    study.write("explain/population.csv", stage::population_csv(&explained, &maps)?.as_bytes())?;
    for (source, maps) in SOURCES.iter().zip(&maps) {
        for (k, mean) in drawn.iter().map(|&k| (k, &maps[k])) {
            let Some(map) = mean.mean() else { continue };
            let side = PICTURE_SIDE;
            let blank = Radiograph { width: side, height: side, pixels: vec![0.0; side * side], bits: 8 };
            let label = &explained.labels[k];
            let picture = Overlay {
                radiograph: &blank,
                heat: Some(Heat { map: &map, colours: ColourMap::Heat, opacity: 1.0 }),
                marks: Vec::new(),
                caption: vec![caption_line(label, None, source, &format!("mean of {} images", mean.images()))],
            };
            let name = format!("explain/population/{}-{}.png", plain(label), plain(source));
            study.write(&name, &encode_png(&picture.draw()?)?)?;
        }
    }

    if let Some(path) = &a.experts {
        let renamed = renamed(&a.renamed)?;
        let (rows, table, messages) =
            stage::agreement(&explained, path, &renamed, &options, study.settings.split.seed)?;
        study.write("explain/agreement_rows.csv", rows_csv(&rows).as_bytes())?;
        study.write("explain/agreement.csv", summary_csv(&table).as_bytes())?;
        messages.iter().take(20).for_each(|m| eprintln!("  - {m}"));
        if messages.len() > 20 {
            eprintln!("  - and {} more", messages.len() - 20);
        }
        println!(
            "{:<24} {:<34} {:>4} {:>9} {:>6} {:>6} {:>9}",
            "label", "map", "n", "coverage", "IoU", "hit", "pixel AUC"
        );
        for row in &table {
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
    overlays(a, &study, &explained, cam, &drawn)?;
    println!("Pictures and tables: {}", study.path("explain").display());
    for (id, reason) in &explained.refused {
        eprintln!("{id}: {reason}");
    }
    Ok(if explained.refused.is_empty() { Outcome::Clean } else { Outcome::SomeRefused })
}

/// Draws the images whose probability by the forest is highest, label after label.
fn overlays(a: &Explain, study: &Study, explained: &Explained, cam: CamKind, drawn: &[usize]) -> anyhow::Result<()> {
    let each = a.overlays.div_ceil(drawn.len().max(1));
    let mut left = a.overlays;
    let sources = Sources::new(&study.settings.images);
    for &k in drawn {
        let mut order: Vec<usize> = (0..explained.images.len()).collect();
        let p = |i: usize| explained.images[i].probabilities[1][k];
        order.sort_by(|&x, &y| p(y).total_cmp(&p(x)));
        for &i in order.iter().take(each.min(left)) {
            let maps = &explained.images[i];
            let id = &explained.cohort.images[maps.row].id;
            let mut decoded = image::decode(&sources.read(id)?).with_context(|| id.clone())?;
            study.settings.blank.apply(&mut decoded.radiograph, decoded.dicom.as_ref());
            let film = decoded.radiograph;
            for (source, name) in SOURCES.iter().enumerate() {
                let map = maps.map(source, k, cam, film.width, film.height)?;
                let mask = MaskRule::Quantile(0.8).mask(&map)?;
                let mut marks = vec![Mark { name: "hottest fifth".to_owned(), shape: Shape::Outline(&mask) }];
                marks.extend(mask.bounding_box().map(|b| Mark { name: "its box".to_owned(), shape: Shape::Box(b) }));
                let label = &explained.labels[k];
                let signed = source == 1;
                let kind = if signed { "tree-CAM (SHAP values)" } else { a.cam.as_str() };
                let picture = Overlay {
                    radiograph: &film,
                    heat: Some(Heat {
                        map: &map,
                        colours: if signed { ColourMap::Signed } else { ColourMap::Heat },
                        opacity: 0.5,
                    }),
                    marks,
                    caption: vec![caption_line(label, Some(maps.probabilities[source][k]), name, kind)],
                };
                let stem = id.rsplit('/').next().unwrap_or(id);
                let file = format!("explain/overlays/{}-{}-{}.png", plain(label), plain(stem), plain(name));
                study.write(&file, &picture.png()?)?;
            }
            left -= 1;
        }
    }
    Ok(())
}

fn wanted(a: &Explain, labels: &[String]) -> anyhow::Result<Vec<usize>> {
    if a.labels.is_empty() {
        return Ok((0..labels.len()).collect());
    }
    let find = |name: &String| {
        labels.iter().position(|l| l.eq_ignore_ascii_case(name)).ok_or_else(|| {
            anyhow::anyhow!("--labels {name}: the study has no such label; it has {}", labels.join(", "))
        })
    };
    a.labels.iter().map(find).collect()
}

fn renamed(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |p: &String| {
        let (expert, label) = p.split_once('=').with_context(|| format!("--renamed {p}: write EXPERT=LABEL"))?;
        Ok((expert.to_owned(), label.to_owned()))
    };
    pairs.iter().map(pair).collect()
}

/// A name that is safe in a file name.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '_' }).collect()
}
