//! `chestnut predict`

use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::progress::Progress;
use anyhow::bail;
use chestnut::fs::write_atomic;
use chestnut::predict::{self, PredictOptions, Predicted, output};
use chestnut::study::Study;
use clap::Args;
use std::path::{Path, PathBuf};

/// Run a compared study's models on new radiographs: probabilities, yes or no, similar cases.
///
/// Images are read, judged and embedded as the study's own were. Each gets the score of `compare`'s tables, a calibrated
/// probability and yes or no at the study's thresholds, and a warning if it is unlike the study's cohort. For research
/// only: nobody may be treated by these numbers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut predict new/ --study study --out new.csv
  chestnut predict export.zip --study study --approach \"Fine-tuned head\" --json > new.json
  chestnut predict new/ --study study --approach baseline --out baseline.csv    also stacking
  chestnut predict film.dcm --study study --out film.csv --similar 5    and film_similar.csv")]
pub(crate) struct Predict {
    /// Folder of images, a zip or tar archive of them, or one image.
    pub(crate) images: PathBuf,
    /// Folder of a study that was compared.
    #[arg(long)]
    pub(crate) study: PathBuf,
    /// Which of the compared approaches, as the tables or its folder in models/ name it [default: the first on embeddings].
    #[arg(long)]
    pub(crate) approach: Option<String>,
    /// File to write instead of the terminal.
    #[arg(short, long)]
    pub(crate) out: Option<PathBuf>,
    /// JSON with thresholds, reasons and similar cases instead of CSV.
    #[arg(long)]
    pub(crate) json: bool,
    /// List so many similar cases of other patients per image, in a second CSV file or in the JSON.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) similar: usize,
    /// Take DICOM images of every projection, not only frontal ones.
    #[arg(long)]
    pub(crate) any_view: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Refused and unusual images that are named on the terminal.
const SHOWN: usize = 20;

pub(crate) fn run(a: &Predict) -> anyhow::Result<Outcome> {
    if a.similar > 0 && a.out.is_none() && !a.json {
        bail!("--similar writes a second table; name a file with --out, or ask for --json");
    }
    if !a.images.is_dir() && !a.images.is_file() {
        bail!("{} is no folder and no file; name the images", a.images.display());
    }
    let study = Study::open(&a.study)?;
    let options = PredictOptions { approach: a.approach.clone(), similar: a.similar, any_view: a.any_view };
    let progress = Progress::new("predicting", "passes");
    let models = models_folder(&a.store)?;
    let predicted =
        predict::predict(&study, &models, &a.images, &options, &|done, total| progress.update(done, total))?;
    progress.finish(&format!("{} images by {}", predicted.images.len(), predicted.approach));
    let text = if a.json { output::json(&predicted)? + "\n" } else { output::csv(&predicted) };
    match &a.out {
        None => crate::output::write(format_args!("{text}")),
        Some(path) => {
            write_atomic(path, text.as_bytes())?;
            say!("Predictions: {}", path.display());
        }
    }
    if let (Some(path), true, false) = (&a.out, a.similar > 0, a.json) {
        let path = similar_path(path);
        write_atomic(&path, output::similar(&predicted).as_bytes())?;
        say!("Similar cases: {}", path.display());
    }
    tell(&predicted);
    Ok(if predicted.refused.is_empty() { Outcome::Clean } else { Outcome::SomeRefused })
}

/// Warnings, unusual images and refused ones.
fn tell(predicted: &Predicted) {
    predicted.warnings.iter().for_each(|w| remark!("  {w}"));
    let unusual: Vec<&str> = predicted.images.iter().filter(|i| i.unusual).map(|i| i.image.as_str()).collect();
    if !unusual.is_empty() {
        remark!("  {} unlike the study's cohort; look at them before you believe any number:", unusual.len());
        named(unusual.iter().map(|i| (*i).to_owned()), unusual.len());
    }
    if !predicted.refused.is_empty() {
        remark!("  {} refused:", predicted.refused.len());
        named(predicted.refused.iter().map(|r| format!("{}: {}", r.image, r.reason)), predicted.refused.len());
    }
}

fn named(lines: impl Iterator<Item = String>, count: usize) {
    lines.take(SHOWN).for_each(|line| remark!("    {line}"));
    if count > SHOWN {
        remark!("    and {} more", count - SHOWN);
    }
}

/// `film.csv` to `film_similar.csv`.
fn similar_path(path: &Path) -> PathBuf {
    let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    path.with_file_name(format!("{stem}_similar.csv"))
}
